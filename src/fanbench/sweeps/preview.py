"""What a sweep is about to do, shown before anything is changed."""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import anyio

from fanbench._util.text import error_line, first_few, iso_time, many
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.queue import EnqueueMode
from fanbench.operations.quota import Quota, Quotas, fetch_quotas
from fanbench.results.scores import Scores
from fanbench.sweeps.adoption import match_runs
from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    TaskRecord,
    by_planned_run,
    newest,
    of_identity,
    real_ones,
    wants_log,
    wants_output,
)
from fanbench.sweeps.decide import (
    PushStep,
    Stage,
    Step,
    first_stage,
    is_ready,
    next_stage,
    next_step,
    push_step,
)
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.power import known_items, power_sentences
from fanbench.sweeps.reruns import Reruns
from fanbench.wire.candidates import requests_for
from fanbench.wire.messages import CreationState, Run
from fanbench.wire.metadata import Metadata

__all__ = ["Counts", "Preview", "TaskPreview", "preview", "read_quotas"]

# The usual number of calls that a push takes, and the polls of one task's runs: how long they last is not known.
CREATION_POLLS = 3
RUN_POLLS = 5
# Seconds to wait for the quotas, which are shown only as a courtesy.
QUOTA_PATIENCE = 5.0


@dataclass(frozen=True, slots=True)
class Counts:
    """The number of planned runs by their next step (see `Step`); each is counted once.

    `adopt` runs are on the server, and are taken over instead of being scheduled. `blocked` runs would be scheduled if
    the creation of their task had not failed. `again` of those to schedule have ended before.
    """

    schedule: int = 0
    find: int = 0
    watch: int = 0
    collect: int = 0
    done: int = 0
    blocked: int = 0
    again: int = 0
    adopt: int = 0

    @property
    def planned(self) -> int:
        return self.adopt + self.schedule + self.find + self.watch + self.collect + self.done + self.blocked

    @property
    def steps(self) -> frozenset[Step]:
        scheduled = {Step.SCHEDULE} if self.adopt else set()
        return frozenset(scheduled.union(step for step in Step if getattr(self, step.value)))

    def __str__(self) -> str:
        """`schedule 3 (1 again), download 1; 2 done already; 3 blocked`"""
        verbs = {
            "adopt": self.adopt,
            "schedule": self.schedule,
            "look for": self.find,
            "watch": self.watch,
            "download": self.collect,
        }
        again = {"schedule": f" ({self.again:,} again)"} if self.again else {}
        steps = ", ".join(
            f"{verb} {number:,}{again.get(verb, '')}" for verb, number in verbs.items() if number
        )
        done = f"{self.done:,} done already" if self.done else ""
        blocked = f"{self.blocked:,} blocked" if self.blocked else ""
        return "; ".join(filter(None, [steps, done, blocked]))


@dataclass(frozen=True, slots=True)
class TaskPreview:
    """One task.

    `pushed` is True if a version will be created, which is not needed where no run is scheduled; `fails` if its
    creation certainly fails. `items` is the number of its items, as far as earlier results tell. `offered` is the
    number of its planned runs for which the server has runs, where these are not taken.
    """

    task: str
    push: PushStep
    pushed: bool
    counts: Counts
    calls: int
    file: str | None = None
    version: int | None = None
    datasets: tuple[str, ...] = ()
    fails: bool = False
    items: int | None = None
    offered: int = 0


