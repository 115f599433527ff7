"""How sweeps went, for the page's timeline: what their journals have of them besides their runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec

from fanbench.sweeps.history import BudgetReading, History, LimitStep, Mark, RunPlace

__all__ = ["Timeline", "timeline"]

# The page has fewer pixels than this: what happened in the same of so many parts of the time is shown as one.
_PARTS = 2000


class InvocationEntry(msgspec.Struct, kw_only=True):
    """One process of a sweep. It was killed, or is running, if `ended` is None; it was alive at `last`."""

    began: float
    ended: float | None
    last: float
    planned: int
    done: int
    calls: int
    stopped: str


class LimitEntry(msgspec.Struct, kw_only=True):
    """A limit of calls, and why it is not higher: empty for a first limit, and for one that rose."""

    at: float
    limit: int
    pause: float
    reason: str


class BudgetEntry(msgspec.Struct, kw_only=True):
    """A reading of the budget, in US dollars."""

    at: float
    cap: float
    spent: float | None
    reserved: float | None


class MarkEntry(msgspec.Struct, kw_only=True):
    """What happened `count` times at once, for the same reason; `what` is the first run or task that it befell."""

    at: float
    kind: str
    count: int
    what: str
    text: str


class Timeline(msgspec.Struct, kw_only=True):
    """How the sweeps went. Times are in seconds since 1970."""

    invocations: list[InvocationEntry]
    limits: list[LimitEntry]
    budget: list[BudgetEntry]
    marks: list[MarkEntry]


def timeline(histories: Iterable[History]) -> Timeline | None:
    """Return how the sweeps went; None if their journals do not tell."""
    known = [history for history in histories if history.invocations]
    invocations = sorted(
        chain.from_iterable(history.invocations for history in known), key=lambda one: one.began
    )
    if not invocations:
        return None
    begin, end = invocations[0].began, max(one.last for one in invocations)
    part = max(1.0, end - begin) / _PARTS
    first = [LimitStep(one.began, one.limit, 0.0, "") for one in invocations if one.limit is not None]
    later = chain.from_iterable(history.limits for history in known)
    return Timeline(
        invocations=[
            InvocationEntry(
                began=one.began,
                ended=one.ended,
                last=one.last,
                planned=one.planned,
                done=one.done,
                calls=one.calls,
                stopped=one.stopped,
            )
            for one in invocations
        ],
        limits=_limits(sorted([*first, *later], key=lambda step: step.at), part),
        budget=_budget(chain.from_iterable(history.budget for history in known), part),
        marks=_marks(chain.from_iterable(history.marks for history in known), part),
    )


def _limits(steps: Sequence[LimitStep], part: float) -> list[LimitEntry]:
    """Return all limits that fell, and of those that rose, the last in each part of the time."""
    found: list[LimitEntry] = []
    for step in steps:
        risen = not step.reason and found and not found[-1].reason
        if risen and step.at // part == found[-1].at // part:
            found.pop()
        found.append(LimitEntry(at=step.at, limit=step.limit, pause=step.pause, reason=step.reason))
    return found


def _budget(readings: Iterable[BudgetReading], part: float) -> list[BudgetEntry]:
    last = {reading.at // part: reading for reading in sorted(readings, key=lambda one: one.at)}
    return [
        BudgetEntry(at=one.at, cap=one.cap, spent=one.spent, reserved=one.reserved) for one in last.values()
    ]


def _marks(marks: Iterable[Mark], part: float) -> list[MarkEntry]:
    found: dict[tuple[float, str, str], MarkEntry] = {}
    for mark in sorted(marks, key=lambda one: one.at):
        what = mark.task if mark.run is None else _name(mark.run)
        entry = MarkEntry(at=mark.at, kind=mark.kind, count=0, what=what, text=mark.text)
        found.setdefault((mark.at // part, mark.kind, mark.text), entry).count += 1
    return list(found.values())


def _name(run: RunPlace) -> str:
    repeat = f" #{run.repeat}" if run.repeat > 1 else ""
    attempt = f", attempt {run.attempt}" if run.attempt > 1 else ""
    return f"{run.task} on {run.model}{repeat}{attempt}"
