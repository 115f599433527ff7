"""What a sweep came to: the tables on stdout, what failed on stderr, and what the exit code is."""

from __future__ import annotations

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench._util.text import last_line
from fanbench.cli.command import Settings
from fanbench.cli.commands.results import print_tables
from fanbench.cli.output import bold
from fanbench.errors import BudgetReached, FanbenchError, RunFailed, WaitTimeout

if TYPE_CHECKING:
    from fanbench.results import Table
    from fanbench.sweeps.report import RunRow, SweepReport

__all__ = ["failure", "go_on", "show_report"]

# What went wrong is listed up to so many; all of it is in the summary.
_MOST = 20


def go_on(settings: Settings, output: Path, more: str = "") -> str:
    """The command that does what is left, and just that."""
    return settings.command(f"sweep -o {shlex.quote(str(output))}{more}")


def show_report(settings: Settings, report: SweepReport, *, written: bool) -> None:
    """Tables for people, a record a run for programs; `jsonl` has said all as events.

    `written`: the summaries are.
    """
    out = settings.output
    if out.plain:
        print_tables(list(_tables(report)), no_color=settings.no_color)
        click.echo(_totals(report))
    elif settings.format != "jsonl":
        from fanbench.sweeps.report import FIELDS, records

        out.rows(records(report), FIELDS)
    for line in _problems(report):
        out.note(line)
    if written:
        out.note(f"\nWritten: {report.output / 'summary.json'}, {report.output / 'summary.csv'}")


def _tables(report: SweepReport) -> Iterator[Table]:
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    yield from _fitting(report.table(), width)
    if report.results:
        yield from _fitting(report.usage(), width)


def _fitting(table: Table, width: int | None) -> Iterator[Table]:
    """The table, on a terminal as several with as many columns each as are seen at once."""
    from fanbench.results import Table

    widths = [max(map(len, column)) + 3 for column in zip(table.header, *table.rows, strict=True)]
    columns = list(range(1, len(widths)))
    while columns:
        shown = [columns.pop(0)]
        while columns and (
            width is None or 1 + sum(widths[each] for each in (0, *shown, columns[0])) <= width
        ):
            shown.append(columns.pop(0))
        yield Table(_chosen(table.header, shown), tuple(_chosen(row, shown) for row in table.rows))


def _chosen(cells: Sequence[str], columns: Sequence[int]) -> tuple[str, ...]:
    return (cells[0], *(cells[column] for column in columns))


def _totals(report: SweepReport) -> str:
    """Tokens only where any run says them; of money it is said if nobody knows."""
    tokens = [
        f"{number:,} tokens {way}"
        for way, number in (("in", report.tokens_in), ("out", report.tokens_out))
        if number is not None
    ]
    cost = "unknown" if report.cost_usd is None else f"${report.cost_usd:.4f}"
    seconds = [f"{report.seconds:.1f} s"] if report.seconds is not None else []
    return f"\n{'; '.join([counted(report), *tokens, f'cost {cost}', *seconds])}"


def counted(report: SweepReport) -> str:
    """`5 of 8 runs completed, 2 errored, 1 missing`."""
    from fanbench.sweeps.decide import RunStatus

    counts = report.counts
    first = f"{counts[RunStatus.COMPLETED]} of {len(report.rows)} runs completed"
    words = {RunStatus.UNSCHEDULED: "not scheduled", RunStatus.RUNNING: "still running"}
    rest = [
        f"{number} {words.get(status, status.value)}"
        for status, number in counts.items()
        if status is not RunStatus.COMPLETED and number
    ]
    return ", ".join([first, *rest])


def _problems(report: SweepReport) -> Iterator[str]:
    from fanbench.sweeps.decide import RunStatus

    for status, head in ((RunStatus.ERRORED, "Errored:"), (RunStatus.MISSING, "Missing:")):
        rows = report.of(status)
        if rows:
            yield f"\n{bold(head)}"
            yield from (
                f"  {_named(row)}: {last_line(row.error, 'No error message')}" for row in rows[:_MOST]
            )
        if len(rows) > _MOST:
            yield f"  and {len(rows) - _MOST} more"


def _named(row: RunRow) -> str:
    repeat = f" #{row.planned_run.repeat}" if row.planned_run.repeat > 1 else ""
    run = f" (Run {row.run_id})" if row.run_id is not None else ""
    return f"{row.planned_run.task} {row.planned_run.model}{repeat}{run}"


# --- The end --------------------------------------------------------------------------------------------------


def failure(settings: Settings, report: SweepReport) -> FanbenchError | None:
    """What the command ends with; `None` if every planned run completed, and is on disk."""
    from fanbench.sweeps.decide import RunStatus
    from fanbench.sweeps.events import DrainReason

    if report.ok:
        return None
    words = f"{counted(report)}."
    match report.stopped:
        case DrainReason.DEADLINE:
            hint = f"With more time: {go_on(settings, report.output, ' --deadline SECONDS')}"
            return WaitTimeout(f"The deadline is over: {words}", hint=hint)
        case DrainReason.BUDGET:
            hint = f"With more to spend: {go_on(settings, report.output, ' --max-cost USD')}"
            return BudgetReached(f"The budget is used up: {words}", hint=hint)
        case DrainReason.FAILURES if report.of(RunStatus.UNSCHEDULED):
            hint = f"To allow more failures: {go_on(settings, report.output, ' --max-failures N')}"
            return RunFailed(f"Too many failures: {words}", hint=hint)
        case _:
            return RunFailed(words, hint=_hint(settings, report))


def _hint(settings: Settings, report: SweepReport) -> str:
    from fanbench.sweeps.decide import RunStatus

    if report.of(RunStatus.MISSING, RunStatus.RUNNING, RunStatus.UNSCHEDULED):
        return f"To do what is left: {go_on(settings, report.output)}"
    again = max(row.attempts for row in report.of(RunStatus.ERRORED))
    return f"To run those that errored again: {go_on(settings, report.output, f' --retry-errored {again}')}"