@dataclass(frozen=True, slots=True)
class Preview:
    """The whole plan.

    `calls` is an estimate of the API calls, `quotas` is what is left of the server's quotas, and `stage` is the
    first stage with something to do. `enqueued_for` is the benchmark for which the server's queue is to make runs, if
    any. `power` are sentences about what the results could show, if that was asked for.
    """

    output: str
    models: tuple[str, ...]
    repeats: int
    tasks: tuple[TaskPreview, ...]
    counts: Counts
    calls: int
    quotas: tuple[Quota, ...] = ()
    warnings: tuple[str, ...] = ()
    stage: Stage = "collect"
    judge: str = ""
    enqueue: EnqueueMode = "never"
    enqueued_for: str = ""
    power: tuple[str, ...] = ()

    @property
    def pushes(self) -> int:
        return sum(task.pushed for task in self.tasks)

    @property
    def nothing_to_do(self) -> bool:
        return self.counts.done + self.counts.blocked == self.counts.planned

    def lines(self) -> list[str]:
        """Return plain text: one line per task, then the sums, the quotas and the warnings."""
        rows = []
        for task in self.tasks:
            push = str(task.push)
            if task.fails:
                push = f"{push} (will fail)"
            elif task.push.needs_push and not task.pushed:
                push = f"{push} (no need)"
            elif task.push is PushStep.SAME:
                push = f"same as version {task.version}"
            elif task.version and not task.pushed:
                push = f"{push} (version {task.version})"
            rows.append((task.task, push, str(task.counts)))
        names, pushes = (max((len(row[at]) for row in rows), default=0) for at in (0, 1))
        repeats = f" × {self.repeats} repeats" if self.repeats > 1 else ""
        pushing = f"push {many(self.pushes, 'task')}, " if self.pushes else ""
        judged = f" (judge: {self.judge})" if self.judge else ""
        total = f"Will {pushing}{self.counts}; about {many(self.calls, 'call')}"
        if self.nothing_to_do and self.counts.blocked:
            total = f"Nothing can be done: {self.counts}"
        elif self.nothing_to_do:
            total = "Everything is done. Files that are missing or were edited will be downloaded again, nothing else."
        return [
            *(f"{name:<{names}}  {push:<{pushes}}  {counts}" for name, push, counts in rows),
            "",
            f"{many(len(self.tasks), 'task')} × {many(len(self.models), 'model')}{repeats}{judged}: "
            f"{many(self.counts.planned, 'run')}, results in {self.output}",
            total,
            *self._offer(),
            *self._queueing(),
            *self.power,
            *(
                f"Left of the {quota.period} quota: {quota.remaining:.12g} of {quota.total:.12g} runs"
                if quota.kind == "task_runs"
                else f"Left of the {quota.period} quota of the Model Proxy: "
                f"${quota.remaining:.2f} of ${quota.total:.2f}"
                for quota in self.quotas
            ),
            *(f"Warning: {warning}" for warning in self.warnings),
        ]

    def _offer(self) -> Iterator[str]:
        if (offered := sum(task.offered for task in self.tasks)) == 1:
            yield "1 run of the same content is on the server: --adopt takes it."
        elif offered:
            yield f"{many(offered, 'run')} of the same content are on the server: --adopt takes them."

    def _queueing(self) -> Iterator[str]:
        if self.enqueue != "never" and self.counts.schedule:
            condition = ", if your account has one" if self.enqueue == "auto" else ""
            yield f"Runs go into the server's queue{condition}."
            if self.enqueued_for:
                yield f"There they count for the benchmark {self.enqueued_for}, as far as their tasks are in it."

    @property
    def record(self) -> dict[str, Any]:
        """The same for programs, in JSON's types."""
        fields = asdict(self)
        del fields["stage"]
        fields["quotas"] = [
            {
                **asdict(quota),
                "refill": iso_time(quota.refill) if quota.refill else None,
                "remaining": quota.remaining,
            }
            for quota in self.quotas
        ]
        return {**fields, "planned": self.counts.planned, "pushes": self.pushes}


