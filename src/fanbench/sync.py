"""The client and sweeps for scripts and notebooks without `await`: each call returns when it is done.

    from fanbench.sync import Client, sweep

Names, arguments, results and errors are those of `fanbench`. Everything runs in an event loop in a thread of its own,
so that it also works where a loop is running, as in Jupyter. Ctrl-C cancels a call as it cancels a coroutine. Callbacks
such as `emit` are called in that thread, and must not block it.
"""

from __future__ import annotations

import inspect
import os
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, aclosing, contextmanager
from functools import partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal

from fanbench import client as async_client
from fanbench.client import DEFAULT_RETRY
from fanbench.config import Config
from fanbench.sweeps import sweep as async_sweep
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.events import DrainReason, EmitSweepEvent, SweepEvent
from fanbench.sweeps.plan import SweepPlan
from fanbench.sweeps.report import SweepReport
from fanbench.sweeps.spec import CancelPolicy
from fanbench.sweeps.sweep import SweepOptions
from fanbench.wire.retry import RetryPolicy

if TYPE_CHECKING:
    import httpx

    from fanbench.local.address import LocalServer
    from fanbench.wire.transport import CallLimits

__all__ = ["Client", "Sweep", "ensure_server", "local_server", "plan_sweep", "sweep"]

P = ParamSpec("P")
T = TypeVar("T")
C = TypeVar("C", bound=Callable[..., Any])
AnyPath = str | os.PathLike[str]

#: So many items of an iterator wait for their reader: to fetch each by itself from the other thread takes a while.
READ_AHEAD = 100


# --- The loop ---------------------------------------------------------------------------------------------------


