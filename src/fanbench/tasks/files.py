"""A task file from disk to a `TaskFile`, and the one task of it that is meant."""

from __future__ import annotations

from pathlib import Path

from fanbench.errors import TaskFileError, UsageError
from fanbench.tasks.lint import inspect
from fanbench.tasks.model import TaskDefinition, TaskFile
from fanbench.tasks.source import parse, read_source
from fanbench.wire.slugs import slugify_task

__all__ = ["choose_task", "read_task_file", "refuse_errors"]


def read_task_file(path: Path) -> TaskFile:
    """Reads and checks `path`, which is never run. What is wrong with its tasks is in `findings`.

    Raises:
        TaskFileError: missing, a directory, not `.py`, too large, not UTF-8, empty, or not Python.
    """
    source = read_source(path)
    tree = parse(source, str(path))
    try:
        tasks, findings = inspect(tree, source)
    except RecursionError:
        raise TaskFileError("the code is nested too deeply to be read.", file=str(path)) from None
    return TaskFile(path, source, tasks, findings)


def refuse_errors(file: TaskFile, *, allow_no_run: bool = False) -> None:
    """What a push does first.

    Raises:
        TaskFileError: the first error that the check found, with what to write instead.
    """
    errors = file.errors(allow_no_run=allow_no_run)
    if errors:
        first = errors[0]
        more = f" ({len(errors) - 1} more: fanbench check {file.path})" if errors[1:] else ""
        raise TaskFileError(
            first.message + more, file=str(file.path), line=first.line, column=first.column, hint=first.fix
        )


def choose_task(file: TaskFile, name: str | None) -> TaskDefinition:
    """The task that `name` means ("My Task", "my_task", "owner/my-task"), or the only one if it is `None`.

    Raises:
        UsageError: `name` is `None` and there are several, or it has nothing that a slug could have.
        TaskFileError: there is no such task, or its runs are not stored (`store_run=False`).
    """
    if name is None:
        return _only_task(file)
    slug = slugify_task(name).rpartition("/")[2]
    found = next((task for task in file.tasks if task.slug == slug), None)
    if found is None:
        raise TaskFileError(f"no task {slug!r} here.", file=str(file.path), hint=_what_is_there(file, slug))
    if not found.stored:
        raise TaskFileError(
            f"task {found.slug!r} has store_run=False, so a run of it would leave no result.",
            file=str(file.path),
            line=found.line,
            column=found.column,
            hint="Push the task that calls it, or take store_run=False out.",
        )
    return found


def _only_task(file: TaskFile) -> TaskDefinition:
    match file.pushable:
        case (task,):
            return task
        case ():
            raise TaskFileError(
                "no task here whose runs are stored.", file=str(file.path), hint=_what_is_there(file, "")
            )
        case several:
            slugs = ", ".join(task.slug for task in several)
            raise UsageError(f"{file.path} has several tasks: {slugs}.", hint="Name the one that you mean.")


def _what_is_there(file: TaskFile, slug: str) -> str:
    from difflib import get_close_matches

    slugs = [task.slug for task in file.tasks if task.slug]
    if not slugs:
        return 'Put @kbench.task(name="…") above a function.'
    closest = get_close_matches(slug, slugs, n=1)
    return f"Tasks in it: {', '.join(slugs)}." + (f" Did you mean {closest[0]!r}?" if closest else "")
