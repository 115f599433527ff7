"""What became of a sweep: a row for each planned run, the table of results, `summary.json` and `summary.csv`."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from fanbench.results import RunResult, Table, read_results, usage_table
from fanbench.results.table import MISSING, MODELS_ACROSS, cell
from fanbench.sweeps.artifacts import log_is_whole, output_is_whole
from fanbench.sweeps.attempts import (
    Attempt,
    PlannedRun,
    TaskPhase,
    TaskRecord,
    by_planned_run,
    real_ones,
)
from fanbench.sweeps.decide import REPORTED, RunStatus, run_status

if TYPE_CHECKING:
    from fanbench.sweeps.events import DrainReason
    from fanbench.sweeps.journal import Records
    from fanbench.sweeps.plan import PlannedTask, SweepPlan
    from fanbench.sweeps.state import SweepState

__all__ = ["RunRow", "RunStatus", "SweepReport", "build_report"]

# Of so many repeats each number is shown; of more, the mean and the range.
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class RunRow:
    """A planned run: its newest attempt, of `attempts` that were made; `attempt` 0 is none.

    `output` (a folder) and `log` are relative to the sweep's folder, `None` where they are not there whole.
    `result` is what its run file says, `earlier` what those of the runs before it say; `None`: nothing.
    """

    planned_run: PlannedRun
    status: RunStatus
    attempt: int = 0
    attempts: int = 0
    version: int | None = None
    run_id: int | None = None
    error: str = ""
    output: str | None = None
    log: str | None = None
    result: RunResult | None = None
    earlier: tuple[RunResult | None, ...] = ()

    @property
    def runs(self) -> tuple[RunResult | None, ...]:
        """What the run file of each run that there was says."""
        return self.earlier if self.run_id is None else (*self.earlier, self.result)


@dataclass(frozen=True, slots=True)
class SweepReport:
    """What became of a sweep, or how far it is: `rows` in the order of the plan.

    `seconds` is the wall time of the last invocation, `stopped` why it scheduled no more; `None` where there
    was none. Tokens and cost (US dollars) are of all runs, also of those that were made again. Those that do not
    say their tokens are left out; with one that does not say its cost, or not yet, the cost is unknown.
    """

    output: Path
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    repeats: int
    rows: tuple[RunRow, ...]
    seconds: float | None = None
    stopped: DrainReason | None = None

    @property
    def ok(self) -> bool:
        """Whether every planned run completed, and its output and log are on disk."""
        return all(row.status is RunStatus.COMPLETED for row in self.rows)

    @property
    def counts(self) -> dict[RunStatus, int]:
        """How many rows there are of each status; they add up to all."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in REPORTED}

    def of(self, *statuses: RunStatus) -> tuple[RunRow, ...]:
        return tuple(row for row in self.rows if row.status in statuses)

    @property
    def results(self) -> tuple[RunResult, ...]:
        """All that run files say, also those of attempts that were made again."""
        return tuple(result for row in self.rows for result in row.runs if result is not None)

    @property
    def tokens_in(self) -> int | None:
        return _sum(result.tokens_in for result in self.results)

    @property
    def tokens_out(self) -> int | None:
        return _sum(result.tokens_out for result in self.results)

    @property
    def cost_usd(self) -> float | None:
        runs = [result for row in self.rows for result in row.runs]
        known = [run.cost_usd for run in runs if run is not None and run.cost_usd is not None]
        return math.fsum(known) if known and len(known) == len(runs) else None

    def after(self, state: SweepState) -> SweepReport:
        """With what only the events of an invocation say: why runs were given up, how long it took."""
        ended = state.ended
        rows = tuple(_given_up(row, state) for row in self.rows)
        return replace(
            self,
            rows=rows,
            seconds=ended.seconds if ended else self.seconds,
            stopped=ended.stopped if ended else self.stopped,
        )

    def table(self) -> Table:
        """Tasks by models (turned where there are many models) in the order of the plan; repeats share a cell."""
        cells: dict[tuple[str, str], list[RunRow]] = {}
        for row in self.rows:
            cells.setdefault((row.planned_run.task, row.planned_run.model), []).append(row)

        def text(task: str, model: str) -> str:
            return _cell(cells.get((task, model), []))

        if len(self.models) <= max(MODELS_ACROSS, len(self.tasks)):
            rows = tuple((task, *(text(task, model) for model in self.models)) for task in self.tasks)
            return Table(("task", *self.models), rows)
        rows = tuple((model, *(text(task, model) for task in self.tasks)) for model in self.models)
        return Table(("model", *self.tasks), rows)

    def usage(self) -> Table:
        """What each model used, in the order of the plan."""
        order = {model: number for number, model in enumerate(self.models)}
        found = usage_table(self.results)
        return Table(found.header, tuple(sorted(found.rows, key=lambda row: order.get(row[0], len(order)))))


