"""What reading a task file gives: its tasks and what there is to say about them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Finding", "Level", "TaskDefinition", "TaskFile"]

Level = Literal["error", "warning"]

#: The one rule that a user may switch off (`--allow-no-run`).
NO_RUN = "no-run"


@dataclass(frozen=True, slots=True)
class TaskDefinition:
    """A function under `@task`. `line` and `column` are those of its `def`, counted from 1.

    `slug` is empty where the name has nothing that a slug could have (then there is a finding).
    `has_run` says that some `.run(…)` or `.evaluate(…)` of the file may reach it, `stored` that its runs
    are written to run files (`store_run=False` makes a helper of other tasks, which cannot be pushed).
    """

    name: str
    slug: str
    function: str
    line: int
    column: int
    has_run: bool
    stored: bool = True


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that the check has to say, `fix` being what to write instead."""

    level: Level
    message: str
    line: int | None = None
    column: int | None = None
    fix: str | None = None
    rule: str = ""

    def text(self, file: str) -> str:
        """The form that editors and people read: `file:line:column: error: message`."""
        place = ":".join(str(part) for part in (file, self.line, self.column) if part is not None)
        return f"{place}: {self.level}: {self.message}"


@dataclass(frozen=True, slots=True)
class TaskFile:
    """A file that could be read and parsed; whether it is fit to be pushed is in its findings."""

    path: Path
    source: str
    tasks: tuple[TaskDefinition, ...]
    findings: tuple[Finding, ...]

    @property
    def pushable(self) -> tuple[TaskDefinition, ...]:
        """The tasks whose runs leave a run file, in the order of the file."""
        return tuple(task for task in self.tasks if task.stored)

    def errors(self, *, allow_no_run: bool = False) -> tuple[Finding, ...]:
        """The findings for which a push is refused."""
        return tuple(
            finding
            for finding in self.findings
            if finding.level == "error" and not (allow_no_run and finding.rule == NO_RUN)
        )
