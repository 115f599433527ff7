"""Gather the items of all runs, and add what only all runs together tell.

- A run that no journal knows is a repeat of its own: it may as well have been meant as one as be a second try.
- A model is named with its owner. A run that left no run file does not tell the owner; other runs do.
- The sub-runs of a task are its items only if they are in all runs. If the value of one run is not the mean of its
  sub-runs, only the task knows what its values are made of.
- What the rows of a run were merged into tells nothing of the rows of other runs.
- A task that returns numbers has false as its result if an assertion failed. That is no 0, but no value.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from msgspec import structs

from fanbench._util.text import error_line
from fanbench.results.figures import Figures
from fanbench.results.itemize import Found, RunItems, below, items_of_run, lost_row, row_name, whole_run
from fanbench.results.items import Item, ItemState
from fanbench.results.known import KnownRun
from fanbench.results.run_file import RunFile
from fanbench.results.scales import Scale
from fanbench.results.scores import TaskKey, scores_of
from fanbench.results.types import Problem, RunResult
from fanbench.wire.candidates import Candidate, split_effort
from fanbench.wire.messages import RunState
from fanbench.wire.slugs import normalize_model, same_model

__all__ = ["RowNames", "RunFiles", "gather"]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A run that left something: what its run files tell. The files themselves would take much more memory.

    Attributes:
        result: Its result.
        given: The folder in which it was looked for.
        known: What the journal of a sweep has of it, if there is one.
        slugs: The slugs of the models in its run files.
        digest: Equal for copies of its run files; None if they do not tell them from others.
        found: Its items, which are not named yet; None if it left no run file.
        whole: The same if no sub-runs are items.
    """

    result: RunResult
    given: str
    known: KnownRun | None = None
    slugs: tuple[str, ...] = ()
    digest: str | None = None
    found: RunItems | None = None
    whole: RunItems | None = None

    @classmethod
    def of(
        cls,
        result: RunResult,
        given: str,
        rows: Sequence[Found],
        others: Sequence[Found],
        known: KnownRun | None = None,
        lost: Mapping[str, Problem] | None = None,
    ) -> RunFiles:
        """`rows` are its own run file, or one for each of its rows, and `others` all run files in its folder.

        `lost` has the names of rows whose files cannot be read.
        """
        sweep = given if known is None else str(known.sweep)
        unnamed = Item(task="", content="", model="", sweep=sweep, state=ItemState.MISSING, path="")
        found = items_of_run(rows, others, unnamed)
        if found.level == "rows":
            found.items.extend(lost_row(unnamed, name, problem) for name, problem in (lost or {}).items())
        has_whole = found.level == "parts" or rows[0].run.merged
        whole = items_of_run(rows, others, unnamed, parts=False) if has_whole else found
        files = [file for _, file in rows]
        slugs = tuple(file.model_version.slug for file in files)
        return cls(result, given, known, slugs, _digest_of(files), found, whole)


def _digest_of(files: Iterable[RunFile]) -> str | None:
    runs = sorted(
        repr(
            (
                run.task_version,
                run.py_run_id,
                run.start_time,
                run.end_time,
                run.model_version.slug,
                run.outcome(),
            )
        )
        if run.py_run_id and run.start_time
        else ""
        for run in files
    )
    return hashlib.sha256("\n".join(runs).encode("utf-8", "surrogatepass")).hexdigest() if all(runs) else None


class Gathered(NamedTuple):
    """All runs, completed with what their items tell, from the oldest to the newest; and the items of all runs."""

    runs: list[RunResult]
    items: tuple[Item, ...]


