"""Sweeps from Python: `sweep` and `plan_sweep` in one call each, and `Sweep` with its events as they come."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, Unpack

import anyio
import anyio.to_thread

from fanbench._util.concurrency import unwrap_single_error
from fanbench.client import Client
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.queue import EnqueueMode
from fanbench.sweeps.adoption import compare_with_server
from fanbench.sweeps.artifacts import clear_parts
from fanbench.sweeps.context import SweepContext
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import DrainReason, EmitSweepEvent, LimitChanged, SweepEvent
from fanbench.sweeps.folder import lock_folder, set_aside
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import SweepPlan, make_plan
from fanbench.sweeps.report import SweepReport, build_report, write_summary
from fanbench.sweeps.resume import (
    refuse_other_sweep,
    resumed,
    saved_text,
    with_benchmark_of_today,
    with_planned_benchmark,
)
from fanbench.sweeps.spec import DEFAULT_OUTPUT, CancelPolicy, SweepSpec, classify, merge
from fanbench.sweeps.state import SweepState
from fanbench.sweeps.sweep_file import read_sweep_file

if TYPE_CHECKING:
    from fanbench.wire.transport import CallLimits

__all__ = ["Sweep", "SweepOptions", "plan_spec", "plan_sweep", "report_of", "sweep"]

AnyPath = str | os.PathLike[str]


# --- In one call --------------------------------------------------------------------------------------------


class SweepOptions(TypedDict, total=False):
    """The options of a sweep besides tasks and models; each means what the flag of its name means.

    Times are in seconds, `max_cost` in US dollars; `max_failures` is a number or a percentage (`"10%"`), `rerun` one or
    several `"TASK:MODEL"`.
    """

    benchmark: str
    all_models: bool
    efforts: str | Sequence[str]
    agents: str | Sequence[str]
    datasets: Sequence[str]
    judge: str
    repeats: int
    output: AnyPath
    include_source: bool
    streams: int
    downloads: int
    max_cost: float
    timeout: float
    deadline: float
    poll_interval: float
    confirm_within: float
    retry_errored: int
    rerun: str | Sequence[str]
    max_failures: int | str
    cancel: CancelPolicy
    cancel_on_interrupt: bool
    adopt: bool
    enqueue: EnqueueMode


async def plan_sweep(
    client: Api,
    tasks: AnyPath | Sequence[AnyPath] = (),
    models: str | Sequence[str] = (),
    **options: Unpack[SweepOptions],
) -> SweepPlan:
    """Return the plan of a sweep: its task files read, checked and converted, its models by their names.

    `tasks` are files, patterns (`"tasks/*.py"`), slugs of existing tasks, and at most one sweep file
    (`"sweep.toml"`), which everything else that is given overrides. `benchmark` adds the tasks of one, as they are on
    the server. Without either, the plan is that of the sweep in `output` (default: `results`). `models` are names or
    patterns. Nothing is changed, here or on the server.

    Raises:
        UsageError: There is no task or no model, a number is out of its range, or the sweep file has an error.
        UnknownModel: A pattern matches no model.
        TaskFileError: A file cannot be read, or has an error that a push would refuse.
        NotFound: A task that is named by its slug, or the benchmark, is not on the server.
    """
    spec = await anyio.to_thread.run_sync(_make_spec, tasks, models, options)
    return await plan_spec(client, spec)


async def plan_spec(client: Api, spec: SweepSpec, *, fresh: bool = False) -> SweepPlan:
    """Return the plan of `spec`, compared with the server; a `fresh` one does not read what is in its folder.

    Raises:
        FanbenchError: See `make_plan`.
    """
    spec = with_benchmark_of_today(spec) if fresh else await with_planned_benchmark(client, spec)
    return await compare_with_server(client, await make_plan(client, spec), fresh=fresh)


def _make_spec(
    tasks: AnyPath | Sequence[AnyPath], models: str | Sequence[str], options: SweepOptions
) -> SweepSpec:
    # A string is one name, not the sequence of its letters.
    named = [tasks] if isinstance(tasks, str | os.PathLike) else list(tasks)
    words = classify([Path(task) if isinstance(task, os.PathLike) else task for task in named])
    base = read_sweep_file(words.sweep_file) if words.sweep_file else None
    if not (named or options.get("benchmark")):
        base = resumed(Path(options.get("output", DEFAULT_OUTPUT)))
    given = dict(options)
    if "max_failures" in given:
        given["max_failures"] = str(given["max_failures"])
    model_list = [models] if isinstance(models, str) else list(models)
    return merge(base, tasks=words.tasks, models=model_list, **given)


async def sweep(
    tasks: AnyPath | Sequence[AnyPath] = (),
    models: str | Sequence[str] = (),
    *,
    client: Client | None = None,
    on_event: EmitSweepEvent | None = None,
    fresh: bool = False,
    **options: Unpack[SweepOptions],
) -> SweepReport:
    """Run every task on every model, download the results to `output`, and return the report.

    Takes what `plan_sweep` takes. It can be cancelled or killed at any instant: the same call continues, with
    nothing pushed, scheduled or downloaded twice. `fresh` starts again, and keeps an earlier sweep aside. Runs
    that errored or are missing raise no error; see `report.ok`. `on_event` receives each event in the event loop,
    and must not block it. Without `client`, one is created for this call, with the endpoint and credentials that
    the command line would use. `summary.json` and `summary.csv` are written, too.

    Raises:
        SweepError: The folder holds another sweep, or another process sweeps into it, or its journal is damaged.
        FanbenchError: The sweep as a whole failed, such as with `Unauthorized`; see also `plan_sweep`.
    """
    async with AsyncExitStack() as stack:
        if client is None:
            client = await stack.enter_async_context(Client())
        spec = await anyio.to_thread.run_sync(_make_spec, tasks, models, options)
        plan = await plan_spec(client, spec, fresh=fresh)
        if fresh:
            await anyio.to_thread.run_sync(set_aside, plan.output)
        state = SweepState()
        async with Sweep(client, plan) as running:
            async for event in running:
                state.absorb(event)
                if on_event is not None:
                    on_event(event)
            report = (await running.report()).after(state)
    await anyio.to_thread.run_sync(write_summary, report)
    return report


def report_of(plan: SweepPlan) -> SweepReport:
    """Return the results of `plan` as they are on disk.

    Raises:
        JournalError: The journal cannot be read.
    """
    journal = Journal.read(plan.output)
    if journal is None:
        return build_report(plan, None)
    with journal:
        return build_report(plan, journal)


# --- With its events ----------------------------------------------------------------------------------------


class Sweep:
    """A plan being carried out: `async with Sweep(client, plan) as sweep: async for event in sweep: ...`

    Entering locks the output folder and begins. Leaving early stops at once and loses nothing: the same plan
    continues where it was. `report` has the results, during and after. Iterating ends after `SweepEnded`, and
    raises what ended the sweep as a whole, such as `Unauthorized`.

    Raises:
        SweepLocked: On entering: another process sweeps into the folder.
        JournalError: On entering: the folder's journal is damaged, newer than this program, or cannot be written.
        SweepError: On entering: the folder holds another sweep.
    """

    def __init__(self, client: Api, plan: SweepPlan, *, until: Stage = "collect") -> None:
        self.plan = plan
        self._client = client
        self._until: Stage = until
        self._limits = client.transport.limits if isinstance(client, Client) else None
        self._mailbox = _Mailbox()
        self._engine: Engine | None = None
        self._stack = AsyncExitStack()
        self._error: FanbenchError | None = None

    async def __aenter__(self) -> Self:
        limit = self._limits.adaptive if self._limits else None
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(_open_folder(self._client, self.plan))
            context = SweepContext(
                self._client,
                self.plan,
                journal,
                self._mailbox.put,
                until=self._until,
                calls=(lambda: limit.calls_sent) if limit else (lambda: 0),
                limit=lambda: limit.limit if limit else None,
                room=self._mailbox.room,
            )
            self._engine = Engine(context)
            stack.enter_context(unwrap_single_error())
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            group.start_soon(self._run, self._engine, context.emit)
            self._stack = stack.pop_all()
        return self

    async def _run(self, engine: Engine, emit: EmitSweepEvent) -> None:
        try:
            with _raised_limits(self._limits, self.plan, emit):
                await engine.run()
        except FanbenchError as error:
            self._error = error
        finally:
            self._mailbox.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        stack, self._stack = self._stack, AsyncExitStack()
        return await stack.__aexit__(kind, error, trace)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> SweepEvent:
        event = await self._mailbox.get()
        if event is not None:
            return event
        if self._error is not None:
            raise self._error
        raise StopAsyncIteration

    def drain(self, reason: DrainReason = DrainReason.INTERRUPTED, detail: str = "") -> None:
        """Push and schedule nothing more, but finish the runs in flight."""
        if self._engine is not None:
            self._engine.drain(reason, detail)

    def cancel(self, policy: CancelPolicy = "all") -> None:
        """Push and schedule nothing more, and cancel on the server what is in flight: all of it, or what is queued.

        Only runs are cancelled that the sweep has certainly scheduled. The event `CancelEnded` says what came of it,
        after a minute at most. What is not cancelled is finished.
        """
        if self._engine is not None:
            self._engine.cancel(policy)

    @property
    def cancelling(self) -> bool:
        """Whether runs are being cancelled on the server."""
        return self._engine is not None and self._engine.cancelling

    @property
    def stopped(self) -> DrainReason | None:
        """The reason why less than the plan was scheduled, if so."""
        return self._engine.stopped if self._engine is not None else None

    async def report(self) -> SweepReport:
        """Return the results as they are on disk now; also after the end."""
        return await anyio.to_thread.run_sync(report_of, self.plan)


@asynccontextmanager
async def _open_folder(client: Api, plan: SweepPlan) -> AsyncGenerator[Journal, None]:
    """Lock the output folder and yield its journal, which belongs to this sweep."""
    with ExitStack() as stack:

        def open_folder() -> Journal:
            stack.enter_context(lock_folder(plan.output))
            journal = stack.enter_context(Journal.open(plan.output))
            saved = journal.saved_spec()
            if saved is not None:
                refuse_other_sweep(saved, plan, client.config.server)
            journal.save_spec(saved_text(plan, client.config.server))
            clear_parts(plan.output)
            return journal

        yield await anyio.to_thread.run_sync(open_folder)


@contextmanager
def _raised_limits(limits: CallLimits | None, plan: SweepPlan, emit: EmitSweepEvent) -> Iterator[None]:
    """Let the client read as many streams as the plan allows, and emit an event when its limit of calls changes."""
    if limits is None:
        yield
        return
    limits.streams.total_tokens = max(limits.streams.total_tokens, plan.rules.streams)
    with limits.adaptive.listen(lambda *change: emit(LimitChanged(*change))):
        yield


# The number of unread events from which on the readers of logs wait.
ROOM = 10_000


class _Mailbox:
    """Passes events from the engine, which does not wait, to a reader, which may be slow.

    The readers of logs, which produce nearly all events, wait in `room` while too many are unread.
    """

    def __init__(self) -> None:
        self._events: deque[SweepEvent] = deque()
        self._news = anyio.Event()
        self._less = anyio.Event()
        self._closed = False

    def put(self, event: SweepEvent) -> None:
        if not self._events:
            self._news.set()
        self._events.append(event)

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def get(self) -> SweepEvent | None:
        """Return the next event, or None once all are read and no more can come."""
        while not self._events:
            if self._closed:
                return None
            self._news = anyio.Event()
            await self._news.wait()
        if len(self._events) == ROOM:
            self._less.set()
        return self._events.popleft()

    async def room(self) -> None:
        while len(self._events) >= ROOM:
            if self._less.is_set():
                self._less = anyio.Event()
            await self._less.wait()