def preview(
    plan: SweepPlan,
    journal: Journal | None = None,
    quotas: Quotas | None = None,
    scores: Scores | None = None,
) -> Preview:
    """Return what `plan` comes to, given its `journal`, if it has one. Nothing is asked or changed.

    With the `scores` of the results so far, it has what the results of the whole plan could show.

    Files that the journal lists are assumed to be on disk; the sweep itself checks them.
    """
    known = journal.tasks() if journal is not None else {}
    attempts = by_planned_run(journal.attempts() if journal is not None else ())
    reruns = Reruns.read(journal).with_request(plan, attempts)
    items = known_items(scores) if scores is not None else {}
    runs: defaultdict[str, list[PlannedRun]] = defaultdict(list)
    for planned_run in plan.planned_runs:
        runs[planned_run.task].append(planned_run)
    tasks = tuple(
        _preview_task(
            plan,
            task,
            push_step(
                known.get(task.slug),
                task.identity,
                task.seen,
                same=task.same_as_server,
                retry_failed=plan.rules.retry_failed,
            ),
            runs[task.slug],
            attempts,
            reruns,
            items.get(task.slug),
        )
        for task in plan.tasks
    )
    total: Counter[str] = Counter()
    for shown in tasks:
        total.update(asdict(shown.counts))
    stages = {
        next_stage(shown.counts.steps, ready=is_ready(known.get(task.slug), task.identity))
        for task, shown in zip(plan.tasks, tasks, strict=True)
    }
    left = quotas.known if quotas is not None else ()
    return Preview(
        output=str(plan.output),
        models=plan.models,
        repeats=plan.repeats,
        tasks=tasks,
        counts=Counts(**total),
        calls=sum(task.calls for task in tasks),
        quotas=left,
        warnings=tuple(_warnings(plan, tasks, known, attempts, reruns, left)),
        stage=first_stage(stages),
        judge=plan.judge,
        enqueue=plan.rules.enqueue,
        enqueued_for=next(filter(None, map(plan.attributed_to, plan.tasks)), ""),
        power=tuple(power_sentences([task.slug for task in plan.tasks], plan.repeats, items))
        if scores is not None
        else (),
    )


def _preview_task(
    plan: SweepPlan,
    task: PlannedTask,
    push: PushStep,
    planned_runs: Sequence[PlannedRun],
    attempts: Mapping[PlannedRun, Sequence[Attempt]],
    reruns: Reruns,
    items: int | None,
) -> TaskPreview:
    """Preview one task, with an estimate of its calls. The plan itself has already made one call per task.

    - A push takes the create call, and `CREATION_POLLS` polls of the creation.
    - Scheduling takes a list of the existing runs, and one call per repeat for all models together, at each effort.
    - Watching takes `RUN_POLLS` lists, whatever the number of runs.
    - A run that has yet to end takes a log and an output, a run that has ended whatever is missing of these.

    Retries, runs that are refused while another is in flight, and runs that take hours need more.
    """
    rules = plan.rules
    mine = {each: of_identity(attempts.get(each, ()), task.identity) for each in planned_runs}
    steps = {
        each: next_step(
            made, task.identity, retry_errored=rules.retry_errored, rerun_after=reruns.after.get(each, 0)
        )
        for each, made in mine.items()
    }
    by_step: Counter[str] = Counter(steps.values())
    if push is PushStep.FAILED:
        by_step["blocked"] = by_step.pop(Step.SCHEDULE, 0)
    else:
        by_step["again"] = sum(
            step is Step.SCHEDULE and any(one.phase is Phase.ENDED for one in mine[each])
            for each, step in steps.items()
        )
    there = {} if push.needs_push else _runs_to_take(task, steps, mine, attempts)
    if rules.adopt:
        by_step[Step.SCHEDULE] -= len(there)
        by_step["adopt"] = len(there)
    counts = Counts(**by_step)
    pushed = push.needs_push and counts.schedule > 0
    taken = there if rules.adopt else {}
    due = [each for each, step in steps.items() if step is Step.SCHEDULE and each not in taken]
    requests = requests_for({each.model for each in due}, plan.choice.agents)
    rounds = len({each.repeat for each in due}) * len(requests)
    under_way = counts.adopt + counts.schedule + counts.find + counts.watch
    calls = 1 + CREATION_POLLS if pushed else 0
    calls += 1 + rules.adopt + rounds if counts.schedule or counts.adopt else 0
    calls += RUN_POLLS + 2 * under_way if under_way else 0
    calls += sum(wants_output(one) + wants_log(one) for made in mine.values() for one in made)
    return TaskPreview(
        task=task.slug,
        push=push,
        pushed=pushed,
        counts=counts,
        calls=calls,
        file=str(task.file) if task.file else None,
        version=task.seen.slug.version_number if task.seen else None,
        datasets=task.datasets,
        fails=pushed and task.fails,
        items=items,
        offered=0 if rules.adopt else len(there),
    )


