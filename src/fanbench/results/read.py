"""Folders of run files to rows.

Which run files make a row. A run leaves its own file, one for every sub-task that it ran, and, where a task
was evaluated row by row, one for every row.
- A run folder is a folder of the download layout, `<task>/<version>/<model>/<run_id>`. Its files are those
  whose task has the folder's slug (if none has: all of them, should they agree on one task), without those
  that are only a part of another one, and of the folder's model where there are some. One row comes of them.
- Files anywhere else are put together by folder, task and model.
- Several files for one row are its rows: the value is the mean of the numbers, the share of the passes, or,
  for dicts, the mean of each number in them; an interval cannot be had from that. Rows that errored have no
  value and are counted apart; only when all did has the run errored.
- A run folder with no run file at all is an errored run: it was stopped, or died, before it could record anything.
  Where its log is all there is, nobody knows how it went: it may go on, or only its log was asked for.
"""

from __future__ import annotations

import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fanbench.errors import UsageError
from fanbench.results.model import Kind, Problem, ResultSet, RunResult, newest_first
from fanbench.results.runfile import (
    NANODOLLARS,
    PASSED,
    Metrics,
    NotARunFile,
    RunFile,
    first_start,
    read_run_file,
    wall_seconds,
)
from fanbench.wire.messages import RunState
from fanbench.wire.slugs import normalize_model, slugify

__all__ = ["read_results"]

SUFFIX = ".run.json"
RUN_LOG = "run.log"


@dataclass(frozen=True, slots=True)
class RunFolder:
    """Where a file lies in the download layout; `task` is `None` for a file that lies anywhere else."""

    path: Path
    task: str | None = None
    version: int | None = None
    model: str | None = None
    run_id: int | None = None


@dataclass(frozen=True, slots=True)
class _Entry:
    path: Path
    run: RunFile

    @property
    def task(self) -> str:
        return _slug(self.run.task_version.name)

    @property
    def model(self) -> str:
        return normalize_model(self.run.model_version.slug)


def read_results(paths: Iterable[Path]) -> ResultSet:
    """All runs below `paths` (folders of any depth, or run files).

    Never raises for what it finds on the disk: what cannot be used is among the problems.
    """
    folders: dict[RunFolder, list[_Entry]] = defaultdict(list)
    problems: list[Problem] = []
    damaged: set[RunFolder] = set()
    for path in _run_files(paths, problems):
        if path.is_dir():
            _ = folders[_run_folder(path) or RunFolder(path)]
            continue
        try:
            entry = _Entry(path, read_run_file(path))
        except NotARunFile as error:
            problems.append(Problem(path, str(error)))
            damaged.add(_folder_of(path))
        else:
            folders[_folder_of(path)].append(entry)
    rows = [
        row
        for folder, entries in folders.items()
        if entries or folder not in damaged
        for row in _rows(folder, entries, problems)
    ]
    return ResultSet(newest_first(rows), tuple(sorted(problems, key=lambda problem: str(problem.path))))


def _run_files(paths: Iterable[Path], problems: list[Problem]) -> Iterator[Path]:
    """Each run file, and each folder of a run, once, even where the folders overlap."""
    seen: set[str] = set()
    for path in paths:
        if not path.exists():
            problems.append(Problem(path, "there is no such file or folder"))
            continue
        for found in _walk(path, problems):
            real = os.path.realpath(found)
            if real not in seen:
                seen.add(real)
                yield found


def _walk(path: Path, problems: list[Problem]) -> Iterator[Path]:
    if path.is_file():
        yield path
        return

    def note(error: OSError) -> None:
        problems.append(Problem(Path(error.filename or path), f"cannot be read: {error.strerror}"))

    for folder, subfolders, files in os.walk(path, onerror=note):
        # A hidden folder is a download that is still under way.
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        if _is_of_a_run(Path(folder), files):
            yield Path(folder)
        yield from (Path(folder, name) for name in sorted(files) if name.endswith(SUFFIX))


def _is_of_a_run(folder: Path, files: Sequence[str]) -> bool:
    """Whether `folder` is where a download has put a run: by its names, and by what a run leaves, if anything."""
    marks = any(name.endswith(".task.json") or name.startswith("__notebook") for name in files)
    return _run_folder(folder) is not None and (marks or os.listdir(folder) in ([], [RUN_LOG]))


def _has_log_only(folder: Path) -> bool:
    with suppress(OSError):
        return os.listdir(folder) == [RUN_LOG]
    return False


def _folder_of(path: Path) -> RunFolder:
    """The nearest folder above `path` that is one of the layout."""
    resolved = Path(os.path.abspath(path))
    return next(
        (found for folder in resolved.parents if (found := _run_folder(folder))), RunFolder(resolved.parent)
    )


def _run_folder(path: Path) -> RunFolder | None:
    """`path`, if it is a folder of the layout."""
    folder = Path(os.path.abspath(path))
    task, version, model = _names_above(folder)
    if not task or not _is_number(folder.name) or not (version == "unset" or _is_number(version)):
        return None
    number = int(version) if version != "unset" else None
    return RunFolder(folder, task, number, model, int(folder.name))


def _names_above(folder: Path) -> tuple[str, str, str]:
    model = folder.parent
    version = model.parent
    return version.parent.name, version.name, model.name


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


