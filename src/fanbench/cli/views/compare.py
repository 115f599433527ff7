"""What `fanbench compare` shows."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from fanbench._util.text import many, one_line
from fanbench.cli.output import Output
from fanbench.cli.views.ranking import say, scale_sentences
from fanbench.results import Item
from fanbench.results.compare import Comparison, Flip, Pair, interval_of, place_name
from fanbench.results.scores import TaskKey, task_names
from fanbench.results.statistics import Difference
from fanbench.results.table import Table

__all__ = [
    "FIELDS",
    "Side",
    "all_names",
    "comparison_table",
    "difference_text",
    "left_out",
    "p_text",
    "show_comparison",
]

FIELDS = (
    "task",
    "content",
    "model",
    "status",
    "items",
    "lacking",
    "better",
    "worse",
    "difference",
    "low",
    "high",
    "p",
    "p_adjusted",
    "smallest",
    "flips",
)


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a comparison: its name, and its items. With a `model`, only those of that model."""

    name: str
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
    names = all_names(found)
    paths = first.paths(), second.paths()
    records = [_record(pair, paths) for pair in found.pairs]
    records += [_left_out_record(key, model, status) for key, model, status in _left_out(found)]
    if found.difference is not None:
        records.append(_overall(found, found.difference))
    out.records(records, FIELDS)
    if found.pairs and out.for_people:
        out.tables([comparison_table(found, names)])
        out.text()
        out.text(f"A is {first.name}, B is {second.name}; a difference above 0 means that B scored higher.")
        if found.like_these is not None:
            text = difference_text(found.like_these.mean, found.like_these)
            out.text(f"For tasks like these, the difference is {text}, p {p_text(found.like_these.p)}.")
    for sentence in (*left_out(found, names), *lonely):
        say(out, sentence)
    changed = [flip for pair in found.pairs for flip in pair.flips]
    if flips and changed and out.for_people:
        _show_flips(out, changed, paths, names, flips)


def all_names(found: Comparison) -> dict[TaskKey, str]:
    """What to call the tasks of both sides."""
    apart = (key for key, _ in found.apart)
    pairs = (pair.key for pair in found.pairs)
    return task_names(chain(pairs, apart, found.only_first, found.only_second, found.unbounded))


def left_out(
    found: Comparison, names: Mapping[TaskKey, str], sides: tuple[str, str] = ("A", "B")
) -> Iterator[str]:
    """Say which tasks are not compared, and why, and which are on declared scales."""
    reasons = {
        "other_content": "the content differs",
        "only_first": f"only {sides[0]} has it",
        "only_second": f"only {sides[1]} has it",
        "nothing_in_common": "no item has a score on both sides",
    }
    tasks = defaultdict(list)
    for key, model, status in _left_out(found):
        if status != "unbounded":
            tasks[status].append(place_name((key, model), names))
    for status, places in tasks.items():
        yield f"Not compared, because {reasons[status]}: {', '.join(places)}."
    compared = dict.fromkeys(pair.key for pair in found.pairs)
    yield from scale_sentences(compared, found.unbounded, found.scales, names, "Not compared")


def difference_text(mean: float, difference: Difference) -> str:
    """`+0.025 (-0.010 to +0.060)`."""
    interval = interval_of(difference)
    return f"{mean:+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _left_out(found: Comparison) -> Iterator[tuple[TaskKey, str, str]]:
    """Yield what is not compared: a task, a model if it is not about all, and the status of the record."""
    before, after = ({key.task for key in keys} for keys in (found.only_first, found.only_second))
    for key in found.only_first:
        yield key, "", "other_content" if key.task in after else "only_first"
    for key in found.only_second:
        yield key, "", "other_content" if key.task in before else "only_second"
    for key in found.unbounded:
        yield key, "", "unbounded"
    for key, model in found.apart:
        yield key, model, "nothing_in_common"


def comparison_table(found: Comparison, names: Mapping[TaskKey, str]) -> Table:
    several = any(pair.model for pair in found.pairs)
    header = ["task", *(["model"] if several else []), "items", "better", "worse", "difference"]
    header += ["95% interval", "p", "p adjusted", "would have seen"]
    rows = []
    for pair in found.pairs:
        lacking = f"{pair.items} of {pair.items + pair.lacking}" if pair.lacking else f"{pair.items}"
        cells = [names[pair.key], *([pair.model] if several else []), lacking]
        cells += [f"{pair.better}", f"{pair.worse}", f"{pair.difference:+.3f}"]
        cells += [f"{pair.interval.low:+.3f} to {pair.interval.high:+.3f}", p_text(pair.p)]
        cells += [p_text(pair.adjusted), _smallest(pair.smallest)]
        rows.append(tuple(cells))
    if len(found.pairs) > 1 and found.difference is not None:
        record = _overall(found, found.difference)
        cells = ["all tasks", *([""] if several else []), f"{record['items']}", f"{record['better']}"]
        cells += [f"{record['worse']}", f"{record['difference']:+.3f}"]
        cells += [f"{record['low']:+.3f} to {record['high']:+.3f}", p_text(record["p"]), ""]
        rows.append((*cells, _smallest(record["smallest"])))
    return Table(tuple(header), tuple(rows))


def _smallest(difference: float) -> str:
    return f"{difference:.3f}" if difference <= 1 else "none"


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


def _record(pair: Pair, paths: tuple[_Paths, _Paths]) -> dict[str, Any]:
    return {
        "task": pair.key.task,
        "content": pair.key.content,
        "model": pair.model or None,
        "status": "compared",
        "items": pair.items,
        "lacking": pair.lacking,
        "better": pair.better,
        "worse": pair.worse,
        "difference": pair.difference,
        "low": pair.interval.low,
        "high": pair.interval.high,
        "p": pair.p,
        "p_adjusted": pair.adjusted,
        "smallest": pair.smallest,
        "flips": [
            {
                "item": flip.item,
                "before": flip.before,
                "after": flip.after,
                "before_paths": _of(flip, paths[0]),
                "after_paths": _of(flip, paths[1]),
            }
            for flip in pair.flips
        ],
    }


def _left_out_record(key: TaskKey, model: str, status: str) -> dict[str, Any]:
    named = {"task": key.task, "content": key.content, "model": model or None, "status": status}
    return {**dict.fromkeys(FIELDS), **named, "items": 0, "flips": []}


def _overall(found: Comparison, difference: Difference) -> dict[str, Any]:
    """The record of all tasks together, in which each task counts the same."""
    interval = interval_of(difference)
    return dict.fromkeys(FIELDS) | {
        "status": "overall",
        "items": found.items,
        "lacking": sum(pair.lacking for pair in found.pairs),
        "better": sum(pair.better for pair in found.pairs),
        "worse": sum(pair.worse for pair in found.pairs),
        "difference": found.mean,
        "low": interval.low,
        "high": interval.high,
        "p": difference.p,
        "smallest": difference.smallest_seen(),
        "flips": [],
    }
