"""`fanbench results DIR...`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FILE, PATH, model_option, value_option
from fanbench.cli.output import FORMATS, STDOUT
from fanbench.errors import UsageError

if TYPE_CHECKING:
    from fanbench.results.selection import Order

__all__ = ["results"]


@command(formats=tuple(FORMATS))
@click.argument("folders", nargs=-1, required=True, metavar="DIR...", type=PATH)
@click.option(
    "--all", "every", is_flag=True, help="Show every run by itself, also those that were made again."
)
@click.option(
    "--items",
    is_flag=True,
    help="Show the items that runs are made of: rows, sub-runs, or the runs themselves.",
)
@value_option(
    "--task tasks", "TASK", "Show only this task, or those that match a pattern; repeatable.", multiple=True
)
@model_option("Show only this model, or those that match a pattern; repeatable.")
@click.option(
    "--failed", is_flag=True, help="Show only what failed (✗), errored, has no value, or is missing."
)
@value_option(
    "--sort order",
    "name|score|cost|time",
    "Sort tasks, models and records, the highest figure first (default: by name).",
    click.Choice(["name", "score", "cost", "time"]),
    default="name",
)
@click.option("--plot", is_flag=True, help="Also draw the intervals of the leaderboard.")
@value_option(
    "-o --output file",
    "FILE",
    "With --format parquet: the file to write (default: -, for stdout).",
    FILE,
)
def results(
    settings: Settings,
    folders: tuple[Path, ...],
    every: bool,
    items: bool,
    tasks: tuple[str, ...],
    models: tuple[str, ...],
    failed: bool,
    order: Order,
    plot: bool,
    file: Path | None,
) -> None:
    """Tabulate the results in the run files below DIR: tasks by models, then what each model used.

    ✓ and ✗ mean passed and failed, followed by the assertions that held. A number is the mean over the items of the
    task and all repeats. ± is the interval that the task reported, [LOW, HIGH] the 95% confidence interval that
    fanbench computes. 3/4 means that 3 of 4 items have a score: the others errored, have no value, or left nothing.
    (LOW to HIGH) are the lowest and the highest value, where some are beyond 0 and 1; declare the scale of such a task
    in sweep.toml to see an interval.

    What --task, --model and --failed leave out still counts: no number changes. In the table, --failed keeps whole
    tasks and models: those that have at least one such result.

    \b
    Examples:
      fanbench results ./results
      fanbench results ./results --all --format csv > runs.csv
      fanbench results ./results --items --format jsonl > items.jsonl
      fanbench results ./results --items --format parquet -o items.parquet
      fanbench results ./results --items --failed --task 'quiz-*' -m gemma-3-270m
    """
    from fanbench.cli.folders import how_to_look, read_folders
    from fanbench.cli.views.results import show_items, show_results

    binary = settings.output.format.binary
    if file is not None and not binary:
        raise UsageError("-o/--output is for --format parquet.", hint="Redirect other formats: `> FILE`.")
    file = None if file == STDOUT else file
    if binary and file is None and sys.stdout.isatty():
        raise UsageError("Parquet is not for a terminal.", hint="Add `-o FILE`, or redirect it: `> FILE`.")
    if plot and (items or not settings.output.for_people):
        raise UsageError("--plot is for the table of results.", hint="Leave out --items and --format.")
    found = read_folders(settings, folders)
    only = found.select(tasks or None, models or None, failed=failed, sort=order)
    if items:
        show_items(settings.output, found, only, every=every, file=file)
        return
    show_results(settings.output, found, only, every=every, file=file, plot=plot)
    if settings.output.for_people:
        settings.output.note(how_to_look(folders))
