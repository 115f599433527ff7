"""A sweep from Python: `async with Sweep(client, plan) as sweep: async for event in sweep: …`."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.to_thread

from fanbench._util.concurrency import unwrap_single_error
from fanbench.client import Client
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.sweeps.artifacts import clear_parts
from fanbench.sweeps.engine import Engine, Stage
from fanbench.sweeps.events import DrainReason, LimitChanged, SweepEvent
from fanbench.sweeps.folder import FolderLock
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.report import SweepReport, build_report
from fanbench.sweeps.resume import refuse_other_sweep, saved_text

if TYPE_CHECKING:
    from fanbench.wire.transport import Limits

__all__ = ["Sweep", "report_of"]

# Events that may wait for whoever reads them; beyond, the readers of logs wait in turn.
ROOM = 10_000


class Sweep:
    """A plan being carried out, as an async iterator of its events.

    Entering takes the output folder (nobody else can sweep into it meanwhile) and begins; leaving early stops
    at once, and loses nothing: the same plan goes on where it was. `report` has the results, during and after.
    Iterating ends after `SweepEnded`, and raises what ended the sweep as a whole, such as `Unauthorized`.

    Raises:
        SweepLocked: on entering: another process sweeps into the folder.
        JournalError: on entering: the folder's journal is damaged, newer than this program, or cannot be written.
        SweepError: on entering: the folder holds another sweep.
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
        async with AsyncExitStack() as stack:
            journal = await stack.enter_async_context(_folder(self._client, self.plan))
            self._engine = self._made(journal)
            stack.enter_context(unwrap_single_error())
            group = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(group.cancel_scope.cancel)
            group.start_soon(self._run, self._engine)
            self._stack = stack.pop_all()
        return self

    def _made(self, journal: Journal) -> Engine:
        limit = self._limits.adaptive if self._limits else None
        return Engine(
            self._client,
            self.plan,
            journal,
            self._mailbox.put,
            until=self._until,
            calls=(lambda: limit.begun) if limit else (lambda: 0),
            room=self._mailbox.room,
        )

    async def _run(self, engine: Engine) -> None:
        try:
            with _limits_of(self._limits, self.plan, self._mailbox.put):
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
        """From here on nothing is pushed or scheduled; what is in flight is followed to its end."""
        if self._engine is not None:
            self._engine.drain(reason, detail)

    @property
    def stopped(self) -> DrainReason | None:
        """Why less than the plan was scheduled, if so."""
        return self._engine.stopped if self._engine is not None else None

    async def report(self) -> SweepReport:
        """The results as they are on disk now; also after the end."""
        return await anyio.to_thread.run_sync(report_of, self.plan)


def report_of(plan: SweepPlan) -> SweepReport:
    """The results of `plan` as they are on disk.

    Raises:
        JournalError: the journal cannot be read.
    """
    journal = Journal.read(plan.output)
    if journal is None:
        return build_report(plan, None)
    with journal:
        return build_report(plan, journal)


# --- The folder ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def _folder(client: Api, plan: SweepPlan) -> AsyncGenerator[Journal, None]:
    """The output folder, taken, and its journal, which is one of this sweep."""
    with FolderLock(plan.output), Journal.open(plan.output) as journal:
        saved = journal.saved_spec()
        if saved is not None:
            refuse_other_sweep(saved, plan, client.config.endpoint)
        journal.save_spec(saved_text(plan, client.config.endpoint))
        await anyio.to_thread.run_sync(clear_parts, plan.output)
        yield journal


@contextmanager
def _limits_of(limits: Limits | None, plan: SweepPlan, emit: Callable[[SweepEvent], None]) -> Iterator[None]:
    """The client's limits let through what the plan allows, and say when they change."""
    if limits is None:
        yield
        return
    limits.streams.total_tokens = max(limits.streams.total_tokens, plan.rules.streams)
    with limits.adaptive.listen(lambda *change: emit(LimitChanged(*change))):
        yield


# --- Events on their way ------------------------------------------------------------------------------------


class _Mailbox:
    """Events from the engine, which does not wait, to a reader, who may be slow.

    Readers of logs, who make nearly all events, wait in `room` while too many are unread.
    """

    def __init__(self) -> None:
        self._events: deque[SweepEvent] = deque()
        self._news = anyio.Event()
        self._less = anyio.Event()
        self._closed = False

    def put(self, event: SweepEvent) -> None:
        self._events.append(event)
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def get(self) -> SweepEvent | None:
        """The next one; `None` once all are read and no more can come."""
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
