"""Find the items of one run: the smallest parts that have a result of their own.

- A task that was evaluated row by row left a run file for each row: these are the items.
- A task that evaluates another one within itself has sub-runs. They are its items if their mean is the task's own
  value. Otherwise only the task knows what its value is made of (an F1 score), and the run is one item.
- Where the SDK merged the run files of rows into another one, with a value for all of them, this one is the run. The
  rows are its items if their mean is this value. If their files were deleted, it has stubs of them, without the names.
- Any other run is one item.

The SDK writes rows and sub-runs in the order in which they end, which differs from run to run. An item is therefore
named after the row of its data (`run_param_id_N` in the name of its run file), or else after what was sent before the
first answer. Items of one run that have the same name are attempts at the same item.
"""

from __future__ import annotations

import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Literal, NamedTuple

from msgspec.structs import replace

from fanbench._util.text import as_utc, iso_time
from fanbench.results.combine import usage_of
from fanbench.results.items import Item, ItemState
from fanbench.results.run_file import RunFile
from fanbench.results.types import Kind, Problem
from fanbench.wire.messages import RunState

__all__ = [
    "Found",
    "RunItems",
    "below",
    "items_of_run",
    "lost_row",
    "lost_rows",
    "row_name",
    "whole_run",
    "with_rows",
]

_ROW = re.compile(r"run_param_id_(.+)\.run\.json$")
# A task that rounds its mean to so many digits still has it.
_ROUNDED = 5e-4


class Found(NamedTuple):
    """A run file and where it was found."""

    path: Path
    run: RunFile


@dataclass(frozen=True, slots=True)
class RunItems:
    """The items of one run, and what they are: the run itself, its rows, or its sub-runs.

    Attributes:
        level: What the items are; `merged` is a run whose rows were merged into one value that is not their mean.
        items: The items.
        stubs: The ids of those rows whose files were deleted, by their places among the items.
    """

    level: Literal["run", "merged", "rows", "parts"]
    items: list[Item]
    stubs: Mapping[int, str] = field(default_factory=dict)

    @property
    def is_opaque(self) -> bool:
        """Whether the run has a value that is not the mean of any sub-runs or rows."""
        kinds = {item.kind for item in self.items if item.value is not None}
        return (self.level == "run" and "numeric" in kinds) or (self.level == "merged" and bool(kinds))


def items_of_run(
    rows: Sequence[Found], others: Iterable[Found], named: Item, *, parts: bool = True
) -> RunItems:
    """Return the items of a run.

    `rows` are the files of the run itself: one, or one for each row. `others` are all files in its folder, in which the
    names of sub-runs are looked up. `named` is an item with all that does not depend on the files. Without `parts`, the
    run is one item whatever its sub-runs are.
    """
    # Of several rows, all but one may have left no file.
    if len(rows) > 1 or _ROW.search(rows[0].path.name):
        names = _numbered([row_name(path, run) for path, run in rows])
        return RunItems(
            "rows",
            [
                _item(run, below(named.sweep, path), name, named)
                for (path, run), name in zip(rows, names, strict=True)
            ],
        )
    (path, run), paths = rows[0], {found.run.identity: found.path for found in others}
    found = _parts(run) if parts else ()
    if not found:
        return RunItems("merged" if run.merged else "run", [_item(run, below(named.sweep, path), "", named)])
    sources = [paths.get(part.identity) for _, part in found]
    names = _numbered([row_name(source, part) for source, (_, part) in zip(sources, found, strict=True)])
    return RunItems(
        "rows" if run.merged else "parts",
        [
            _item(part, below(named.sweep, source or path), name, named, None if source else index)
            for (index, part), source, name in zip(found, sources, names, strict=True)
        ],
        {at: part.py_run_id for at, (_, part) in enumerate(found) if run.merged and part.is_stub},
    )


def with_rows(files: list[Found]) -> list[Found]:
    """Put the rows in the place of their stubs in files that they were merged into."""
    rows = {(run.py_run_id, run.task, run.model): run for _, run in files if not run.merged}

    def row(stub: RunFile) -> RunFile:
        return rows.get((stub.py_run_id, stub.task, stub.model), stub) if stub.is_stub else stub

    return [
        Found(path, replace(run, subruns=tuple(map(row, run.subruns))) if run.merged else run)
        for path, run in files
    ]


def whole_run(named: Item, state: ItemState, error: str | None) -> Item:
    """Return the item of a run that left no items, such as one that was stopped."""
    return replace(named, state=state, error=error)


