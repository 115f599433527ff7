"""What `fanbench tasks list` shows."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fanbench.cli.command import Settings
from fanbench.cli.output import Output, format_time
from fanbench.cli.prompts import is_terminal, read_line
from fanbench.cli.views.records import TASK_FIELDS, task_record
from fanbench.wire.messages import Task
from fanbench.wire.slugs import join_task

__all__ = ["FIELDS", "show_tasks"]

FIELDS = TASK_FIELDS


def show_tasks(settings: Settings, tasks: Sequence[Task], *, page_size: int | None, filtered: bool) -> None:
    """Show pages of `page_size` tasks where somebody can turn them; None is one page."""
    out = settings.output
    out.records([task_record(task) for task in tasks], FIELDS)
    if not out.for_people:
        return
    if not tasks:
        push = f"No tasks found. Push one with: {settings.fanbench_command('tasks push TASK -f FILE')}"
        out.note("No tasks found matching the given filters." if filtered else push)
        return
    size = page_size if page_size and is_terminal() and sys.stdout.isatty() else len(tasks)
    page, last = 0, (len(tasks) - 1) // size
    while True:
        _show_page(out, tasks, page * size, min((page + 1) * size, len(tasks)))
        if not last:
            return
        answer = read_line(f"\n[Page {page + 1}/{last + 1}] [n]ext, [p]rev, [q]uit: ")
        if answer is None or answer.lower() == "q":
            return
        page = min(max(page + {"n": 1, "p": -1}.get(answer.lower(), 0), 0), last)


def _show_page(out: Output, tasks: Sequence[Task], start: int, end: int) -> None:
    website = ""
    owners = {task.slug.owner_slug for task in tasks}
    for task in tasks if len(owners) == 1 else ():
        match task.url.strip("/").split("/"):
            case ["benchmarks", "tasks", owner, *_]:
                website = f" (https://www.kaggle.com/benchmarks/tasks/{owner}/)"
                break
            case _:
                pass
    out.note(f"\nShowing {start + 1}-{end} of {len(tasks)} tasks{website}\n")
    rows = [
        (
            join_task(task.slug) if len(owners) > 1 else task.slug.task_slug,
            task.creation_state.label.title(),
            format_time(task.create_time),
        )
        for task in tasks[start:end]
    ]
    out.table(("Task", "Status", "Created"), rows, (40, 20, 20))
