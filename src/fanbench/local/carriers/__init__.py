"""Carriers execute notebooks for the scheduler, on this machine or on others, and return their outcomes and outputs.

    scheduler ── Carrier ── LocalCarrier ── supervise ── forkserver ── run

`job` has what a carrier is given and what it returns, without paths of the server. `LocalCarrier` executes jobs on the
machine where it is opened, in folders below its root. Everything that depends on the machine is computed there, such as
PATH and the folders of packages and datasets.

To add a carrier: write a class with the methods of `Carrier`, open it in `_carrier` of `local/serve.py`, and add it to
the contract in `tests/local/carriers`, which tests what every carrier must do.
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
    """Executes jobs, each on a machine that it chooses."""

    def warm_up(
        self, on_failure: Callable[[LocalServerError], None], on_obstacle: Callable[[Protection, str], None]
    ) -> None:
        """Prepare for the first job in the background.

        `on_failure` receives what `run` would raise, and `on_obstacle` what runs cannot have of their own, and why.
        """
        ...

    async def run(self, job: NotebookJob, started: Started, append: Append) -> Outcome:
        """Execute `job` to its end, or stop it after its time limit. What it prints goes to `append`.

        However this ends, no process of the run is left on its machine, unless that machine no longer answers. Cancel
        it with a cancel scope.

        Raises:
            LocalServerError: The job could not be executed; the hint has the remedy.
            RunLost: The process or machine that executed it is gone; a part of it may have been executed.
        """
        ...
