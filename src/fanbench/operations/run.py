"""`run`: schedules tasks on models, and waits for the runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Literal

from fanbench._util.concurrency import InOrder, both, gather, settle
from fanbench._util.polling import POLL_INTERVAL
from fanbench._util.text import duration, first_few
from fanbench.errors import BadRequest, FanbenchError, NotFound, UsageError
from fanbench.operations.api import Api
from fanbench.operations.batch import unique_slugs
from fanbench.operations.candidates import ModelChoice, find_candidates, refuse_misfit
from fanbench.operations.events import Emit, Event, TaskFailed, ignore_events
from fanbench.operations.lookup import as_scheduled, existing_task, model_of, runs_of, task_if_any
from fanbench.operations.models import find_judge
from fanbench.operations.queue import EnqueueMode, RunQueue, Skip, enqueue_except
from fanbench.operations.unanswered import CallUnanswered, confirmed_within, runs_after
from fanbench.operations.watch import RunSelection, wait_for_listing, wait_for_runs
from fanbench.wire.candidates import Candidate, requests_for
from fanbench.wire.messages import BenchmarkModel, CreationState, Run, ScheduleResult, SkipPolicy, Task
from fanbench.wire.retry import CallOutcome, call_outcome

__all__ = [
    "Launch",
    "Launched",
    "ModelsUnlisted",
    "RunReport",
    "Scheduled",
    "Until",
    "ready_task",
    "run_tasks",
    "schedule",
]

#: When `run_tasks` returns: once the runs are scheduled, once the server lists them, or once they have ended.
Until = Literal["scheduled", "listed", "ended"]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """The run of one model: scheduled, or skipped for a `reason`."""

    model: str
    scheduled: bool
    reason: str = ""

    @property
    def state(self) -> str:
        return "Scheduled" if self.scheduled else f"Skipped ({self.reason})"


@dataclass(frozen=True, slots=True)
class Launch:
    """The schedule call of one task: one row per model, and the runs to wait for."""

    slug: str
    rows: tuple[Scheduled, ...]
    selection: RunSelection


class ModelsUnlisted(Event, frozen=True):
    """Some models or efforts that were asked for are not in the server's list, which may not have been readable."""

    choice: ModelChoice

    @property
    def text(self) -> str:
        return "\n".join(self.choice.warnings)


class Launched(Event, frozen=True):
    """The runs of one task have been scheduled."""

    template: ClassVar[str | None] = "Submitted run(s) for task '{launch.slug}'."

    launch: Launch


@dataclass(frozen=True, slots=True)
class RunReport:
    """One launch per task that could be scheduled, and the runs that were waited for."""

    launches: tuple[Launch, ...]
    failures: tuple[TaskFailed, ...] = ()
    runs: tuple[Run, ...] = ()


