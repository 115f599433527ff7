"""What the page shows: the numbers of the results engine and the states of runs, for `page/document.d.ts`.

The page computes no statistics. Whatever it shows of them is here.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path
from statistics import fmean
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

import msgspec

from fanbench._util.text import iso_time
from fanbench.results import KnownRun, ResultSet, RunResult
from fanbench.results.combine import sum_known
from fanbench.results.compare import Comparison, Pair, compare_models, interval_of
from fanbench.results.gate import gate
from fanbench.results.ranking import Estimand, Ranking, all_differences, rank_models
from fanbench.results.scores import Cell, Scores, TaskKey, task_names
from fanbench.results.statistics import CONFIDENCE, Difference, Differences, paired_difference
from fanbench.results.table import cell, cell_text, model_labels
from fanbench.sweeps.decide import COUNTED, RunStatus, run_status
from fanbench.sweeps.history import History, RunPlace, RunTimes
from fanbench.version import __version__
from fanbench.view.columns import Columns, column, pack
from fanbench.view.timeline import Timeline, timeline
from fanbench.wire.candidates import same_label
from fanbench.wire.messages import RunState

__all__ = ["MARGIN", "Before", "Document", "PageRun", "Place", "Shown", "build", "with_states"]

FORMAT = 1
#: How sweeps went, by their folders.
Histories: TypeAlias = Mapping[Path, History]
#: In this order, the states of runs are counted in `PageRun.status` and `Document.states`.
STATES = COUNTED
#: With more differences of tasks than this over all pairs of models, only the overall ones are part of the page.
MOST_DIFFERENCES = 40_000
#: The loss of the mean score since an earlier sweep that is accepted.
MARGIN = 0.05

# The same in `page/span.js`: a break that lasts for so many seconds, and for such a share of the time at work, is none
# of the time that a sweep took.
_LONG, _SHARE = 300.0, 0.2


class TaskEntry(msgspec.Struct, kw_only=True):
    """A task with one content. It is `averaged` with others if its values lie on its scale."""

    name: str
    slug: str
    versions: list[int]
    averaged: bool


class CellEntry(msgspec.Struct, kw_only=True):
    """What a model came to on a task, both by their positions; `score` is from 0 to 1, None for other values."""

    task: int
    model: int
    text: str
    value: float | None = None
    score: float | None = None
    low: float | None = None
    high: float | None = None
    stated: bool = False
    bound_low: float | None = None
    bound_high: float | None = None
    planned: int = 0
    scored: int = 0
    errored: int = 0
    no_value: int = 0
    cost_usd: float | None = None
    seconds: float | None = None
    tokens: int | None = None


class BoardRow(msgspec.Struct, kw_only=True):
    """A model on the leaderboard. Without ranks, it lacks a score on the tasks `lacking`."""

    model: int
    rank_low: int | None
    rank_high: int | None
    score: float | None
    low: float | None
    high: float | None
    bound_low: float | None
    bound_high: float | None
    scored: int
    planned: int
    cost_usd: float | None
    seconds: float | None
    efficient: bool
    lacking: list[int]


class Board(msgspec.Struct, kw_only=True):
    """A leaderboard, with sentences on what it means, and on what it leaves out."""

    rows: list[BoardRow]
    legend: list[str]
    remarks: list[str]


class PairEntry(msgspec.Struct, kw_only=True):
    """The difference of two sides on a task. `model` is -1 if the sides are two models."""

    task: int
    model: int = -1
    items: int
    lacking: int
    better: int
    worse: int
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    smallest: float


class FlipEntry(msgspec.Struct, kw_only=True):
    """An item that changed, with its mean score on either side."""

    task: int
    model: int = -1
    item: str
    before: float
    after: float


class DifferenceEntry(msgspec.Struct, kw_only=True):
    """A mean difference with its interval, and the p-value of none."""

    difference: float
    low: float
    high: float
    p: float


class ComparisonEntry(msgspec.Struct, kw_only=True):
    """Two models (`first` and `second` are their positions), or two sweeps (both are -1).

    `like_these` is the difference over tasks like these. `remarks` name what is not compared.
    """

    first: int = -1
    second: int = -1
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    items: int
    like_these: DifferenceEntry | None = None
    pairs: list[PairEntry] | None
    flips: list[FlipEntry]
    remarks: list[str] = []


class ErrorEntry(msgspec.Struct, kw_only=True):
    """How many attempts of a model at a task errored before, and now."""

    task: int
    model: int
    before: int
    now: int


class Before(msgspec.Struct, kw_only=True):
    """What changed since an earlier sweep, and what the gate says of it."""

    title: str
    comparison: ComparisonEntry
    verdict: str
    conclusion: str
    coverage: float
    errors_before: int
    errors_now: int
    errors: list[ErrorEntry]
    only_before: list[str]
    only_now: list[str]


class Document(msgspec.Struct, kw_only=True):
    """All that the page shows, except for the runs and their details."""

    format: int = FORMAT
    fanbench: str = __version__
    title: str
    written: str
    live: bool = False
    #: `running`, `complete`, or `incomplete`: there are no runs, some did not complete, or items have no score.
    status: Literal["running", "complete", "incomplete"]
    states: list[str]
    counts: list[int]
    repeats: int
    #: The time that the sweeps took, without long breaks.
    seconds: float | None
    confidence: float = CONFIDENCE
    tasks: list[TaskEntry]
    models: list[str]
    cells: list[CellEntry]
    board: Board
    board_like_these: Board | None
    before: Before | None = None
    timeline: Timeline | None = None
    problems: list[str]


class Place(NamedTuple):
    """What tells a run from others, and what its items have as well."""

    sweep: str
    task: str
    content: str
    model: str
    repeat: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageRun:
    """One row of the page's table of runs. Times are in seconds since 1970."""

    sweep: str
    task: TaskKey
    model: str
    status: RunStatus
    known: KnownRun | None = None
    result: RunResult | None = None
    scheduled: float | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def place(self) -> Place:
        return Place(self.sweep, self.task.task, self.task.content, self.model, self.repeat, self.attempt)

    @property
    def repeat(self) -> int:
        return (self.result or self.known or _ONE).repeat

    @property
    def attempt(self) -> int:
        return (self.result or self.known or _ONE).attempt

    @property
    def superseded(self) -> bool:
        return (self.result or self.known or _ONE).superseded

    @property
    def run_id(self) -> int | None:
        return (self.result or self.known or _ONE).run_id

    @property
    def folder(self) -> Path | None:
        """The run's folder, or its run file outside of one; None if it left nothing."""
        return self.result.path if self.result else (self.known.folder if self.known else None)

    @property
    def error(self) -> str:
        return (self.result.error if self.result else None) or (self.known.error if self.known else "")


