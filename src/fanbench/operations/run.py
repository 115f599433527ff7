"""`run`: schedules tasks on models, and waits for what it scheduled."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from fanbench._util.concurrency import InOrder, both, settle
from fanbench._util.polling import POLL_INTERVAL
from fanbench.errors import FanbenchError, NotFound, UsageError
from fanbench.operations.api import Api
from fanbench.operations.events import Event, Report, TaskFailed, ignore_events
from fanbench.operations.lookup import creation_error, existing_task, model_of, runs_of, state_word
from fanbench.operations.watch import Watch, wait_for_runs
from fanbench.wire.messages import BenchmarkModel, CreationState, Run, ScheduleResult, Task
from fanbench.wire.slugs import normalize_model, slugify_task

__all__ = [
    "Launch",
    "Launched",
    "RunReport",
    "Scheduled",
    "ready_task",
    "resolve_models",
    "run_tasks",
    "schedule",
]


@dataclass(frozen=True, slots=True)
class Scheduled:
    """What became of one model's run: scheduled, or skipped for a `reason`."""

    model: str
    scheduled: bool
    reason: str = ""

    @property
    def state(self) -> str:
        return "Scheduled" if self.scheduled else f"Skipped ({self.reason})"


@dataclass(frozen=True, slots=True)
class Launch:
    """One task's schedule call: a row a model, and what to wait for."""

    slug: str
    rows: tuple[Scheduled, ...]
    watch: Watch


class Launched(Event, frozen=True):
    """The runs of one task have been scheduled."""

    launch: Launch

    @property
    def text(self) -> str:
        return f"Submitted run(s) for task '{self.launch.slug}'."


@dataclass(frozen=True, slots=True)
class RunReport:
    """`runs` are those that were waited for; there are none where nobody waited."""

    launches: tuple[Launch, ...]
    failures: tuple[TaskFailed, ...] = ()
    runs: tuple[Run, ...] = ()


async def run_tasks(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str],
    *,
    available: Sequence[BenchmarkModel] | None = None,
    wait: bool = False,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    logs: bool = False,
    report: Report = ignore_events,
) -> RunReport:
    """Runs each of `tasks` on each of `models`: one schedule call a task, all tasks at once.

    Models may be written as `gemini-2.5-pro`, `google/gemini-2.5-pro` or as a pattern with `*`. With `wait`,
    the end of the runs that this call scheduled is waited for, and of those that it found in flight.
    `available` spares the call for the list of models.

    Raises:
        UsageError: a name is none, or a model is unknown: nothing has been scheduled.
        FanbenchError: the only task does not exist or cannot be run; of several, the others go on.
        StillRunning: `timeout` seconds are over.
    """
    slugs = list(dict.fromkeys(slugify_task(task) for task in tasks))
    known = resolve_models(models, await client.list_models() if available is None else available)
    launches, failures = await _launch_all(client, slugs, known, wait, report)
    if failures and len(slugs) == 1:
        raise failures[0].error
    runs: list[Run] = []
    if wait:
        watches = [launch.watch for launch in launches]
        runs = await wait_for_runs(
            client, *watches, timeout=timeout, poll_interval=poll_interval, logs=logs, report=report
        )
    return RunReport(tuple(launches), tuple(failures), tuple(runs))


async def _launch_all(
    client: Api, slugs: Sequence[str], models: Sequence[str], watchful: bool, report: Report
) -> tuple[list[Launch], list[TaskFailed]]:
    launches: list[Launch] = []
    failures: list[TaskFailed] = []

    def absorb(ended: tuple[str, Launch | FanbenchError]) -> None:
        slug, outcome = ended
        if isinstance(outcome, Launch):
            launches.append(outcome)
            report(Launched(outcome))
        else:
            failures.append(TaskFailed(slug, outcome))
            report(failures[-1])

    in_order = InOrder(absorb)
    jobs = [partial(schedule, client, slug, models, watchful=watchful) for slug in slugs]
    await settle(
        jobs,
        limit=client.config.concurrency,
        done=lambda index, outcome: in_order(index, (slugs[index], outcome)),
    )
    return launches, failures


