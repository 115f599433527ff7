"""One sweep from its plan to its end: what is read first, what is shown meanwhile, and what a signal does."""

from __future__ import annotations

import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import anyio
import anyio.to_thread
from anyio.abc import TaskStatus

from fanbench._util.concurrency import both, unwrap_single_error
from fanbench.cli.command import Settings
from fanbench.cli.exits import INTERRUPTED, TERMINATED
from fanbench.cli.output import bold
from fanbench.cli.views.sweep_display import SweepDisplay
from fanbench.cli.views.sweep_events import EventPrinter, wait_for_reader
from fanbench.cli.views.sweep_report import resume_command
from fanbench.client import Client
from fanbench.errors import FanbenchError
from fanbench.operations.quota import Quotas
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.preview import Preview, preview, read_quotas
from fanbench.sweeps.report import SweepReport, build_report
from fanbench.sweeps.resume import refuse_other_sweep
from fanbench.sweeps.spec import SweepSpec
from fanbench.sweeps.state import SweepState
from fanbench.sweeps.sweep import Sweep, plan_spec

__all__ = ["Prepared", "SweepOutcome", "SweepSession", "prepare"]

# How many seconds a message about a signal waits for a full stderr.
_STDERR_WAIT = 1.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan and its preview."""

    plan: SweepPlan
    preview: Preview


async def prepare(
    client: Client, spec: SweepSpec, *, fresh: bool, quotas: bool, power: bool = False
) -> Prepared:
    """Read the task files, ask the server, and read the journal, unless the sweep starts `fresh`.

    With `quotas`, the server is asked for them as well. With `power`, the results so far are read, too, to tell what
    those of the whole plan could show.

    Raises:
        SweepError: The folder contains another sweep, or its journal cannot be read.
        FanbenchError: See `plan_spec`.
    """

    async def ask_quotas() -> Quotas | None:
        return await read_quotas(client) if quotas else None

    plan, left = await both(partial(plan_spec, client, spec, fresh=fresh), ask_quotas)

    def read_journal() -> Prepared:
        journal = None if fresh else Journal.read(plan.output)
        with journal or nullcontext():
            saved = journal.saved_spec() if journal else None
            if saved is not None:
                refuse_other_sweep(saved, plan, client.config.server)
            scores = build_report(plan, journal).scores() if power else None
            return Prepared(plan, preview(plan, journal, left, scores))

    return await anyio.to_thread.run_sync(read_journal)


@dataclass(frozen=True, slots=True)
class SweepOutcome:
    """The end of a session. `report` is None if it was stopped at once; `code` is a signal's exit code, or 0.

    `left`: it was stopped by a second Ctrl-C, and may have left runs on the server that nobody has tried to cancel.
    """

    state: SweepState
    report: SweepReport | None
    code: int
    left: bool = False


@dataclass
class SweepSession:
    """Runs the plan up to a stage, and shows what happens."""

    settings: Settings
    plan: SweepPlan
    until: Stage = "collect"
    _sweep: Sweep | None = field(default=None, init=False)
    _code: int = field(default=0, init=False)
    _stopped: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)

    async def follow(self, client: Client) -> SweepOutcome:
        """Run to the end, or until a signal ends it.

        Raises:
            FanbenchError: The sweep as a whole failed.
        """
        state = SweepState()
        display = SweepDisplay(self.settings.output, state, limit=client.config.concurrency)
        with display, unwrap_single_error():
            async with anyio.create_task_group() as group:
                await group.start(self._obey_signals, group.cancel_scope)
                try:
                    printer = EventPrinter(self.settings, terse=display.shown, stage=self.until != "collect")
                    async with Sweep(client, self.plan, until=self.until) as self._sweep:
                        async for event in self._sweep:
                            at = datetime.now(UTC)
                            display.absorb(event, at)
                            await printer.print(event, at)
                except FanbenchError as error:
                    if self._sweep is not None:
                        error.add_note(f"To resume: {self._resume}")
                    raise
                group.cancel_scope.cancel()
        if self._sweep is None or self._stopped:
            await self._note(f"Stopped. To resume: {self._resume}")
            left = self._code == INTERRUPTED and not self._cancelled and state.in_flight > 0
            return SweepOutcome(state, None, self._code, left)
        return SweepOutcome(state, (await self._sweep.report()).after(state), self._code)

    async def _obey_signals(self, scope: anyio.CancelScope, *, task_status: TaskStatus[None]) -> None:
        """The first Ctrl-C stops scheduling; the second, or SIGTERM, stops everything. Nothing is lost.

        While runs are being cancelled on the server, the first one stops everything.
        """
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            async for number in signals:
                first = self._code == 0
                self._code = TERMINATED if number == signal.SIGTERM else INTERRUPTED
                cancelling = self._sweep is not None and self._sweep.cancelling
                self._cancelled = self._cancelled or cancelling
                if number == signal.SIGINT and first and self._sweep is not None and not cancelling:
                    await self._note(
                        f"\nInterrupted: nothing more is scheduled; {self._drain(self._sweep)}.\n"
                        f"Press Ctrl-C again to stop now. Either way, to resume: {self._resume}"
                    )
                else:
                    self._stopped = True
                    scope.cancel()

    def _drain(self, sweep: Sweep) -> str:
        """Drain the sweep, and return what becomes of the runs in flight."""
        rules = self.plan.rules
        if not rules.cancel_on_interrupt:
            sweep.drain()
            return "runs in flight are followed to their end"
        self._cancelled = True
        if rules.cancel == "queued":
            sweep.cancel("queued")
            return "queued runs are cancelled, and those that have begun are followed to their end"
        sweep.cancel()
        return "runs in flight are cancelled"

    async def _note(self, text: str) -> None:
        """Print a message about a signal. The signal is obeyed even if the message cannot be written."""
        with anyio.move_on_after(_STDERR_WAIT):
            await wait_for_reader(sys.stderr)
            self.settings.output.note(text)

    @property
    def _resume(self) -> str:
        return bold(resume_command(self.settings, self.plan.output))
