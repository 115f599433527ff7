"""`models.toml`: which models there are, and what is behind each.

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
input_price = 0.1                               # US dollars for a million tokens

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
    """`owner/name`: what the Model Proxy is asked for. The API's slug is the part after the slash."""
    name: str = ""
    """What people are shown; the slug's last part if empty."""
    input_price: float | None = None
    """US dollars for a million tokens of input. Not given: unknown, but for models that run here, which are free."""
    output_price: float | None = None
    input: tuple[str, ...] = ("text",)
    output: tuple[str, ...] = ("text",)
    license: str = ""
    max_tokens: int = 0
    """The most tokens of an answer where the request does not say; 0: the model's own limit."""
    stop: list[str] = []
    """Where an answer ends, beside what the request says."""


class Embedded(_Model, frozen=True, kw_only=True, tag="embedded"):
    """A GGUF file, run by llama.cpp in a process of its own."""

    path: str
    context: int = 2048
    """Tokens of context for each of the requests that are answered at the same time."""
    parallel: int = 4
    threads: int = 0
    """0: half of the cores."""
    chat_template: str = ""
    """Jinja; the file's own if empty."""


class Upstream(_Model, frozen=True, kw_only=True, tag="upstream"):
    """An OpenAI-compatible endpoint: Ollama, vLLM, a vendor, Kaggle's own proxy."""

    url: str
    """Its base; `/chat/completions` is added."""
    model: str = ""
    """Its own name for the model; the slug if empty."""
    key_env: str = ""
    """The environment variable of the server that holds the key."""
    concurrency: int = 8
    """Requests that may be under way at the same time."""
    timeout: float = 600.0
    """Seconds of silence."""


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: int = 500
    message: str = "scripted failure"
    times: int = 0
    """How often, before the rule's reply is given; 0: always."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first rule whose `match` (a regular expression) is found in the last user message answers."""

    match: str = ""
    reply: str = ""
    failure: Failure | None = None


class Scripted(_Model, frozen=True, kw_only=True, tag="scripted"):
    """Replies from a table, for tests."""

    rules: list[Rule] = []
    reply: str = "ok"
    """Where no rule matches."""
    latency: float = 0.0
    """Seconds before each answer."""


ModelSpec = Embedded | Upstream | Scripted


def prices(spec: ModelSpec) -> tuple[float, float] | None:
    """US dollars for a million tokens in and out; `None` where nobody said."""
    if spec.input_price is None and spec.output_price is None:
        return None if isinstance(spec, Upstream) else (0.0, 0.0)
    return spec.input_price or 0.0, spec.output_price or 0.0


class Catalog(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    default: str = ""
    judge: str = ""
    """The model of `LLM_DEFAULT_EVAL`; the default if empty."""
    model: list[ModelSpec] = []

    @property
    def default_model(self) -> ModelSpec | None:
        return self.find(self.default) if self.default else next(iter(self.model), None)

    @property
    def judge_model(self) -> ModelSpec | None:
        return self.find(self.judge) if self.judge else self.default_model

    def find(self, name: str) -> ModelSpec | None:
        """By `owner/name`, or by the API's slug (the last part, "@" as "-")."""
        return next((m for m in self.model if name in (m.slug, normalize_model(m.slug))), None)

    def with_model(self, model: ModelSpec) -> Catalog:
        """With `model` added, or in the place of the one of that slug."""
        others = [m for m in self.model if m.slug != model.slug]
        at = next((i for i, m in enumerate(self.model) if m.slug == model.slug), len(others))
        return msgspec.structs.replace(self, model=[*others[:at], model, *others[at:]])

    def without(self, slug: str) -> Catalog:
        default = "" if self.default == slug else self.default
        judge = "" if self.judge == slug else self.judge
        return Catalog(default=default, judge=judge, model=[m for m in self.model if m.slug != slug])


def read_catalog(path: Path) -> Catalog:
    """The catalogue in `path`, empty where there is no such file.

    Raises:
        LocalServerError: it cannot be read, or something in it is wrong; names the place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Catalog()
    except (OSError, UnicodeDecodeError) as error:
        raise LocalServerError(f"cannot read {path}: {error}") from error
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
            raise LocalServerError(f"{path}: {model.slug!r} is no model slug; write owner/name")
        if key in seen:
            raise LocalServerError(f"{path}: {model.slug} and {seen[key]} have the same API slug {key}")
        seen[key] = model.slug
        if isinstance(model, Scripted):
            _validate_rules(model, path)
        if isinstance(model, Upstream) and not _is_url(model.url):
            raise LocalServerError(f"{path}: {model.slug}: {model.url!r} is no URL of an endpoint")
    for role in ("default", "judge"):
        name = getattr(catalog, role)
        if name and catalog.find(name) is None:
            raise LocalServerError(f"{path}: {role} = {name!r} is none of the models")


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _validate_rules(model: Scripted, path: Path) -> None:
    for rule in model.rules:
        try:
            re.compile(rule.match)
        except re.error as error:
            said = f"{path}: {model.slug}: {rule.match!r} is no regular expression: {error}"
            raise LocalServerError(said) from None


def write_catalog(path: Path, catalog: Catalog) -> None:
    """Write the catalogue, keeping the comments of a file that is there.

    Raises:
        UsageError: the catalogue would not be valid.
        LocalServerError: the file cannot be written.
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
        _write_models(document, wanted.get("model", []), tomlkit)
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, _without_gaps(tomlkit.dumps(document)), mode=PRIVATE)
    except OSError as error:
        raise LocalServerError(f"cannot write {path}: {error.strerror}") from error


def _without_gaps(text: str) -> str:
    """tomlkit leaves the blank lines of what was removed: no more than one at a time, unless they mean something."""
    tidy = re.sub(r"\n{3,}", "\n\n", text)
    return tidy if tomllib.loads(tidy) == tomllib.loads(text) else text


def _write_models(document: Any, wanted: list[dict[str, Any]], tomlkit: Any) -> None:
    """Keep the tables that did not change as they stand, comments and all."""
    present = {table["slug"]: table for table in document.get("model", [])}
    tables = tomlkit.aot()
    for model in wanted:
        table = present.get(model["slug"])
        if table is None or table.unwrap() != model:
            table = tomlkit.table()
            table.update(model)
        tables.append(table)
    document.pop("model", None)
    if wanted:
        document["model"] = tables
