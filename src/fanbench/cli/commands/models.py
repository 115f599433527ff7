"""`fanbench tasks models`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.cli.output import iso_time, table
from fanbench.cli.session import call

if TYPE_CHECKING:
    from fanbench.wire.messages import BenchmarkModel

__all__ = ["FIELDS", "models"]


@click.command(cls=Verb)
@pass_settings
def models(settings: Settings) -> None:
    """List the models that tasks can run on, with the slugs that -m takes.

    \b
    Examples:
      fanbench tasks models
      fanbench tasks models --format json
    """
    from fanbench.operations.models import modalities, model_slug

    available = call(settings, lambda client: client.list_models())
    out = settings.output
    if not out.plain:
        out.rows([_record(model) for model in available], FIELDS)
    elif not available:
        out.note("No benchmark models available. This may pass: try again later.")
    else:
        rows = [(model_slug(model), model.display_name, modalities(model.version)) for model in available]
        for line in table(("Slug", "Display Name", "Modality"), rows, (30, 30, 10)):
            out.text(line)


FIELDS = ("model", "name", "proxy_name", "inputs", "outputs", "allow_model_proxy", "deprecated")


def _record(model: BenchmarkModel) -> dict[str, Any]:
    from fanbench.operations.models import model_slug

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
