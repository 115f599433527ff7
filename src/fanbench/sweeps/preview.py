"""What a sweep is about to do, said before anything is touched."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import anyio

from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.quota import Quota, Quotas, fetch_quotas
from fanbench.sweeps.attempts import Attempt, PlannedRun, by_planned_run, of_identity, wants_log, wants_output
from fanbench.sweeps.decide import PushStep, Step, next_step, push_step
from fanbench.sweeps.journal import Records
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.wire.messages import CreationState, Task

__all__ = ["Counts", "Preview", "TaskPreview", "preview", "read_quotas"]

# What a push, and the watching of one task's runs, take in calls as a rule: how long they last is not known.
CREATION_LOOKS = 3
RUN_POLLS = 5
# Nobody waits for the quota longer than this many seconds: it is a kindness.
QUOTA_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    """Planned runs by what they need next: each is in one of these.

    `find`: it was, or may have been, scheduled before; `collect`: it has ended, its output or log is missing.
    """

    schedule: int = 0
    find: int = 0
    watch: int = 0
    collect: int = 0
    done: int = 0

    @property
    def planned(self) -> int:
        return self.schedule + self.find + self.watch + self.collect + self.done


@dataclass(frozen=True, slots=True)
class TaskPreview:
    """One task. `pushed`: a version will be made; not if all its runs are under way or done already."""

    task: str
    push: PushStep
    pushed: bool
    counts: Counts
    calls: int
    file: str | None = None
    version: int | None = None
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Preview:
    """The whole plan. `calls` is about how many calls it takes, `quotas` what is left of what the server grants."""

    output: str
    models: tuple[str, ...]
    repeats: int
    tasks: tuple[TaskPreview, ...]
    counts: Counts
    calls: int
    quotas: tuple[Quota, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def pushes(self) -> int:
        return sum(task.pushed for task in self.tasks)

    @property
    def nothing_to_do(self) -> bool:
        return self.counts.done == self.counts.planned

    def lines(self) -> list[str]:
        """Plain text: a line a task, then the sums, what is left, and warnings."""
        rows = [(task.task, _push_words(task), _count_words(task.counts)) for task in self.tasks]
        names, pushes = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
        return [
            *(f"{name:<{names}}  {push:<{pushes}}  {counts}" for name, push, counts in rows),
            "",
            self._size(),
            self._sum(),
            *map(_quota_words, self.quotas),
            *(f"Warning: {warning}" for warning in self.warnings),
        ]

    def _size(self) -> str:
        repeats = f" × {self.repeats} repeats" if self.repeats > 1 else ""
        return (
            f"{_many(len(self.tasks), 'task')} × {_many(len(self.models), 'model')}{repeats}: "
            f"{_many(self.counts.planned, 'run')}, results in {self.output}"
        )

    def _sum(self) -> str:
        if self.nothing_to_do:
            return "Everything is done. Files that are gone or were edited will be downloaded again, nothing else."
        pushes = f"push {_many(self.pushes, 'task')}, " if self.pushes else ""
        return f"Will {pushes}{_count_words(self.counts)}; about {_many(self.calls, 'call')}"

    @property
    def record(self) -> dict[str, Any]:
        """The same for programs: of JSON's types throughout."""
        fields = asdict(self)
        fields["quotas"] = [_quota_record(quota) for quota in self.quotas]
        return {**fields, "planned": self.counts.planned, "pushes": self.pushes}


def preview(plan: SweepPlan, records: Records | None = None, quotas: Quotas | None = None) -> Preview:
    """What `plan` comes to if its journal is `records` (`None`: there is none yet). Asks and changes nothing.

    What is in the journal is taken for being on disk still; the sweep itself looks.
    """
    known = records.tasks() if records is not None else {}
    attempts = by_planned_run(records.attempts() if records is not None else ())
    planned_runs: defaultdict[str, list[PlannedRun]] = defaultdict(list)
    for planned_run in plan.planned_runs:
        planned_runs[planned_run.task].append(planned_run)
    tasks = tuple(
        _task(
            task,
            push_step(known.get(task.slug), task.identity, task.seen),
            planned_runs[task.slug],
            attempts,
            plan,
        )
        for task in plan.tasks
    )
    left = quotas.known if quotas is not None else ()
    counts = _sum_of(task.counts for task in tasks)
    return Preview(
        output=str(plan.output),
        models=plan.models,
        repeats=plan.repeats,
        tasks=tasks,
        counts=counts,
        calls=sum(task.calls for task in tasks),
        quotas=left,
        warnings=(
            *_task_warnings(plan.tasks, tasks),
            *_quota_warnings(counts.schedule, left, plan.rules.max_cost),
        ),
    )


# --- One task -----------------------------------------------------------------------------------------------


