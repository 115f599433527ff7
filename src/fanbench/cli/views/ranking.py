"""What `fanbench leaderboard DIR` shows."""

from __future__ import annotations

from fanbench.cli.output import Output
from fanbench.results.ranking import COLUMNS, Ranking

__all__ = ["FIELDS", "show_ranking"]

FIELDS = tuple(COLUMNS)


def show_ranking(out: Output, ranking: Ranking) -> None:
    """Show one row per model, and then what the numbers leave out."""
    out.records(ranking.records(), FIELDS)
    out.display(ranking.display())
