"""Results as tables: tasks by models, and what each model used."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from fanbench._util.text import one_line
from fanbench.results.combine import sum_known
from fanbench.results.display import MISSING, NO_MODEL, Table
from fanbench.results.scores import Cell, Scores, TaskKey, task_names
from fanbench.results.selection import ALL, Selection
from fanbench.results.types import Cost, RunResult
from fanbench.wire.candidates import normalize_label
from fanbench.wire.messages import RunState

__all__ = [
    "MADE_AGAIN",
    "Usage",
    "cell",
    "cell_text",
    "cross_table",
    "model_labels",
    "table",
    "usage",
    "usage_table",
]

T = TypeVar("T")

#: What follows a result that does not count, because there is a later attempt.
MADE_AGAIN = " (made again)"

# With more models than this, models become rows: a terminal has more lines than columns.
_MODELS_ACROSS = 4


@dataclass(frozen=True, slots=True)
class Usage:
    """The totals of one model's runs; `None` if no run reported the figure. Seconds are wall time.

    What other models used in these runs, such as a judge, is not its own.
    """

    model: str
    runs: int
    tokens_in: int | None
    tokens_out: int | None
    cost: Cost
    judge_tokens_in: int | None
    judge_tokens_out: int | None
    judge_cost: Cost
    seconds: float | None

    @property
    def cost_usd(self) -> float | None:
        """The cost of all runs; `None` if any run does not report it."""
        return self.cost.total


def table(
    scores: Scores, results: Sequence[RunResult], *, every: bool = False, only: Selection = ALL
) -> Table:
    """Return tasks by models, both in alphabetical order, as `cross_table` does.

    Each cell pools all runs of the pair that count; with `every`, it has each run by itself, the newest first. Versions
    of a task with other content, and models of other owners, are apart. Whatever is left out by `only`, the cells are
    the same; `failed` leaves out the tasks and the models that have nothing of this kind.
    """
    runs: dict[tuple[TaskKey, str], list[RunResult]] = defaultdict(list)
    for run in results:
        runs[TaskKey(run.task, run.content), run.full_model].append(run)

    def text(task: TaskKey, model: str) -> str:
        its = runs.get((task, model), [])
        if every:
            return ", ".join(f"{cell(run)}{MADE_AGAIN * run.superseded}" for run in its) or MISSING
        return cell_text(scores.cells.get((task, model)), [run for run in its if not run.superseded])

    by_task: dict[TaskKey, list[Cell]] = defaultdict(list)
    by_model: dict[str, list[Cell]] = defaultdict(list)
    for shown in only.cells(scores, [run for run in results if every or not run.superseded]):
        by_task[shown.key].append(shown)
        by_model[shown.model].append(shown)
    tasks = _ordered(_task_labels(scores), by_task, only)
    models = _ordered(model_labels(scores.models), by_model, only)
    return cross_table(tasks, models, text)


def cross_table(tasks: Mapping[T, str], models: Mapping[str, str], text: Callable[[T, str], str]) -> Table:
    """Return tasks by models, given their labels and the `text` of each cell. Many models become rows."""
    if len(models) <= max(_MODELS_ACROSS, len(tasks)):
        rows = tuple((label, *(text(task, model) for model in models)) for task, label in tasks.items())
        return Table(("task", *models.values()), rows)
    rows = tuple((label, *(text(task, model) for task in tasks)) for model, label in models.items())
    return Table(("model", *tasks.values()), rows)


def _ordered(labels: Mapping[T, str], cells: Mapping[T, Sequence[Cell]], only: Selection) -> dict[T, str]:
    """Return the labels of those tasks or models that have cells to be shown, in the order of `only`."""
    names = only.sort(filter(cells.__contains__, labels), lambda name: only.figure_of(cells[name]))
    return {name: labels[name] for name in names}


def _task_labels(scores: Scores) -> dict[TaskKey, str]:
    """Name tasks, those of several contents from the oldest version to the newest."""
    newest: dict[TaskKey, int] = defaultdict(int)
    for (key, _), each in scores.cells.items():
        newest[key] = max(newest[key], *each.versions, 0)
    names = task_names(scores.tasks)
    return {key: names[key] for key in sorted(names, key=lambda key: (key.task, newest[key], key))}


def model_labels(models: Iterable[str]) -> dict[str, str]:
    """Name models by their slugs, and with their owners where several have a model by that slug."""
    slugs = Counter(normalize_label(model) for model in models)
    labels = {model: slug if slugs[slug := normalize_label(model)] == 1 else model for model in models}
    return {model: label or NO_MODEL for model, label in sorted(labels.items(), key=lambda pair: pair[1])}


# --- Cells ------------------------------------------------------------------------------------------------------


def cell_text(scores: Cell | None, runs: Sequence[RunResult]) -> str:
    """Return what all `runs` of a task on a model come to.

    That is ✓ or ✗ with the number of assertions that passed, or the mean with its interval: `± 0.1` if the task stated
    it, `[0.2, 0.4]` if it was computed here. `3/4` means that 3 of 4 planned items have a score. Without any score, it
    is what the server reports, as `0.8 (server)`, or a dict's numbers, "errored", "no run file", or the run's state.
    """
    if scores is None:
        return MISSING
    if scores.mean is None and scores.server_mean is not None:
        return f"{_number(scores.server_mean)} (server)"
    if scores.mean is None:
        return _without_score(scores, runs)
    is_mark = scores.boolean and scores.planned == 1
    text = _mark(scores.mean == 1.0, runs) if is_mark else _mean(scores)
    if not scores.complete:
        return f"{text} {scores.scored}/{scores.planned}"
    # All known items have a score, and yet something went wrong: there may have been more of them.
    return f"{text} (errored)" if any(run.errored for run in runs) else text


def _mark(passed: bool, runs: Sequence[RunResult]) -> str:
    held, total = sum(run.assertions_passed for run in runs), sum(run.assertions_total for run in runs)
    return ("✓" if passed else "✗") + (f" {held}/{total}" if total else "")


def _mean(scores: Cell) -> str:
    mean, interval = _number(scores.mean or 0.0), scores.interval
    if interval is None:
        varies = scores.lowest < scores.highest and not scores.bounded
        return mean + (f" ({_number(scores.lowest)} to {_number(scores.highest)})" if varies else "")
    if interval.method == "stated":
        return f"{mean} ± {interval.half_width:.2g}"
    # One attempt says so little that the mark or number alone is easier to read.
    return mean if scores.scored == 1 else f"{mean} [{interval.low:.2g}, {interval.high:.2g}]"


def _without_score(scores: Cell, runs: Sequence[RunResult]) -> str:
    if dicts := [run.value for run in runs if isinstance(run.value, dict)]:
        return " | ".join(map(_dict, dicts))
    kinds = {"errored": scores.errored, "no value": scores.no_value, "missing": scores.missing}
    present = {word: number for word, number in kinds.items() if number}
    if len(present) > 1:
        return ", ".join(f"{number} {word}" for word, number in present.items())
    if "errored" in present:
        return "errored"
    if "missing" in present and not runs:
        return MISSING
    states = {_state(run) for run in runs} or {"no run file"}
    return states.pop() if len(states) == 1 else "no value"


def _state(run: RunResult) -> str:
    """Why a run that did not error has no value."""
    if not run.rows:
        return "no run file"
    ended = run.state in (RunState.COMPLETED, RunState.UNSPECIFIED)
    return "no value" if ended else run.state.label.lower()


def cell(run: RunResult) -> str:
    """Return what one run came to, as `cell_text` does."""
    figures = run.figures
    if run.value is None or (isinstance(run.value, float) and not math.isfinite(run.value)):
        return "errored" if run.errored else _state(run)
    match run.value:
        case bool(passed):
            text = _mark(passed, [run])
        case dict(values):
            text = _dict(values)
        case number:
            text = _number(number)
            if run.interval is not None:
                text += f" ± {run.interval:.2g}"
            elif figures.items_scored > 1 and figures.low is not None and figures.high is not None:
                text += f" [{figures.low:.2g}, {figures.high:.2g}]"
    if figures.items_scored and not figures.complete:
        return f"{text} {figures.items_scored}/{figures.items_planned}"
    return f"{text} (errored)" if run.errored else text


def _dict(values: Mapping[str, Any]) -> str:
    shown = {key: _number(item) if isinstance(item, float) else str(item) for key, item in values.items()}
    return one_line(", ".join(f"{key}={item}" for key, item in shown.items()) or "{}")


def _number(value: float) -> str:
    """Four significant digits: enough to compare models, and easy to read."""
    if not math.isfinite(value):
        return MISSING
    if abs(value) < 1e6:
        return f"{value:.4g}" if abs(value) < 1e4 else f"{value:.0f}"
    return f"{value:g}"


def usage(results: Sequence[RunResult]) -> tuple[Usage, ...]:
    """Return one entry per model of `results`, in alphabetical order."""
    entries: list[Usage] = []
    for model, label in model_labels(sorted({run.full_model for run in results})).items():
        runs = [run for run in results if run.full_model == model]
        seconds = [run.seconds for run in runs if run.seconds is not None]
        entries.append(
            Usage(
                model="" if label == NO_MODEL else label,
                runs=len(runs),
                tokens_in=sum_known(run.tokens_in for run in runs),
                tokens_out=sum_known(run.tokens_out for run in runs),
                cost=Cost.of([run.cost_usd for run in runs]),
                judge_tokens_in=sum_known(run.judge_tokens_in for run in runs),
                judge_tokens_out=sum_known(run.judge_tokens_out for run in runs),
                judge_cost=Cost.of([run.judge_cost_usd for run in runs if run.judge_tokens_in is not None]),
                seconds=sum(seconds) if seconds else None,
            )
        )
    return tuple(entries)


def usage_table(results: Sequence[RunResult], only: Selection = ALL) -> Table:
    """Return the runs, tokens and seconds of each model, and its cost if any run has one.

    What judges used in its runs is apart, if any was asked. The order is that of `only`, if it is that of a column.
    """
    figures: dict[str, Callable[[Usage], float | None]] = {
        "cost": lambda entry: entry.cost.at_least,
        "time": lambda entry: entry.seconds,
    }
    entries = only.sort(usage(results), figures.get(only.order, lambda entry: 0.0))
    columns: list[tuple[str, Callable[[Usage], str]]] = [
        ("model", lambda entry: entry.model or NO_MODEL),
        ("runs", lambda entry: str(entry.runs)),
        ("tokens in", lambda entry: _known(entry.tokens_in)),
        ("tokens out", lambda entry: _known(entry.tokens_out)),
        ("seconds", lambda entry: MISSING if entry.seconds is None else f"{entry.seconds:.1f}"),
    ]
    if any(entry.cost.known for entry in entries):
        columns.append(("cost", lambda entry: str(entry.cost) if entry.cost.known else MISSING))
    if any(entry.judge_tokens_in is not None for entry in entries):
        columns.append(("judge in", lambda entry: _known(entry.judge_tokens_in)))
        columns.append(("judge out", lambda entry: _known(entry.judge_tokens_out)))
    if any(entry.judge_cost.known for entry in entries):
        columns.append(
            ("judge cost", lambda entry: str(entry.judge_cost) if entry.judge_cost.known else MISSING)
        )
    rows = tuple(tuple(value(entry) for _, value in columns) for entry in entries)
    return Table(tuple(name for name, _ in columns), rows)


def _known(number: int | None) -> str:
    return MISSING if number is None else str(number)
