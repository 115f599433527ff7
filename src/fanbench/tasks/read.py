"""Read a task file from the disk, and choose the task in it that the user means."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from fanbench._util.garbage import without_collection
from fanbench.errors import FanbenchError, TaskFileError, UsageError
from fanbench.tasks.imports import check_imports
from fanbench.tasks.ipynb import read_notebook
from fanbench.tasks.lint import lint
from fanbench.tasks.page_block import read_page_block
from fanbench.tasks.source import parse, read_text
from fanbench.tasks.task_file import PAGE_BLOCK, PYTHON_FILE, Finding, TaskDefinition, TaskFile
from fanbench.wire.slugs import slugify_task

__all__ = ["choose_task", "join_errors", "raise_for_errors", "read_task_file"]


def read_task_file(path: Path, *, with_imports: bool = False, datasets: Collection[str] = ()) -> TaskFile:
    """Read and check the task file at `path` without executing it.

    Problems with its tasks do not raise: they are in `findings`. `with_imports` adds warnings about imports that
    fail where task files run; these depend on what is installed here. `datasets`, as OWNER/SLUG, are attached to the
    tasks: there are no warnings about reading them.

    Raises:
        TaskFileError: The file is missing, a directory, neither `.py` nor `.ipynb`, too large, not UTF-8, empty,
            not Python, or not a notebook in Python.
    """
    with without_collection():
        return _read(path, datasets, with_imports=with_imports)


def _read(path: Path, datasets: Collection[str], *, with_imports: bool) -> TaskFile:
    notebook = read_notebook(path) if path.suffix == ".ipynb" else None
    source = notebook.source if notebook else read_text(path)
    tree = notebook.tree if notebook else parse(source, str(path))
    cells = notebook.cells if notebook else PYTHON_FILE
    try:
        tasks, findings = lint(tree, source, cells, datasets)
    except RecursionError:
        raise TaskFileError("The code is nested too deeply to be read.", file=str(path)) from None
    more = [*check_imports(tree, source, path)] if with_imports else []
    try:
        page = read_page_block(source, tree, str(path))
    except TaskFileError as error:
        page = None
        more.append(Finding("error", error.message, error.line, 1, error.hint, PAGE_BLOCK))
    findings = tuple(sorted([*findings, *map(cells.place, more)], key=lambda one: one.place))
    return TaskFile(path, source, tasks, findings, notebook.text if notebook else None, cells, page)


def raise_for_errors(file: TaskFile, pushed: Collection[str], *, allow_no_run: bool = False) -> None:
    """Refuse a file from which the tasks with the slugs `pushed` cannot be pushed.

    Raises:
        TaskFileError: The file has errors. The exception carries the first one, with its fix as the hint.
    """
    errors = file.errors(pushed, allow_no_run=allow_no_run)
    if errors:
        first = errors[0]
        more = f" ({len(errors) - 1} more: fanbench check {file.path})" if errors[1:] else ""
        raise TaskFileError(
            first.message + more,
            file=str(file.path),
            cell=first.cell,
            line=first.line,
            column=first.column,
            hint=first.fix,
        )


def join_errors(errors: Mapping[Path, FanbenchError]) -> FanbenchError:
    """One error for all files that cannot be pushed: the first, with the others as notes."""
    first, *others = errors.values()
    for other in others:
        first.add_note(str(other))
    if others:
        files = " ".join(map(str, errors))
        first.hint = f"Run `fanbench check {files}` to list all findings."
    return first


def choose_task(file: TaskFile, name: str | None) -> TaskDefinition:
    """Return the task called `name`, in any spelling ("My Task", "my_task", "owner/my-task").

    If `name` is `None`, return the file's only task that is not a helper.

    Raises:
        UsageError: `name` is `None` and the file has several tasks, or no slug can be derived from `name`.
        TaskFileError: The file has no such task, or its runs are not stored (`store_run=False`).
    """
    if name is None:
        if len(file.pushable) > 1:
            slugs = ", ".join(task.slug for task in file.pushable)
            raise UsageError(
                f"{file.path} has several tasks: {slugs}.",
                hint=f"Name one: `fanbench tasks push TASK -f {file.path}`, or add --all-tasks.",
            )
        if not file.pushable:
            raise TaskFileError(
                "The file has only helpers (store_task=False or store_run=False).",
                file=str(file.path),
                hint=_list_tasks(file),
            )
        return file.pushable[0]
    slug = slugify_task(name).rpartition("/")[2]
    found = next((task for task in file.tasks if task.slug == slug), None)
    if found is None:
        raise TaskFileError(
            f"The file has no task {slug!r}.", file=str(file.path), hint=_list_tasks(file, slug)
        )
    if not found.stored:
        raise TaskFileError(
            f"Task {found.slug!r} has store_run=False, so its runs would leave no result.",
            file=str(file.path),
            cell=found.cell,
            line=found.line,
            column=found.column,
            hint="Push the task that calls it, or remove store_run=False.",
        )
    return found


def _list_tasks(file: TaskFile, wanted: str = "") -> str:
    from difflib import get_close_matches

    slugs = [task.slug for task in file.tasks if task.slug]
    if not slugs:
        return 'Put @kbench.task(name="…") above a function.'
    closest = get_close_matches(wanted, slugs, n=1)
    return f"Tasks in it: {', '.join(slugs)}." + (f" Did you mean {closest[0]!r}?" if closest else "")