def lost_rows(row: Found, unreadable: Iterable[Problem]) -> dict[str, Problem]:
    """Return the rows of the run of `row` whose files are `unreadable`, as far as the names of the files tell."""
    suffix = f"_{_file_name(row.run.model_version.slug)}.run.json"
    found = {}
    for problem in unreadable:
        name, own = problem.path.name, row.path.name
        same_task = name.partition("-run_")[0] == own.partition("-run_")[0]
        if same_task and name.endswith(suffix) == own.endswith(suffix) and _ROW.search(name):
            found[row_name(problem.path, row.run)] = problem
    return found


def lost_row(named: Item, name: str, problem: Problem) -> Item:
    """Return the item of a row whose file cannot be read."""
    error = f"the run file cannot be read: {problem.what}"
    path = below(named.sweep, problem.path)
    return replace(named, item=name, state=ItemState.NO_VALUE, error=error, path=path)


def _parts(run: RunFile) -> Sequence[tuple[int, RunFile]]:
    """Return the sub-runs that the run's value is the mean of, and which ones they are, from 0; or none."""
    kind, value, _ = run.outcome()
    if run.state is RunState.ERRORED or kind != "numeric" or not isinstance(value, float):
        return ()
    for name, number in Counter(part.task_version.name for part in run.subruns).most_common():
        parts = [(at, part) for at, part in enumerate(run.subruns) if part.task_version.name == name]
        results = [_result(part) for _, part in parts]
        scored = [score for _, score, _, _ in results if score is not None]
        numbers = [score for _, score, kind, _ in results if score is not None and kind == "numeric"]
        # An error, and a failed assertion among numbers, may be left out by the task, or count as 0.
        sums, totals = math.fsum(scored), {len(numbers), len(scored), number} - {0}
        if scored and any(abs(sums / total - value) <= _ROUNDED for total in totals):
            return parts
    return ()


def _item(run: RunFile, path: str, name: str, named: Item, part: int | None = None) -> Item:
    state, value, kind, error = _result(run)
    half, low, high = run.outcome()[2], None, None
    if value is not None and half is not None and math.isfinite(abs(value) + half):
        low, high = value - half, value + half
    return replace(
        named,
        item=name,
        part=part,
        state=state,
        value=value,
        kind=kind,
        low=low,
        high=high,
        **usage_of(*run.requests_by_role()),
        started=iso_time(as_utc(run.start_time)) if run.start_time else None,
        seconds=_seconds(run.start_time, run.end_time),
        error=error,
        path=path,
    )


def below(folder: str, path: str | os.PathLike[str]) -> str:
    """Return `path` relative to `folder`, or as it is if it is elsewhere."""
    root, full = os.path.join(os.path.abspath(folder), ""), os.path.abspath(path)
    return full.removeprefix(root)


def _result(run: RunFile) -> tuple[ItemState, float | None, Kind | None, str | None]:
    """Return the state, the value and its kind, and the reason why there is none.

    The state comes first: what errored has a `booleanResult` of false, and what is still running may have any value.
    """
    if run.state is RunState.ERRORED:
        return ItemState.ERRORED, None, None, run.last_error()
    if not run.has_ended:
        return ItemState.NO_VALUE, None, None, f"the run file says {run.state.label}"
    kind, value, _ = run.outcome()
    match value:
        case bool() | float() if math.isfinite(value):
            return ItemState.SCORED, float(value), kind, None
        case None:
            several = "several results, and none is aggregated"
            return ItemState.NO_VALUE, None, None, several if run.results else "the run has no result"
        case float():
            return ItemState.NO_VALUE, None, kind, f"the result is {value}"
        case _:
            return ItemState.NO_VALUE, None, kind, "the result is not one number"


def row_name(path: Path | None, run: RunFile) -> str:
    """Return the name of the item that left `run`, and maybe a file of its own; empty if nothing tells it."""
    if path is not None and (row := _ROW.search(path.name)):
        return row[1].removesuffix(f"_{_file_name(run.model_version.slug)}")
    return run.prompt


def _file_name(model: str) -> str:
    """How the names of run files end, as `kaggle_benchmarks.utils.normalize_name` writes it."""
    return re.sub(r"[^a-zA-Z0-9_.-]", "", re.sub(r"[ /\\]", "_", model))


def _numbered(names: Iterable[str]) -> list[str]:
    """Number the items without a name."""
    number = count(1)
    return [name or f"item-{next(number)}" for name in names]


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    return max(0.0, (as_utc(end) - as_utc(start)).total_seconds()) if start and end else None