class _One(NamedTuple):
    """The numbers of a run of which nothing is known."""

    repeat: int = 1
    attempt: int = 1
    superseded: bool = False
    run_id: int | None = None


_ONE = _One()


@dataclass(frozen=True, slots=True)
class Shown:
    """A document, and the runs in the order of the page.

    `columns` are the numbers of the runs. `texts` are numbered as some of them count: each by its position.
    """

    document: Document
    runs: list[PageRun]
    columns: Columns
    texts: dict[str, int]
    scores: Scores
    order: Order

    def packed(self) -> bytes:
        """The table of runs, for the browser."""
        return pack(self.columns, self.texts)

    def comparison(self, first: int, second: int) -> ComparisonEntry:
        """Compare two models by their positions. A difference above 0 means that the second scored higher."""
        models = list(self.order.models)
        found = compare_models(self.scores, models[first], models[second])
        labels = (self.document.models[first], self.document.models[second])
        return _comparison(found, self.order, first=first, second=second, labels=labels)

    def comparisons(self) -> Iterator[ComparisonEntry]:
        """Compare all pairs of models. Of very many, there are only the differences over all tasks."""
        models, tasks = list(self.order.models), self.scores.bounded()
        pairs = list(combinations(range(len(models)), 2))
        if len(pairs) * len(self.order.tasks) <= MOST_DIFFERENCES:
            yield from (self.comparison(*pair) for pair in pairs)
            return
        for (first, second), common in zip(pairs, all_differences(self.scores, models, tasks), strict=True):
            yield _overall(first, second, [Differences(one.items, -one.total, one.squares) for one in common])


