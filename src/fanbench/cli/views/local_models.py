"""What `fanbench models` does and shows: the models of the local server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import anyio
import click
import msgspec

from fanbench._util.files import output_errors
from fanbench.cli.output import Output
from fanbench.cli.progress import spinner
from fanbench.errors import LocalServerError, UnknownModel, UsageError
from fanbench.local.folder import DataFolder
from fanbench.local.models.catalog import ModelSpec, read_catalog, write_catalog
from fanbench.local.models.provision import (
    BUNDLED,
    check_llama,
    look_at_endpoint,
    provide_bundled,
    provide_endpoint,
    provide_file,
    try_model,
)
from fanbench.local.models.upstream import Upstream
from fanbench.local.settings import default_data_folder

__all__ = ["FIELDS", "add_models", "remove_model", "show_models"]

FIELDS = ("model", "default", "kind", "source", "aliases", "license", "efforts")

# The options that do not apply to every kind of model, with their flags.
_FILE_OPTIONS = {"context": "--context", "threads": "--threads"}
_ENDPOINT_OPTIONS = {
    "model": "--model",
    "modalities": "--modality",
    "efforts": "--effort",
    "key_env": "--key-env",
    "concurrency": "--concurrency",
    "timeout": "--timeout",
}


def add_models(
    what: Sequence[str],
    data: Path | None,
    slug: str | None,
    options: dict[str, Any],
    *,
    as_default: bool,
    check: bool,
) -> None:
    if len(what) > 1 and (slug or as_default or "alias" in options):
        raise UsageError(
            "--slug, --alias and --default can only be used with one model.",
            hint="Add the other models separately.",
        )
    folder = _make_folder(data)
    for item in what:
        with spinner(Output(), f"Looking for {item}") as show:
            spec = _provide(item, slug, options, folder, show, check=check)
            problem: str | None = None
            if check:
                show(f"Trying {spec.slug}")
                anyio.run(try_model, spec, folder)
            if check and isinstance(spec, Upstream):
                problem = anyio.run(look_at_endpoint, spec)
        catalog = read_catalog(folder.models_file).with_model(spec)
        if as_default:
            catalog = msgspec.structs.replace(catalog, default=spec.slug)
        write_catalog(folder.models_file, catalog)
        license_note = f" (license: {spec.license})" if spec.license else ""
        click.echo(f"Added {spec.slug}{license_note}")
        if problem is not None:
            click.echo(f"warning: {problem}. Until that changes, runs on {spec.slug} will fail.", err=True)


def _provide(
    item: str,
    slug: str | None,
    options: dict[str, Any],
    folder: DataFolder,
    show: Callable[[str], None],
    *,
    check: bool,
) -> ModelSpec:
    is_endpoint = item.startswith(("http://", "https://"))
    if not (item in BUNDLED or is_endpoint or item.endswith(".gguf") or Path(item).exists()):
        raise UsageError(
            f"'{item}' is not a known model, a GGUF file or a URL.",
            hint=f"The known models are {', '.join(BUNDLED)}; run `fanbench models add --help` for examples.",
        )
    if item in BUNDLED and slug:
        raise UsageError(f"--slug cannot be used with {item}: its name is {BUNDLED[item].slug}.")
    wrong = _FILE_OPTIONS if is_endpoint else _ENDPOINT_OPTIONS
    if flags := [flag for name, flag in wrong.items() if name in options]:
        raise UsageError(f"{', '.join(flags)} cannot be used with {item}.")
    if check and not is_endpoint:
        check_llama()
    if item in BUNDLED:
        return msgspec.structs.replace(provide_bundled(item, folder, show), **options)
    if is_endpoint:
        return provide_endpoint(item, slug, options)
    return provide_file(Path(item), slug, options)


def show_models(out: Output, data: Path | None) -> None:
    folder = DataFolder(data or default_data_folder())
    catalog = read_catalog(folder.models_file)
    if not catalog.model:
        command = f"fanbench models add smollm2 gemma3{folder.flag}"
        out.note(f"No models yet. Run `{command}` to add two small ones.")
    records = [
        {
            "model": spec.slug,
            "default": spec is catalog.default_model,
            "kind": type(spec).__name__.lower(),
            "source": spec.source,
            "aliases": spec.alias,
            "license": spec.license or None,
            "efforts": spec.efforts,
        }
        for spec in catalog.model
    ]
    out.records(records, FIELDS)
    rows = [
        (
            f"{'*' if spec is catalog.default_model else ' '} {spec.slug}",
            type(spec).__name__.lower(),
            f"{spec.source}  ({spec.license})" if spec.license else spec.source,
            "; ".join(
                f"{word} {', '.join(names)}"
                for word, names in (("also", spec.alias), ("efforts", spec.efforts))
                if names
            ),
        )
        for spec in catalog.model
    ]
    out.rows(rows, (0, 8, 0, 0), gap="  ")


def remove_model(slug: str, data: Path | None) -> None:
    folder = DataFolder(data or default_data_folder())
    catalog = read_catalog(folder.models_file)
    spec = catalog.find(slug)
    if spec is None:
        known = ", ".join(model.slug for model in catalog.model)
        raise UnknownModel(
            f"There is no model '{slug}'.",
            hint=f"The models are {known}." if known else "No models have been added yet.",
        )
    write_catalog(folder.models_file, catalog.without(spec.slug))
    click.echo(f"Removed {spec.slug}")


def _make_folder(data: Path | None) -> DataFolder:
    folder = DataFolder(data or default_data_folder())
    with output_errors(f"write the data folder {folder.root}", kind=LocalServerError):
        folder.root.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder
