"""`fanbench compare`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import model_option, value_option
from fanbench.errors import CannotTell, UsageError

if TYPE_CHECKING:
    from fanbench.cli.views.compare import Side
    from fanbench.results.compare import Comparison

__all__ = ["compare"]


@command()
@click.argument("places", nargs=-1, required=True, metavar="DIR A B | DIR1 DIR2")
@model_option("Of two folders: compare only this model, or those that match a pattern; repeatable.")
@value_option(
    "--flips",
    "N",
    "Show at most N of the items that changed (default: 10).",
    click.IntRange(min=0),
    default=10,
)
def compare(settings: Settings, places: tuple[str, ...], models: tuple[str, ...], flips: int) -> None:
    """Compare two models, or two sweeps, on the items that they have in common.

    With DIR A B, these are the models A and B in the results in DIR. With DIR1 DIR2, these are the results of the same
    models in two folders, such as before and after a change.

    Each row is a task: its common items, on how many of them B scored higher (better) or lower (worse), the mean
    difference with its interval, the p-value of no difference, the same adjusted for the number of tasks, and the
    smallest true difference that the items would have shown four times in five. Tasks are compared if their content is
    the same and their values are between 0 and 1, or on the scale that sweep.toml declares; the others are named.

    \b
    Examples:
      fanbench compare ./results gemma-3-270m smollm2-135m-instruct
      fanbench compare ./before ./after
      fanbench compare ./before ./after -m 'gemma-*' --format json
    """
    from fanbench.cli.views.compare import show_comparison

    folders = places[: 1 if len(places) == 3 else 2]
    missing = [folder for folder in folders if not os.path.isdir(folder)]
    if len(places) not in (2, 3) or missing:
        what = "Two sides are compared." if len(places) not in (2, 3) else f"'{missing[0]}' is no folder."
        raise UsageError(what, hint="Write a folder and two models, or two folders.")
    if len(places) == 2:
        found, sides, lonely = _sweeps(settings, places, models)
    elif models:
        raise UsageError("-m is for two folders; here, the models are the arguments.")
    else:
        found, sides, lonely = *_models(settings, *places), []
    show_comparison(settings.output, found, *sides, lonely=lonely, flips=flips)
    if not found.pairs:
        raise CannotTell("Nothing can be compared: no task has an item with a score on both sides.")


def _sweeps(
    settings: Settings, folders: Sequence[str], models: Sequence[str]
) -> tuple[Comparison, tuple[Side, Side], list[str]]:
    """Compare the models of two folders. The sentences are about models that only one of them has."""
    from fanbench.cli.folders import read_folders
    from fanbench.cli.views.compare import Side
    from fanbench.results.compare import compare_sweeps
    from fanbench.results.names import find_models

    old, new = (read_folders(settings, [Path(folder)]) for folder in folders)
    before, after = old.scores_with(new)
    common = sorted(set(before.models) & set(after.models))
    if not common:
        raise CannotTell(
            f"No model is in both folders: {', '.join(before.models)} in {folders[0]}, "
            f"and {', '.join(after.models)} in {folders[1]}.",
            hint="Write DIR A B to compare two models in one folder.",
        )
    lonely = [
        f"Not compared, because only {folder} has results of it: {model}."
        for folder, scores in zip(folders, (before, after), strict=True)
        for model in scores.models
        if model not in common
    ]
    found = compare_sweeps(before, after, find_models(models, common) if models else None)
    found = replace(found, sides=(folders[0], folders[1]))
    return found, (Side(old.items), Side(new.items)), [] if models else lonely


def _models(settings: Settings, folder: str, first: str, second: str) -> tuple[Comparison, tuple[Side, Side]]:
    from fanbench.cli.folders import read_folders
    from fanbench.cli.views.compare import Side
    from fanbench.results.compare import compare_models
    from fanbench.results.names import find_model

    found = read_folders(settings, [Path(folder)])
    scores = found.scores()
    a, b = (find_model(name, scores.models) for name in (first, second))
    if a == b:
        raise UsageError(f"{first} and {second} are the same model.")
    return compare_models(scores, a, b), (Side(found.items, a), Side(found.items, b))
