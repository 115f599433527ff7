"""What `fanbench tasks models` shows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fanbench.cli.output import Output, iso_time
from fanbench.operations.models import modalities, model_slug
from fanbench.wire.messages import BenchmarkModel

__all__ = ["FIELDS", "show_models"]

FIELDS = ("model", "name", "proxy_name", "inputs", "outputs", "allow_model_proxy", "deprecated")


def show_models(out: Output, models: Sequence[BenchmarkModel]) -> None:
    out.records([_record(model) for model in models], FIELDS)
    if models:
        rows = [(model_slug(model), model.display_name, modalities(model.version)) for model in models]
        out.table(("Slug", "Display Name", "Modality"), rows, (30, 30, 10))
    elif out.for_people:
        out.note("No benchmark models available. Try again later.")


def _record(model: BenchmarkModel) -> dict[str, Any]:
    version = model.version
    return {
        "model": model_slug(model),
        "name": model.display_name,
        "proxy_name": (version.model_proxy_slug or None) if version else None,
        "inputs": [kind.label.lower() for kind in version.input_modalities] if version else [],
        "outputs": [kind.label.lower() for kind in version.output_modalities] if version else [],
        "allow_model_proxy": bool(version and version.allow_model_proxy),
        "deprecated": iso_time(version.deprecation_time) if version else None,
    }
