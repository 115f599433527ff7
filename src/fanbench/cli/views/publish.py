"""What `fanbench tasks publish` shows."""

from __future__ import annotations

from collections.abc import Sequence

from fanbench.cli.exits import print_error
from fanbench.cli.output import Output, bold
from fanbench.cli.session import finish, split
from fanbench.cli.views.records import TASK_FIELDS, task_record
from fanbench.errors import FanbenchError
from fanbench.operations.publish import Published

__all__ = ["FIELDS", "show_published"]

FIELDS = (*TASK_FIELDS, "notebook")


def show_published(out: Output, outcomes: Sequence[Published | FanbenchError]) -> None:
    for outcome in outcomes:
        if isinstance(outcome, FanbenchError):
            if len(outcomes) > 1:
                print_error(outcome)
            continue
        if outcome.was_public:
            out.text(f"Task '{outcome.slug}' is already public.")
        else:
            out.text(f"Task '{outcome.slug}' published successfully.")
            out.text(bold(f"Task URL: {outcome.url}"))
        match outcome.notebook:
            case "published":
                out.text("Backing notebook also published.")
            case "already published":
                out.text("Backing notebook is already published.")
            case "none":
                out.note("Note: No backing notebook is associated with this task.")
            case _:
                pass
    published, errors = split(outcomes)
    records = [{**task_record(one.task), "notebook": one.notebook} for one in published]
    out.records(records, FIELDS, single=len(outcomes) == 1)
    finish(errors, len(outcomes), "tasks")