def _given_up(row: RunRow, state: SweepState) -> RunRow:
    cell = state.cell(row.planned_run)
    if cell.missing is None or row.status in (RunStatus.COMPLETED, RunStatus.ERRORED):
        return row
    return replace(row, status=RunStatus.MISSING, error=f"{cell.missing}: {cell.reason}")


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


# --- Cells of the table ---------------------------------------------------------------------------------------


def _cell(rows: Sequence[RunRow]) -> str:
    if len(rows) == 1:
        return _one(rows[0])
    shown = [_one(row) for row in rows]
    if set(shown) <= {MISSING}:
        return MISSING
    results = [row.result for row in rows if _is_good(row) and row.result]
    rest = Counter(_in_words(row) for row in rows if not _is_good(row))
    return ", ".join(
        filter(None, [_several(results), *(f"{number} {word}" for word, number in rest.items())])
    )


def _is_good(row: RunRow) -> bool:
    return row.status is RunStatus.COMPLETED and row.result is not None and not row.result.errored


def _in_words(row: RunRow) -> str:
    """A run without a value; its run file may say that it errored, whatever the server says."""
    return _one(row) if row.status is RunStatus.COMPLETED else row.status.value


def _one(row: RunRow) -> str:
    match row.status:
        case RunStatus.COMPLETED:
            return cell(row.result) if row.result else "completed"
        case RunStatus.ERRORED | RunStatus.RUNNING:
            return row.status.value
        case _:
            return MISSING


def _several(results: Sequence[RunResult]) -> str:
    """`2/3 ✓` for passes, each number of a few, and of many numbers their mean and range."""
    values = [result.value for result in results]
    if values and all(isinstance(value, bool) for value in values):
        return f"{sum(value is True for value in values)}/{len(values)} ✓"
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    if len(numbers) == len(values) > _SHOWN:
        mean = math.fsum(numbers) / len(numbers)
        return f"{mean:.4g} ({min(numbers):.4g} to {max(numbers):.4g}, {len(numbers)} runs)"
    return (", " if numbers else " | ").join(cell(result) for result in results)


# --- From the journal -----------------------------------------------------------------------------------------


def build_report(plan: SweepPlan, records: Records | None) -> SweepReport:
    """How far the sweep is, by its journal (`None`: nothing has begun) and by what is on disk.

    Reads the run files: to be called in a thread where an event loop must not wait.
    """
    attempts = by_planned_run(records.attempts() if records else ())
    saved = records.tasks() if records else {}
    tasks = {task.slug: task for task in plan.tasks}
    made = {
        planned_run: real_ones(attempts.get(planned_run, ()), tasks[planned_run.task].identity)
        for planned_run in plan.planned_runs
    }
    results = _results(plan.output, made.values())
    rows = tuple(
        _row(plan.output, planned_run, mine, results)
        if mine
        else _not_begun(planned_run, tasks[planned_run.task], saved.get(planned_run.task))
        for planned_run, mine in made.items()
    )
    return SweepReport(plan.output, tuple(tasks), plan.models, plan.repeats, rows)


def _not_begun(planned_run: PlannedRun, task: PlannedTask, record: TaskRecord | None) -> RunRow:
    if record and record.phase is TaskPhase.FAILED and record.identity == task.identity:
        return RunRow(planned_run, RunStatus.MISSING, error=f"push: {record.error}")
    return RunRow(planned_run, RunStatus.UNSCHEDULED)


def _row(
    root: Path, planned_run: PlannedRun, attempts: Sequence[Attempt], results: Mapping[str, RunResult]
) -> RunRow:
    *earlier, newest = attempts
    output = newest.output.path if newest.output and output_is_whole(root, newest.output) else None
    log = newest.log.path if newest.log and log_is_whole(root, newest.log) else None
    status = run_status(newest.state, scheduled=True, collected=output is not None and log is not None)
    error = newest.error if status is RunStatus.ERRORED else ""
    if status is RunStatus.MISSING:
        error = "its output or its log is not on disk"
    return RunRow(
        planned_run,
        status,
        attempt=newest.number,
        attempts=len(attempts),
        version=newest.version,
        run_id=newest.run_id,
        error=error,
        output=output,
        log=log,
        result=results.get(output) if output else None,
        earlier=tuple(
            results.get(one.output.path) if one.output else None for one in earlier if one.run_id is not None
        ),
    )


def _results(root: Path, made: Iterable[Sequence[Attempt]]) -> dict[str, RunResult]:
    """What the run files of each output say, by its path relative to `root`."""
    paths = [one.output.path for attempts in made for one in attempts if one.output is not None]
    folders = {os.path.abspath(root / path): path for path in paths}
    found = read_results([Path(folder) for folder in folders if os.path.isdir(folder)])
    return {folders[str(row.path)]: row for row in found.runs if str(row.path) in folders}
