"""`fanbench leaderboard`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import AT_LEAST_1, FOLDER, value_option
from fanbench.cli.session import call
from fanbench.errors import UsageError

__all__ = ["leaderboard"]


@command(csv_flag=True)
@click.argument("benchmark", metavar="[OWNER/]BENCHMARK")
@click.option("-s", "--show", is_flag=True, help="Print the leaderboard; the default without --download.")
@click.option("-d", "--download", is_flag=True, help="Write the leaderboard to BENCHMARK_leaderboard.csv.")
@value_option(
    "-p --path folder",
    "DIR",
    "With --download: the folder of the file; it is created if necessary (default: .).",
    FOLDER,
)
@value_option("--version", "N", "The version of the benchmark (default: the latest).", AT_LEAST_1)
def leaderboard(
    settings: Settings, benchmark: str, show: bool, download: bool, folder: Path | None, version: int | None
) -> None:
    """Show the leaderboard of a benchmark: one row per model, one column per task.

    A cell is a number, Pass, Fail, or N/A where there is no result. Without an owner, BENCHMARK is one of yours.
    CSV contains the same table; JSON contains one record per result.

    \b
    Examples:
      fanbench leaderboard owner/their-benchmark
      fanbench leaderboard owner/their-benchmark --download -p results
      fanbench leaderboard owner/their-benchmark --version 2 --show --format csv
    """
    from fanbench.cli.views.leaderboard import show_leaderboard
    from fanbench.operations.leaderboard import fetch_leaderboard, write_leaderboard

    if folder is not None and not download:
        raise UsageError("-p/--path can only be used with --download.", hint="Add --download.")
    found = call(settings, lambda client: fetch_leaderboard(client, benchmark, version=version))
    if not found.board.rows:
        settings.output.note("No results found.")
    elif download:
        settings.output.note(f"Leaderboard downloaded to {write_leaderboard(found, folder or Path())}")
    if show or not download:
        show_leaderboard(settings.output, found)