def build(
    found: ResultSet,
    known: Sequence[KnownRun] = (),
    *,
    title: str,
    running: bool = False,
    against: tuple[str, ResultSet] | None = None,
    margin: float = MARGIN,
    texts: dict[str, int] | None = None,
    histories: Histories = MappingProxyType({}),
) -> Shown:
    """Return what the page shows of `found`, in the order of `known`, the planned runs of a sweep.

    `against` is the title and the results of an earlier sweep. `margin` is the loss of the mean score since then that
    is accepted. `texts` are those that a page has already. `histories` tell how the sweeps went, by their folders.
    """
    scores = found.scores()
    order = Order.of(scores, known)
    runs = _runs(found, known, order, histories, running=running)
    document = Document(
        title=title,
        written=iso_time(datetime.now(UTC)),
        status="running" if running else _status(runs, scores),
        states=[state.label for state in STATES],
        counts=_counts(runs),
        repeats=max((cell.repeats for cell in scores.cells.values()), default=0),
        seconds=_seconds(runs, histories),
        tasks=_tasks(scores, order),
        models=list(order.models.values()),
        cells=_cells(scores, runs, order),
        board=_board(rank_models(scores), scores, order),
        board_like_these=_board_like_these(scores, order),
        timeline=timeline(histories.values()),
        problems=[
            *(f"{problem.path}: {problem.what}" for problem in found.problems),
            *(run.contradiction for run in found.runs if run.contradicted),
        ],
    )
    if against is not None:
        document.before = _before(*against, found, order, margin)
    texts = {"": 0} if texts is None else texts
    return Shown(document, runs, _columns(runs, order, texts), texts, scores, order)


def with_states(
    shown: Shown,
    found: ResultSet,
    known: Sequence[KnownRun],
    *,
    running: bool,
    histories: Histories = MappingProxyType({}),
) -> Shown:
    """Return the page with the states that the journal has now, and all else as it was: `found` is the same.

    The timeline comes with the numbers: it is large, and changes with every call.
    """
    runs = _runs(found, known, shown.order, histories, running=running)
    document = msgspec.structs.replace(
        shown.document,
        status="running" if running else _status(runs, shown.scores),
        counts=_counts(runs),
        seconds=_seconds(runs, histories),
    )
    return replace(shown, document=document, runs=runs, columns=_columns(runs, shown.order, shown.texts))


# --- Order and names ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Order:
    """The names of tasks and models in the order of the page, and their positions."""

    tasks: Mapping[TaskKey, str]
    models: Mapping[str, str]
    _task_at: Mapping[TaskKey, int]
    _model_at: Mapping[str, int]

    @classmethod
    def of(cls, scores: Scores, known: Iterable[KnownRun]) -> Order:
        """As planned, as far as there is a plan, and else by name."""
        tasks: dict[tuple[str, str], int] = {}
        models: dict[str, int] = {}
        for run in known:
            tasks.setdefault((run.task, run.content), len(tasks))
            models.setdefault(same_label(run.model), len(models))
        names, labels = task_names(scores.tasks), model_labels(scores.models)
        sorted_tasks = sorted(
            scores.tasks, key=lambda key: (tasks.get((key.task, key.content), len(tasks)), key)
        )
        sorted_models = sorted(
            scores.models, key=lambda model: (models.get(same_label(model), len(models)), labels[model])
        )
        return cls(
            {key: names[key] for key in sorted_tasks},
            {model: labels[model] for model in sorted_models},
            {key: at for at, key in enumerate(sorted_tasks)},
            {model: at for at, model in enumerate(sorted_models)},
        )

    def task(self, key: TaskKey) -> int:
        return self._task_at[key]

    def model(self, model: str) -> int:
        return self._model_at[model]


def _tasks(scores: Scores, order: Order) -> list[TaskEntry]:
    bounded = set(scores.bounded())
    versions: dict[TaskKey, set[int]] = {key: set() for key in order.tasks}
    for (key, _), each in scores.cells.items():
        versions[key] |= each.versions
    return [
        TaskEntry(
            name=name,
            slug=key.task,
            versions=sorted(versions[key]),
            averaged=key in bounded,
        )
        for key, name in order.tasks.items()
    ]


# --- Runs -----------------------------------------------------------------------------------------------------


