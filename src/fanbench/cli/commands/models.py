"""`fanbench tasks models`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.session import call

if TYPE_CHECKING:
    from fanbench.cli.views.models import Efforts
    from fanbench.client import Client
    from fanbench.wire.messages import BenchmarkModel

__all__ = ["models"]


@command()
@click.option(
    "--efforts", "with_efforts", is_flag=True, help="Show which reasoning efforts each model takes."
)
def models(settings: Settings, with_efforts: bool) -> None:
    """List the models that tasks can run on.

    The slugs in the first column are what -m/--model accepts. With --efforts, the last column has what --effort
    accepts for the model.

    \b
    Examples:
      fanbench tasks models
      fanbench tasks models --format json
      fanbench tasks models --efforts
    """
    from fanbench.cli.views.models import show_efforts, show_models
    from fanbench.operations.candidates import efforts_of
    from fanbench.operations.lookup import UnsupportedByServer

    async def fetch(client: Client) -> tuple[list[BenchmarkModel], Efforts]:
        listed = await client.list_models()
        try:
            return listed, await efforts_of(client, listed) if with_efforts else None
        except UnsupportedByServer:
            return listed, None

    listed, efforts = call(settings, fetch)
    if with_efforts:
        show_efforts(settings.output, listed, efforts)
    else:
        show_models(settings.output, listed)
