"""The leaderboard's intervals as lines of text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fanbench._util.text import align_rows, one_line
from fanbench.results.display import score_text
from fanbench.results.ranking import Ranked

__all__ = ["plot_lines"]

#: The number of columns from the score 0 to the score 1.
WIDTH = 50


def plot_lines(models: Iterable[Ranked], width: int = WIDTH) -> Iterator[str]:
    """Yield an axis, and one line per model: its score as ●, its interval as ├─┤, and its bounds as ···."""
    axis = f"0{' ' * (width - 2)}1"
    rows = [
        ("", "score", axis),
        *((one_line(row.model), score_text(row.score), _bar(row, width)) for row in models),
    ]
    yield from align_rows(rows)


def _bar(row: Ranked, width: int) -> str:
    def at(score: float) -> int:
        return round(min(1.0, max(0.0, score)) * (width - 1))

    signs = [" "] * width
    if row.bounds is not None:
        for place in range(at(row.bounds.low), at(row.bounds.high) + 1):
            signs[place] = "·"
    if row.interval is not None:
        low, high = at(row.interval.low), at(row.interval.high)
        signs[low : high + 1] = "─" * (high - low + 1)
        signs[low], signs[high] = "├", "┤"
    if row.score is not None:
        signs[at(row.score)] = "●"
    return "".join(signs).rstrip()
