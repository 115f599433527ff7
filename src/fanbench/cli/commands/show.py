"""`fanbench show TASK MODEL [DIR]`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FOLDER, value_option
from fanbench.errors import NoResults

__all__ = ["show"]


@command()
@click.argument("task")
@click.argument("model")
@click.argument("folder", metavar="[DIR]", default=Path(), type=FOLDER)
@value_option("--run run_id", "ID", "Only the run with this id, also if it was made again.", click.INT)
@value_option("--item", "I", "Only this item, in all runs.")
@value_option(
    "--details",
    "N",
    "Show what was said in at most N attempts (default: 3).",
    click.IntRange(min=0),
    default=3,
)
@click.option("--full", is_flag=True, help="Show messages of any length.")
def show(
    settings: Settings,
    task: str,
    model: str,
    folder: Path,
    run_id: int | None,
    item: str | None,
    details: int,
    full: bool,
) -> None:
    """Show why a model has its score on a task: each attempt in the results in DIR (default: .), and what was said.

    The attempts without a score come first, then the lowest ones. Of the first of them, prompts and answers are shown,
    the words of a judge, the assertions with their lines in the task file, the error, and the run file.

    \b
    Examples:
      fanbench show capital-cities gemma-3-270m ./results
      fanbench show capital-cities google/gemma-3-270m ./results --item 12 --full
      fanbench show capital-cities gemma-3-270m ./results --run 21 --format json
    """
    from fanbench.cli.folders import read_folders
    from fanbench.cli.views.show import show_items
    from fanbench.results.names import find_model, find_task
    from fanbench.results.scores import scores_of

    found = read_folders(settings, [folder])
    name = find_task(task, (each.task for each in found.items))
    items = tuple(each for each in found.items if each.task == name)
    slug = find_model(model, sorted({each.model for each in items}))
    items = tuple(each for each in items if each.model == slug)
    chosen = [
        each
        for each in items
        if (item is None or each.item == item)
        and (each.run_id == run_id if run_id is not None else not each.superseded)
    ]
    if not chosen:
        runs = sorted({str(each.run_id) for each in items if each.run_id is not None}, key=int)
        raise NoResults(
            f"There is no such attempt of {slug} at {name}. Its runs are {', '.join(runs) or 'without an id'}.",
            hint="Leave --run and --item out to see all.",
        )
    # Of all attempts, those that left nothing are told by other models.
    names = found.scores().names() if item is None else {}
    scores = scores_of(chosen, found.scales, names)
    show_items(settings.output, chosen, scores, details=details, full=full)