class _Loop:
    """What runs in the thread of the event loop, on behalf of callers in other threads."""

    def __init__(self, portal: BlockingPortal) -> None:
        self._portal = portal

    def wait(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return what a coroutine function returns. Ctrl-C cancels it, and waits until it has cleaned up."""
        ended = threading.Event()
        scope: anyio.CancelScope | None = None

        async def run() -> T:
            nonlocal scope
            try:
                with anyio.CancelScope() as scope:
                    return await function()
                raise RuntimeError("Whoever waited for this has been interrupted.")
            finally:
                ended.set()

        def cancel() -> bool:
            if scope is not None:
                scope.cancel()
            return scope is not None

        try:
            return self._portal.call(run)
        except BaseException:
            # What was asked for before this has begun by now, or never will.
            if not ended.is_set() and self._portal.call(cancel):
                ended.wait()
            raise

    @contextmanager
    def open(self, manager: AbstractAsyncContextManager[T]) -> Generator[T, None, None]:
        """Enter `manager`. It is left without the caller's error, such as Ctrl-C, which would end the loop as well."""
        entered = self._portal.wrap_async_context_manager(manager)
        value = entered.__enter__()
        try:
            yield value
        finally:
            entered.__exit__(None, None, None)

    def iterate(self, iterator: AsyncIterator[T]) -> Generator[T, None, None]:
        """Yield the items of `iterator`, all of which a single task reads: generators hold what belongs to a task."""
        send, receive = anyio.create_memory_object_stream[T](READ_AHEAD)

        async def read() -> None:
            try:
                async with AsyncExitStack() as stack:
                    stack.enter_context(send)
                    if isinstance(iterator, AsyncGenerator):
                        await stack.enter_async_context(aclosing(iterator))
                    async for item in iterator:
                        await send.send(item)
            except anyio.get_cancelled_exc_class():
                receive.close()
                raise

        async def take() -> list[T]:
            items = [await receive.receive()]
            while receive.statistics().current_buffer_used:
                items.append(receive.receive_nowait())
            return items

        reading = self._portal.start_task_soon(read)
        try:
            while True:
                try:
                    items = self.wait(take)
                except anyio.EndOfStream:
                    break
                yield from items
            reading.result()  # It may have failed.
        finally:
            if not reading.cancel():
                receive.close()  # Nothing in the loop uses it any more.


@contextmanager
def _start_loop() -> Generator[_Loop, None, None]:
    with start_blocking_portal() as portal:
        try:
            yield _Loop(portal)
        finally:
            # Also what reads for iterators that were left early, and still exist.
            portal.call(portal.stop, True)


def _waits(
    method: Callable[Concatenate[async_client.Client, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[Client, P], T]:
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._loop.wait(partial(method, self._client, *args, **kwargs))

    return _described_by(method, call)


def _iterates(
    method: Callable[Concatenate[async_client.Client, P], AsyncIterator[T]],
) -> Callable[Concatenate[Client, P], Generator[T, None, None]]:
    def call(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> Generator[T, None, None]:
        return self._loop.iterate(method(self._client, *args, **kwargs))

    return _described_by(method, call)


def _described_by(method: Callable[..., Any], call: C) -> C:
    """Give `call` the name, the signature and the docstring of `method`, as they are without `await`."""
    update_wrapper(call, method)
    call.__doc__ = (method.__doc__ or "").replace("aclosing", "closing")
    signature = inspect.signature(method)
    returned = str(signature.return_annotation).replace("Async", "")
    call.__signature__ = signature.replace(return_annotation=returned)  # type: ignore[attr-defined]
    return call


# --- The client -------------------------------------------------------------------------------------------------


class Client:
    """Kaggle Benchmarks for programs without `await`. Use it as `with Client() as client:`.

    It takes what `fanbench.Client` takes, and has its methods: they return when the call is done, and those that
    iterate are generators. Leaving one early closes it. Several threads may use one client at the same time.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        limits: CallLimits | None = None,
        http: httpx.AsyncBaseTransport | None = None,
        retry: RetryPolicy = DEFAULT_RETRY,
        started: Callable[[LocalServer], None] | None = None,
    ) -> None:
        self._client = async_client.Client(config, limits=limits, http=http, retry=retry, started=started)
        self.config = self._client.config
        self._open: _Loop | None = None
        self._stack = ExitStack()

    @classmethod
    @contextmanager
    def local(
        cls, data: AnyPath | None = None, *, concurrency: int | None = None
    ) -> Generator[Self, None, None]:
        """Connect to the local server, as `fanbench.Client.local` does.

        Raises:
            LocalServerError: The server cannot be started.
        """
        with _start_loop() as loop:
            config = loop.wait(partial(async_client.local_config, data, concurrency=concurrency))
        with cls(config) as client:
            yield client

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            loop = stack.enter_context(_start_loop())
            stack.enter_context(loop.open(self._client))
            self._open, self._stack = loop, stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._open = None
        self._stack.close()

    @property
    def _loop(self) -> _Loop:
        """What runs the calls.

        Raises:
            RuntimeError: The client is not open.
        """
        if self._open is None:
            raise RuntimeError("The client is not open: use it in `with Client() as client:`.")
        return self._open

    push = _waits(async_client.Client.push)
    run = _waits(async_client.Client.run)
    wait = _waits(async_client.Client.wait)
    lines = _iterates(async_client.Client.lines)
    download = _waits(async_client.Client.download)
    status = _waits(async_client.Client.status)

    create_task = _waits(async_client.Client.create_task)
    get_task = _waits(async_client.Client.get_task)
    list_tasks = _iterates(async_client.Client.list_tasks)
    publish_task = _waits(async_client.Client.publish_task)
    update_task = _waits(async_client.Client.update_task)
    delete_task = _waits(async_client.Client.delete_task)

    schedule_runs = _waits(async_client.Client.schedule_runs)
    queue_status = _waits(async_client.Client.queue_status)
    cancel_runs = _waits(async_client.Client.cancel_runs)
    list_runs = _iterates(async_client.Client.list_runs)
    logs = _iterates(async_client.Client.logs)
    download_output = _waits(async_client.Client.download_output)

    add_tasks = _waits(async_client.Client.add_tasks)
    remove_tasks = _waits(async_client.Client.remove_tasks)

    list_models = _waits(async_client.Client.list_models)
    list_configs = _waits(async_client.Client.list_configs)
    leaderboard = _waits(async_client.Client.leaderboard)
    task_quota = _waits(async_client.Client.task_quota)
    proxy_quotas = _waits(async_client.Client.proxy_quotas)
    create_proxy_token = _waits(async_client.Client.create_proxy_token)
    introspect_token = _waits(async_client.Client.introspect_token)


@contextmanager
def local_server(
    data: AnyPath | None = None, *, datasets: AnyPath | None = None
) -> Generator[LocalServer, None, None]:
    """Run the local server for the duration of the block, as `fanbench.local_server` does.

    Raises:
        LocalServerError: The server cannot be started or does not stop.
    """
    with _start_loop() as loop, loop.open(async_client.local_server(data, datasets=datasets)) as server:
        yield server


def ensure_server(data: Path | None = None, *, datasets: Path | None = None) -> LocalServer:
    """Return the local server of the data folder, started if necessary, as `fanbench.ensure_server` does.

    Raises:
        LocalServerError: It cannot be started.
    """
    from fanbench.local import launcher

    with _start_loop() as loop:
        return loop.wait(partial(launcher.ensure_server, data, datasets=datasets))


# --- Sweeps -----------------------------------------------------------------------------------------------------


def plan_sweep(
    client: Client,
    tasks: AnyPath | Sequence[AnyPath] = (),
    models: str | Sequence[str] = (),
    **options: Unpack[SweepOptions],
) -> SweepPlan:
    """Return the plan of a sweep; see `fanbench.plan_sweep`.

    Raises:
        FanbenchError: As `fanbench.plan_sweep`.
    """
    plan = partial(async_sweep.plan_sweep, client._client, tasks, models, **options)
    return client._loop.wait(plan)


def sweep(
    tasks: AnyPath | Sequence[AnyPath] = (),
    models: str | Sequence[str] = (),
    *,
    client: Client | None = None,
    on_event: EmitSweepEvent | None = None,
    fresh: bool = False,
    **options: Unpack[SweepOptions],
) -> SweepReport:
    """Run every task on every model, download the results, and return the report; see `fanbench.sweep`.

    Ctrl-C stops it at once, and the same call continues. `on_event` is called in the thread of the loop.

    Raises:
        FanbenchError: As `fanbench.sweep`.
    """
    with ExitStack() as stack:
        client = client or stack.enter_context(Client())
        run = partial(async_sweep.sweep, tasks, models, client=client._client, **options)
        return client._loop.wait(partial(run, on_event=on_event, fresh=fresh))


class Sweep:
    """A plan being carried out: `with Sweep(client, plan) as sweep: for event in sweep: ...`

    It is used as `fanbench.Sweep` is. Leaving the block early stops the sweep at once and loses nothing.

    Raises:
        SweepLocked: On entering: another process sweeps into the folder.
        JournalError: On entering: the folder's journal is damaged, newer than this program, or cannot be written.
        SweepError: On entering: the folder holds another sweep.
    """

    def __init__(self, client: Client, plan: SweepPlan, *, until: Stage = "collect") -> None:
        self.plan = plan
        self._loop = client._loop
        self._sweep = async_sweep.Sweep(client._client, plan, until=until)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(self._loop.open(self._sweep))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> SweepEvent:
        try:
            return self._loop.wait(self._sweep.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None

    def drain(self, reason: DrainReason = DrainReason.INTERRUPTED, detail: str = "") -> None:
        """Push and schedule nothing more, but finish the runs in flight."""

        async def drain() -> None:
            self._sweep.drain(reason, detail)

        self._loop.wait(drain)

    def cancel(self, policy: CancelPolicy = "all") -> None:
        """Push and schedule nothing more, and cancel on the server what is in flight: all of it, or what is queued."""

        async def cancel() -> None:
            self._sweep.cancel(policy)

        self._loop.wait(cancel)

    @property
    def cancelling(self) -> bool:
        """Whether runs are being cancelled on the server."""
        return self._sweep.cancelling

    @property
    def stopped(self) -> DrainReason | None:
        """The reason why less than the plan was scheduled, if so."""
        return self._sweep.stopped

    def report(self) -> SweepReport:
        """Return the results as they are on disk now; also after the end."""
        return async_sweep.report_of(self.plan)
