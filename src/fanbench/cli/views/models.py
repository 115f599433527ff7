"""What `fanbench tasks models` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from fanbench.cli.output import Fields, Output, iso_time
from fanbench.operations.models import modalities, model_slug
from fanbench.wire.messages import BenchmarkModel
from fanbench.wire.slugs import normalize_model

__all__ = ["EFFORT_FIELDS", "FIELDS", "Efforts", "show_efforts", "show_models"]

#: The efforts of models by their normalized slugs; None if the server does not list them.
Efforts: TypeAlias = Mapping[str, tuple[str, ...]] | None

FIELDS: Fields[BenchmarkModel] = {
    "model": model_slug,
    "name": lambda model: model.display_name,
    "proxy_name": lambda model: (model.version.model_proxy_slug or None) if model.version else None,
    "inputs": lambda model: [
        kind.label.lower() for kind in (model.version.input_modalities if model.version else ())
    ],
    "outputs": lambda model: [
        kind.label.lower() for kind in (model.version.output_modalities if model.version else ())
    ],
    "allow_model_proxy": lambda model: bool(model.version and model.version.allow_model_proxy),
    "deprecated": lambda model: iso_time(model.version.deprecation_time) if model.version else None,
}

# There are models with an effort that is called none.
_NO_EFFORT = "–"

EFFORT_FIELDS = (*FIELDS, "takes_effort", "efforts")


def show_models(out: Output, models: Sequence[BenchmarkModel]) -> None:
    out.items(models, FIELDS)
    if models:
        rows = [(model_slug(model), model.display_name, modalities(model.version)) for model in models]
        out.table(("Slug", "Display Name", "Modality"), rows, (30, 30, 10))
    elif out.for_people:
        _say_none(out)


def show_efforts(out: Output, models: Sequence[BenchmarkModel], efforts: Efforts) -> None:
    known = {
        model_slug(model): None if efforts is None else efforts[normalize_model(model_slug(model))]
        for model in models
    }
    out.records(
        [
            {name: read(model) for name, read in FIELDS.items()}
            | {"takes_effort": _takes_effort(model), "efforts": known[model_slug(model)]}
            for model in models
        ],
        EFFORT_FIELDS,
    )
    if efforts is None:
        out.note("The server does not list the efforts of its models.")
    if models:
        rows = [
            (model_slug(model), model.display_name, _effort_text(model, known[model_slug(model)]))
            for model in models
        ]
        out.table(("Slug", "Display Name", "Efforts"), rows, (30, 30, 10))
    elif out.for_people:
        _say_none(out)


def _takes_effort(model: BenchmarkModel) -> bool | None:
    """Whether the model takes an effort, as the server says; None if it does not say."""
    return model.version.supports_reasoning_effort if model.version else None


def _effort_text(model: BenchmarkModel, efforts: Sequence[str] | None) -> str:
    if efforts is None:
        return _NO_EFFORT if _takes_effort(model) is False else "unknown"
    return ", ".join(efforts) or _NO_EFFORT


def _say_none(out: Output) -> None:
    out.note("No benchmark models available. Try again later.")
