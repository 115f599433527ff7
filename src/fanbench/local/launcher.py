"""Starts a local server in the background, or stops it. Importable without the extra."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread

from fanbench._util.lock import is_locked, read_owner
from fanbench.errors import LocalServerError
from fanbench.local.address import LocalServer, find_server
from fanbench.local.folder import DataFolder
from fanbench.local.kept_options import flags_of, read_options
from fanbench.local.serve import check_installed
from fanbench.local.settings import default_data_folder

START_SECONDS = 60.0
START_SECONDS_WITH_RAY = 300.0
STOP_SECONDS = 20.0
"""How long a server may take to end, after the time that it gives its runs."""
IDLE_SECONDS = 900
"""How long a server that `--local` has started goes on without a request or a run."""

_LOOK_EVERY = 0.05
"""Seconds between two looks at a server that starts or ends."""


async def ensure_server(data: Path | None = None, *, datasets: Path | None = None) -> LocalServer:
    """The server of the data folder. If none is running, it is started in the background.

    It has the options of the last `fanbench serve` there, but for `datasets`, which replaces them if it is given.

    Raises:
        LocalServerError: It cannot be started.
    """
    data = (data or default_data_folder()).absolute()
    lock, timeout = DataFolder(data).lock_file, _start_timeout(data)
    with anyio.move_on_after(timeout):
        while (server := find_server(data)) is None and is_locked(lock):  # noqa: ASYNC110 - another process
            await anyio.sleep(_LOOK_EVERY)  # it is starting, or ending and about to free the folder
    if server is not None:
        return server
    check_installed()
    with tempfile.TemporaryFile() as errors:
        process = _start(data, datasets, errors)
        with anyio.move_on_after(timeout):
            while (server := find_server(data)) is None:
                if process.poll() is not None and not is_locked(lock):
                    errors.seek(0)
                    raise _not_started(errors.read().decode("utf-8", "replace"), _last_options(data))
                await anyio.sleep(_LOOK_EVERY)
            started = server.pid == process.pid
            if not started:
                # Another server was faster. Ours must not take over when that one stops.
                process.terminate()
                await anyio.to_thread.run_sync(process.wait)
            process.returncode = 0  # the server outlives this process, which need not reap it
            return replace(server, started=started)
        process.terminate()
        raise LocalServerError(
            f"The local server did not listen within {timeout:g} s.",
            hint=f"See {DataFolder(data).server_log}.",
        )


def _start(data: Path, datasets: Path | None, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """Start a server that outlives this process."""
    options = ["--data", str(data), "--any-port", "--last-options", "--idle-timeout", str(IDLE_SECONDS)]
    options += ["--datasets", str(datasets)] if datasets is not None else []
    return subprocess.Popen(
        [sys.executable, "-m", "fanbench", "serve", *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        start_new_session=True,  # Ctrl-C in this terminal is not for the server
    )


def _start_timeout(data: Path) -> float:
    """The seconds that a server with the last options on this folder may take to start."""
    with suppress(LocalServerError):  # it says so itself
        if read_options(DataFolder(data)).engine != "local":
            return START_SECONDS_WITH_RAY
    return START_SECONDS


def _not_started(said: str, last_options: str | None) -> LocalServerError:
    """The error of a server that has said this on stderr: warnings, its error, and a hint, if it has one."""
    before, _, after = f"\n{said}".partition("\nerror: ")
    error, _, hint = (after or before).strip().partition("\nhint: ")
    hints = " ".join(each for each in (hint, last_options) if each)
    return LocalServerError(f"The local server did not start: {error}", hint=hints or None)


def _last_options(data: Path) -> str | None:
    """The hint for a server that did not start, if it had options of an earlier one."""
    folder = DataFolder(data)
    try:
        options = " ".join(flags_of(read_options(folder)).values())
    except LocalServerError:
        return None  # that is why it did not start
    if not options:
        return None
    return (
        f"It has the options of the last server on this data folder: {options}. "
        f"Run `fanbench serve{folder.flag}` with those that are to replace them."
    )


async def stop_server(
    data: Path | None = None, stopping: Callable[[int, float], None] = lambda _pid, _stop_timeout: None
) -> int | None:
    """Stop the server of the data folder and wait for its end. Return its process id, None if none is running.

    `stopping` is called with its process id and the seconds for which its runs may continue.

    Raises:
        LocalServerError: It does not end.
    """
    folder = DataFolder((data or default_data_folder()).absolute())
    lock = folder.lock_file
    if not is_locked(lock):
        return None
    for _ in range(20):
        if pid := read_owner(lock):
            break
        await anyio.sleep(_LOOK_EVERY)
    else:  # 0 would signal our own group of processes
        raise LocalServerError(
            f"{lock} is locked, but does not name the process.",
            hint="Look for `fanbench serve` in the list of processes.",
        )
    server = find_server(data)
    stop_timeout = server.stop_timeout if server is not None else 0.0
    try:
        os.kill(pid, signal.SIGTERM)
    except OSError as error:
        raise LocalServerError(f"Cannot stop the server, process {pid}: {error.strerror}.") from None
    stopping(pid, stop_timeout)
    limit = stop_timeout + STOP_SECONDS
    with anyio.move_on_after(limit):
        # The next server may be faster than our look.
        while is_locked(lock) and read_owner(lock) == pid:  # noqa: ASYNC110 - another process
            await anyio.sleep(_LOOK_EVERY)
        return pid
    raise LocalServerError(f"The server, process {pid}, did not end within {limit:g} s.")
