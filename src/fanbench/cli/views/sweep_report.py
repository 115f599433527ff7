"""The result of a sweep: tables on stdout, what failed on stderr, and the error that the command ends with."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path

from fanbench._util.text import error_line, many
from fanbench.cli.command import Settings
from fanbench.cli.folders import how_to_look
from fanbench.cli.output import bold
from fanbench.errors import BudgetReached, FanbenchError, RunFailed, WaitTimeout
from fanbench.sweeps.decide import RunStatus, Stage
from fanbench.sweeps.events import DrainReason
from fanbench.sweeps.report import FIELDS, RunRow, SweepReport, records
from fanbench.sweeps.state import SweepState

__all__ = ["failure", "resume_command", "show_report", "stage_failure", "stage_results"]

# At most this many failures are listed; the summary files contain all of them.
_LISTED = 20


def resume_command(settings: Settings, output: Path, flags: str = "") -> str:
    """The command that does what is left of the sweep in `output`."""
    return settings.fanbench_command(f"sweep -o {shlex.quote(str(output))}{flags}")


def show_report(settings: Settings, report: SweepReport, *, written: bool) -> None:
    """Show tables to people, or one record per run; with `jsonl`, the events have been printed instead.

    `written`: the summary files have been written.
    """
    out = settings.output
    if out.for_people:
        out.tables(report.display().tables, split=True)
        tokens = [
            f"{number:,} tokens {way}"
            for way, number in (("in", report.tokens_in), ("out", report.tokens_out))
            if number is not None
        ]
        seconds = [f"{report.seconds:.1f} s"] if report.seconds is not None else []
        out.text(f"\n{'; '.join([_counts(report), *tokens, f'cost {report.cost}', *seconds])}")
    elif not out.format.streams:
        out.records(records(report), FIELDS)
    for line in _problems(report):
        out.note(line)
    if written:
        out.note(f"\nWritten: {report.output / 'summary.json'}, {report.output / 'summary.csv'}")
    if report.results and out.for_people:
        out.note(how_to_look([report.output]))


def _counts(report: SweepReport) -> str:
    """`5 of 8 runs completed, 2 errored, 1 missing`."""
    labels = {RunStatus.UNSCHEDULED: "not scheduled", RunStatus.RUNNING: "still running"}
    rest = [
        f"{number} {labels.get(status, status.value)}"
        for status, number in report.counts.items()
        if status is not RunStatus.COMPLETED and number
    ]
    return ", ".join([f"{report.counts[RunStatus.COMPLETED]} of {len(report.rows)} runs completed", *rest])


def _problems(report: SweepReport) -> Iterator[str]:
    for head, lines in (
        ("Errored:", _failures(report.of(RunStatus.ERRORED))),
        ("Missing:", _failures(report.of(RunStatus.MISSING))),
        ("Not what the server reports:", [f"  {sentence}" for sentence in report.contradictions]),
        ("Not readable:", [f"  {problem.path}: {problem.what}" for problem in report.problems]),
    ):
        if lines:
            yield f"\n{bold(head)}"
        yield from lines[:_LISTED]
        if len(lines) > _LISTED:
            yield f"  and {len(lines) - _LISTED} more"


def _failures(rows: Sequence[RunRow]) -> list[str]:
    """One line for each run, and one for all runs that a task lacks for the same reason."""
    lines = []
    for (task, reason, is_run), group in groupby(
        rows, lambda row: (row.planned_run.task, error_line(row.error, "No error message"), bool(row.run_id))
    ):
        same = list(group)
        if len(same) > 1 and not is_run:
            lines.append(f"  {task} ({many(len(same), 'run')}): {reason}")
            continue
        for row in same:
            repeat = f" #{row.planned_run.repeat}" if row.planned_run.repeat > 1 else ""
            run = f" (Run {row.run_id})" if is_run else ""
            lines.append(f"  {task} {row.planned_run.model}{repeat}{run}: {reason}")
    return lines


def failure(settings: Settings, report: SweepReport) -> FanbenchError | None:
    """The error that the command ends with; None if every planned run completed, and is on disk."""
    if report.ok:
        return None
    resume = partial(resume_command, settings, report.output)
    counts = f"{_counts(report)}."
    match report.stopped:
        case DrainReason.DEADLINE:
            return WaitTimeout(
                f"The deadline has passed: {counts}",
                hint=f"To allow more time: {resume(' --deadline SECONDS')}",
            )
        case DrainReason.BUDGET:
            return BudgetReached(
                f"The budget is used up: {counts}", hint=f"To raise the budget: {resume(' --max-cost USD')}"
            )
        case DrainReason.FAILURES if report.of(RunStatus.UNSCHEDULED, RunStatus.CANCELLED):
            return RunFailed(
                f"Too many failures: {counts}", hint=f"To allow more failures: {resume(' --max-failures N')}"
            )
        case _:
            return RunFailed(counts, hint="\n".join(_next_commands(report, resume)))


def _next_commands(report: SweepReport, resume: Callable[[str], str]) -> Iterator[str]:
    """What can be done about runs that did not complete, a line for each way."""
    errored = report.of(RunStatus.ERRORED)
    unfinished = report.of(RunStatus.MISSING, RunStatus.RUNNING, RunStatus.UNSCHEDULED, RunStatus.CANCELLED)
    left = [row for row in unfinished if row.planned_run.task not in report.failed]
    if left:
        yield f"To do what is left: {resume('')}"
    again = resume(f" --retry-errored {max((row.attempts for row in errored), default=1)}")
    if errored:
        yield (
            f"To repeat the errored runs as well: {again}" if left else f"To repeat the errored runs: {again}"
        )
    if report.failed:
        yield f"Not pushed again until the file has changed: {', '.join(report.failed)}. To push it unchanged: {again}"


# --- One stage of a sweep (--step) --------------------------------------------------------------------------


def stage_results(stage: Stage, state: SweepState) -> Iterator[str]:
    """What a stage has done."""
    if stage == "push":
        for slug, task in state.tasks.items():
            if task.ready:
                yield f"{slug}: version {task.version} is ready"
            else:
                yield f"{slug}: {'nothing to push' if task.failed is None else f'failed: {error_line(task.failed)}'}"
    else:
        counts = [f"{state.counts[each]} {each.label}" for each in RunStatus if state.counts[each]]
        yield f"Runs: {', '.join(counts)}"


def stage_failure(state: SweepState) -> FanbenchError | None:
    """The error that a stage other than the last ends with; None if all of it went well."""
    failed = sum(task.failed is not None for task in state.tasks.values())
    missing = state.counts[RunStatus.MISSING]
    if not failed and not missing:
        return None
    return RunFailed(f"{many(failed, 'task')} failed, {many(missing, 'run')} missing.")
