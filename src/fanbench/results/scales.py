"""The scale of a task: the range of its values, and which end of it is better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from fanbench.results.statistics import Interval

__all__ = ["DISPUTED", "UNIT", "Scale", "merge_scales", "scale_sentences"]

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Scale:
    """The range of a task's values, and which end of it is better.

    Raises:
        ValueError: `low` is not below `high`, or the range between them is not finite.
    """

    low: float = 0.0
    high: float = 1.0
    higher_is_better: bool = True

    def __post_init__(self) -> None:
        if not (self.low < self.high and math.isfinite(self.high - self.low)):
            raise ValueError(f"A scale is from a lower to a higher finite number, not from {self}.")

    @property
    def is_disputed(self) -> bool:
        return self is DISPUTED

    def contains(self, lowest: float, highest: float) -> bool:
        """Whether all values from `lowest` to `highest` lie on the scale."""
        return self.low <= lowest and highest <= self.high

    def score(self, value: float) -> float:
        """Return the value as a score from 0, the worst, to 1, the best."""
        share = (value - self.low) / (self.high - self.low)
        return share if self.higher_is_better else 1 - share

    def values(self, scores: Interval) -> Interval:
        """Return the interval of values that has these scores."""
        ends = [
            self.low + (score if self.higher_is_better else 1 - score) * (self.high - self.low)
            for score in (scores.low, scores.high)
        ]
        return Interval(min(ends), max(ends), scores.method)

    def __str__(self) -> str:
        """`0 to 100`."""
        return f"{self.low:.12g} to {self.high:.12g}"


#: The scale of a task that declares none.
UNIT = Scale()


class _Disputed(Scale):
    """The scale of a task for which folders declare different ones: no value lies on it."""

    def __post_init__(self) -> None:
        """Accept NaN, with which no other scale can be made."""


DISPUTED = _Disputed(math.nan, math.nan)


def merge_scales(declared: Iterable[tuple[str, Scale]]) -> dict[str, Scale]:
    """Return the scale of each task for which one is declared, or `DISPUTED` if several are."""
    found: dict[str, Scale] = {}
    for task, scale in declared:
        if found.setdefault(task, scale) != scale:
            found[task] = DISPUTED
    return found


def scale_sentences(
    counted: Iterable[K],
    unbounded: Sequence[K],
    scales: Mapping[K, Scale],
    names: Mapping[K, str],
    left_out: str,
) -> Iterator[str]:
    """Say which tasks count on declared scales, which are `left_out` because of theirs, and how to declare them."""
    for key in counted:
        if (scale := scales[key]) != UNIT:
            best, worst = (scale.high, scale.low) if scale.higher_is_better else (scale.low, scale.high)
            lower = "" if scale.higher_is_better else ": lower is better"
            yield f"The scale of {names[key]} is {scale}{lower}. Its score is 0 at {worst:.12g}, and 1 at {best:.12g}."
    reasons: dict[str, list[str]] = {}
    for key in unbounded:
        reasons.setdefault(_why_unbounded(scales[key]), []).append(names[key])
    for reason, tasks in reasons.items():
        yield f"{left_out}, because {reason}: {', '.join(tasks)}."
    if any(scales[key] == UNIT for key in unbounded):
        yield (
            "To count these, declare `scale = [LOW, HIGH]` for them in sweep.toml, and sweep again with it: "
            "what has been run is not run again."
        )


def _why_unbounded(scale: Scale) -> str:
    if scale.is_disputed:
        return "different scales are declared"
    if scale == UNIT:
        return "some values are not between 0 and 1"
    return f"some values are outside the declared scale {scale}"
