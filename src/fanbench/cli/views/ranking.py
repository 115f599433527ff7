"""What `fanbench leaderboard DIR` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fanbench.cli.output import Output
from fanbench.results.ranking import Ranked, Ranking
from fanbench.results.scores import TaskKey

__all__ = ["FIELDS", "show_ranking"]

FIELDS = (
    "rank_low",
    "rank_high",
    "model",
    "score",
    "low",
    "high",
    "method",
    "bound_low",
    "bound_high",
    "items_planned",
    "items_scored",
    "cost_usd",
    "seconds",
    "efficient",
    "estimand",
    "tasks",
    "lacking",
    "k",
    "pass_at_k",
    "pass_hat_k",
)


def show_ranking(out: Output, ranking: Ranking) -> None:
    """Show one row per model, and then what the numbers leave out."""
    names = ranking.names()
    out.records([_record(row, ranking, names) for row in ranking.models], FIELDS)
    out.display(ranking.display())


def _record(row: Ranked, ranking: Ranking, names: Mapping[TaskKey, str]) -> dict[str, Any]:
    low, high = row.ranks or (None, None)
    interval, bounds = row.interval, row.bounds
    return {
        "rank_low": low,
        "rank_high": high,
        "model": row.model,
        "score": row.score,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "method": interval.method if interval else None,
        "bound_low": bounds.low if bounds else None,
        "bound_high": bounds.high if bounds else None,
        "items_planned": row.planned,
        "items_scored": row.scored,
        "cost_usd": row.cost_usd,
        "seconds": row.seconds,
        "efficient": row.efficient,
        "estimand": ranking.estimand,
        "tasks": row.tasks,
        "lacking": [names[key] for key in row.lacking],
        "k": ranking.k,
        "pass_at_k": row.passes.at_k if row.passes else None,
        "pass_hat_k": row.passes.hat_k if row.passes else None,
    }
