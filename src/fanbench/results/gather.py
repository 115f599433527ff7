"""Gather the items of all runs, and add what only all runs together tell.

- A run that no journal knows is a repeat of its own: it may as well have been meant as one as be a second try.
- A model is named with its owner. A run that left no run file does not tell the owner; other runs do.
- The sub-runs of a task are its items only if they are in all runs. If the value of one run is not the mean of its
  sub-runs, only the task knows what its values are made of.
- A task that returns numbers has false as its result if an assertion failed. That is no 0, but no value.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from fanbench._util.text import error_line
from fanbench.results.itemize import Found, RunItems, items_of_run, whole_run
from fanbench.results.items import Item, ItemState
from fanbench.results.known import KnownRun
from fanbench.results.types import RunResult
from fanbench.wire.messages import RunState
from fanbench.wire.slugs import normalize_model

__all__ = ["RunFiles", "gather"]


@dataclass(frozen=True, slots=True)
class RunFiles:
    """A run that left something.

    Attributes:
        result: Its result.
        given: The folder in which it was looked for.
        rows: Its own run file, or one for each of its rows; empty if it left none.
        others: All run files in its folder.
        known: What the journal of a sweep has of it, if there is one.
    """

    result: RunResult
    given: str
    rows: Sequence[Found] = ()
    others: Sequence[Found] = ()
    known: KnownRun | None = None

    @property
    def age(self) -> tuple[str, int, str]:
        """Sorts runs from the oldest to the newest."""
        scheduled = self.known.scheduled if self.known else None
        return self.result.started or scheduled or "", self.result.run_id or 0, str(self.result.path)


def gather(runs: Iterable[RunFiles], known: Iterable[KnownRun]) -> tuple[Item, ...]:
    """Return the items of `runs`, and of the `known` runs that left nothing."""
    runs, known = sorted(runs, key=lambda run: run.age), list(known)
    owners = _owners(runs)
    names = _names(runs, known, owners)
    found = [_of_run(run, name) for run, name in zip(runs, names, strict=True)]
    opaque = {_key(name) for name, each in zip(names, found, strict=True) if each.is_opaque}
    found = [
        _of_run(run, name, parts=False) if _key(name) in opaque else each
        for run, name, each in zip(runs, names, found, strict=True)
    ]
    there = {run.known.folder for run in runs if run.known is not None}
    items = _without_booleans_among_numbers(found)
    items += [_left_nothing(each, owners) for each in known if each.folder not in there]
    return tuple(
        sorted(
            items,
            key=lambda item: (item.task, item.content, item.model, item.sweep, item.repeat, item.attempt),
        )
    )


def _key(item: Item) -> tuple[str, str]:
    return item.task, item.content


# --- Names ------------------------------------------------------------------------------------------------------


def _owners(runs: Iterable[RunFiles]) -> dict[str, str]:
    """Return models with their owners, by their slugs: those of which only one owner is known."""
    found: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        for _, file in run.rows:
            found[file.model].add(_with_owner(file.model_version.slug))
    return {model: names.pop() for model, names in found.items() if len(names) == 1}


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
    names = []
    for run in runs:
        model = _model_of(run, owners)
        if run.known is not None:
            item = replace(_known_item(run.known, owners), model=model)
        else:
            task, version = run.result.task, run.result.version
            content = contents.get((run.given, task, version), "" if version is None else f"v{version}")
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
        names.append(replace(item, started=run.result.started, path=_below(item.sweep, run.result.path)))
    return names


def _model_of(run: RunFiles, owners: Mapping[str, str]) -> str:
    """Return the run's model with its owner, which its own run file tells, or else those of other runs."""
    slug = run.result.model
    own = next((file.model_version.slug for _, file in run.rows if file.model == slug), None)
    return owners.get(slug, slug) if own is None else _with_owner(own)


def _known_item(known: KnownRun, owners: Mapping[str, str]) -> Item:
    return Item(
        task=known.task,
        content=known.content,
        version=known.version,
        model=owners.get(known.model, known.model),
        sweep=str(known.sweep),
        run_id=known.run_id,
        repeat=known.repeat,
        attempt=known.attempt,
        superseded=known.superseded,
        state=ItemState.MISSING,
        started=known.scheduled,
        path="",
    )


def _below(folder: str, path: str | os.PathLike[str]) -> str:
    """Return `path` relative to `folder`, or as it is if it is elsewhere."""
    root, full = os.path.join(os.path.abspath(folder), ""), os.path.abspath(path)
    return full.removeprefix(root)


# --- States and values ------------------------------------------------------------------------------------------


def _of_run(run: RunFiles, name: Item, *, parts: bool = True) -> RunItems:
    """Return the items of one run. Rows have states of their own, whatever the state of the run is."""
    found = items_of_run(run.rows, run.others, name, parts=parts) if run.rows else None
    if found is not None and (found.level == "rows" or not _errored(run.known)):
        items = [replace(item, path=_below(item.sweep, item.path)) for item in found.items]
        return replace(found, items=items)
    if run.known is not None and run.known.state is RunState.ERRORED:
        return RunItems("run", [_errored_item(name, run.known)])
    match run.result.state:
        case RunState.ERRORED:
            state = ItemState.ERRORED
        case RunState.COMPLETED:
            state = ItemState.NO_VALUE
        case _:
            state = ItemState.MISSING
    return RunItems("run", [whole_run(name, state, run.result.error)])


def _errored(known: KnownRun | None) -> bool:
    return known is not None and known.state is RunState.ERRORED


def _left_nothing(known: KnownRun, owners: Mapping[str, str]) -> Item:
    item = _known_item(known, owners)
    if known.state is RunState.ERRORED:
        return _errored_item(item, known)
    reason = error_line(known.error)
    if not reason and known.state is not None:
        reason = "its output is not on the disk"
    elif not reason:
        reason = "it has not ended" if known.run_id is not None else "it was not run"
    return whole_run(item, ItemState.MISSING, reason)


def _errored_item(item: Item, known: KnownRun) -> Item:
    return whole_run(item, ItemState.ERRORED, error_line(known.error) or "no error message")


def _without_booleans_among_numbers(found: Iterable[RunItems]) -> list[Item]:
    """Return all items. Booleans have no value in a task whose other results are numbers: an assertion failed."""
    found = list(found)
    numeric: set[tuple[str, str, bool]] = set()
    for each in found:
        for item in each.items:
            if item.kind == "numeric":
                numeric.add((*_key(item), each.level == "parts"))
            if each.level == "parts":  # their mean, the result of the run, is a number
                numeric.add((*_key(item), False))
    return [
        replace(item, state=ItemState.NO_VALUE, value=None, error="the result is no number, but a boolean")
        if item.kind == "boolean" and (*_key(item), each.level == "parts") in numeric
        else item
        for each in found
        for item in each.items
    ]
