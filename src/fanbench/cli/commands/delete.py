"""`fanbench tasks delete`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.cli.exits import say_error
from fanbench.cli.prompts import confirmed
from fanbench.cli.session import call, finish
from fanbench.errors import FanbenchError

__all__ = ["FIELDS", "delete"]


@click.command(cls=Verb)
@click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@pass_settings
def delete(settings: Settings, task_names: tuple[str, ...], yes: bool) -> None:
    """Delete tasks with their runs and outputs. Kaggle has no such call yet; the local server has.

    \b
    Examples:
      fanbench tasks delete my-task --local
      fanbench tasks delete first-task second-task --local -y
    """
    from fanbench import operations
    from fanbench.operations.batch import unique_slugs

    slugs = unique_slugs(task_names)
    if not confirmed(_question(slugs), yes=yes, default=False):
        raise FanbenchError("Nothing was deleted.")
    outcomes = call(settings, lambda client: operations.delete_tasks(client, slugs))
    out = settings.output
    for slug, error in zip(slugs, outcomes, strict=True):
        if error is None:
            out.note(f"Task '{slug}' deleted.")
        elif len(slugs) > 1:
            say_error(error)
    out.rows([_record(slug, error) for slug, error in zip(slugs, outcomes, strict=True)], FIELDS)
    finish([error for error in outcomes if error], len(slugs), "tasks")


def _question(slugs: Sequence[str]) -> str:
    names = ", ".join(f"'{slug}'" for slug in slugs)
    if len(slugs) == 1:
        return f"Delete task {names} with all its runs and outputs?"
    return f"Delete the tasks {names} with all their runs and outputs?"


FIELDS = ("task", "deleted", "error")


def _record(slug: str, error: FanbenchError | None) -> dict[str, Any]:
    return {"task": slug, "deleted": error is None, "error": str(error) if error else None}