def _runs_to_take(
    task: PlannedTask,
    steps: Mapping[PlannedRun, Step],
    mine: Mapping[PlannedRun, Sequence[Attempt]],
    attempts: Mapping[PlannedRun, Sequence[Attempt]],
) -> Mapping[PlannedRun, Run]:
    """Return which runs on the server may be taken for planned runs that have not been made before."""
    if not task.runs:
        return {}
    new = [
        each
        for each, step in steps.items()
        if step is Step.SCHEDULE and not real_ones(mine[each], task.identity)
    ]
    ours = {one.run_id for made in attempts.values() for one in made if one.run_id is not None}
    return match_runs(task.runs, new, ours)


def _warnings(
    plan: SweepPlan,
    tasks: Sequence[TaskPreview],
    known: Mapping[str, TaskRecord],
    attempts: Mapping[PlannedRun, Sequence[Attempt]],
    reruns: Reruns,
    quotas: Iterable[Quota],
) -> Iterator[str]:
    runs = sum(task.counts.schedule for task in tasks)
    if runs:
        yield from plan.choice.warnings
    if plan.benchmark and plan.benchmark.change:
        yield plan.benchmark.change
    yield from (f"{file} has no task, and is skipped." for file in plan.skipped)
    yield from _file_warnings(plan.tasks, tasks)
    yield from _failed_warnings(known, tasks)
    yield from _task_warnings(plan.tasks, tasks)
    yield from _version_warnings(plan.tasks, tasks)
    yield from _page_warnings(plan.tasks, tasks)
    yield from _rerun_warnings(plan, attempts, reruns)
    yield from _quota_warnings(runs, quotas, plan.rules.max_cost)


# How many warnings about the files are shown.
_FINDINGS = 10


def _file_warnings(planned: Iterable[PlannedTask], tasks: Iterable[TaskPreview]) -> Iterator[str]:
    """What `check` warns about in the files that are pushed: the pushes that certainly fail, then the rest."""
    found = {
        finding.text(task.file, level=False): (finding, task.file)
        for plan, task in zip(planned, tasks, strict=True)
        if task.pushed and task.file
        for finding in plan.warnings
    }
    texts = sorted(found, key=lambda text: not found[text][0].fails)
    shown, rest = texts[:_FINDINGS], texts[_FINDINGS:]
    yield from shown
    if rest:
        files = shlex.join(dict.fromkeys(found[text][1] for text in rest))
        yield f"{many(len(rest), 'more warning')} about the files: fanbench check {files}"


def _failed_warnings(known: Mapping[str, TaskRecord], tasks: Iterable[TaskPreview]) -> Iterator[str]:
    """Say why content is not pushed again, and how it would be."""
    for task in tasks:
        if task.counts.blocked:
            record = known[task.task]
            yield (
                f"{task.task} is not pushed again: the creation of this content failed (version {record.version}). "
                f"Change {task.file}, or add --retry-errored 1 to push it unchanged. {error_line(record.error)}"
            )


def _task_warnings(planned: Iterable[PlannedTask], tasks: Iterable[TaskPreview]) -> Iterator[str]:
    for plan, task in zip(planned, tasks, strict=True):
        if plan.is_gone:
            yield (
                f"{task.task} is not on the server any more. Its results stay, and what is left of it will be missing; "
                "--fresh starts again with the tasks of today."
            )
        if plan.seen is None or not task.counts.schedule:
            continue
        state = plan.seen.creation_state
        failed = state.ended and state != CreationState.COMPLETED
        if task.push == PushStep.EXISTING and failed:
            yield f"{task.task} cannot be run: its creation ended as {state.label}."
        version = plan.seen.slug.version_number
        if task.push == PushStep.EXISTING and plan.benchmark_version not in (0, version):
            yield (
                f"{task.task} is run at version {version}, its newest; the benchmark has "
                f"version {plan.benchmark_version}."
            )
        attached = plan.seen.options.dataset_data_sources if plan.seen.options else []
        lost = [dataset for dataset in attached if dataset not in plan.datasets]
        if task.pushed and lost:
            yield f"{task.task} loses the datasets of its version {task.version}: {', '.join(lost)}."