def _task(
    task: PlannedTask,
    push: PushStep,
    planned_runs: Sequence[PlannedRun],
    attempts: Mapping[PlannedRun, Sequence[Attempt]],
    plan: SweepPlan,
) -> TaskPreview:
    mine = {
        planned_run: of_identity(attempts.get(planned_run, ()), task.identity) for planned_run in planned_runs
    }
    steps = {
        planned_run: next_step(mine[planned_run], task.identity, retry_errored=plan.rules.retry_errored)
        for planned_run in planned_runs
    }
    by_step: Counter[str] = Counter(steps.values())
    counts = Counts(**by_step)
    pushed = push.needs_push and counts.schedule > 0
    rounds = len({planned_run.repeat for planned_run, step in steps.items() if step is Step.SCHEDULE})
    return TaskPreview(
        task=task.slug,
        push=push,
        pushed=pushed,
        counts=counts,
        calls=_calls(counts, rounds, [one for of_unit in mine.values() for one in of_unit], pushed),
        file=str(task.file) if task.file else None,
        version=task.seen.slug.version_number if task.seen else None,
        datasets=task.datasets,
    )


def _calls(counts: Counts, rounds: int, attempts: Iterable[Attempt], pushed: bool) -> int:
    """About how many calls a task takes: the plan's own, which are one a task, have been made.

    - a push: the create call, and `CREATION_LOOKS` at its creation;
    - scheduling: a list of the runs there are, and a call for each repeat (all models in one);
    - watching: `RUN_POLLS` lists, whatever the number of runs;
    - a run that is to end: its log and its output; one that has ended: what is missing of these.

    Retries, runs that are refused while another is in flight and runs of hours make it more.
    """
    under_way = counts.schedule + counts.find + counts.watch
    missing = [(wants_output(one), wants_log(one)) for one in attempts]
    return (
        (1 + CREATION_LOOKS if pushed else 0)
        + (1 + rounds if counts.schedule else 0)
        + (RUN_POLLS + 2 * under_way if under_way else 0)
        + sum(output + log for output, log in missing)
    )


def _sum_of(counts: Iterable[Counts]) -> Counts:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(asdict(one))
    return Counts(**total)


# --- Warnings -----------------------------------------------------------------------------------------------


def _task_warnings(planned: Iterable[PlannedTask], tasks: Iterable[TaskPreview]) -> Iterable[str]:
    for plan, task in zip(planned, tasks, strict=True):
        if plan.seen is None or not task.counts.schedule:
            continue
        if task.push == PushStep.EXISTING and _unfit(plan.seen):
            yield f"{task.task} cannot be run: its creation ended as {plan.seen.creation_state.label}."
        if task.pushed and (lost := _lost_datasets(plan, plan.seen)):
            yield f"{task.task} loses the datasets of its version {task.version}: {', '.join(lost)}."


def _unfit(task: Task) -> bool:
    state = task.creation_state
    return not state.pending and state not in (CreationState.COMPLETED, CreationState.UNSPECIFIED)


def _lost_datasets(plan: PlannedTask, seen: Task) -> list[str]:
    there = seen.options.dataset_data_sources if seen.options else []
    return [dataset for dataset in there if dataset not in plan.datasets]


def _quota_warnings(runs: int, quotas: Iterable[Quota], max_cost: float | None) -> Iterable[str]:
    for quota in quotas:
        if quota.kind == "task_runs" and runs > quota.remaining:
            yield f"{_many(runs, 'run')} to schedule, and only {quota.remaining:g} left of the {quota.period} quota."
        elif quota.kind == "model_proxy" and runs and quota.remaining <= 0:
            yield f"Nothing is left of the {quota.period} quota of the Model Proxy."
        elif quota.kind == "model_proxy" and max_cost is not None and max_cost > quota.remaining:
            yield (
                f"The {quota.period} quota of the Model Proxy has ${quota.remaining:.2f} left, "
                f"less than the ${max_cost:.2f} that the sweep may cost."
            )


async def read_quotas(client: Api) -> Quotas | None:
    """What is left of the quotas; `None` where the server does not say, or not within `QUOTA_PATIENCE`."""
    with anyio.move_on_after(QUOTA_PATIENCE):
        try:
            return await fetch_quotas(client)
        except FanbenchError:
            return None
    return None


# --- Words --------------------------------------------------------------------------------------------------


def _many(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _push_words(task: TaskPreview) -> str:
    if task.push.needs_push and not task.pushed:
        return f"{task.push} (no need)"
    return f"{task.push} (version {task.version})" if task.version and not task.pushed else str(task.push)


_VERBS = {"schedule": "schedule {}", "find": "look for {}", "watch": "watch {}", "collect": "download {}"}


def _count_words(counts: Counts) -> str:
    """`schedule 3, download 1; 2 done already`."""
    parts = [
        words.format(f"{getattr(counts, step):,}") for step, words in _VERBS.items() if getattr(counts, step)
    ]
    done = f"{counts.done:,} done already" if counts.done else ""
    return "; ".join(part for part in (", ".join(parts), done) if part)


def _quota_words(quota: Quota) -> str:
    if quota.kind == "task_runs":
        return f"Left of the {quota.period} quota: {quota.remaining:g} of {quota.total:g} runs"
    return (
        f"Left of the {quota.period} quota of the Model Proxy: ${quota.remaining:.2f} of ${quota.total:.2f}"
    )


def _quota_record(quota: Quota) -> dict[str, Any]:
    refill = quota.refill.isoformat() if quota.refill else None
    return {**asdict(quota), "refill": refill, "remaining": quota.remaining}