class RowNames:
    """The names of the rows of tasks by their ids, as the files of all runs have them."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], set[str]] = defaultdict(set)

    def add(self, files: Iterable[Found]) -> None:
        for path, run in files:
            self._names[run.task_version.name, run.py_run_id].add(row_name(path, run))

    def name(self, run: RunFiles) -> RunFiles:
        """Name the rows of which only stubs are left. If any of them has no name or several, the run is one item."""
        if run.found is None or not run.found.stubs:
            return run
        items = list(run.found.items)
        for place, py_run_id in run.found.stubs.items():
            name, *others = self._names.get((run.result.name, py_run_id), {""})
            if not name or others:
                return replace(run, found=run.whole)
            items[place] = structs.replace(items[place], item=name)
        return replace(run, found=RunItems("rows", items))


def gather(
    runs: Iterable[RunFiles], known: Iterable[KnownRun], scales: Mapping[str, Scale] | None = None
) -> Gathered:
    """Return `runs` and their items, and those of the `known` runs that left nothing.

    `scales` are those that are declared for tasks.
    """
    runs, known = _by_age(runs), list(known)
    owners = _owners(runs)
    names = _names(runs, known, owners)
    found = [_of_run(run, name) for run, name in zip(runs, names, strict=True)]
    opaque = {(each.level, *_key(name)) for name, each in zip(names, found, strict=True) if each.is_opaque}
    found = [
        _of_run(run, name, parts=False) if run.whole and (run.whole.level, *_key(name)) in opaque else each
        for run, name, each in zip(runs, names, found, strict=True)
    ]
    _take_booleans_among_numbers(found)
    there = {run.known.folder for run in runs if run.known is not None}
    items = [item for each in found for item in each.items]
    items += [_left_nothing(each, owners) for each in known if each.folder not in there]
    items.sort(key=lambda item: (item.task, item.content, item.model, item.sweep, item.repeat, item.attempt))
    of_tasks = scores_of(items).names()
    results = [_completed(run, each, scales, of_tasks) for run, each in zip(runs, found, strict=True)]
    return Gathered(results, tuple(items))


def _by_age(runs: Iterable[RunFiles]) -> list[RunFiles]:
    """Sort runs from the oldest to the newest.

    Ids only tell the order of runs on the same server. So one that left no time is taken to be as old as the one before
    it, by the ids of the runs of its task.
    """
    latest: dict[tuple[str, str, int | None], str] = {}
    ages: list[tuple[str, int, str, RunFiles]] = []
    for run in sorted(runs, key=lambda run: run.result.run_id or 0):
        result, place = run.result, (run.given, run.result.task, run.result.version)
        time = result.started or (run.known.scheduled if run.known else None)
        latest[place] = time = time or latest.get(place, "")
        ages.append((time, result.run_id or 0, str(result.path), run))
    return [run for *_, run in sorted(ages, key=lambda age: age[:3])]


def _key(item: Item) -> tuple[str, str]:
    return item.task, item.content


# --- Names ------------------------------------------------------------------------------------------------------


def _owners(runs: Iterable[RunFiles]) -> dict[str, str]:
    """Return models with their owners, by their slugs: those of which only one owner is known."""
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for slug in run.slugs:
            full = _with_owner(slug)
            found[normalize_model(slug)].add(full)
            known = Candidate.parse(run.known.model).model if run.known is not None else ""
            if known and same_model(known) == same_model(full):
                found[known].add(full)
    return {model: names.pop() for model, names in found.items() if len(names) == 1}


def _full(label: str, owners: Mapping[str, str]) -> str:
    """Return the label of a candidate with the owner of its model, if that is known."""
    model, effort = split_effort(label)
    return Candidate(owners.get(model, model), effort).label


def _with_owner(slug: str) -> str:
    owner, slash, _ = slug.rpartition("/")
    return f"{owner}{slash}{normalize_model(slug)}"


def _names(runs: Sequence[RunFiles], known: Iterable[KnownRun], owners: Mapping[str, str]) -> list[Item]:
    """Return an item for each of `runs` with all that does not depend on its files. Of these, the oldest is first."""
    repeats: dict[tuple[str, ...], int] = defaultdict(int)
    contents: dict[tuple[str, str, int | None], str] = {}
    for each in known:
        item = _known_item(each, owners)
        contents[item.sweep, item.task, item.version] = item.content
        place = (item.sweep, *_key(item), item.model)
        repeats[place] = max(repeats[place], item.repeat)
    definitions: dict[tuple[str, int | None], set[str]] = defaultdict(set)
    for run in runs:
        if run.result.definition is not None:
            definitions[run.result.task, run.result.version].add(run.result.definition)
    names = []
    for run in runs:
        model = _model_of(run, owners)
        if run.known is not None:
            item = structs.replace(_known_item(run.known, owners), model=model)
        else:
            task, version = run.result.task, run.result.version
            content = contents.get((run.given, task, version))
            if content is None:
                several = len(definitions[task, version]) > 1
                content = _content(version, run.result.definition if several else None)
            repeats[run.given, task, content, model] += 1
            item = Item(
                task=task,
                content=content,
                version=version,
                model=model,
                sweep=run.given,
                run_id=run.result.run_id,
                repeat=repeats[run.given, task, content, model],
                state=ItemState.MISSING,
                path="",
            )
        names.append(
            structs.replace(
                item,
                started=run.result.started,
                run_cost_usd=run.result.cost_usd,
                run_seconds=run.result.seconds,
                path=below(item.sweep, run.result.path),
            )
        )
    return names


def _content(version: int | None, definition: str | None) -> str:
    """Return `v3`, or `v3:` and the definition where the same version has several, as those of other servers have."""
    name = "" if version is None else f"v{version}"
    return name if definition is None else f"{name}:{definition}"


def _model_of(run: RunFiles, owners: Mapping[str, str]) -> str:
    """Return the run's model with its owner, which its own run file tells, or else those of other runs."""
    label = run.result.model
    model = Candidate.parse(label).model
    own = next((each for each in run.slugs if same_model(each) == same_model(model)), None)
    return _full(label, owners if own is None else {model: _with_owner(own)})


