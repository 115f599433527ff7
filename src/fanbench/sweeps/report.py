"""What came of a sweep: one row per planned run, the table of results, `summary.json` and `summary.csv`."""

from __future__ import annotations

import csv
import io
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from fanbench._util import files
from fanbench._util.files import output_errors
from fanbench._util.text import error_in_one_line, iso_time
from fanbench.results import Cost, Item, Problem, RunResult, Table, read_results, to_record, usage_table
from fanbench.results.combine import sum_known
from fanbench.results.display import Display, Displayed
from fanbench.results.figures import FIGURES, Figures
from fanbench.results.scales import Scale
from fanbench.results.scores import Cell, Scores, scores_of
from fanbench.results.table import cell_text, cross_table
from fanbench.sweeps.artifacts import log_is_whole, output_is_whole
from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    TaskPhase,
    TaskRecord,
    by_planned_run,
    real_ones,
)
from fanbench.sweeps.decide import REPORTED, RunStatus, attempt_status, run_status
from fanbench.sweeps.journal import SUMMARY
from fanbench.sweeps.results import known_runs
from fanbench.version import __version__
from fanbench.wire.candidates import same_label

if TYPE_CHECKING:
    from fanbench.sweeps.events import DrainReason
    from fanbench.sweeps.journal import Journal
    from fanbench.sweeps.plan import PlannedTask, SweepPlan
    from fanbench.sweeps.state import SweepState

__all__ = ["FIELDS", "RunRow", "SweepReport", "build_report", "records", "summary", "write_summary"]


@dataclass(frozen=True, slots=True)
class RunRow:
    """A planned run with the newest of its `attempts`; `attempt` 0 means that there was none.

    `output` (a folder) and `log` are relative to the sweep's folder, None where they are not complete on disk.
    `result` is the content of its run file, `earlier` that of the runs before it; None where there is none. `figures`
    tell how many items have a score: a run may complete although some, or all, of its items have none. `server_result`
    is what the server reports for the run, which is known before its run file is there.
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
    figures: Figures = field(default_factory=Figures)
    earlier: tuple[RunResult | None, ...] = ()
    server_result: float | bool | None = None

    @property
    def runs(self) -> tuple[RunResult | None, ...]:
        """The result of each run on the server, oldest first."""
        return self.earlier if self.run_id is None else (*self.earlier, self.result)


@dataclass(frozen=True, slots=True, repr=False)
class SweepReport(Displayed):
    """What came of a sweep, or how far it is: `rows` in the order of the plan.

    `seconds` is the wall time of the last invocation, `stopped` the reason why it scheduled nothing more; None
    if unknown. Tokens and cost (US dollars) include runs that were made again. Runs that do not report their
    tokens are left out; if any run does not report its cost, or not yet, `cost_usd` is unknown, and `cost` tells
    what is known of it. `failed` are the tasks whose content is not pushed again, because its creation failed.
    `scales` are those that are declared for tasks. `problems` are the files that could not be read.
    """

    output: Path
    tasks: tuple[str, ...]
    models: tuple[str, ...]
    repeats: int
    rows: tuple[RunRow, ...]
    seconds: float | None = None
    stopped: DrainReason | None = None
    failed: tuple[str, ...] = ()
    items: tuple[Item, ...] = ()
    scales: Mapping[str, Scale] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every planned run completed, with its output and log on disk."""
        return all(row.status is RunStatus.COMPLETED for row in self.rows)

    @property
    def complete(self) -> bool:
        """Whether it is ok, and every item of every planned run has a score."""
        return self.ok and all(row.figures.complete for row in self.rows)

    @property
    def counts(self) -> dict[RunStatus, int]:
        """The number of rows of each status."""
        found = Counter(row.status for row in self.rows)
        return {status: found[status] for status in REPORTED}

    def of(self, *statuses: RunStatus) -> tuple[RunRow, ...]:
        return tuple(row for row in self.rows if row.status in statuses)

    @property
    def results(self) -> tuple[RunResult, ...]:
        """All results, including those of attempts that were made again."""
        return tuple(result for row in self.rows for result in row.runs if result is not None)

    @property
    def tokens_in(self) -> int | None:
        """The input tokens of all models, judges included."""
        return sum_known(number for run in self.results for number in (run.tokens_in, run.judge_tokens_in))

    @property
    def tokens_out(self) -> int | None:
        """The output tokens of all models, judges included."""
        return sum_known(number for run in self.results for number in (run.tokens_out, run.judge_tokens_out))

    @property
    def cost(self) -> Cost:
        """The cost of all runs, including judges and runs that were made again."""
        return Cost.of([run.total_cost_usd if run else None for row in self.rows for run in row.runs])

    @property
    def cost_usd(self) -> float | None:
        return self.cost.total

    def after(self, state: SweepState) -> SweepReport:
        """Add what only the events of an invocation tell: which runs were given up, and how long it took."""
        rows = []
        for row in self.rows:
            given_up = state.cell(row.planned_run)
            if given_up.missing is not None and row.status not in (RunStatus.COMPLETED, RunStatus.ERRORED):
                error = f"{given_up.missing}: {given_up.reason}"
                row = replace(row, status=RunStatus.MISSING, error=error)
            rows.append(row)
        if state.ended is None:
            return replace(self, rows=tuple(rows))
        return replace(self, rows=tuple(rows), seconds=state.ended.seconds, stopped=state.ended.stopped)

    def scores(self) -> Scores:
        """Return the score of each task and model: all attempts that count, and what is lacking."""
        return scores_of(self.items, self.scales)

    def table(self) -> Table:
        """Return tasks by models (or, for many models, models by tasks) in the order of the plan.

        Repeats share a cell.
        """
        scores = {(key.task, model): each for (key, model), each in self.scores().cells.items()}
        rows_of: dict[tuple[str, str], list[RunRow]] = {}
        for row in self.rows:
            rows_of.setdefault((row.planned_run.task, row.planned_run.model), []).append(row)

        def text(task: str, model: str) -> str:
            return _cell(rows_of.get((task, model), []), scores.get((task, model)))

        return cross_table({task: task for task in self.tasks}, {model: model for model in self.models}, text)

    def display(self) -> Display:
        """Return the tables of results and of what each model used, and which files could not be read."""
        tables = (self.table(), *([self.usage()] if self.results else []))
        return Display(tables, remarks=(*map(str, self.problems), *self.contradictions))

    @property
    def contradictions(self) -> tuple[str, ...]:
        """A sentence for each run whose result is another by the server than by its run file."""
        return tuple(result.contradiction for result in self.results if result.contradicted)

    def usage(self) -> Table:
        """Return what each model used, in the order of the plan."""
        order = {model: number for number, model in enumerate(self.models)}
        found = usage_table(self.results)
        return Table(found.header, tuple(sorted(found.rows, key=lambda row: order.get(row[0], len(order)))))


