"""`fanbench tasks models`."""

from __future__ import annotations

from fanbench.cli.command import Settings, command
from fanbench.cli.session import call

__all__ = ["models"]


@command()
def models(settings: Settings) -> None:
    """List the models that tasks can run on.

    The slugs in the first column are what -m/--model accepts.

    \b
    Examples:
      fanbench tasks models
      fanbench tasks models --format json
    """
    from fanbench.cli.views.models import show_models

    show_models(settings.output, call(settings, lambda client: client.list_models()))
