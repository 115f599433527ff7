"""`models.toml`: the models of the server, and what is behind each.

default = "huggingface/smollm2-135m-instruct"   # the model of validation and of `LLM_DEFAULT`

[[model]]
slug = "huggingface/smollm2-135m-instruct"
kind = "embedded"
path = "/…/SmolLM2-135M-Instruct.Q4_1.gguf"

[[model]]
slug = "openai/gpt-oss-20b"
kind = "upstream"
url = "http://127.0.0.1:11434/v1"
model = "gpt-oss:20b"
key_env = "OLLAMA_API_KEY"
input_price = 0.1                               # US dollars per million tokens
efforts = ["low", "medium", "high"]             # for `run --effort`; sent as `reasoning_effort`

[[model]]
slug = "test/echo"
alias = ["google/gemini-2.5-flash", "*"]        # what tasks call it; "*" for every other name
kind = "scripted"
rules = [{ match = "2 \\\\+ 2", reply = "4" }]
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from fanbench._util import files
from fanbench.errors import LocalServerError, UsageError
from fanbench.local.aliases import best_alias
from fanbench.local.folder import PRIVATE
from fanbench.local.models.embedded import Embedded
from fanbench.local.models.mistakes import find_mistake
from fanbench.local.models.scripted import Scripted
from fanbench.local.models.upstream import Upstream
from fanbench.wire.candidates import is_effort, split_effort
from fanbench.wire.slugs import normalize_model

MAX_SLUG = 120
_SLUG = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.@-]*")


ModelSpec = Embedded | Upstream | Scripted
"""The kinds of models."""

_KINDS = (Embedded, Upstream, Scripted)


class Catalog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    default: str = ""
    judge: str = ""
    """The model for `LLM_DEFAULT_EVAL`; if empty, the default."""
    model: list[ModelSpec] = []

    @property
    def default_model(self) -> ModelSpec | None:
        return self.find(self.default) if self.default else next(iter(self.model), None)

    def find(self, name: str) -> ModelSpec | None:
        """Find a model by `owner/name`, or by its slug for the API (the last part, with "@" as "-")."""
        return next((m for m in self.model if name in (m.slug, normalize_model(m.slug))), None)

    @property
    def aliases(self) -> dict[str, ModelSpec]:
        """The models by their aliases. Only tasks can use these: a run is always on a model by its own name."""
        return {alias: model for model in self.model for alias in model.alias}

    def find_for_task(self, name: str) -> ModelSpec | None:
        """Find the model that answers if a task asks for `name`: by its own name, or else by an alias."""
        if (model := self.find(name)) is not None:
            return model
        alias = best_alias(name, self.aliases)
        return self.aliases[alias] if alias is not None else None

    def with_aliases(self, added: Mapping[str, str]) -> Catalog:
        """A catalogue in which each alias in `added` belongs to the model named there, if that exists."""
        owners = {
            alias: model.slug for alias, name in added.items() if (model := self.find(name)) is not None
        }
        models = [
            msgspec.structs.replace(
                model,
                alias=[
                    *(alias for alias in model.alias if alias not in owners),
                    *(alias for alias, owner in owners.items() if owner == model.slug),
                ],
            )
            for model in self.model
        ]
        return msgspec.structs.replace(self, model=models)

    def with_model(self, model: ModelSpec) -> Catalog:
        """A catalogue with `model` added, or in the place of the one with its slug."""
        others = [m for m in self.model if m.slug != model.slug]
        at = next((i for i, m in enumerate(self.model) if m.slug == model.slug), len(others))
        return msgspec.structs.replace(self, model=[*others[:at], model, *others[at:]])

    def without(self, slug: str) -> Catalog:
        default = "" if self.default == slug else self.default
        judge = "" if self.judge == slug else self.judge
        return Catalog(default=default, judge=judge, model=[m for m in self.model if m.slug != slug])


def read_catalog(path: Path) -> Catalog:
    """Read the catalogue in `path`; it is empty if the file does not exist.

    Raises:
        LocalServerError: The file cannot be read or is invalid; the message names the place.
    """
    text, document = _read_document(path)
    try:
        catalog = msgspec.convert(document, Catalog)
        _validate(catalog, path)
    except msgspec.ValidationError as error:
        mistake = find_mistake(error, document, _KINDS)
        line = mistake.find_line(text)
        place = f"{path}:{line}" if line else str(path)
        raise LocalServerError(f"{place}: {mistake.text}.", hint="Correct models.toml.") from error
    return catalog


def read_valid_entries(path: Path) -> Catalog:
    """Read what is valid in a catalogue with mistakes: each model that fits those before it, and the roles of such.

    Raises:
        LocalServerError: The file cannot be read, or is not TOML.
    """
    _, document = _read_document(path)
    valid = Catalog()
    entries = document.get("model")
    changes = [{"model": [entry]} for entry in entries] if isinstance(entries, list) else []
    changes += [{role: document[role]} for role in ("default", "judge") if role in document]
    for change in changes:
        with suppress(msgspec.ValidationError, LocalServerError):
            added = msgspec.convert(change, Catalog)
            candidate = Catalog(
                default=added.default or valid.default,
                judge=added.judge or valid.judge,
                model=[*valid.model, *added.model],
            )
            _validate(candidate, path)
            valid = candidate
    return valid


def _read_document(path: Path) -> tuple[str, dict[str, Any]]:
    """The text of the file, and the document in it."""
    try:
        text = path.read_text(encoding="utf-8")
        return text, tomllib.loads(text)
    except FileNotFoundError:
        return "", {}
    except (OSError, UnicodeDecodeError) as error:
        raise LocalServerError(f"Cannot read {path}: {error}.") from error
    except RecursionError:
        raise LocalServerError(f"{path} is nested too deeply.", hint="Correct models.toml.") from None
    except ValueError as error:  # tomllib's own is one, and Python's for numbers of thousands of digits
        raise LocalServerError(f"{path} is not TOML: {error}.", hint="Correct models.toml.") from error


def _validate(catalog: Catalog, path: Path) -> None:
    for problem in _problems(catalog):
        raise LocalServerError(f"{path}: {problem}.")


def _problems(catalog: Catalog) -> Iterator[str]:
    seen: dict[str, str] = {}
    for model in catalog.model:
        key = normalize_model(model.slug)
        if not _SLUG.fullmatch(model.slug) or len(model.slug) > MAX_SLUG:
            yield f"{model.slug!r} is not a model slug; write owner/name"
        if key in seen:
            yield f"{model.slug} and {seen[key]} have the same API slug {key}"
        seen[key] = model.slug
        try:
            model.check()
        except ValueError as error:
            yield f"{model.slug}: {error}"
        if model.efforts and not model.takes_efforts:
            yield f"{model.slug}: a model of this kind has no efforts"
        for effort in model.efforts:
            if not is_effort(effort):
                yield f"{model.slug}: {effort!r} is not a reasoning effort"
        if len({*model.efforts}) < len(model.efforts):
            yield f"{model.slug}: an effort is named twice"
        if effort := split_effort(model.slug)[1]:
            yield f"{model.slug}: {effort!r} would be taken for a reasoning effort; write efforts = [{effort!r}]"
    owners: dict[str, str] = {}
    for model in catalog.model:
        for alias in model.alias:
            if not alias or "," in alias:
                yield f"{model.slug}: {alias!r} is not a name or a pattern"
            own = catalog.find(alias)
            owner = own.slug if own is not None else owners.setdefault(alias, model.slug)
            if owner != model.slug:
                what = "the name" if own is not None else "also an alias"
                yield f"{model.slug}: the alias {alias!r} is {what} of {owner}"
    for role in ("default", "judge"):
        name = getattr(catalog, role)
        if name and catalog.find(name) is None:
            yield f"{role} = {name!r} is not one of the models"


def write_catalog(path: Path, catalog: Catalog) -> None:
    """Write the catalogue, and keep the comments of an existing file.

    Raises:
        UsageError: The catalogue is invalid.
        LocalServerError: The file cannot be written.
    """
    import tomlkit

    try:
        _validate(catalog, path)
    except LocalServerError as error:
        raise UsageError(str(error)) from error
    try:
        document: Any = (
            tomlkit.parse(path.read_text(encoding="utf-8")) if path.exists() else tomlkit.document()
        )
        wanted = msgspec.to_builtins(catalog)
        for role in ("default", "judge"):
            if wanted.get(role):
                document[role] = wanted[role]
            else:
                document.pop(role, None)
        # Unchanged tables keep their comments.
        present = {table["slug"]: table for table in document.pop("model", [])}
        tables = tomlkit.aot()
        for model in wanted.get("model", []):
            table = present.get(model["slug"])
            if table is None or table.unwrap() != model:
                table = tomlkit.table()
                table.update(model)
            tables.append(table)
        if tables:
            document["model"] = tables
        path.parent.mkdir(parents=True, exist_ok=True)
        text = tomlkit.dumps(document)
        # tomlkit leaves the blank lines of removed tables: reduce them, unless they are part of a value.
        tidy = re.sub(r"\n{3,}", "\n\n", text)
        files.write(path, tidy if tomllib.loads(tidy) == tomllib.loads(text) else text, mode=PRIVATE)
    except OSError as error:
        raise LocalServerError(f"Cannot write {path}: {error.strerror}.") from error