# --- Cells of the table -------------------------------------------------------------------------------------


def _cell(rows: Sequence[RunRow], scores: Cell | None) -> str:
    """Return what the planned runs of a task on a model have come to, as `results` shows it."""
    if scores is None or not scores.scored:
        counts = Counter(row.status for row in rows)
        if counts[RunStatus.RUNNING]:
            rest = f"{counts[RunStatus.ERRORED]} errored, " if counts[RunStatus.ERRORED] else ""
            return f"{rest}{counts[RunStatus.RUNNING]} running" if len(rows) > 1 else "running"
    return cell_text(scores, [row.result for row in rows if row.result is not None])


# --- From the journal ---------------------------------------------------------------------------------------


def build_report(plan: SweepPlan, journal: Journal | None) -> SweepReport:
    """Return how far the sweep is, by its journal (None before it has begun) and by what is on disk.

    This reads the run files, so call it in a thread where an event loop must not block.
    """
    attempts = by_planned_run(journal.attempts() if journal else ())
    saved = journal.tasks() if journal else {}
    tasks = {task.slug: task for task in plan.tasks}
    made = {each: real_ones(attempts.get(each, ()), tasks[each.task].identity) for each in plan.planned_runs}
    # The content of the run files of each output, by its path relative to the sweep's folder.
    paths = [one.output.path for mine in made.values() for one in mine if one.output is not None]
    folders = {os.path.abspath(plan.output / path): path for path in paths}
    identities = {slug: task.identity for slug, task in tasks.items()}
    known = [
        replace(run, scale=tasks[run.task].scale)
        for run in known_runs(plan.output, made, identities, saved, chain.from_iterable(made.values()))
    ]
    found = read_results([Path(folder) for folder in folders if os.path.isdir(folder)], known=known)
    results = {folders[str(row.path)]: row for row in found.runs if row.rows and str(row.path) in folders}
    # A plan may spell its models otherwise than their run files do.
    models = {same_label(model): model for model in plan.models}
    of_runs = {one.run_id: one.planned_run.model for mine in made.values() for one in mine if one.run_id}
    items = tuple(
        structs.replace(
            item, model=of_runs.get(item.run_id or 0) or models.get(same_label(item.model), item.model)
        )
        for item in found.items
    )
    figures = _figures(items, found.scales)
    rows = tuple(
        _row(plan.output, each, mine, results)
        if mine
        else _row_without_run(each, tasks[each.task], saved.get(each.task))
        for each, mine in made.items()
    )
    rows = tuple(replace(row, figures=figures.get(row.planned_run, row.figures)) for row in rows)
    failed = tuple(
        slug
        for slug, record in saved.items()
        if slug in tasks and record.phase is TaskPhase.FAILED and record.identity == tasks[slug].identity
    )
    return SweepReport(
        plan.output,
        tuple(tasks),
        plan.models,
        plan.repeats,
        rows,
        failed=failed,
        items=items,
        scales=found.scales,
        problems=found.problems,
    )


def _figures(items: Iterable[Item], scales: Mapping[str, Scale]) -> dict[PlannedRun, Figures]:
    """Return what is known of each planned run, by its newest attempt."""
    of_runs: dict[PlannedRun, list[Item]] = {}
    for item in items:
        of_runs.setdefault(PlannedRun(item.task, item.model, item.repeat), []).append(item)
    names = scores_of(items).names()
    return {
        run: Figures.of(next(iter(scores_of(its, scales, names).cells.values())))
        for run, its in of_runs.items()
    }