def _runs(
    found: ResultSet, known: Iterable[KnownRun], order: Order, histories: Histories, *, running: bool
) -> list[PageRun]:
    """Return the runs that left something, and those that only the journal knows, in the order of the page."""
    journal = {
        Place(
            str(each.sweep), each.task, each.content, same_label(each.model), each.repeat, each.attempt
        ): each
        for each in known
    }
    ahead = {str(sweep): history.clock_ahead() for sweep, history in histories.items()}
    sweeps = {os.path.abspath(sweep): sweep for sweep in {item.sweep for item in found.items}}
    runs = []
    for result in found.runs:
        sweep = next(
            (sweeps[above] for above in map(str, (result.path, *result.path.parents)) if above in sweeps), ""
        )
        model = same_label(result.model)
        place = Place(sweep, result.task, result.content, model, result.repeat, result.attempt)
        each = journal.pop(place, None)
        runs.append(_page_run(sweep, result, each, _times(each, histories, ahead), ahead.get(sweep, 0.0)))
    models = {same_label(model): model for model in order.models}
    for each in journal.values():
        times = _times(each, histories, ahead)
        runs.append(
            PageRun(
                sweep=str(each.sweep),
                task=TaskKey(each.task, each.content),
                model=models.get(same_label(each.model), each.model),
                status=_status_of(each, times, running=running),
                known=each,
                scheduled=_epoch(each.scheduled),
                started=times.started,
                ended=times.ended,
            )
        )
    if not running:  # Nobody looks whether they run: they are on the server, as far as is known.
        runs = [
            replace(run, status=RunStatus.SCHEDULED) if run.status is RunStatus.RUNNING else run
            for run in runs
        ]
    return sorted(
        runs, key=lambda run: (order.task(run.task), order.model(run.model), run.repeat, run.attempt)
    )


def _status_of(run: KnownRun, times: RunTimes, *, running: bool) -> RunStatus:
    """Return the status of a run that left nothing yet: only its history tells whether it is queued."""
    if run.cancelled:
        return RunStatus.CANCELLED
    if run.error and run.state is None and run.run_id is None:
        return RunStatus.MISSING
    state = run.state
    if running and state is None and times.scheduled is not None:
        state = RunState.QUEUED if times.started is None else RunState.RUNNING
    scheduled = run.run_id is not None or run.scheduled is not None
    return run_status(state, scheduled=scheduled, live=running and state is not None)


def _times(known: KnownRun | None, histories: Histories, ahead: Mapping[str, float]) -> RunTimes:
    """Return when a run started and ended, by our clock, as far as the journal tells."""
    history = histories.get(known.sweep) if known is not None else None
    if known is None or history is None:
        return RunTimes()
    times = history.runs.get(RunPlace(known.task, known.model, known.repeat, known.attempt), RunTimes())
    off = ahead[str(known.sweep)]
    return replace(
        times,
        started=None if times.started is None else times.started - off,
        ended=None if times.ended is None else times.ended - off,
    )


def _page_run(
    sweep: str, result: RunResult, known: KnownRun | None, times: RunTimes, ahead: float
) -> PageRun:
    """Return a run that left something. The times of its run file are better than those of a list.

    The clock of the run was `ahead` of ours by so many seconds.
    """
    started = None if (begun := _epoch(result.started)) is None else begun - ahead
    if result.errored:
        status = RunStatus.ERRORED
    elif result.state in (RunState.COMPLETED, RunState.UNSPECIFIED):
        status = RunStatus.COMPLETED if result.rows else RunStatus.MISSING
    else:
        status = RunStatus.RUNNING
    return PageRun(
        sweep=sweep,
        task=TaskKey(result.task, result.content),
        model=result.full_model,
        status=status,
        known=known,
        result=result,
        scheduled=_epoch(known.scheduled) if known else None,
        started=times.started if started is None else started,
        ended=times.ended if started is None or result.seconds is None else started + result.seconds,
    )


def _epoch(time: str | None) -> float | None:
    return None if time is None else datetime.fromisoformat(time).timestamp()


def _counts(runs: Iterable[PageRun]) -> list[int]:
    counts = Counter(run.status for run in runs if not run.superseded)
    return [counts[state] for state in STATES]


