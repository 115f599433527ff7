"""`fanbench gate OLD NEW --margin M`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FOLDER, model_option, share_option

__all__ = ["gate"]


@command()
@click.argument("old", metavar="OLD", type=FOLDER)
@click.argument("new", metavar="NEW", type=FOLDER)
@share_option(
    "--margin",
    "M",
    "The loss of the mean score that is accepted: 0.05 is five points of a hundred.",
    required=True,
)
@share_option(
    "--min-coverage",
    "C",
    "The least share of each task that must have a score on both sides (default: 1, all of it).",
    default=1.0,
)
@model_option("Compare only this model, or those that match a pattern; repeatable (default: all in OLD).")
def gate(
    settings: Settings, old: Path, new: Path, margin: float, min_coverage: float, models: tuple[str, ...]
) -> None:
    """Decide whether the results in NEW are worse than those in OLD, for use in CI.

    \b
    The exit code is the verdict:
      0  not worse: a loss of the margin or more can be ruled out
      7  a regression: the mean is lower beyond chance, or a task is, by more than the margin
      8  cannot tell: there are too few items (it says how many would tell), or the two cannot be compared

    They cannot be compared if NEW lacks a model of OLD, if the content of a task differs, if its values are beyond 0
    and 1, or beyond the scale that sweep.toml declares, on one side only, or if items have no score on either side:
    what errors is not random. Tasks with such values on both sides are named and left out.

    \b
    Examples:
      fanbench gate ./main ./pull-request --margin 0.05
      fanbench gate ./main ./pull-request --margin 0.02 --min-coverage 0.95 -m 'gemini-*'
    """
    from fanbench.cli.folders import read_folders
    from fanbench.cli.views.gate import show_gate

    before, after = (read_folders(settings, [folder]) for folder in (old, new))
    found = before.gate(after, margin=margin, min_coverage=min_coverage, models=models or None)
    show_gate(settings.output, found, old, new)