def _version_warnings(planned: Iterable[PlannedTask], tasks: Iterable[TaskPreview]) -> Iterator[str]:
    """Warn of new versions of tasks that can be run as they are: nothing shows whether their content is another."""
    there = [
        f"{task.task} (version {task.version})"
        for plan, task in zip(planned, tasks, strict=True)
        if task.pushed and task.push is PushStep.NEW_VERSION
        if plan.seen is not None and plan.seen.creation_state == CreationState.COMPLETED
        if plan.same_as_server is None
    ]
    if not there:
        return
    yield (
        f"On the server already: {first_few(there)}. No run of it shows whether it is the same, so a new version "
        "is pushed, also of a file that has not changed, and earlier runs stay with their version. To run what is "
        "there, name the task, not its file."
    )


def _page_warnings(planned: Iterable[PlannedTask], tasks: Iterable[TaskPreview]) -> Iterator[str]:
    """Name the pages of versions on the server that will change, or do not say what the sweep file says.

    A page is changed once for each version that the sweep takes for its own.
    """
    for plan, task in zip(planned, tasks, strict=True):
        if plan.seen is None:
            continue
        there = Metadata.of(plan.seen)
        new, declared = plan.page or Metadata(), plan.declared_page or Metadata()
        taken = task.push is PushStep.SAME and task.counts.schedule + task.counts.adopt > 0
        if taken and (changed := new.changing(there).given):
            yield f"The page of {task.task} will be changed to what the file says: {', '.join(changed)}."
        elif task.push is PushStep.UNCHANGED and (changed := declared.changing(there).given):
            yield (
                f"The page of {task.task} says something else than the sweep file ({', '.join(changed)}), which is "
                f"sent with new versions only. `fanbench tasks edit {task.task}` changes what is there."
            )


def _rerun_warnings(
    plan: SweepPlan, attempts: Mapping[PlannedRun, Sequence[Attempt]], reruns: Reruns
) -> Iterator[str]:
    """Say which runs are not made again, although that is asked for."""
    identities = {task.slug: task.identity for task in plan.tasks}
    begun = [
        f"{each.task} on {each.model}"
        for each in plan.rerun
        if (last := newest(attempts.get(each, ()), identities[each.task])) is not None
        and last.number > reruns.after.get(each, 0)
    ]
    if begun:
        yield (
            "Not begun anew with --rerun, because they have not ended, or an interrupted --rerun has made them "
            f"already: {first_few(begun)}."
        )


def _quota_warnings(runs: int, quotas: Iterable[Quota], max_cost: float | None) -> Iterator[str]:
    for quota in quotas:
        if quota.kind == "task_runs" and runs > quota.remaining:
            yield f"{many(runs, 'run')} to schedule, and only {quota.remaining:.12g} left of the {quota.period} quota."
        elif quota.kind == "model_proxy" and runs and quota.remaining <= 0:
            yield f"Nothing is left of the {quota.period} quota of the Model Proxy."
        elif quota.kind == "model_proxy" and max_cost is not None and max_cost > quota.remaining:
            yield (
                f"The {quota.period} quota of the Model Proxy has ${quota.remaining:.2f} left, "
                f"less than the ${max_cost:.2f} that the sweep may cost."
            )


async def read_quotas(client: Api) -> Quotas | None:
    """Return what is left of the quotas; `None` if the server has none, or does not answer in `QUOTA_PATIENCE`."""
    with anyio.move_on_after(QUOTA_PATIENCE):
        try:
            quotas = await fetch_quotas(client)
            return quotas if quotas.known else None
        except FanbenchError:
            return None
    return None
