"""A task file that has been read: its tasks and the findings about them."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from fanbench.errors import place_text
from fanbench.wire.metadata import Metadata

__all__ = [
    "DUPLICATE",
    "NO_RUN",
    "PAGE_BLOCK",
    "PYTHON_FILE",
    "Cells",
    "Finding",
    "Level",
    "TaskDefinition",
    "TaskFile",
]

Level = Literal["error", "warning"]

#: The only rule that can be switched off (`--allow-no-run`).
NO_RUN = "no-run"
#: Two tasks have one slug. A push refuses these two and takes the others of the file.
DUPLICATE = "duplicate"
PAGE_BLOCK = "page-block"


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A function decorated with `@task`.

    Attributes:
        name: The task's name, given to the decorator or derived from the function's name.
        slug: The name as a slug; empty if the name has no character that a slug may contain.
        function: The name of the function.
        line: The line of the `def`, counted from 1. In a notebook, that is the line within the cell.
        column: The column of the `def` in characters, counted from 1.
        has_run: Some `.run(…)` or `.evaluate(…)` in the file may reach the task.
        run_on_load: As `has_run`, without the runs within other tasks, which may depend on the model's answers,
            and not for a task whose runs `%choose` removes.
        stored: The task's runs are written to run files. With `store_run=False` it cannot be pushed.
        helper: The task is part of other tasks (`store_task=False` or `store_run=False`). It is only pushed if it
            is named.
        cell: In a notebook, the number of the cell among all cells, counted from 1.
    """

    name: str
    slug: str
    function: str
    line: int
    column: int
    has_run: bool
    run_on_load: bool = True
    stored: bool = True
    helper: bool = False
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a task file. `fix` describes what to write instead.

    Line and column count from 1. In a notebook, `cell` is the number of the cell among all cells, counted from 1,
    and the line is that within the cell. `task` is the slug of the only task that the finding concerns, or `None` if
    it concerns the file. `fails` are the slugs of the tasks whose creation certainly fails because of it.
    """

    level: Level
    message: str
    line: int | None = None
    column: int | None = None
    fix: str | None = None
    rule: str = ""
    task: str | None = None
    cell: int | None = None
    fails: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[int, int, int]:
        """The cell, line and column, to sort by; what is unknown is 0."""
        return (self.cell or 0, self.line or 0, self.column or 0)

    def text(self, file: str, *, level: bool = True) -> str:
        """The finding in the format that editors parse: `file:line:column: error: message`, or without the level.

        In a notebook it is `file:cell 3:line:column: …`.
        """
        kind = f"{self.level}: " if level else ""
        return f"{place_text(file, self.cell, self.line, self.column)}: {kind}{self.message}"


_Placed = TypeVar("_Placed", Finding, TaskDefinition)


@dataclass(frozen=True, slots=True)
class Cells:
    """Where the cells are in the source: the first line of each (from 1), and its number among all cells (from 1).

    Without any, the source is that of a Python file.
    """

    starts: tuple[int, ...] = ()
    numbers: tuple[int, ...] = ()

    def locate(self, line: int) -> tuple[int | None, int]:
        """Return the cell of a line of the source, `None` in a Python file, and the line within the cell."""
        if not self.starts:
            return None, line
        index = max(0, bisect_right(self.starts, line) - 1)
        return self.numbers[index], max(1, line - self.starts[index] + 1)

    def describe(self, line: int) -> str:
        cell, line = self.locate(line)
        return f"line {line}" if cell is None else f"cell {cell}, line {line}"

    def place(self, item: _Placed) -> _Placed:
        """Return a finding or a task with its cell, and its line within the cell."""
        if item.line is None:
            return item
        cell, line = self.locate(item.line)
        return replace(item, cell=cell, line=line)


#: The cells of a file that is no notebook.
PYTHON_FILE = Cells()


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file that could be read and parsed. Its findings decide whether it can be pushed.

    `source` is its Python code. Of a notebook, it is the code of all cells that run, `notebook` is the `.ipynb` text
    to upload, and `cells` tells where the cells are in `source`. `page` is what the file says about the page of its
    tasks, if it says anything.
    """

    path: Path
    source: str
    tasks: tuple[TaskDefinition, ...]
    findings: tuple[Finding, ...]
    notebook: str | None = None
    cells: Cells = PYTHON_FILE
    page: Metadata | None = None

    @property
    def pushable(self) -> tuple[TaskDefinition, ...]:
        """The tasks that are not helpers of others, in the order of the file."""
        return tuple(task for task in self.tasks if not task.helper)

    @property
    def recording(self) -> tuple[TaskDefinition, ...]:
        """The tasks that leave a run file whenever the file is run, in the order of the file."""
        return tuple(task for task in self.pushable if task.run_on_load)

    @property
    def helpers(self) -> tuple[TaskDefinition, ...]:
        """The tasks that others run as a part of themselves, in the order of the file."""
        return tuple(task for task in self.tasks if task.helper)

    def warnings(self, pushed: Collection[str]) -> tuple[Finding, ...]:
        """The warnings about the file and its tasks with the slugs `pushed`, in the order of the file."""
        return tuple(
            finding
            for finding in self.findings
            if finding.level == "warning" and (finding.task is None or finding.task in pushed)
        )

    def errors(
        self, pushed: Collection[str] | None = None, *, allow_no_run: bool = False
    ) -> tuple[Finding, ...]:
        """The findings that prevent a push of the tasks with the slugs `pushed`, or, without it, of any task."""
        return tuple(
            finding
            for finding in self.findings
            if (finding.level == "error" or (finding.rule == DUPLICATE and pushed is not None))
            and (pushed is None or finding.task is None or finding.task in pushed)
            and not (allow_no_run and finding.rule == NO_RUN)
        )
