"""Decide whether new results are worse than old ones, and refuse to where they cannot be compared."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Literal, NamedTuple

from fanbench._util.shares import check_share
from fanbench._util.text import many
from fanbench.results.compare import (
    Common,
    Comparison,
    Place,
    Verdict,
    compare_sweeps,
    difference_text,
    place_name,
)
from fanbench.results.display import Display, Displayed, p_text
from fanbench.results.scales import UNIT
from fanbench.results.scores import Cell, Scores, task_names
from fanbench.results.statistics import CONFIDENCE

__all__ = ["Cause", "Gate", "Refusal", "gate"]


class Cause(StrEnum):
    """What keeps old and new results from being compared."""

    MODEL = "model"
    CONTENT = "content"
    VALUES = "values"
    SCALE = "scale"
    COVERAGE = "coverage"
    NOTHING = "nothing"


class Refusal(NamedTuple):
    """Why old and new results cannot be compared. `uncovered` are the sides on which attempts lack a score."""

    cause: Cause
    reason: str
    uncovered: tuple[Literal["old", "new"], ...] = ()


@dataclass(frozen=True, slots=True, repr=False)
class Gate(Displayed):
    """What a gate says of new results.

    Attributes:
        verdict: Not worse, a regression, or that it cannot tell.
        margin: The loss of the mean score that is accepted, above 0 and at most 1.
        comparison: The old and the new results on their common items.
        models: The models that are compared.
        coverage: The lowest share of attempts, and of items, of any task and model that have a score on both sides.
        refusal: Why old and new cannot be compared; None if they can. The verdict is then that it cannot tell.
    """

    verdict: Verdict
    margin: float
    comparison: Comparison
    models: tuple[str, ...]
    coverage: float
    refusal: Refusal | None = None

    @property
    def items_to_tell(self) -> int | None:
        """About how many items would tell (see `Comparison`); None also if the verdict is another, or refused."""
        if self.verdict is not Verdict.CANNOT_TELL or self.refusal is not None:
            return None
        return self.comparison.items_to_tell(self.margin)

    @property
    def conclusion(self) -> str:
        """The verdict with its reasons, as a sentence."""
        if self.refusal is not None:
            return f"Cannot tell: {self.refusal.reason}."
        difference, mean = self.comparison.difference, self.comparison.mean
        assert difference is not None
        assert mean is not None
        text = f"the difference is {difference_text(mean, difference)}, and the margin {self.margin:g}"
        match self.verdict:
            case Verdict.NOT_WORSE:
                return f"Not worse: {text}."
            case Verdict.REGRESSION:
                return f"Worse: {'; '.join([text, *self._falls()])}."
            case Verdict.CANNOT_TELL:
                return (
                    f"Cannot tell: {text}, from {many(self.comparison.items, 'item')}. {self._needed(mean)}"
                )

    def _needed(self, mean: float) -> str:
        if mean <= -self.margin:
            return "More items like these would not show that it is not worse."
        needed = "Over a million" if self.items_to_tell is None else f"About {self.items_to_tell:,}"
        return f"{needed} would tell, if the difference stayed the same."

    def _falls(self) -> Iterator[str]:
        names = self.comparison.names()
        for pair in self.comparison.fallen(self.margin):
            place = place_name((pair.key, pair.model), names)
            yield f"{place} fell by {-pair.difference:.3f} (p adjusted {p_text(pair.adjusted)})"

    def evidence(self) -> Display:
        """Return the comparison behind the verdict."""
        return replace(self.comparison.display(("OLD", "NEW")), legend=())

    def display(self) -> Display:
        """Return the comparison, and the verdict with its reasons."""
        shown = self.evidence()
        return replace(shown, remarks=(*shown.remarks, self.conclusion))


def gate(
    old: Scores,
    new: Scores,
    margin: float,
    *,
    min_coverage: float = 1.0,
    models: Iterable[str] | None = None,
    confidence: float = CONFIDENCE,
) -> Gate:
    """Decide whether `new` is worse than `old` by more than `margin`: see `Comparison.verdict`.

    All models of `old` are compared, or only `models`. It cannot tell if either side lacks one of them, if a task of
    `old` has another content or another declared scale in `new`, if its values are beyond the scale on one side only,
    or if the coverage is below `min_coverage`, or is to be 1 and is not known: what errors is not random, and to leave
    it out may hide a loss.
    """
    check_share("margin", margin)
    check_share("min_coverage", min_coverage)
    chosen = tuple(sorted(set(old.models if models is None else models)))
    found = compare_sweeps(old, new, chosen)
    shares = dict(_shares(old, new, chosen))
    refusal = (
        _lacks_a_model(old, new, chosen)
        or _has_other_content(found)
        or _has_other_scales(found)
        or _has_other_values(old, new, found, chosen)
        or _has_low_coverage(old, new, shares, min_coverage)
        or _may_have_more(old, new, shares, min_coverage)
        or _has_nothing(found)
    )
    verdict = Verdict.CANNOT_TELL if refusal else found.verdict(margin, confidence)
    return Gate(verdict, margin, found, chosen, min(shares.values(), default=0.0), refusal)


def _shares(old: Scores, new: Scores, models: Iterable[str]) -> Iterator[tuple[Place, float]]:
    """Yield the coverage of each task and model that `old` has, except for unbounded tasks, which are not compared."""
    chosen, unbounded = set(models), {*old.tasks, *new.tasks} - {*old.bounded(), *new.bounded()}
    for (key, model), cell in sorted(old.cells.items()):
        if model in chosen and key not in unbounded:
            yield (key, model), _share(cell, new.cells.get((key, model)))


def _share(old: Cell, new: Cell | None) -> float:
    if new is None:
        return 0.0
    common = Common.of(old, new)
    items = len(common.before)
    return min(items / (items + common.lacking), old.scored / old.planned, new.scored / new.planned)


def _lacks_a_model(old: Scores, new: Scores, models: Iterable[str]) -> Refusal | None:
    lacking = [
        f"the {side} results have none of {model}"
        for model in models
        for side, scores in (("old", old), ("new", new))
        if model not in scores.models
    ]
    return Refusal(Cause.MODEL, "; ".join(lacking)) if lacking else None


def _has_other_content(found: Comparison) -> Refusal | None:
    changed = found.changed()
    if not changed:
        return None
    if (side := found.side_without_journal()) is not None:
        return Refusal(
            Cause.CONTENT,
            f"the {('old', 'new')[side]} results have no journal that tells the content of {', '.join(changed)}",
        )
    return Refusal(Cause.CONTENT, f"the content of {', '.join(changed)} differs")


def _has_other_scales(found: Comparison) -> Refusal | None:
    disputed = [key.task for key in found.unbounded if found.scales[key].is_disputed]
    return Refusal(Cause.SCALE, f"the declared scale of {', '.join(disputed)} differs") if disputed else None


def _has_other_values(old: Scores, new: Scores, found: Comparison, models: Iterable[str]) -> Refusal | None:
    """Refuse a task whose values left its scale, or came back to it: they may be errors."""
    for key in found.unbounded:
        sides = [
            side
            for side, scores in (("old", old), ("new", new))
            if not all(cell.bounded for model in models for cell in scores.of(model, [key]))
        ]
        if len(sides) == 1:
            where = "between 0 and 1" if (scale := found.scales[key]) == UNIT else f"on its scale {scale}"
            reason = f"some values of {key.task} are not {where} in the {sides[0]} results"
            return Refusal(Cause.VALUES, reason)
    return None


def _has_low_coverage(old: Scores, new: Scores, shares: dict[Place, float], least: float) -> Refusal | None:
    low = sorted((share, place) for place, share in shares.items() if share < least)
    if not low:
        return None
    share, place = low[0]
    what = place_name(place, task_names(key for key, _ in shares))
    more = f", and {len(low) - 1} more of tasks and models have too few" if len(low) > 1 else ""
    sides: tuple[tuple[Literal["old", "new"], Scores], ...] = (("old", old), ("new", new))
    uncovered = tuple(
        side
        for side, scores in sides
        if any((cell := scores.cells.get(place)) is None or not cell.complete for _, place in low)
    )
    reason = f"only {_percent(share)} of {what} has a score on both sides{more}"
    return Refusal(Cause.COVERAGE, reason, uncovered)


def _may_have_more(old: Scores, new: Scores, shares: dict[Place, float], least: float) -> Refusal | None:
    """Refuse runs that errored on both sides with scores for all known items, if all items are to have scores."""
    cut = [place for place in shares if all(scores.cells[place].may_have_more for scores in (old, new))]
    if not cut or least < 1:
        return None
    what = place_name(cut[0], task_names(key for key, _ in shares))
    reason = f"a run of {what} errored on both sides, and may have had more items than are known"
    return Refusal(Cause.COVERAGE, reason, ("old", "new"))


def _percent(share: float) -> str:
    """Never 100% for what is below it."""
    return f"{math.floor(share * 1000) / 10:g}%"


def _has_nothing(found: Comparison) -> Refusal | None:
    reason = "no task with values on its scale has an item with a score on both sides"
    return None if found.pairs else Refusal(Cause.NOTHING, reason)
