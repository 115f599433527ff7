"""What `fanbench tasks delete` asks and shows."""

from __future__ import annotations

from collections.abc import Sequence

from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.prompts import confirm
from fanbench.cli.session import call, finish
from fanbench.errors import FanbenchError
from fanbench.operations.batch import unique_slugs
from fanbench.operations.publish import delete_tasks

__all__ = ["FIELDS", "confirm_and_delete"]

FIELDS = ("task", "deleted", "error")


def confirm_and_delete(settings: Settings, task_names: Sequence[str], *, yes: bool) -> None:
    slugs = unique_slugs(task_names)
    names = ", ".join(f"'{slug}'" for slug in slugs)
    question = (
        f"Delete task {names} with all its runs and outputs?"
        if len(slugs) == 1
        else f"Delete the tasks {names} with all their runs and outputs?"
    )
    if not confirm(question, yes=yes, default=False):
        raise FanbenchError("Nothing was deleted.")
    errors = call(settings, lambda client: delete_tasks(client, slugs))
    for slug, error in zip(slugs, errors, strict=True):
        if error is None:
            settings.output.note(f"Task '{slug}' deleted.")
        elif len(slugs) > 1:
            print_error(error)
    records = [
        {"task": slug, "deleted": error is None, "error": str(error) if error else None}
        for slug, error in zip(slugs, errors, strict=True)
    ]
    settings.output.records(records, FIELDS)
    finish([error for error in errors if error], len(slugs), "tasks")
