"""`fanbench leaderboard`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import AT_LEAST_1, FOLDER, model_option, value_option
from fanbench.cli.session import call
from fanbench.errors import CredentialsError, NoResults, NotFound, UsageError

if TYPE_CHECKING:
    from fanbench.results.ranking import Estimand

__all__ = ["leaderboard"]


@command(csv_flag=True)
@click.argument("places", nargs=-1, required=True, metavar="[OWNER/]BENCHMARK | DIR...")
@value_option(
    "--tasks estimand",
    "these|like-these",
    "Of DIR: what the intervals and ranks are for: exactly these tasks (the default), or tasks like these.",
    click.Choice(["these", "like-these"]),
)
@value_option(
    "-k", "K", "Of DIR: also pass@K and pass^K: at least one, and all, of K attempts pass.", AT_LEAST_1
)
@value_option(
    "-t --task chosen",
    "TASK",
    "Of DIR: only this task counts, or those that match a pattern; repeatable.",
    multiple=True,
)
@model_option("Of DIR: only this model is ranked, or those that match a pattern; repeatable.")
@click.option(
    "-s",
    "--show",
    is_flag=True,
    help="Print the leaderboard of BENCHMARK; the default without --download.",
)
@click.option("-d", "--download", is_flag=True, help="Write the leaderboard to BENCHMARK_leaderboard.csv.")
@value_option(
    "-p --path folder",
    "DIR",
    "With --download: the folder of the file; it is created if necessary (default: .).",
    FOLDER,
)
@value_option("--version", "N", "The version of the benchmark (default: the latest).", AT_LEAST_1)
def leaderboard(
    settings: Settings,
    places: tuple[str, ...],
    estimand: Estimand | None,
    k: int | None,
    chosen: tuple[str, ...],
    models: tuple[str, ...],
    show: bool,
    download: bool,
    folder: Path | None,
    version: int | None,
) -> None:
    """Show the leaderboard of a benchmark, or rank the models of downloaded results.

    BENCHMARK is one on the server: one row per model, model configuration or agent, one column per task. A cell is a
    number on the scale of the task, Pass, Fail, or N/A where there is no result. Without an owner, it is one of yours.
    CSV contains the same table with the numbers as they are stored, after a column `model` with the slug, MODEL@EFFORT
    or the agent; JSON contains one record per result.

    DIR is a folder of results, such as that of a sweep. Each model has its mean score over tasks with an interval, the
    ranks that chance allows, the attempts that have a score among those that were planned, its cost and time. If some
    attempts have no score, there are also bounds: as if all of these had failed, and as if all had passed. A model
    without a score on one of the tasks is not ranked. A task with values beyond 0 and 1 counts if sweep.toml declares
    its scale.

    The argument is a folder if a folder has this name, and otherwise a benchmark; --show, --download and --version
    always mean a benchmark.

    \b
    Examples:
      fanbench leaderboard owner/their-benchmark
      fanbench leaderboard owner/their-benchmark --download -p results
      fanbench leaderboard owner/their-benchmark --version 2 --show --format csv
      fanbench leaderboard ./results
      fanbench leaderboard ./results --tasks like-these -k 3
      fanbench leaderboard ./results -t 'quiz-*' -m gemma-3-270m -m smollm2-135m-instruct
    """
    if folder is not None and not download:
        raise UsageError("-p/--path can only be used with --download.", hint="Add --download.")
    if not (show or download or version) and _are_folders(places):
        from fanbench.cli.folders import read_folders
        from fanbench.cli.views.ranking import show_ranking

        found = read_folders(settings, [Path(place) for place in places])
        show_ranking(
            settings.output,
            found.leaderboard(estimand or "these", k, only_tasks=chosen or None, models=models or None),
        )
        return
    given = {"--tasks": estimand, "-k": k, "-t/--task": chosen, "-m/--model": models}
    if flag := next((flag for flag, value in given.items() if value), None):
        raise UsageError(f"{flag} is for a folder of results, and {places[0]} is a benchmark.")
    if len(places) > 1:
        raise UsageError(
            f"One benchmark at a time: '{places[0]}' is followed by '{places[1]}'.",
            hint="Only folders of results can be several.",
        )
    _show_benchmark(settings, places[0], show=show, download=download, folder=folder, version=version)


def _are_folders(places: tuple[str, ...]) -> bool:
    """Whether folders are meant. A path that cannot be OWNER/BENCHMARK means a folder, even if there is none.

    Raises:
        UsageError: Some are folders, and one is not.
    """
    missing = next((place for place in places if not os.path.isdir(place)), None)
    meant = any(os.path.isdir(place) or _is_path(place) for place in places)
    if meant and missing is not None:
        raise UsageError(
            f"'{missing}' is neither a folder of results nor a benchmark's name.",
            hint="Write a folder that exists, or OWNER/BENCHMARK for the leaderboard on the server.",
        )
    return meant


def _is_path(place: str) -> bool:
    return place.startswith((".", "~", os.sep)) or place.endswith("/") or place.count("/") > 1


def _show_benchmark(
    settings: Settings,
    benchmark: str,
    *,
    show: bool,
    download: bool,
    folder: Path | None,
    version: int | None,
) -> None:
    from fanbench.cli.views.leaderboard import show_leaderboard
    from fanbench.operations.leaderboard import fetch_leaderboard, write_leaderboard

    try:
        found = call(settings, lambda client: fetch_leaderboard(client, benchmark, version=version))
    except (CredentialsError, NotFound) as error:
        if not os.path.isdir(benchmark):
            if isinstance(error, CredentialsError) and "/" not in benchmark:
                raise NoResults(
                    f"There is no folder '{benchmark}'.",
                    hint="Write a folder of results, or OWNER/BENCHMARK for a leaderboard on the server.",
                ) from None
            no_folder = f"There is no folder '{benchmark}' either, whose results could be ranked."
            error.hint = " ".join(filter(None, (no_folder, error.hint)))
        raise
    if not found.board.rows:
        settings.output.note("No results found.")
    elif download:
        settings.output.note(f"Leaderboard downloaded to {write_leaderboard(found, folder or Path())}")
    if show or not download:
        show_leaderboard(settings.output, found, as_kaggle=settings.csv)
