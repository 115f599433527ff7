"""`fanbench view DIR...`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import PATH, against_options, value_option

__all__ = ["view"]


@command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=PATH)
@value_option(
    "--port", "N", "The port to listen on (default: any free one).", click.IntRange(0, 65535), default=0
)
@click.option("--no-open", is_flag=True, help="Do not open the browser.")
@click.option("--with-parent", is_flag=True, hidden=True, help="End when stdin ends.")
@against_options
def view(
    settings: Settings,
    folders: tuple[Path, ...],
    port: int,
    no_open: bool,
    with_parent: bool,
    against: Path | None,
    margin: float,
) -> None:
    """Show the results in DIR in the browser, and follow the sweep that is running there.

    The page is that of `fanbench report`, and is updated while the sweep runs. The sweep may be started in another
    terminal, before or after. Nothing can be changed from the page. Only this machine can open it, with the token in
    its address. Ctrl-C ends it.

    \b
    Examples:
      fanbench view ./results
      fanbench view ./results --no-open --port 8800
      fanbench view ./results --against ./last-week
    """
    from fanbench.cli.views.view import show_view

    show_view(
        settings,
        folders,
        port=port,
        opens=not no_open,
        with_parent=with_parent,
        against=against,
        margin=margin,
    )
