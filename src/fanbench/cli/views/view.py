"""What `fanbench view` does until Ctrl-C."""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import webbrowser
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING

import anyio
import anyio.abc
import anyio.to_thread
import click

from fanbench._util import files
from fanbench._util.files import output_errors
from fanbench.cli.command import Settings
from fanbench.cli.progress import spinner
from fanbench.errors import NoResults, UsageError

if TYPE_CHECKING:
    from fanbench.view.live import Live

__all__ = ["page_beside", "require_view", "show_view"]

# How many seconds the page may take to begin, and to end.
_BEGINS = 30.0
_ENDS = 3.0


def require_view() -> None:
    """Raise unless the extra `view` is installed.

    Raises:
        UsageError: It is not.
    """
    for name in ("starlette", "uvicorn"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(
                f"The page needs {name}, which is not installed.", hint="Run `pip install 'fanbench[view]'`."
            )


def show_view(
    settings: Settings,
    folders: Sequence[Path],
    *,
    port: int,
    opens: bool,
    with_parent: bool,
    against: Path | None,
    margin: float,
) -> None:
    """Serve the page until SIGINT or SIGTERM, or until stdin ends if it does `with_parent`.

    Raises:
        UsageError: The extra `view` is not installed, or the port is taken.
        NoResults: A folder does not exist.
    """
    require_view()
    for folder in (*folders, *([against] if against else [])):
        if not folder.is_dir():
            raise NoResults(f"There is no folder {folder}.", hint="Run `fanbench sweep -o DIR` to make one.")
    from fanbench.view.live import Live

    with spinner(settings.output, "Reading the results"):
        live = Live(folders, against=against, margin=margin)
    anyio.run(partial(_serve, settings, live, port=port, opens=opens, with_parent=with_parent))


async def _serve(settings: Settings, live: Live, *, port: int, opens: bool, with_parent: bool) -> None:
    from fanbench.view.server import serve_view

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with serve_view(live, port=port) as address:
            click.echo(address)
            sys.stdout.flush()
            if opens and _has_display():
                await anyio.to_thread.run_sync(webbrowser.open, address, abandon_on_cancel=True)
            if not with_parent:
                settings.output.note("Ctrl-C ends the page.")
            async with anyio.create_task_group() as waiting:
                if with_parent:
                    waiting.start_soon(_cancel_after_parent, waiting.cancel_scope)
                await anext(signals)
                waiting.cancel_scope.cancel()


async def _cancel_after_parent(scope: anyio.CancelScope) -> None:
    """Cancel once stdin ends, when pages have the last changes."""
    from fanbench.view.server import LAST_CHANGES

    while True:
        with suppress(PermissionError):  # A file is always readable, and cannot be waited for.
            await anyio.wait_readable(sys.stdin.fileno())
        if not os.read(sys.stdin.fileno(), 4096):
            break
    await anyio.sleep(LAST_CHANGES)
    scope.cancel()


def _has_display() -> bool:
    """Whether a browser has a window of its own. One in the terminal would take it over."""
    return sys.platform in ("win32", "darwin") or any(
        map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
    )


@asynccontextmanager
async def page_beside(settings: Settings, folder: Path) -> AsyncIterator[None]:
    """Serve the page about `folder`, which is created if missing, during the block, and say its address.

    It is a process of its own: the page costs the block no time, and the block ends if the page fails.

    Raises:
        OutputError: The folder cannot be created.
    """
    with output_errors(f"create {folder}"):
        files.make_folders(folder)
    command = [sys.executable, "-m", "fanbench", "view", str(folder), "--with-parent"]
    # In a session of its own, Ctrl-C does not end it while the block still works.
    process = await anyio.open_process(command, stdin=PIPE, stdout=PIPE, stderr=None, start_new_session=True)
    async with process:
        try:
            with anyio.move_on_after(_BEGINS):
                settings.output.note(f"The page: {await _first_line(process)}")
            yield
        finally:
            with anyio.move_on_after(_ENDS, shield=True):
                if process.stdin is not None:
                    await process.stdin.aclose()
                await process.wait()
            if process.returncode is None:
                process.kill()


async def _first_line(process: anyio.abc.Process) -> str:
    """Return the first line that the process prints; empty if it ends before."""
    text = b""
    assert process.stdout is not None
    async for chunk in process.stdout:
        text += chunk
        if b"\n" in text:
            break
    return text.decode("utf-8", "replace").partition("\n")[0]
