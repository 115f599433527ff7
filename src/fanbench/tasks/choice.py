"""Find the task that a file's `%choose` keeps.

The SDK's `%choose TASK`, mostly in the last cell, removes all run files but the last one of TASK. So only TASK can be
pushed from such a file, whatever else it runs.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from fanbench.tasks.source import CELL_MARKER, Scanner, restore_magics
from fanbench.tasks.task_file import TaskDefinition

__all__ = ["ChooseLine", "find_choose"]

_CHOOSE = re.compile(r"\s*%choose\s+(\S.*)")


@dataclass(frozen=True, slots=True)
class ChooseLine:
    """A line `%choose WORD`. Line and column count from 1."""

    line: int
    column: int
    word: str

    def find(self, tasks: Sequence[TaskDefinition]) -> TaskDefinition | None:
        """Return the task that it names, by its function or by its name, as the SDK compares them."""
        by_function = next((task for task in tasks if task.function == self.word), None)
        return by_function or next(
            (task for task in tasks if _normalize(task.name) == _normalize(self.word)), None
        )


def find_choose(source: str, *, commented: bool) -> ChooseLine | None:
    """Return the last `%choose` of a file. With `commented`, it may be commented out as jupytext writes it."""
    if "%choose" not in source:
        return None
    found, scanner = None, Scanner()
    lines = source.split("\n")
    active = restore_magics(source).split("\n") if commented else lines
    for number, (line, text) in enumerate(zip(lines, active, strict=True), start=1):
        if not scanner.quoted and CELL_MARKER.match(text):
            scanner = Scanner()
        if scanner.at_start and (match := _CHOOSE.fullmatch(text)):
            found = ChooseLine(number, line.index("%choose") + 1, match[1].rstrip())
        else:
            scanner.feed(text)
    return found


def _normalize(name: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_.-]", "", re.sub(r"[ /\\]", "_", name))