def _known_item(known: KnownRun, owners: Mapping[str, str]) -> Item:
    return Item(
        task=known.task,
        content=known.content,
        version=known.version,
        model=_full(known.model, owners),
        sweep=str(known.sweep),
        run_id=known.run_id,
        repeat=known.repeat,
        attempt=known.attempt,
        superseded=known.superseded,
        state=ItemState.MISSING,
        started=known.scheduled,
        path="",
    )


# --- States and values ------------------------------------------------------------------------------------------


def _of_run(run: RunFiles, name: Item, *, parts: bool = True) -> RunItems:
    """Return the items of one run. Rows have states of their own, whatever the state of the run is."""
    errored = _errored(run.known)
    has_rows = run.found is not None and run.found.level == "rows"
    found = run.found if parts and (has_rows or not errored) else run.whole
    if found is None:
        found = RunItems("run", [_without_files(run.result, name, run.known)])
    found = RunItems(found.level, [_named(item, name) for item in found.items])
    if run.known is None or not errored:
        return found
    if found.level != "rows":
        return RunItems("run", [_errored_item(item, run.known) for item in found.items])
    if any(item.state is not ItemState.SCORED for item in found.items):
        return found
    # Rows that timed out left nothing: only this tells of them, if no other run has them.
    error = f"its run errored: {error_line(run.known.error) or 'no error message'}"
    return RunItems("rows", [structs.replace(item, error=error) for item in found.items])


def _named(item: Item, name: Item) -> Item:
    """Return the item with all that does not depend on its run file."""
    return structs.replace(
        item,
        task=name.task,
        content=name.content,
        version=name.version,
        model=name.model,
        run_id=name.run_id,
        repeat=name.repeat,
        attempt=name.attempt,
        superseded=name.superseded,
        run_cost_usd=name.run_cost_usd,
        run_seconds=name.run_seconds,
    )


