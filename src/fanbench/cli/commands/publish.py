"""`fanbench tasks publish`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.cli.exits import say_error
from fanbench.cli.output import Output, bold
from fanbench.cli.session import call, finish
from fanbench.cli.views.records import TASK_FIELDS, task_record
from fanbench.errors import FanbenchError

if TYPE_CHECKING:
    from fanbench.operations import Published

__all__ = ["FIELDS", "publish"]

FIELDS = (*TASK_FIELDS, "notebook")


@click.command(cls=Verb)
@click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
@click.option(
    "--publish-backing-notebook/--no-publish-backing-notebook",
    "notebook",
    default=True,
    help="Publish the notebook behind the task as well (default), or leave it private.",
)
@pass_settings
def publish(settings: Settings, task_names: tuple[str, ...], notebook: bool) -> None:
    """Make tasks public, and the notebooks behind them. What is public already stays as it is.

    \b
    Examples:
      fanbench tasks publish my-task
      fanbench tasks publish my-task --no-publish-backing-notebook
      fanbench tasks publish first-task second-task
    """
    from fanbench import operations

    outcomes = call(
        settings, lambda client: operations.publish_tasks(client, task_names, publish_notebook=notebook)
    )
    out = settings.output
    for outcome in outcomes:
        if isinstance(outcome, FanbenchError):
            if len(outcomes) > 1:
                say_error(outcome)
        else:
            _show(out, outcome)
    done = [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]
    records = [{**task_record(one.task), "notebook": one.notebook} for one in done]
    out.one_or_rows(records, FIELDS, one=len(outcomes) == 1)
    finish([outcome for outcome in outcomes if isinstance(outcome, FanbenchError)], len(outcomes), "tasks")


def _show(out: Output, done: Published) -> None:
    if done.was_public:
        out.text(f"Task '{done.slug}' is already public.")
    else:
        out.text(f"Task '{done.slug}' published successfully.")
        out.text(bold(f"Task URL: {done.url}"))
    match done.notebook:
        case "published":
            out.text("Backing notebook also published.")
        case "already published":
            out.text("Backing notebook is already published.")
        case "none":
            out.note("Note: No backing notebook is associated with this task.")
        case _:
            pass
