"""`fanbench tasks delete`."""

from __future__ import annotations

import click

from fanbench._errors import FanbenchError
from fanbench.cli.ask import confirmed
from fanbench.cli.options import Settings, Verb, pass_settings
from fanbench.cli.session import call

__all__ = ["delete"]


@click.command(cls=Verb)
@click.argument("task")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_settings
def delete(settings: Settings, task: str, yes: bool) -> None:
    """Delete a task with its runs and outputs. Kaggle has no such call yet; the local server has.

    \b
    Examples:
      fanbench tasks delete my-task --local
      fanbench tasks delete my-task --local -y
    """
    from fanbench import verbs
    from fanbench.api.names import slugify_task

    slug = slugify_task(task)
    if not confirmed(f"Delete task '{slug}' with all its runs and outputs?", yes=yes, default=False):
        raise FanbenchError("Nothing was deleted.")
    call(settings, lambda client: verbs.delete_task(client, slug))
    settings.output.note(f"Task '{slug}' deleted.")