async def run_tasks(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str],
    *,
    efforts: Sequence[str] = (),
    agents: Sequence[str] = (),
    until: Until = "scheduled",
    available: Sequence[BenchmarkModel] | None = None,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    logs: bool = False,
    judge: str | None = None,
    enqueue: EnqueueMode = "never",
    skip: Skip | None = None,
    stale_after: float | None = None,
    emit: Emit = ignore_events,
) -> RunReport:
    """Run each task on each model, and on each of the `agents`: one schedule call per task, all tasks at once.

    Models are written as `gemini-2.5-pro`, `google/gemini-2.5-pro` or a pattern with `*`; `available` spares the
    call that lists them. A name that the server does not list is sent as it is (`ModelsUnlisted` is reported): the
    scheduler knows it, or refuses the call. With `efforts`, tasks run on each model at each reasoning effort, unless
    the model is written as `MODEL@EFFORT`. There is one call for each effort, and one for the agents.

    The report's `runs` are those that this call started, and for models that were skipped the run in flight: none if
    `until` is "scheduled"; queued or further if it is "listed"; and if it is "ended", in their final state.
    `timeout`, `poll_interval` (both in seconds) and `logs` apply to the wait for the end. `judge` is the
    model behind `judge_llm`, if a local server is to use another one than its own choice. `enqueue` says whether the
    runs are put into the server's queue, which takes them although others of the same models are in flight, unless
    `skip` and `stale_after` say which models it leaves alone (see `enqueue_except`).

    Raises:
        UsageError: A name is not valid, no model is given, a model lacks an effort, a task is not run on agents, a
            judge is given to Kaggle, or `skip` or `stale_after` without the queue. Nothing has been scheduled.
        CannotEnqueue: `enqueue` is "always", and the account has no queue. Nothing has been scheduled.
        UnknownModel: A pattern matches no model, or the judge is unknown. Nothing has been scheduled.
        FanbenchError: The only task does not exist or cannot be run. Of several, it is in the report's
            `failures` and does not affect the others.
        StillRunning: `timeout` has passed.
    """
    slugs = unique_slugs(tasks)
    by_queue = enqueue_except(skip, stale_after)
    if by_queue.skip is not SkipPolicy.ALL and enqueue != "always":
        raise UsageError("Only the server's queue can leave models alone.", hint="Add --enqueue always.")
    judging = await find_judge(client, judge, available)
    choice = await find_candidates(client, models, available, efforts=efforts, agents=agents)
    if choice.warnings:
        emit(ModelsUnlisted(choice))
    limit = client.config.concurrency
    if choice.agents:
        # Before anything is scheduled: not all tasks are run on agents.
        checks = [partial(_refuse_misfit, client, slug, choice) for slug in slugs]
        await gather(checks, limit=limit)
    queue = RunQueue(client, enqueue, by_queue, emit)
    list_before = until != "scheduled"
    job = partial(schedule, client, queue, choice=choice, judge=judging, list_before=list_before, emit=emit)
    launches, failures = await _launch(slugs, job, limit, emit)
    if failures and len(slugs) == 1:
        raise failures[0].error
    runs: list[Run] = []
    selections = [launch.selection for launch in launches]
    if until == "listed":
        found = await gather(
            [partial(wait_for_listing, client, selection, emit) for selection in selections], limit=limit
        )
        runs = [run for listing in found for run in listing]
    elif until == "ended":
        runs = await wait_for_runs(
            client, *selections, timeout=timeout, poll_interval=poll_interval, logs=logs, emit=emit
        )
    return RunReport(tuple(launches), tuple(failures), tuple(runs))


async def _launch(
    slugs: Sequence[str], schedule_task: Callable[[str], Awaitable[Launch]], limit: int, emit: Emit
) -> tuple[list[Launch], list[TaskFailed]]:
    """Schedule all tasks at once, and emit what came of them in their order."""
    launches: list[Launch] = []
    failures: list[TaskFailed] = []

    def absorb(ended: tuple[str, Launch | FanbenchError]) -> None:
        slug, outcome = ended
        if isinstance(outcome, Launch):
            launches.append(outcome)
            emit(Launched(outcome))
        else:
            failures.append(TaskFailed(slug, outcome))
            emit(failures[-1])

    in_order = InOrder(absorb)
    jobs = [partial(schedule_task, slug) for slug in slugs]
    await settle(jobs, limit=limit, done=lambda index, outcome: in_order(index, (slugs[index], outcome)))
    return launches, failures


