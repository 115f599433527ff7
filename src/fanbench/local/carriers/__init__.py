"""Takes a notebook to a machine, and brings back its output and how it ended: the seam below the scheduler.

    scheduler ── Carrier ── LocalCarrier ── supervise ── forkserver ── run

`job` has what crosses the seam, without a path of the server in it. `LocalCarrier` carries out jobs on the machine
where it is opened, in folders below its root: it computes everything there that depends on the machine, such as PATH,
the folders of packages and those of datasets.

To add a carrier: write a class with the methods of `Carrier`, open it in `_carrier` of `local/serve.py`, and add it to
the contract in `tests/local/carriers`, which says what each of them must do.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from fanbench.errors import LocalServerError
from fanbench.local.carriers.job import NotebookJob, Outcome
from fanbench.local.executor import Protection
from fanbench.local.executor.supervise import Append

__all__ = ["Carrier", "Started"]

Started = Callable[[], Awaitable[None]]
"""Awaited when a job leaves the queue, before anything of it is executed."""


class Carrier(Protocol):
    """Carries out jobs, each on the machine that it chooses."""

    def warm_up(
        self, on_failure: Callable[[LocalServerError], None], on_obstacle: Callable[[Protection, str], None]
    ) -> None:
        """Prepare for the first job in the background.

        `on_failure` receives what `run` would raise, and `on_obstacle` what runs cannot have of their own, and why.
        """
        ...

    async def run(self, job: NotebookJob, started: Started, append: Append) -> Outcome:
        """Carry out `job` to its end, or stop it after its time limit. Its output goes to `append`.

        However this ends, no process of the run is left, on whichever machine it was, unless that machine no longer
        answers. Cancel it with a cancel scope.

        Raises:
            LocalServerError: The job could not be carried out; the hint has the remedy.
            RunLost: What carried it out is gone, and may have been in the middle of it.
        """
        ...