def _status(runs: Sequence[PageRun], scores: Scores) -> Literal["complete", "incomplete"]:
    over = bool(runs) and all(run.status is RunStatus.COMPLETED for run in runs if not run.superseded)
    return "complete" if over and all(each.complete for each in scores.cells.values()) else "incomplete"


def _seconds(runs: Sequence[PageRun], histories: Histories) -> float | None:
    """The time from the first beginning to the last end, without the breaks that the timeline leaves out as well."""
    spans = [(one.began, one.last) for history in histories.values() for one in history.invocations]
    if not spans and all(run.ended is None for run in runs):
        return None
    for run in runs:
        begin = min((time for time in (run.scheduled, run.started) if time is not None), default=None)
        if begin is not None:
            spans.append((begin, max(begin, run.ended or run.started or begin)))
    if not spans:
        return None
    spans.sort()
    first, end = spans[0]
    gaps = []
    for begin, finish in spans:
        gaps.append(begin - end)
        end = max(end, finish)
    long = [gap for gap in gaps if gap >= _LONG]
    work = end - first - sum(long)
    return end - first - sum(gap for gap in long if gap >= work * _SHARE)


def _columns(runs: Sequence[PageRun], order: Order, texts: dict[str, int]) -> Columns:
    def text(value: str) -> int:
        return texts.setdefault(value, len(texts))

    def number(value: float | None) -> float:
        return math.nan if value is None else value

    def of_result(name: str) -> Iterator[float]:
        return (number(getattr(run.result, name) if run.result else None) for run in runs)

    return {
        "task": column("u2", [order.task(run.task) for run in runs]),
        "model": column("u2", [order.model(run.model) for run in runs]),
        "repeat": column("u2", [run.repeat for run in runs]),
        "attempt": column("u2", [run.attempt for run in runs]),
        "superseded": column("u1", [run.superseded for run in runs]),
        "status": column("u1", [STATES.index(run.status) for run in runs]),
        "text": column("u4", [text(cell(run.result) if run.result else "") for run in runs]),
        "error": column("u4", [text(run.error) for run in runs]),
        "run_id": column("f8", [number(run.run_id) for run in runs]),
        "cost": column("f4", of_result("cost_usd")),
        "seconds": column("f4", of_result("seconds")),
        "tokens_in": column("f8", of_result("tokens_in")),
        "tokens_out": column("f8", of_result("tokens_out")),
        "scheduled": column("f8", [number(run.scheduled) for run in runs]),
        "started": column("f8", [number(run.started) for run in runs]),
        "ended": column("f8", [number(run.ended) for run in runs]),
    }


# --- Numbers --------------------------------------------------------------------------------------------------


def _cells(scores: Scores, runs: Iterable[PageRun], order: Order) -> list[CellEntry]:
    results: dict[tuple[TaskKey, str], list[RunResult]] = {}
    for run in runs:
        if run.result is not None and not run.superseded:
            results.setdefault((run.task, run.model), []).append(run.result)
    return [
        _cell(each, results.get((key, model), []), order)
        for (key, model), each in sorted(
            scores.cells.items(), key=lambda pair: (order.task(pair[0][0]), order.model(pair[0][1]))
        )
    ]


def _cell(each: Cell, runs: Sequence[RunResult], order: Order) -> CellEntry:
    interval, bounds, mean = each.interval, each.bounds, each.mean
    return CellEntry(
        task=order.task(each.key),
        model=order.model(each.model),
        text=cell_text(each, runs),
        value=mean,
        score=each.scale.score(mean) if mean is not None and each.bounded else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        stated=interval is not None and interval.method == "stated",
        bound_low=bounds.low if bounds else None,
        bound_high=bounds.high if bounds else None,
        planned=each.planned,
        scored=each.scored,
        errored=each.errored,
        no_value=each.no_value,
        cost_usd=each.cost,
        seconds=each.time,
        tokens=sum_known(number for run in runs for number in (run.tokens_in, run.tokens_out)),
    )


