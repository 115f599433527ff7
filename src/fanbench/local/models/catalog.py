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

[[model]]
slug = "test/echo"
kind = "scripted"
rules = [{ match = "2 \\\\+ 2", reply = "4" }]
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from fanbench._util import files
from fanbench.errors import LocalServerError, UsageError
from fanbench.local.folder import PRIVATE
from fanbench.wire.slugs import normalize_model

MAX_SLUG = 120
_SLUG = re.compile(r"(?:[A-Za-z0-9][\w.-]*/)?[A-Za-z0-9][\w.@-]*")


class _Model(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    tag_field="kind",
    forbid_unknown_fields=True,
    omit_defaults=True,
):
    slug: str
    """`owner/name`, the name for the Model Proxy. The slug for the API is the part after the slash."""
    name: str = ""
    """The name for people; if empty, the last part of the slug."""
    input_price: float | None = None
    """US dollars per million input tokens. If not given: free for models that run here, else unknown."""
    output_price: float | None = None
    input: tuple[str, ...] = ("text",)
    output: tuple[str, ...] = ("text",)
    license: str = ""
    max_tokens: int = 0
    """The most tokens of an answer if the request has no limit; 0 for the model's own limit."""
    stop: list[str] = []
    """Texts at which an answer ends, besides those in the request."""


class Embedded(_Model, frozen=True, kw_only=True, tag="embedded"):
    """A GGUF file, executed by llama.cpp in a process of its own."""

    path: str
    context: int = 2048
    """Tokens of context per concurrent request."""
    parallel: int = 4
    threads: int = 0
    """0 for half of the cores."""
    chat_template: str = ""
    """Jinja; if empty, the template in the file."""


class Upstream(_Model, frozen=True, kw_only=True, tag="upstream"):
    """An OpenAI-compatible endpoint: Ollama, vLLM, a vendor, Kaggle's own proxy."""

    url: str
    """The base URL, to which `/chat/completions` is added."""
    model: str = ""
    """The endpoint's name for the model; if empty, the slug."""
    key_env: str = ""
    """The variable in the server's environment that has the key."""
    concurrency: int = 8
    """The most requests at the same time."""
    timeout: float = 600.0
    """Seconds without any data."""


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: int = 500
    message: str = "scripted failure"
    times: int = 0
    """How often to fail before replying; 0 for always."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first rule whose `match`, a regular expression, is found in the last user message gives the reply."""

    match: str = ""
    reply: str = ""
    failure: Failure | None = None


class Scripted(_Model, frozen=True, kw_only=True, tag="scripted"):
    """Gives replies from a table, for tests."""

    rules: list[Rule] = []
    reply: str = "ok"
    """The reply if no rule matches."""
    latency: float = 0.0
    """Seconds before each answer."""


ModelSpec = Embedded | Upstream | Scripted


def prices(spec: ModelSpec) -> tuple[float, float] | None:
    """US dollars per million tokens in and out; None if unknown."""
    if spec.input_price is None and spec.output_price is None:
        return None if isinstance(spec, Upstream) else (0.0, 0.0)
    return spec.input_price or 0.0, spec.output_price or 0.0


def prepare(spec: ModelSpec, request: dict[str, Any]) -> dict[str, Any]:
    """The request for the engine, without the nulls that the SDK writes for unset parameters."""
    prepared = {key: value for key, value in request.items() if value is not None}
    if isinstance(spec, Embedded):
        # At llama.cpp's default of 0.8, "What is 2 + 2?" passes 20 of 30 times; greedily 30 of 30.
        prepared.setdefault("temperature", 0)
    if spec.max_tokens and "max_completion_tokens" not in prepared:
        prepared.setdefault("max_tokens", spec.max_tokens)
    if spec.stop:
        asked = prepared.get("stop", [])
        prepared["stop"] = [*([asked] if isinstance(asked, str) else asked), *spec.stop]
    return prepared


class Catalog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    default: str = ""
    judge: str = ""
    """The model for `LLM_DEFAULT_EVAL`; if empty, the default."""
    model: list[ModelSpec] = []

    @property
    def default_model(self) -> ModelSpec | None:
        return self.find(self.default) if self.default else next(iter(self.model), None)

    @property
    def judge_model(self) -> ModelSpec | None:
        return self.find(self.judge) if self.judge else self.default_model

    def find(self, name: str) -> ModelSpec | None:
        """Find a model by `owner/name`, or by its slug for the API (the last part, with "@" as "-")."""
        return next((m for m in self.model if name in (m.slug, normalize_model(m.slug))), None)

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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Catalog()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalServerError(f"Cannot read {path}: {error}.") from error
    try:
        catalog = msgspec.convert(tomllib.loads(text), Catalog)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise LocalServerError(f"{path}: {error}") from error
    _validate(catalog, path)
    return catalog


def _validate(catalog: Catalog, path: Path) -> None:
    seen: dict[str, str] = {}
    for model in catalog.model:
        key = normalize_model(model.slug)
        if not _SLUG.fullmatch(model.slug) or len(model.slug) > MAX_SLUG:
            raise LocalServerError(f"{path}: {model.slug!r} is not a model slug; write owner/name")
        if key in seen:
            raise LocalServerError(f"{path}: {model.slug} and {seen[key]} have the same API slug {key}")
        seen[key] = model.slug
        if isinstance(model, Scripted):
            for rule in model.rules:
                try:
                    re.compile(rule.match)
                except re.error as error:
                    text = f"{path}: {model.slug}: {rule.match!r} is not a regular expression: {error}"
                    raise LocalServerError(text) from None
        if isinstance(model, Upstream):
            try:
                url = urlsplit(model.url)
                valid = url.scheme in ("http", "https") and url.hostname and url.port != 0
            except ValueError:
                valid = False
            if not valid:
                raise LocalServerError(f"{path}: {model.slug}: {model.url!r} is not a URL of an endpoint")
    for role in ("default", "judge"):
        name = getattr(catalog, role)
        if name and catalog.find(name) is None:
            raise LocalServerError(f"{path}: {role} = {name!r} is not one of the models")


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
