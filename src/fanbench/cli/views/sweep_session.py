"""A sweep from its plan to its end: what is read first, what is shown meanwhile, and what a signal does."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from fanbench.cli.command import Settings
from fanbench.cli.exits import INTERRUPTED, TERMINATED
from fanbench.cli.output import bold
from fanbench.cli.stdout_writer import room
from fanbench.cli.views.sweep_events import Narrator
from fanbench.cli.views.sweep_report import go_on
from fanbench.errors import FanbenchError

if TYPE_CHECKING:
    from anyio.abc import TaskStatus

    from fanbench.cli.views.sweep_screen import SweepScreen
    from fanbench.client import Client
    from fanbench.operations.quota import Quotas
    from fanbench.sweeps.engine import Stage
    from fanbench.sweeps.plan import SweepPlan
    from fanbench.sweeps.preview import Preview
    from fanbench.sweeps.report import SweepReport
    from fanbench.sweeps.spec import SweepSpec
    from fanbench.sweeps.state import SweepState
    from fanbench.sweeps.sweep import Sweep

__all__ = ["Course", "Outcome", "Prepared", "prepare"]


# Seconds that a full stderr is waited for.
_PATIENCE = 1.0


# --- Before anything is touched -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan, what it comes to, and the first stage that has something to do."""

    plan: SweepPlan
    preview: Preview
    stage: Stage


async def prepare(client: Client, spec: SweepSpec, *, fresh: bool, quotas: bool) -> Prepared:
    """Reads the files, asks the server and reads the journal; not that of a sweep that starts `fresh`.

    `quotas`: whether they are asked for as well.

    Raises:
        SweepError: the folder has another sweep, or its journal cannot be read.
        FanbenchError: see `make_plan`.
    """
    from fanbench._util.concurrency import both
    from fanbench.sweeps.plan import make_plan
    from fanbench.sweeps.preview import read_quotas

    asked = partial(read_quotas, client) if quotas else _no_quotas
    plan, left = await both(partial(make_plan, client, spec), asked)
    return await anyio.to_thread.run_sync(
        partial(_looked_at, plan, client.config.endpoint, left, fresh=fresh)
    )


async def _no_quotas() -> Quotas | None:
    return None


def _looked_at(plan: SweepPlan, endpoint: str, quotas: Quotas | None, *, fresh: bool) -> Prepared:
    from fanbench.cli.views.sweep_step import next_stage
    from fanbench.sweeps.journal import Journal
    from fanbench.sweeps.preview import preview
    from fanbench.sweeps.resume import refuse_other_sweep

    journal = None if fresh else Journal.read(plan.output)
    with journal or nullcontext():
        saved = journal.saved_spec() if journal else None
        if saved is not None:
            refuse_other_sweep(saved, plan, endpoint)
        return Prepared(plan, preview(plan, journal, quotas), next_stage(plan, journal))


# --- On its way -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """How far it came. `report` is `None` if it was stopped at once; `code` is that of a signal, 0 for none."""

    state: SweepState
    report: SweepReport | None
    code: int


@dataclass
class Course:
    """One invocation, which shows what happens."""

    settings: Settings
    plan: SweepPlan
    until: Stage = "collect"
    _sweep: Sweep | None = field(default=None, init=False)
    _code: int = field(default=0, init=False)
    _stopped: bool = field(default=False, init=False)

    async def follow(self, client: Client) -> Outcome:
        """To the end, or to where a signal ends it.

        Raises:
            FanbenchError: what ended the sweep as a whole.
        """
        from fanbench._util.concurrency import unwrap_single_error
        from fanbench.cli.views.sweep_screen import SweepScreen
        from fanbench.sweeps.state import SweepState

        state = SweepState()
        with (
            SweepScreen(self.settings.output, state, limit=client.config.concurrency) as screen,
            unwrap_single_error(),
        ):
            await self._carry_out(client, screen)
        if self._sweep is None or self._stopped:
            await self._say(f"Stopped. What is left is done by: {self._go_on}")
            return Outcome(state, None, self._code)
        return Outcome(state, (await self._sweep.report()).after(state), self._code)

    async def _carry_out(self, client: Client, screen: SweepScreen) -> None:
        async with anyio.create_task_group() as group:
            await group.start(self._obey_signals, group.cancel_scope)
            try:
                await self._show_events(client, screen)
            except FanbenchError as error:
                if self._sweep is not None:
                    error.add_note(f"What is left is done by: {self._go_on}")
                raise
            group.cancel_scope.cancel()

    async def _show_events(self, client: Client, screen: SweepScreen) -> None:
        from fanbench.sweeps.sweep import Sweep

        narrator = Narrator(self.settings, terse=screen.shown, stage=self.until != "collect")
        async with Sweep(client, self.plan, until=self.until) as self._sweep:
            async for event in self._sweep:
                at = datetime.now(UTC)
                screen.absorb(event, at)
                await narrator.tell(event, at)

    # --- Signals ---

    async def _obey_signals(self, scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
        """Ctrl-C once: nothing more is scheduled; twice, or SIGTERM: all stops now. Nothing is lost either way."""
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                first = self._code == 0
                self._code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
                if number == signal.SIGINT and first and self._sweep is not None:
                    self._sweep.drain()
                    await self._say(
                        "\nInterrupted: nothing more is scheduled; what is in flight is followed to its end.\n"
                        f"Ctrl-C again stops now. Either way, what is left is done by: {self._go_on}"
                    )
                else:
                    self._stopped = True
                    scope.cancel()

    async def _say(self, text: str) -> None:
        """A signal is obeyed also where nobody reads what is said of it."""
        with anyio.move_on_after(_PATIENCE):
            await room(sys.stderr)
            self.settings.output.note(text)

    @property
    def _go_on(self) -> str:
        return bold(go_on(self.settings, self.plan.output))
