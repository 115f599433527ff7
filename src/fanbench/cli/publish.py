"""`fanbench tasks publish`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fanbench.cli.options import Settings, Verb, pass_settings
from fanbench.cli.records import task_record
from fanbench.cli.render import Output, bold
from fanbench.cli.session import call

if TYPE_CHECKING:
    from fanbench.verbs import Published

__all__ = ["publish"]


@click.command(cls=Verb)
@click.argument("task")
@click.option(
    "--publish-backing-notebook/--no-publish-backing-notebook",
    "notebook",
    default=True,
    help="Publish the notebook behind the task as well (default), or leave it private.",
)
@pass_settings
def publish(settings: Settings, task: str, notebook: bool) -> None:
    """Make a task public, and the notebook behind it. What is public already stays as it is.

    \b
    Examples:
      fanbench tasks publish my-task
      fanbench tasks publish my-task --no-publish-backing-notebook
    """
    from fanbench import verbs

    done = call(settings, lambda client: verbs.publish_task(client, task, publish_notebook=notebook))
    out = settings.output
    if out.plain:
        _show(out, done)
    else:
        out.record({**task_record(done.task), "notebook": done.notebook})


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
