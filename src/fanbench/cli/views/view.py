"""What `fanbench view` does until Ctrl-C."""

from __future__ import annotations

import importlib.util
import signal
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import click

from fanbench.cli.command import Settings
from fanbench.errors import NoResults, UsageError

__all__ = ["show_view"]


def show_view(
    settings: Settings,
    folders: Sequence[Path],
    *,
    port: int,
    opens: bool,
    against: Path | None,
    margin: float,
) -> None:
    """Serve the page until SIGINT or SIGTERM.

    Raises:
        UsageError: The extra `view` is not installed, or the port is taken.
        NoResults: A folder does not exist.
    """
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"The page needs {name}, which is not installed.", hint="Run `pip install 'fanbench[view]'`."
            )
    for folder in (*folders, *([against] if against else [])):
        if not folder.is_dir():
            raise NoResults(f"There is no folder {folder}.", hint="Run `fanbench sweep -o DIR` to make one.")
    from fanbench.view.live import Live

    live = Live(folders, against=against, margin=margin)
    anyio.run(_serve, settings, live, port, opens)


async def _serve(settings: Settings, live: object, port: int, opens: bool) -> None:
    from fanbench.view.live import Live
    from fanbench.view.server import serve_view

    assert isinstance(live, Live)
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        try:
            async with serve_view(live, port=port) as address:
                click.echo(address)
                settings.output.note("Ctrl-C ends the page.")
                if opens:
                    await anyio.to_thread.run_sync(webbrowser.open, address, abandon_on_cancel=True)
                await anext(signals)
        except OSError as error:
            raise UsageError(
                f"Cannot listen on port {port}: {error.strerror}.", hint="Add --port 0."
            ) from None
