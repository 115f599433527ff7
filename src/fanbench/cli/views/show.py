"""What `fanbench show` shows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from fanbench._util.text import many, neutralize, one_line
from fanbench.cli.output import Output, bold
from fanbench.cli.views.results import ITEM_FIELDS
from fanbench.results import Item, ItemState
from fanbench.results.display import MISSING, Table, money_text
from fanbench.results.run_file import NotARunFile
from fanbench.results.scales import UNIT
from fanbench.results.scores import Cell, Scores
from fanbench.results.transcript import Transcript, read_transcript

__all__ = ["FIELDS", "show_items"]

FIELDS = (*ITEM_FIELDS, "assertions", "messages")
_OF_MESSAGE = ("conversation", "role", "sender", "text")
# Of a message, so many characters are shown, unless all were asked for.
_SHORT = 2000
_NOTHING = Transcript((), (), "")


def show_items(out: Output, items: Sequence[Item], scores: Scores, *, details: int, full: bool) -> None:
    """Show all attempts, those without a score and the lowest first, and what was said in up to `details` of them.

    `scores` are what they come to. `full` shows messages of any length. For programs, all is shown of all.
    """
    items = sorted(items, key=_worst_first)
    if not out.for_people:
        out.records([_record(item, _transcript(item)) for item in items], FIELDS)
        return
    for cell in scores.cells.values():
        out.text(_summary(cell))
    out.text()
    out.tables([_table(items)])
    for item in items[:details]:
        out.text()
        for line in _details(item, _transcript(item), full=full):
            out.text(line)
    if len(items) > details:
        out.text()
        out.text(f"{many(len(items) - details, 'more attempt')}: choose one with --item, or add --details N.")


def _worst_first(item: Item) -> tuple[bool, float, int, str, int, int]:
    # Rows are named by numbers.
    number = int(item.item) if item.item.isascii() and item.item.isdecimal() else 0
    return item.state is ItemState.SCORED, item.value or 0.0, number, item.item, item.repeat, item.attempt


def _path(item: Item) -> str | None:
    """The run file or the run's folder, if there is one."""
    return os.path.join(item.sweep, item.path) if item.path else None


def _transcript(item: Item) -> Transcript:
    """What was said; nothing if no run file was left."""
    path = _path(item)
    if path is None or not os.path.isfile(path):
        return _NOTHING
    try:
        return read_transcript(Path(path), item.part)
    except NotARunFile:  # it was one a moment ago
        return _NOTHING


def _summary(cell: Cell) -> str:
    """`quiz on google/a: 0.750 (0.510 to 0.898), 16 of 20 attempts have a score, 4 errored`."""
    have = "has" if 1 in (cell.scored, cell.planned) else "have"
    parts = [f"{cell.scored} of {many(cell.planned, 'attempt')} {have} a score"]
    no_value = f"{'has' if cell.no_value == 1 else 'have'} no value"
    counts = (cell.errored, "errored"), (cell.no_value, no_value), (cell.missing, "left nothing")
    parts += [f"{number} {what}" for number, what in counts if number]
    parts += ["but a run errored, and may have had more"] if cell.may_have_more else []
    value = MISSING if cell.mean is None else f"{cell.mean:.3f}"
    if (interval := cell.interval) is not None:
        value += f" ({interval.low:.3f} to {interval.high:.3f}, {interval.method})"
    scale = "" if cell.scale == UNIT or cell.scale.is_disputed else f" on its scale {cell.scale}"
    lower = "" if cell.scale.higher_is_better else ", where lower is better"
    return one_line(f"{cell.key.task} on {cell.model}: {value}{scale}{lower}; {', '.join(parts)}.")


def _table(items: Sequence[Item]) -> Table:
    header = ("item", "repeat", "run", "result", "seconds", "tokens in", "tokens out", "cost")
    rows = [
        (
            item.item or "(the run)",
            str(item.repeat),
            MISSING if item.run_id is None else str(item.run_id),
            _result(item),
            MISSING if item.seconds is None else f"{item.seconds:.1f}",
            MISSING if item.tokens_in is None else str(item.tokens_in),
            MISSING if item.tokens_out is None else str(item.tokens_out),
            money_text(item.cost_usd),
        )
        for item in items
    ]
    return Table(header, tuple(rows))


def _result(item: Item) -> str:
    result = item.state.value.replace("_", " ")
    if item.value is not None:
        result = f"{item.value:.4g}"
        if item.kind == "boolean":
            result = "✓" if item.value else "✗"
    return f"{result} (made again)" if item.superseded else result


def _details(item: Item, found: Transcript, *, full: bool) -> Iterator[str]:
    """Yield the lines about one attempt. Each line of a text from elsewhere is indented."""
    where = f"{item.item or 'The run'}, repeat {item.repeat}"
    yield bold(
        one_line(f"{where}{f', run {item.run_id}' if item.run_id is not None else ''}: {_result(item)}")
    )
    if path := _path(item):
        yield f"  {one_line(path)}"
    if item.judge_tokens_in or item.judge_tokens_out:
        yield (
            f"  judge: {item.judge_tokens_in or 0} tokens in, {item.judge_tokens_out or 0} out, "
            f"{money_text(item.judge_cost_usd)}"
        )
    if item.error:
        yield from _indented("  error: ", item.error)
        if found.error.strip() not in ("", item.error.strip()):
            yield from _indented("    ", _cut(found.error.strip(), full))
    talk = ""
    for said in found.messages:
        if said.conversation != talk:
            talk = said.conversation
            yield f"  {one_line(talk)}"
        name = said.sender if said.role == "judge" else ""
        yield from _indented(
            f"    {one_line(' '.join(filter(None, (said.role, name))))}: ", _cut(said.text, full)
        )
    for each in found.assertions:
        line = f" (line {each.line})" if each.line is not None else ""
        yield from _indented(f"  {'✓' if each.passed else '✗'}{line} ", each.expectation or each.source)
        if not each.passed and each.expectation and each.source:
            yield from _indented("      ", each.source)


def _cut(text: str, full: bool) -> str:
    if full or len(text) <= _SHORT:
        return text
    return f"{text[:_SHORT]}… ({len(text) - _SHORT:,} more characters: add --full)"


def _indented(start: str, text: str) -> Iterator[str]:
    """Yield the lines of `text`, the first one after `start`, and the others below it.

    Without its colors, which would go on in the lines after it.
    """
    for line in click.unstyle(neutralize(text)).replace("\r\n", "\n").split("\n"):
        yield f"{start}{line}"
        start = " " * len(start)


def _record(item: Item, found: Transcript) -> dict[str, Any]:
    record = {name: getattr(item, name) for name in ITEM_FIELDS}
    return record | {
        "error": found.error.strip() or item.error,
        "assertions": [asdict(each) for each in found.assertions],
        "messages": [{name: getattr(said, name) for name in _OF_MESSAGE} for said in found.messages],
    }
