"""What `fanbench leaderboard DIR` shows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fanbench._util.text import one_line
from fanbench.cli.output import Output
from fanbench.results.passes import PassRates, pass_rates
from fanbench.results.ranking import Ranked, Ranking
from fanbench.results.scales import UNIT, Scale
from fanbench.results.scores import Scores, TaskKey, task_names
from fanbench.results.table import MISSING, Table

__all__ = ["FIELDS", "interval_text", "money", "say", "scale_sentences", "show_ranking"]

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


def show_ranking(out: Output, scores: Scores, ranking: Ranking, k: int | None = None) -> None:
    """Show one row per model, and then what the numbers leave out."""
    names = task_names(scores.tasks)
    passes = {row.model: pass_rates(scores, row.model, k) for row in ranking.models} if k else {}
    lacking = {row.model: _lacking(scores, ranking, row) for row in ranking.models}
    out.records(
        [
            _record(
                row,
                ranking,
                lacking=[names[key] for key in lacking[row.model]],
                rates=passes.get(row.model),
                k=k,
            )
            for row in ranking.models
        ],
        FIELDS,
    )
    if out.for_people:
        out.tables([_table(ranking, passes, k)])
        out.text()
        _explain(out, ranking)
    for row in ranking.models:
        if lacking[row.model]:
            what = ", ".join(names[key] for key in lacking[row.model])
            say(out, f"{row.model} is not ranked: it has no score on {what}.")
    for sentence in scale_sentences(ranking.tasks, ranking.unbounded, ranking.scales, names, "Left out"):
        say(out, sentence)
    if k and any(rates is None for rates in passes.values()):
        say(
            out,
            f"pass@{k} and pass^{k} need {k} attempts with a score at every item of the tasks that pass or fail.",
        )


def say(out: Output, sentence: str) -> None:
    """Print what belongs to a result: below the table for people, and on stderr beside records."""
    if out.for_people:
        out.text(one_line(sentence))
    else:
        out.note(one_line(sentence))


def scale_sentences(
    counted: Iterable[TaskKey],
    unbounded: Sequence[TaskKey],
    scales: Mapping[TaskKey, Scale],
    names: Mapping[TaskKey, str],
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
        return "different scales are declared for it"
    if scale == UNIT:
        return "some values are not between 0 and 1"
    return f"some values are outside its declared scale {scale}"


def interval_text(low: float, high: float) -> str:
    return f"{low:.3f} – {high:.3f}"


def money(usd: float | None) -> str:
    return MISSING if usd is None else f"${usd:.4f}"


def _lacking(scores: Scores, ranking: Ranking, row: Ranked) -> list[TaskKey]:
    """The tasks that keep a model from being ranked."""
    scored = {cell.key for cell in scores.of(row.model, ranking.tasks) if cell.totals}
    return [key for key in ranking.tasks if key not in scored]


def _table(ranking: Ranking, passes: dict[str, PassRates | None], k: int | None) -> Table:
    bounded = any(row.bounds for row in ranking.models)
    costs = any(row.cost_usd is not None for row in ranking.models)
    header = ["rank", "model", "score", "95% interval", "scored"]
    header += ["if errors fail – pass"] if bounded else []
    header += [f"pass@{k}", f"pass^{k}"] if k else []
    header += [*(["cost a run"] if costs else []), "seconds a run", *(["front"] if costs else [])]
    rows = []
    for row in ranking.models:
        cells = [_ranks(row.ranks), row.model, _share(row.score)]
        cells.append(interval_text(row.interval.low, row.interval.high) if row.interval else MISSING)
        cells.append(f"{row.scored}/{row.planned}")
        if bounded:
            cells.append(interval_text(row.bounds.low, row.bounds.high) if row.bounds else MISSING)
        if k:
            rates = passes[row.model]
            cells += [_share(rates.at_k if rates else None), _share(rates.hat_k if rates else None)]
        cells += [money(row.cost_usd)] if costs else []
        cells.append(MISSING if row.seconds is None else f"{row.seconds:.1f}")
        cells += ["●" if row.efficient else ""] if costs else []
        rows.append(tuple(cells))
    return Table(tuple(header), tuple(rows))


def _ranks(ranks: tuple[int, int] | None) -> str:
    if ranks is None:
        return MISSING
    return str(ranks[0]) if ranks[0] == ranks[1] else f"{ranks[0]}–{ranks[1]}"


def _share(value: float | None) -> str:
    return MISSING if value is None else f"{value:.3f}"


def _explain(out: Output, ranking: Ranking) -> None:
    """Say what the columns mean, as far as it depends on this ranking."""
    number = len(ranking.tasks)
    if ranking.estimand == "these":
        what = "exactly this task" if number == 1 else f"exactly these {number} tasks"
    else:
        what = f"tasks like these {number}"
    out.text(f"The score is the mean over tasks; interval and ranks are for {what}.")
    if any(row.efficient for row in ranking.models):
        out.text("●: no other ranked model costs less and scores at least as much.")


def _record(
    row: Ranked, ranking: Ranking, *, lacking: Sequence[str], rates: PassRates | None, k: int | None
) -> dict[str, Any]:
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
        "lacking": list(lacking),
        "k": k,
        "pass_at_k": rates.at_k if rates else None,
        "pass_hat_k": rates.hat_k if rates else None,
    }
