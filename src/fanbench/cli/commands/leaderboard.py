"""`fanbench leaderboard`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import CsvVerb, Settings, pass_settings
from fanbench.cli.output import iso_time, table
from fanbench.cli.session import call
from fanbench.errors import UsageError

if TYPE_CHECKING:
    from fanbench.operations.leaderboard import LeaderboardTable
    from fanbench.wire.messages import LeaderboardRow, TaskResult

__all__ = ["FIELDS", "leaderboard"]

#: In JSON, of a model's result in a task; a CSV is the table itself.
FIELDS = (
    "benchmark",
    "model",
    "name",
    "task",
    "task_name",
    "task_version",
    "value",
    "confidence_interval",
    "passed",
    "evaluated",
)


@click.command(cls=CsvVerb)
@click.argument("benchmark", metavar="OWNER/BENCHMARK")
@click.option("-s", "--show", is_flag=True, help="Print it (what happens without a flag, too).")
@click.option("-d", "--download", is_flag=True, help="Write it to BENCHMARK_leaderboard.csv.")
@click.option(
    "-p",
    "--path",
    "folder",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="With --download: the file's folder, made if need be (default: here).",
)
@click.option(
    "--version",
    type=click.IntRange(min=1),
    metavar="N",
    help="The benchmark's version (default: the newest).",
)
@pass_settings
def leaderboard(
    settings: Settings, benchmark: str, show: bool, download: bool, folder: Path | None, version: int | None
) -> None:
    """Show what models reached in a benchmark's tasks: a row a model, a column a task.

    A cell is a number, Pass, Fail, or N/A where there is no result. Without an owner it is a benchmark of
    yours. With neither flag it is shown. In CSV, as in the file, it is that table; in JSON, a record a result.

    \b
    Examples:
      fanbench leaderboard owner/their-benchmark
      fanbench leaderboard owner/their-benchmark --download -p results
      fanbench leaderboard owner/their-benchmark --version 2 --show --format csv
    """
    from fanbench.operations.leaderboard import fetch_leaderboard, write_leaderboard

    if folder is not None and not download:
        raise UsageError("-p is the folder of the file that --download writes.", hint="Add --download.")
    found = call(settings, lambda client: fetch_leaderboard(client, benchmark, version=version))
    out = settings.output
    if not found.board.rows:
        out.note("No results found.")
    elif download:
        out.note(f"Leaderboard downloaded to {write_leaderboard(found, folder or Path())}")
    if show or not download:
        _show(settings, found)


def _show(settings: Settings, found: LeaderboardTable) -> None:
    out = settings.output
    if out.format == "csv":
        click.echo(found.csv(), nl=False)
    elif not out.plain:
        out.rows(list(_records(found)), FIELDS)
    elif found.board.rows:
        for line in table(found.header, found.cells, [0] * len(found.header)):
            out.text(line)


def _records(found: LeaderboardTable) -> Iterator[dict[str, Any]]:
    for row in found.board.rows:
        for result in row.task_results:
            yield _record(f"{found.owner}/{found.benchmark}", row, result)


def _record(benchmark: str, row: LeaderboardRow, result: TaskResult) -> dict[str, Any]:
    from fanbench.wire.slugs import normalize_model

    got = result.result
    numeric = got.numeric_result if got else None
    return {
        "benchmark": benchmark,
        "model": normalize_model(row.model_version_slug),
        "name": row.model_version_name,
        "task": result.benchmark_task_slug,
        "task_name": result.benchmark_task_name,
        "task_version": result.task_version or None,
        "value": numeric.value if numeric else None,
        "confidence_interval": numeric.confidence_interval if numeric else None,
        "passed": got.boolean_result if got else None,
        "evaluated": iso_time(got.evaluation_date) if got else None,
    }
