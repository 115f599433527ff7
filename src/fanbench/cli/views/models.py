"""What `fanbench tasks models` shows."""

from __future__ import annotations

from collections.abc import Sequence

from fanbench.cli.output import Fields, Output, iso_time
from fanbench.operations.models import modalities, model_slug
from fanbench.wire.messages import BenchmarkModel

__all__ = ["FIELDS", "show_models"]

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


def show_models(out: Output, models: Sequence[BenchmarkModel]) -> None:
    out.items(models, FIELDS)
    if models:
        rows = [(model_slug(model), model.display_name, modalities(model.version)) for model in models]
        out.table(("Slug", "Display Name", "Modality"), rows, (30, 30, 10))
    elif out.for_people:
        out.note("No benchmark models available. Try again later.")