def _row_without_run(planned_run: PlannedRun, task: PlannedTask, record: TaskRecord | None) -> RunRow:
    if record and record.phase.unusable and record.identity == task.identity:
        return RunRow(planned_run, attempt_status(None, given_up=True), error=f"push: {record.error}")
    return RunRow(planned_run, attempt_status(None))


def _row(
    root: Path, planned_run: PlannedRun, attempts: Sequence[Attempt], results: Mapping[str, RunResult]
) -> RunRow:
    *earlier, newest = attempts
    saved_output = newest.output if newest.output and output_is_whole(root, newest.output) else None
    saved_log = newest.log if newest.log and log_is_whole(root, newest.log) else None
    output = saved_output.path if saved_output else None
    collected = saved_output is not None and saved_log is not None
    status = run_status(newest.state, scheduled=True, collected=collected)
    if newest.phase is Phase.CANCELLED:
        status = RunStatus.CANCELLED
    error = newest.error if status is RunStatus.ERRORED else ""
    return RunRow(
        planned_run,
        status,
        attempt=newest.number,
        attempts=len(attempts),
        version=newest.version,
        run_id=newest.run_id,
        error="its output or its log is not on disk" if status is RunStatus.MISSING else error,
        output=output,
        log=saved_log.path if saved_log else None,
        result=results.get(output) if output else None,
        earlier=tuple(
            results.get(one.output.path) if one.output else None for one in earlier if one.run_id is not None
        ),
        server_result=newest.result,
    )


# --- For other programs -------------------------------------------------------------------------------------

# The fields are documented in docs/sweep.md.
FORMAT = 1
_OF_RESULT = (
    "kind",
    "value",
    "interval",
    *FIGURES,
    "assertions_passed",
    "assertions_total",
    "tokens_in",
    "tokens_out",
    "cost_usd",
    "judge_tokens_in",
    "judge_tokens_out",
    "judge_cost_usd",
    "seconds",
)
FIELDS = (
    "task",
    "model",
    "repeat",
    "version",
    "attempt",
    "attempts",
    "run_id",
    "status",
    "error",
    *_OF_RESULT,
    "server_result",
    "output",
    "log",
)


def records(report: SweepReport) -> list[dict[str, Any]]:
    """Return one record per planned run, in the order of the plan; what is not known is None."""
    found = []
    for row in report.rows:
        result = to_record(row.result) if row.result else {}
        found.append(
            {
                "task": row.planned_run.task,
                "model": row.planned_run.model,
                "repeat": row.planned_run.repeat,
                "version": row.version or None,
                "attempt": row.attempt or None,
                "attempts": row.attempts,
                "run_id": row.run_id,
                "status": row.status.value,
                "error": row.error or None,
                **{name: result.get(name) for name in _OF_RESULT},
                **{name: getattr(row.figures, name) for name in FIGURES},
                "server_result": row.server_result,
                "output": row.output,
                "log": row.log,
            }
        )
    return found


def summary(report: SweepReport, *, now: datetime | None = None) -> dict[str, Any]:
    """Return the content of `summary.json`."""
    return {
        "format": FORMAT,
        "fanbench": __version__,
        "written": iso_time(now or datetime.now(UTC)),
        "ok": report.ok,
        "complete": report.complete,
        "stopped": report.stopped.value if report.stopped else None,
        "seconds": report.seconds,
        "tasks": list(report.tasks),
        "models": list(report.models),
        "repeats": report.repeats,
        "planned": len(report.rows),
        **{status.value: number for status, number in report.counts.items()},
        "tokens_in": report.tokens_in,
        "tokens_out": report.tokens_out,
        "cost_usd": report.cost.total,
        "cost_usd_at_least": report.cost.at_least,
        "runs": records(report),
    }


def write_summary(report: SweepReport) -> None:
    """Write `summary.json` and `summary.csv` into the sweep's folder, each completely or not at all.

    Raises:
        OutputError: They cannot be written.
    """
    content = summary(report)
    table = io.StringIO()
    writer = csv.DictWriter(table, FIELDS, lineterminator="\n")
    writer.writeheader()
    for record in content["runs"]:
        writer.writerow(
            {
                name: json.dumps(value, ensure_ascii=False)
                if isinstance(value, Mapping | list | bool)
                else value
                for name, value in error_in_one_line(record).items()
            }
        )
    # File names in errors may not be valid Unicode.
    compact = json.dumps(content, ensure_ascii=False).encode("utf-8", "replace")
    written = {
        # Indented afterwards, because `json.dumps` is ten times slower if it is to indent.
        SUMMARY: msgspec.json.format(compact, indent=2) + b"\n",
        "summary.csv": table.getvalue().encode("utf-8", "replace"),
    }
    with output_errors(f"write the summary to {report.output}"):
        for name, text in written.items():
            files.write(report.output / name, text)
