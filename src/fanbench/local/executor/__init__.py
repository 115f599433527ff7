"""Runs notebooks and task files in processes of their own. Shared by the local server and `check --run`.

    supervise ── forkserver_executor ──(Unix socket)── forkserver ──fork──┬─ child    a notebook, cell by cell
                                                                          └─ script   a file, as `python FILE`

`forkserver` is the parent of all run processes. With isolation "fork" it has imported the SDK and forks itself: a
process starts in milliseconds, and a short notebook takes 0.3 s from start to end. With "process" it starts a new
Python, and the same notebook takes 2 s, most of it for the import of the SDK; with "container", too, in a container of
bubblewrap. `supervise` takes one run from start to end: its output, its time limit, and no process left behind.
`mounts` and `processes` give runs their own view of files and processes, and `container` a narrower one.

To add an executor: write a class with the methods of `Executor`, whose `start` returns a `RunProcess`, and open it in
`carriers/local.py` (for the server) or in `try_files` of `operations/check.py` (for `check --run`). What a
process does with its `Job` is in `child` and `script`. To add a kind of isolation to the forkserver: name it in
`Isolation`, and start its processes in `Forkserver`.

Nothing here imports the server or its packages (starlette, SQLAlchemy): `check --run` works with the SDK alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable

    from fanbench.errors import LocalServerError
    from fanbench.local.executor.job import Exit, Job

__all__ = ["Executor", "Isolation", "Protection", "RunProcess"]

Isolation = Literal["fork", "process", "container"]
"""Whether a run is a fork of a process that has imported the SDK, a new Python, or one in a container."""

Protection = Literal["mounts", "processes"]
"""What runs have of their own where the system allows it: the view of files, and that of processes."""


class RunProcess(Protocol):
    """The processes of one run."""

    pid: int
    """The first of them, from which the others descend."""

    async def wait(self) -> Exit:
        """Wait until no process of the run is left."""
        ...

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to all processes of the run; do nothing if none is left."""
        ...


class Executor(Protocol):
    """Starts runs."""

    def warm_up(
        self,
        on_failure: Callable[[LocalServerError], None],
        on_obstacle: Callable[[Protection, str], None] = lambda _what, _reason: None,
    ) -> None:
        """Prepare the first `start` in the background.

        `on_failure` receives what `start` would raise, and `on_obstacle` what runs cannot have of their
        own, and why.
        """
        ...

    async def start(self, job: Job, stdout: int, stderr: int) -> RunProcess:
        """Start the job with its output going to the two descriptors, which stay the caller's.

        Raises:
            LocalServerError: Processes cannot be started here; the hint has the remedy.
        """
        ...