async def schedule(
    client: Api,
    queue: RunQueue,
    slug: str,
    choice: ModelChoice,
    *,
    judge: str = "",
    list_before: bool = False,
    emit: Emit = ignore_events,
) -> Launch:
    """Schedule a task on the models of `choice` in one call, or in one for each effort and one for all agents.

    With `list_before`, the existing runs are listed first, so that the new ones can be told from them, also if the
    call gets no answer.

    Raises:
        UsageError: The task is not run on these models or agents. Nothing has been scheduled.
        FanbenchError: The task does not exist, or is not ready.
    """
    ready = partial(ready_task, client, slug)
    before: list[Run] | None = None
    if list_before:
        task, listed = await both(ready, partial(runs_of, client, slug, choice.listable))
        before = as_scheduled(listed, choice.labels)
    else:
        task = await ready()
    refuse_misfit(slug, task, choice)
    rows: dict[str, Scheduled] = {}
    named: dict[str, int] = {}
    for request in requests_for(choice.labels, choice.agents):
        try:
            results = await _request(client, queue, slug, request, choice, judge, before, emit)
        except FanbenchError as error:
            if begun := [row.model for row in rows.values() if row.scheduled]:
                error.hint = f"Runs on {first_few(begun)} have been scheduled. {error.hint or ''}".strip()
            raise
        for each, result in zip(request, results, strict=True):
            reason = result.run_skipped_reason or "no reason given"
            rows[each.label] = Scheduled(each.label, result.run_scheduled, reason)
            if result.run_scheduled and result.run_id:
                named[each.label] = result.run_id
    there = before or ()
    skipped = frozenset(row.model for row in rows.values() if not row.scheduled)
    selection = RunSelection(
        slug,
        ids=frozenset(run.id for run in there if model_of(run) in skipped and not run.state.terminal),
        fresh=frozenset(row.model for row in rows.values() if row.scheduled),
        named=named,
        other=skipped,
        before=frozenset(run.id for run in there),
        lists_all=not choice.listable,
    )
    return Launch(slug, tuple(rows[label] for label in choice.labels), selection)


async def _refuse_misfit(client: Api, slug: str, choice: ModelChoice) -> None:
    if (task := await task_if_any(client, slug)) is not None:
        refuse_misfit(slug, task, choice)


async def _request(
    client: Api,
    queue: RunQueue,
    slug: str,
    request: Sequence[Candidate],
    choice: ModelChoice,
    judge: str,
    before: Sequence[Run] | None,
    emit: Emit,
) -> list[ScheduleResult]:
    """Make one schedule call. If it gets no answer, look for its runs, which are not among those `before` it.

    Raises:
        FanbenchError: The server refuses the call, or it is unknown what has come of it.
    """
    labels = [each.label for each in request]
    try:
        return await queue.schedule_runs(
            slug,
            [each.model for each in request if each.model],
            judge=judge,
            effort=request[0].effort,
            agents=[each.agent for each in request if each.agent],
        )
    except NotFound as error:
        raise NotFound(
            f"Runs of task '{slug}' could not be scheduled: {error.message}",
            call=error.call,
            status=error.status,
            hint=choice.hint(labels),
        ) from None
    except BadRequest as error:
        # If the models cannot be listed either, the error is not about these names.
        unlisted = [each.model for each in request if each.model in choice.unlisted]
        if unlisted and choice.problem is None:
            error.hint = choice.hint(unlisted)
        raise
    except FanbenchError as error:
        if call_outcome(error) is not CallOutcome.UNKNOWN:
            raise
        error.hint = f"The runs may have been scheduled. Run `fanbench tasks status {slug}` to see them."
        if before is None:
            raise
        seconds = confirmed_within(client.config)
        emit(CallUnanswered(slug, "schedule", len(labels), seconds, str(error)))
        new = await runs_after(client, slug, labels, {run.id for run in before}, seconds)
        if not new:
            raise
        reason = f"no answer, and no run was listed within {duration(seconds)}"
        found = set(map(model_of, new))
        return [ScheduleResult(run_scheduled=label in found, run_skipped_reason=reason) for label in labels]


async def ready_task(client: Api, slug: str) -> Task:
    """Return the task if its creation is completed: only then can it be run.

    Raises:
        NotFound: The task does not exist.
        FanbenchError: The task is in another state; the message has the state and the creation's error.
    """
    task = await existing_task(client, slug)
    if task.creation_state == CreationState.COMPLETED:
        return task
    raise FanbenchError(
        f"Task '{slug}' is not ready to run (status: {task.creation_state.label})."
        + (f"\n  Error: {task.failure}" if task.failure else ""),
        hint=f"Run `fanbench tasks status {slug}` to see the task. It can be run once it is completed.",
    )
