"""What `fanbench compare` shows."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any

from fanbench._util.text import many, one_line
from fanbench.cli.output import Output
from fanbench.results import Item
from fanbench.results.compare import COLUMNS, Comparison, Flip
from fanbench.results.scores import TaskKey

__all__ = ["FIELDS", "Side", "show_comparison"]

FIELDS = (*COLUMNS, "flips")


@dataclass(frozen=True, slots=True)
class Side:
    """The items of one side of a comparison. With a `model`, only those of that model."""

    items: Sequence[Item]
    model: str = ""

    def paths(self) -> Mapping[tuple[TaskKey, str, str], list[str]]:
        """The run files of each task, model (empty if the side is one model) and item."""
        found = defaultdict(list)
        for item in self.items:
            if not item.superseded and item.model == (self.model or item.model):
                place = TaskKey(item.task, item.content), "" if self.model else item.model, item.item
                found[place].append(os.path.join(item.sweep, item.path))
        return found


def show_comparison(
    out: Output, found: Comparison, first: Side, second: Side, *, lonely: Sequence[str] = (), flips: int
) -> None:
    """Show one row per task and model, what could not be compared, and up to `flips` items that changed.

    `lonely` are sentences about models that only one side has.
    """
    paths = first.paths(), second.paths()
    flipped = [[_flip_record(flip, paths) for flip in pair.flips] for pair in found.pairs]
    # Only the first records, those of pairs, have items.
    records = zip(found.records(), chain(flipped, repeat([])), strict=False)
    out.records([{**record, "flips": changed} for record, changed in records], FIELDS)
    out.display(found.display())
    for sentence in lonely:
        out.remark(sentence)
    changed = [flip for pair in found.pairs for flip in pair.flips]
    if flips and changed and out.for_people:
        _show_flips(out, changed, paths, found.names(), flips)


_Paths = Mapping[tuple[TaskKey, str, str], list[str]]


def _show_flips(
    out: Output,
    changed: Sequence[Flip],
    paths: tuple[_Paths, _Paths],
    names: Mapping[TaskKey, str],
    most: int,
) -> None:
    """Show items that changed, those that fell most first."""
    out.text()
    out.text(f"{many(len(changed), 'item')} changed, A → B:")
    for flip in islice(sorted(changed, key=lambda flip: flip.after - flip.before), most):
        where = " ".join(filter(None, (names[flip.key], flip.model, flip.item)))
        out.text(f"  {one_line(where)}: {flip.before:.3g} → {flip.after:.3g}")
        for side, label in zip(paths, "AB", strict=True):
            for path in _of(flip, side):
                out.text(f"    {label} {one_line(path)}")
    if len(changed) > most:
        out.text(f"  and {len(changed) - most} more: --flips {len(changed)} shows all")


def _of(flip: Flip, paths: _Paths) -> list[str]:
    # A run that left no items stands for all of them.
    place = flip.key, flip.model
    return sorted({*paths.get((*place, flip.item), ()), *paths.get((*place, ""), ())})


def _flip_record(flip: Flip, paths: tuple[_Paths, _Paths]) -> dict[str, Any]:
    return {
        "item": flip.item,
        "before": flip.before,
        "after": flip.after,
        "before_paths": _of(flip, paths[0]),
        "after_paths": _of(flip, paths[1]),
    }