def _rows(folder: RunFolder, entries: list[_Entry], problems: list[Problem]) -> Iterator[RunResult]:
    if folder.task is None:
        groups: dict[tuple[str, str], list[_Entry]] = defaultdict(list)
        for entry in _top_level(entries):
            groups[entry.task, entry.model].append(entry)
        for group in groups.values():
            yield _row(folder, group)
    elif not entries:
        yield _unrecorded(folder)
    elif chosen := _of_folder(folder, entries):
        yield _row(folder, chosen)
    else:
        found = ", ".join(sorted({entry.task for entry in entries}))
        problems.append(Problem(folder.path, f"no run file of task {folder.task}, only of {found}"))


def _unrecorded(folder: RunFolder) -> RunResult:
    logged = _has_log_only(folder.path)
    return RunResult(
        task=folder.task or "",
        name=folder.task or "",
        version=folder.version,
        model=folder.model or "",
        run_id=folder.run_id,
        state=RunState.UNSPECIFIED if logged else RunState.ERRORED,
        kind=None,
        value=None,
        interval=None,
        rows=0,
        rows_errored=0,
        assertions_passed=0,
        assertions_total=0,
        tokens_in=None,
        tokens_out=None,
        cost_usd=None,
        latency=None,
        seconds=None,
        started=None,
        error="no run file: there is its log, and no output"
        if logged
        else "no run file: the run was stopped, or ended before it could record anything",
        path=folder.path,
    )


def _of_folder(folder: RunFolder, entries: list[_Entry]) -> list[_Entry]:
    wanted = [entry for entry in entries if entry.task == folder.task]
    if not wanted and len({entry.task for entry in entries}) == 1:
        wanted = entries
    wanted = _top_level(wanted)
    return [entry for entry in wanted if entry.model == folder.model] or wanted


def _top_level(entries: list[_Entry]) -> list[_Entry]:
    """Without the runs that are parts of another one here."""
    parts = {run.identity for entry in entries for run in entry.run.nested() if run.start_time}
    return [entry for entry in entries if entry.run.identity not in parts] or entries


def _row(folder: RunFolder, entries: list[_Entry]) -> RunResult:
    first, runs = entries[0], [entry.run for entry in entries]
    good = [run for run in runs if run.state is not RunState.ERRORED]
    kind, value, interval = _value(good or runs)
    assertions = [item for run in runs for part in (run, *run.nested()) for item in part.assertions]
    metrics = [item for run in runs for item in run.metrics()]
    return RunResult(
        task=folder.task or first.task,
        name=first.run.task_version.name,
        version=folder.version if folder.task else first.run.task_version.version_number,
        model=folder.model or first.model,
        run_id=folder.run_id,
        state=(good or runs)[0].state,
        kind=kind if good else None,
        value=value if good else None,
        interval=interval if good else None,
        rows=len(runs),
        rows_errored=len(runs) - len(good),
        assertions_passed=sum(item.status == PASSED for item in assertions),
        assertions_total=len(assertions),
        tokens_in=_sum(item.input_tokens for item in metrics),
        tokens_out=_sum(item.output_tokens for item in metrics),
        cost_usd=_cost(metrics),
        latency=_seconds(_sum(item.total_backend_latency_ms for item in metrics)),
        seconds=wall_seconds(runs),
        started=first_start(runs),
        error=next((error for run in runs if (error := run.last_error())), None),
        path=folder.path if folder.task else Path(os.path.abspath(first.path)),
    )


def _value(runs: Sequence[RunFile]) -> tuple[Kind | None, bool | float | dict[str, Any] | None, float | None]:
    outcomes = [run.outcome() for run in runs]
    if len(outcomes) == 1:
        return outcomes[0]
    values = [value for _, value, _ in outcomes]
    numbers = [float(value) for value in values if isinstance(value, bool | int | float)]
    if numbers:
        return "numeric", _mean(numbers), None
    dicts = [value for value in values if isinstance(value, dict)]
    return ("dict", _mean_of_each(dicts), None) if dicts else (None, None, None)


def _mean_of_each(dicts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is a number in every one of `dicts`."""
    return {
        key: _mean([item[key] for item in dicts])
        for key in dicts[0]
        if all(isinstance(item.get(key), bool | int | float) for item in dicts)
    }


def _mean(values: Sequence[float]) -> float:
    try:
        return math.fsum(values) / len(values)
    except (OverflowError, ValueError):
        # Both infinities, or a number beyond them.
        return math.nan


def _sum(values: Iterable[int | None]) -> int | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _cost(metrics: Sequence[Metrics]) -> float | None:
    """Known only if every request that used the model says what it cost: half a sum would mislead."""
    costs = [_cost_of(item) for item in metrics if item.input_tokens or item.output_tokens]
    if not costs or None in costs:
        return None
    return sum(cost for cost in costs if cost is not None) / NANODOLLARS


def _cost_of(metrics: Metrics) -> int | None:
    return _sum((metrics.input_tokens_cost_nanodollars, metrics.output_tokens_cost_nanodollars))


def _seconds(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def _slug(name: str) -> str:
    try:
        return slugify(name) or name
    except UsageError:
        return name