def _without_files(result: RunResult, name: Item, known: KnownRun | None) -> Item:
    match result.state:
        case RunState.ERRORED:
            state = ItemState.ERRORED
        case RunState.COMPLETED:
            state = ItemState.NO_VALUE
        case _:
            state = ItemState.MISSING
    return whole_run(_with_server_value(name, known), state, result.error)


def _with_server_value(item: Item, known: KnownRun | None) -> Item:
    said = known.result if known is not None else None
    return item if said is None else structs.replace(item, server_value=float(said))


def _errored(known: KnownRun | None) -> bool:
    return known is not None and known.state is RunState.ERRORED


def _left_nothing(known: KnownRun, owners: Mapping[str, str]) -> Item:
    item = _known_item(known, owners)
    if known.state is RunState.ERRORED:
        return _errored_item(item, known)
    reason = error_line(known.error)
    if not reason and known.state is not None:
        reason = "no result of it is on the disk"
    elif not reason:
        reason = "it has not ended" if known.run_id is not None else "it was not run"
    return whole_run(_with_server_value(item, known), ItemState.MISSING, reason)


def _errored_item(item: Item, known: KnownRun) -> Item:
    """Return the item of a run that errored on the server, whatever its run file says."""
    error = error_line(known.error) or item.error or "no error message"
    item = structs.replace(item, value=None, kind=None, low=None, high=None)
    return whole_run(item, ItemState.ERRORED, error)


def _take_booleans_among_numbers(found: Sequence[RunItems]) -> None:
    """Take away booleans where the other results of a task are numbers: an assertion failed."""
    numeric: set[tuple[str, str, bool]] = set()
    for each in found:
        for item in each.items if each.level != "merged" else ():
            if item.kind == "numeric":
                numeric.add((*_key(item), each.level == "parts"))
            if each.level == "parts":  # their mean, the result of the run, is a number
                numeric.add((*_key(item), False))

    def lacks_number(item: Item, each: RunItems) -> bool:
        return (
            each.level != "merged"
            and item.kind == "boolean"
            and (*_key(item), each.level == "parts") in numeric
        )

    reason = "the result is no number, but a boolean: an assertion failed"
    for each in found:
        each.items[:] = [
            structs.replace(item, state=ItemState.NO_VALUE, value=None, error=reason)
            if lacks_number(item, each)
            else item
            for item in each.items
        ]


# --- Results ----------------------------------------------------------------------------------------------------


def _completed(
    run: RunFiles,
    found: RunItems,
    scales: Mapping[str, Scale] | None,
    names: Mapping[TaskKey, Mapping[str, int]],
) -> RunResult:
    """Return the result of a run with what its items tell: its name, its state, its value and its figures."""
    first = found.items[0]
    key = TaskKey(first.task, first.content)
    counting = (
        [structs.replace(item, superseded=False) for item in found.items] if first.superseded else found.items
    )
    cell = scores_of(counting, scales, {key: names.get(key, {})}).cells[key, first.model]
    owner = first.model.rpartition("/")[0]
    result = replace(
        run.result,
        content=first.content,
        model_owner=owner or None,
        repeat=first.repeat,
        attempt=first.attempt,
        superseded=first.superseded,
        figures=Figures.of(cell),
        server_result=run.known.result if run.known is not None else None,
    )
    if _errored(run.known):
        result = replace(result, state=RunState.ERRORED, error=result.error or first.error)
    if found.level == "rows" and result.kind != "dict":
        return replace(result, kind=None if cell.mean is None else "numeric", value=cell.mean)
    if found.level == "parts" and not cell.complete:  # the task may have counted what has no score as 0
        return replace(result, kind=None if cell.mean is None else "numeric", value=cell.mean, interval=None)
    # A boolean that has no score was taken away: the results of its task are numbers.
    if not cell.scored and (first.state is ItemState.ERRORED or first.kind == "boolean"):
        return replace(result, kind=None, value=None, interval=None, error=result.error or first.error)
    return result