async def schedule(client: Api, slug: str, models: Sequence[str], *, watchful: bool = False) -> Launch:
    """Schedules a task on models (as `resolve_models` gives them) in one call.

    `watchful`: first lists the runs that are there, so that the new ones can be told from them.

    Raises:
        FanbenchError: the task does not exist, or is not ready.
    """

    async def look() -> list[Run]:
        return await runs_of(client, slug, models) if watchful else []

    _, before = await both(partial(ready_task, client, slug), look)
    results = await _scheduled(client, slug, models)
    rows = tuple(_row(model, results, index) for index, model in enumerate(models))
    return Launch(slug, rows, _watch(slug, rows, before))


async def ready_task(client: Api, slug: str) -> Task:
    """The task, whose creation is completed: only such can be run.

    Raises:
        NotFound: there is no such task.
        FanbenchError: it is in another state; the message has it, and the creation's error.
    """
    task = await existing_task(client, slug)
    if task.creation_state == CreationState.COMPLETED:
        return task
    reason = creation_error(task)
    raise FanbenchError(
        f"Task '{slug}' is not ready to run (status: {state_word(task.creation_state)})."
        + (f"\n  Error: {reason}" if reason else ""),
        hint=f"Only completed tasks can be run; see: fanbench tasks status {slug}",
    )


async def _scheduled(client: Api, slug: str, models: Sequence[str]) -> list[ScheduleResult]:
    try:
        return await client.schedule_runs(slug, models)
    except NotFound as error:
        raise NotFound(
            f"Runs of task '{slug}' could not be scheduled: {error.message}",
            call=error.call,
            status=error.status,
            hint=f"One of these models may be invalid: {', '.join(models)}. See: fanbench tasks models",
        ) from None


def _row(model: str, results: Sequence[ScheduleResult], index: int) -> Scheduled:
    if index >= len(results):
        return Scheduled(model, False, "the server gave no answer for it")
    result = results[index]
    return Scheduled(model, result.run_scheduled, result.run_skipped_reason or "no reason given")


def _watch(slug: str, rows: Sequence[Scheduled], before: Sequence[Run]) -> Watch:
    """The new run of each scheduled model; of a skipped one, the run in flight that it was skipped for."""
    skipped = frozenset(row.model for row in rows if not row.scheduled)
    in_flight = {run.id for run in before if model_of(run) in skipped and not run.state.terminal}
    return Watch(
        slug,
        ids=frozenset(in_flight),
        fresh=frozenset(row.model for row in rows if row.scheduled),
        other=skipped,
        before=frozenset(run.id for run in before),
    )


# --- Models -------------------------------------------------------------------------------------------------


def resolve_models(asked: Sequence[str], available: Sequence[BenchmarkModel]) -> list[str]:
    """The slugs to send for the models that a user `asked` for, each once, in the user's order.

    Raises:
        UsageError: some are unknown; the message names them and the closest that are known.
    """
    known = _slugs(available)
    found: dict[str, None] = {}
    unknown = []
    for name in asked:
        matches = _matches(name, known)
        found.update(dict.fromkeys(matches))
        if not matches:
            unknown.append(name)
    if unknown:
        raise _unknown_models(unknown, known)
    if not found:
        raise UsageError("No model is given.", hint="Name one or more with -m; see: fanbench tasks models")
    return list(found)


def _slugs(available: Sequence[BenchmarkModel]) -> dict[str, str]:
    """Every name that a model answers to, and the slug of the version behind it."""
    names: dict[str, str] = {}
    for model in available:
        if model.version and model.version.slug:
            names[normalize_model(model.version.slug)] = normalize_model(model.version.slug)
    for model in available:
        slug = normalize_model(model.version.slug if model.version and model.version.slug else model.slug)
        proxy = normalize_model(model.version.model_proxy_slug) if model.version else ""
        for name in (normalize_model(model.slug), proxy):
            if name:
                names.setdefault(name, slug)
    return names


def _matches(name: str, known: Mapping[str, str]) -> list[str]:
    slug = normalize_model(name)
    if slug in known:
        return [known[slug]]
    if any(letter in slug for letter in "*?["):
        return [known[other] for other in known if fnmatch.fnmatchcase(other, slug)]
    return []


def _unknown_models(unknown: Sequence[str], known: Mapping[str, str]) -> UsageError:
    def line(name: str) -> str:
        close = difflib.get_close_matches(normalize_model(name), known, n=3, cutoff=0.5)
        return f"  {name}" + (f" (did you mean {' or '.join(close)}?)" if close else "")

    heading = "Unknown model:" if len(unknown) == 1 else "Unknown models:"
    return UsageError(
        "\n".join([heading, *map(line, unknown)]), hint="The models there are: fanbench tasks models"
    )
