"""`fanbench tasks list`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.cli.output import Output, format_time, table
from fanbench.cli.prompts import is_terminal, read_line
from fanbench.cli.session import call
from fanbench.cli.views.records import TASK_FIELDS, task_record

if TYPE_CHECKING:
    from fanbench.wire.messages import Task

__all__ = ["FIELDS", "list_"]

FIELDS = TASK_FIELDS

_PAGE = 20


@click.command("list", cls=Verb)
@click.option("--name-regex", metavar="REGEX", help="Only tasks whose name matches.")
@click.option("--status", metavar="STATE", help="Only tasks in this state, such as completed or errored.")
@click.option("--page-size", type=click.IntRange(min=1), metavar="N", help="Tasks on a page (default: 20).")
@click.option("--all", "show_all", is_flag=True, help="All on one page.")
@pass_settings
def list_(
    settings: Settings, name_regex: str | None, status: str | None, page_size: int | None, show_all: bool
) -> None:
    """List your tasks with their states; page by page on a terminal, all of them elsewhere.

    \b
    Examples:
      fanbench tasks list
      fanbench tasks list --name-regex '^math' --status completed
      fanbench tasks list --format csv > tasks.csv
    """
    from fanbench import operations

    tasks = call(settings, lambda client: operations.list_tasks(client, regex=name_regex, status=status))
    out = settings.output
    if not out.plain:
        out.rows([task_record(task) for task in tasks], FIELDS)
    elif not tasks:
        filtered = name_regex or status
        start = f"No tasks found. Push one with: {settings.command('tasks push TASK -f FILE')}"
        out.note("No tasks found matching the given filters." if filtered else start)
    else:
        whole = show_all or not (is_terminal() and sys.stdout.isatty())
        _show_pages(out, tasks, len(tasks) if whole else page_size or _PAGE)


def _show_pages(out: Output, tasks: Sequence[Task], size: int) -> None:
    page, last = 0, (len(tasks) - 1) // size
    while True:
        _show(out, tasks, page * size, min((page + 1) * size, len(tasks)))
        if not last:
            return
        answer = read_line(f"\n[Page {page + 1}/{last + 1}] [n]ext, [p]rev, [q]uit: ")
        if answer is None or answer.lower() == "q":
            return
        page = min(max(page + {"n": 1, "p": -1}.get(answer.lower(), 0), 0), last)


def _show(out: Output, tasks: Sequence[Task], start: int, end: int) -> None:
    out.note(f"\nShowing {start + 1}-{end} of {len(tasks)} tasks{_website(tasks)}\n")
    rows = [
        (task.slug.task_slug, task.creation_state.label.title(), format_time(task.create_time))
        for task in tasks[start:end]
    ]
    for line in table(("Task", "Status", "Created"), rows, (40, 20, 20)):
        out.text(line)


def _website(tasks: Sequence[Task]) -> str:
    """Where the owner's tasks are on the website, read off the first task's URL."""
    for task in tasks:
        match task.url.strip("/").split("/"):
            case ["benchmarks", "tasks", owner, *_]:
                return f" (https://www.kaggle.com/benchmarks/tasks/{owner}/)"
            case _:
                pass
    return ""
