"""A task file that has been read: its tasks and the findings about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fanbench.errors import place_text

__all__ = ["NO_RUN", "Finding", "Level", "TaskDefinition", "TaskFile"]

Level = Literal["error", "warning"]

#: The only rule that can be switched off (`--allow-no-run`).
NO_RUN = "no-run"


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
        stored: The task's runs are written to run files. With `store_run=False` the task is a helper of other
            tasks and cannot be pushed.
        cell: In a notebook, the number of the cell among all cells, counted from 1.
    """

    name: str
    slug: str
    function: str
    line: int
    column: int
    has_run: bool
    stored: bool = True
    cell: int | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem in a task file. `fix` describes what to write instead.

    Line and column count from 1. In a notebook, `cell` is the number of the cell among all cells, counted from 1,
    and the line is that within the cell.
    """

    level: Level
    message: str
    line: int | None = None
    column: int | None = None
    fix: str | None = None
    rule: str = ""
    cell: int | None = None

    def text(self, file: str) -> str:
        """The finding in the format that editors parse: `file:line:column: error: message`.

        In a notebook it is `file:cell 3:line:column: …`.
        """
        return f"{place_text(file, self.cell, self.line, self.column)}: {self.level}: {self.message}"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file that could be read and parsed. Its findings decide whether it can be pushed.

    `source` is its Python code. Of a notebook, it is the code of all cells that run, and `notebook` is the `.ipynb`
    text to upload.
    """

    path: Path
    source: str
    tasks: tuple[TaskDefinition, ...]
    findings: tuple[Finding, ...]
    notebook: str | None = None

    @property
    def pushable(self) -> tuple[TaskDefinition, ...]:
        """The tasks whose runs leave a run file, in the order of the file."""
        return tuple(task for task in self.tasks if task.stored)

    def errors(self, *, allow_no_run: bool = False) -> tuple[Finding, ...]:
        """The findings that prevent a push."""
        return tuple(
            finding
            for finding in self.findings
            if finding.level == "error" and not (allow_no_run and finding.rule == NO_RUN)
        )