def _board(ranking: Ranking, scores: Scores, order: Order) -> Board:
    rows, display = [], ranking.display()
    for row in ranking.models:
        scored = {each.key for each in scores.of(row.model, ranking.tasks) if each.totals}
        low, high = row.ranks or (None, None)
        rows.append(
            BoardRow(
                model=order.model(row.model),
                rank_low=low,
                rank_high=high,
                score=row.score,
                low=row.interval.low if row.interval else None,
                high=row.interval.high if row.interval else None,
                bound_low=row.bounds.low if row.bounds else None,
                bound_high=row.bounds.high if row.bounds else None,
                scored=row.scored,
                planned=row.planned,
                cost_usd=row.cost_usd,
                seconds=row.seconds,
                efficient=row.efficient,
                lacking=[order.task(key) for key in ranking.tasks if key not in scored],
            )
        )
    return Board(
        rows=rows,
        legend=list(display.legend),
        remarks=list(display.remarks),
    )


def _board_like_these(scores: Scores, order: Order) -> Board | None:
    estimand: Estimand = "like-these"
    # One task says nothing about tasks like it.
    return _board(rank_models(scores, estimand), scores, order) if len(scores.bounded()) > 1 else None


def _comparison(
    found: Comparison,
    order: Order,
    *,
    first: int = -1,
    second: int = -1,
    labels: tuple[str, str] | None = None,
) -> ComparisonEntry:
    overall = found.difference
    interval = found.interval()
    return ComparisonEntry(
        first=first,
        second=second,
        difference=found.mean,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=overall.p if overall else None,
        items=found.items,
        like_these=_difference(found.like_these) if found.like_these else None,
        remarks=list(found.remarks(labels)) if labels else [],
        pairs=[_pair(pair, order) for pair in found.pairs],
        flips=[
            FlipEntry(
                task=order.task(flip.key),
                model=order.model(flip.model) if flip.model else -1,
                item=flip.item,
                before=flip.before,
                after=flip.after,
            )
            for pair in found.pairs
            for flip in pair.flips
        ],
    )


def _difference(found: Difference) -> DifferenceEntry:
    interval = interval_of(found)
    return DifferenceEntry(difference=found.mean, low=interval.low, high=interval.high, p=found.p)


def _overall(first: int, second: int, tasks: Sequence[Differences]) -> ComparisonEntry:
    """Return the difference of two models over all tasks, without those of each."""
    found = paired_difference(tasks) if tasks else None
    interval = interval_of(found) if found else None
    return ComparisonEntry(
        first=first,
        second=second,
        difference=fmean([task.total / task.items for task in tasks]) if tasks else None,
        low=interval.low if interval else None,
        high=interval.high if interval else None,
        p=found.p if found else None,
        items=round(math.fsum(task.items for task in tasks)),
        pairs=None,
        flips=[],
    )


def _pair(pair: Pair, order: Order) -> PairEntry:
    return PairEntry(
        task=order.task(pair.key),
        model=order.model(pair.model) if pair.model else -1,
        items=pair.items,
        lacking=pair.lacking,
        better=pair.better,
        worse=pair.worse,
        difference=pair.difference,
        low=pair.interval.low,
        high=pair.interval.high,
        p=pair.p,
        adjusted=pair.adjusted,
        smallest=pair.smallest,
    )


def _before(title: str, old: ResultSet, now: ResultSet, order: Order, margin: float) -> Before:
    before, after = old.scores_with(now)
    common = [model for model in before.models if model in after.models]
    decided = gate(before, after, margin, models=common)
    found = decided.comparison
    names = task_names([*before.tasks, *after.tasks])

    def errors(scores: Scores) -> int:
        return sum(each.errored for (_, model), each in scores.cells.items() if model in common)

    return Before(
        title=title,
        comparison=_comparison(found, order),
        verdict=decided.verdict.value,
        conclusion=decided.conclusion,
        coverage=decided.coverage,
        errors_before=errors(before),
        errors_now=errors(after),
        errors=_errors(before, after, order),
        only_before=[names[key] for key in found.only_first],
        only_now=[names[key] for key in found.only_second],
    )


def _errors(before: Scores, after: Scores, order: Order) -> list[ErrorEntry]:
    """Return where attempts errored, of the tasks and models that both have."""
    return [
        ErrorEntry(task=order.task(key), model=order.model(model), before=old.errored, now=new.errored)
        for (key, model), new in after.cells.items()
        if (old := before.cells.get((key, model))) is not None and (old.errored or new.errored)
    ]
