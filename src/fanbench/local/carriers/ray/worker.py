"""Executes one job on a machine of the cluster, as a Ray task. Ray uses the process again for the next task.

The process therefore keeps an event loop, in a thread of its own, with a `LocalCarrier`, whose warm forkserver would
otherwise be started for each run. All files are below `FANBENCH_WORKER_DATA`:

    environments/      packages that runs need in addition, shared by the workers of this machine
    worker-RANDOM/     the folders of this process's runs, deleted with them
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import stat
import tempfile
import time
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec
from anyio.abc import TaskStatus
from anyio.from_thread import start_blocking_portal

from fanbench._util import files
from fanbench._util.text import last_line
from fanbench.errors import LocalServerError
from fanbench.local.carriers.job import RunLost
from fanbench.local.carriers.local import LocalCarrier
from fanbench.local.carriers.ray.messages import (
    Accepted,
    Alive,
    Began,
    Finished,
    Message,
    Piece,
    Refused,
    Request,
    Unprotected,
    Vanished,
    Wrote,
    decode_request,
    encode,
    versions,
)
from fanbench.local.environments import Environments
from fanbench.local.executor.container import check_containers
from fanbench.local.executor.lifetime import die_with_parent
from fanbench.local.settings import find_datasets
from fanbench.local.zips import write_output_zip

__all__ = ["carry_out"]

_BATCH_SECONDS = 0.2
"""Seconds for which output is gathered before it is sent."""
_BATCH_BYTES = 1 << 19
"""Output of this size is sent at once."""

_PIECE_BYTES = 1 << 20
_WAIT_SECONDS = 0.1
"""The longest wait for a message: Ray's request to cancel the task does not interrupt a wait."""
_END_SECONDS = 15.0
"""How long a cancelled run may take to end."""


def carry_out(wanted: dict[str, str], request: bytes) -> Iterator[bytes]:
    """The Ray task: execute the job of a `Request`, and yield each `Message` about it.

    `wanted` are the server's versions. The request can only be understood if they are also those of this worker.
    """
    # Ray cancels a task by SIGINT, which is ignored in what a shell script starts in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield encode(Accepted(_node(), has_token=os.environ.get("RAY_AUTH_MODE") == "token"))
    if refusal := _compare(wanted):
        yield encode(refusal)
        return
    decoded = decode_request(request)
    mailbox = _Mailbox()
    try:
        with _exit_if_interrupted():
            worker = _worker(decoded.isolation, decoded.datasets, tuple(decoded.hidden))
    except (LocalServerError, OSError) as error:
        yield encode(_refused(error))
        return
    with worker.carrying_out(decoded, mailbox):
        for message in mailbox:
            yield encode(message)


@contextmanager
def _exit_if_interrupted() -> Iterator[None]:
    """End this process if Ray cancels the task within the block, or the block takes too long.

    It would otherwise be unknown what has been started. All of that ends with this process, and Ray starts another.
    """
    try:
        yield
    except (KeyboardInterrupt, TimeoutError):
        os._exit(1)


def _compare(wanted: dict[str, str]) -> Refused | None:
    ours = versions()
    differing = [name for name in wanted if ours.get(name) != wanted[name]]
    if not differing:
        return None
    here = ", ".join(f"{name} {ours.get(name, 'in no version')}" for name in differing)
    there = ", ".join(f"{name} {wanted[name]}" for name in differing)
    return Refused(
        f"The node {_node()} has {here}, and the server has {there}.",
        "Install the same versions on all machines, and start Ray there again.",
    )


@cache
def _node() -> str:
    import ray

    return str(ray.util.get_node_ip_address())


def _refused(error: LocalServerError | OSError) -> Refused:
    hint = error.hint if isinstance(error, LocalServerError) else None
    return Refused(f"{str(error).removesuffix('.')} (on the node {_node()}).", hint)


class _Mailbox:
    """Messages on their way from the event loop to the task. A full one makes the run wait."""

    def __init__(self) -> None:
        self._queue: queue.Queue[Message | None] = queue.Queue(64)
        self._closed = False

    def put(self, message: Message | None) -> None:
        """Append a message; None is the end."""
        while not self._closed:
            with suppress(queue.Full):
                self._queue.put(message, timeout=_WAIT_SECONDS)
                return

    def close(self) -> None:
        """Throw away what is appended from now on."""
        self._closed = True

    def __iter__(self) -> Iterator[Message]:
        sent = 0.0
        while (message := self._take()) is not None:
            if isinstance(message, Wrote):
                wrote, message = self._gather(message, sent + _BATCH_SECONDS)
                yield wrote
                sent = time.monotonic()
                if message is None:
                    continue
            yield message

    def _take(self) -> Message | None:
        while True:
            try:
                return self._queue.get(timeout=_WAIT_SECONDS)
            except queue.Empty:
                continue

    def _gather(self, first: Wrote, until: float) -> tuple[Wrote, Message | None]:
        """What is written until then, and the message of another kind after it, if one has come."""
        pieces, size = [*first.pieces], 0
        while size < _BATCH_BYTES:
            try:
                message = self._queue.get(timeout=max(until - time.monotonic(), 0))
            except queue.Empty:
                break
            if message is None:
                self._queue.put(None)  # the end, which nothing follows
                break
            if not isinstance(message, Wrote):
                return Wrote(pieces), message
            pieces += message.pieces
            size += sum(len(data) for _, data in message.pieces)
        return Wrote(pieces), None


class _Worker:
    """What this process keeps from one run to the next, until it ends."""

    def __init__(self, isolation: str, datasets: str, hidden: tuple[str, ...]) -> None:
        if isolation == "container":
            check_containers()
        die_with_parent()  # the raylet, which is gone at once when a server with a Ray of its own is killed
        self._data = _data_folder()
        self._datasets = Path(os.environ.get("FANBENCH_DATASETS") or datasets)
        self._obstacles: list[Unprotected] = []
        opened = ExitStack()
        self._portal = opened.enter_context(start_blocking_portal())
        # Deletes the folders of workers that were killed.
        self._folder = opened.enter_context(files.temporary_folder("worker-", self._data))
        carrier = LocalCarrier.open(
            self._data,
            Environments(self._data / "environments"),
            self._datasets,
            isolation,  # type: ignore[arg-type]
            self._folder / "worker.log",
            hidden=[*hidden, *_folders_of_ray()],
            where=f" on the node {_node()}",
        )
        self._carrier = opened.enter_context(self._portal.wrap_async_context_manager(carrier))
        self._portal.call(
            self._carrier.warm_up,
            lambda _error: None,
            lambda what, reason: self._obstacles.append(Unprotected(what, reason)),
        )
        self._opened = opened  # until the process ends; without a reference, all of it would be closed

    @contextmanager
    def carrying_out(self, request: Request, mailbox: _Mailbox) -> Iterator[None]:
        """Begin the job. If it has not ended at the end of the block, no process of it is left after that."""
        with _exit_if_interrupted():
            future, scope = self._portal.start_task(self._carry_out, request, mailbox)
        try:
            yield
        finally:
            with _exit_if_interrupted():
                mailbox.close()
                self._portal.call(scope.cancel)
                future.result(_END_SECONDS)

    async def _carry_out(
        self, request: Request, mailbox: _Mailbox, *, task_status: TaskStatus[anyio.CancelScope]
    ) -> None:
        folder = self._folder / request.job.name
        with anyio.CancelScope() as scope:
            task_status.started(scope)
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(_stay_alive, mailbox, request.alive_every)
                    last = await self._end_of(request, folder, mailbox)
                    tasks.cancel_scope.cancel()
                for obstacle in self._obstacles:
                    mailbox.put(obstacle)
                mailbox.put(last)
            finally:
                mailbox.put(None)

    async def _end_of(
        self, request: Request, folder: Path, mailbox: _Mailbox
    ) -> Finished | Refused | Vanished:
        async def began() -> None:
            mailbox.put(Began())

        try:
            hint = "Put it there, or set FANBENCH_DATASETS to another folder where `ray start` is run."
            find_datasets(self._datasets, request.job.datasets, hint=hint)
            job = msgspec.structs.replace(request.job, name=f"{self._folder.name}/{request.job.name}")
            outcome = await self._carrier.run(
                job, began, lambda name, data: mailbox.put(Wrote([(name, data)]))
            )
            if request.return_output:
                await anyio.to_thread.run_sync(_return_output, folder, mailbox)
            return Finished(outcome)
        except (LocalServerError, OSError) as error:
            return _refused(error)
        except RunLost as lost:
            return Vanished(f"{lost} (on the node {_node()})")
        except Exception as error:  # noqa: BLE001 - the server must learn of it, whatever it is
            traceback.print_exc()  # into Ray's log of this worker
            return Refused(f"The worker on the node {_node()} failed: {last_line(str(error)) or repr(error)}")
        finally:
            # Before the server learns of the end: then, nothing of the run is left here.
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))


_worker = cache(_Worker)


async def _stay_alive(mailbox: _Mailbox, every: float) -> None:
    while True:
        await anyio.sleep(every)
        mailbox.put(Alive())


def _return_output(folder: Path, mailbox: _Mailbox) -> None:
    path = folder / "output.zip"
    write_output_zip(folder, path, include_source=True)
    with path.open("rb") as file:
        while data := file.read(_PIECE_BYTES):
            mailbox.put(Piece(data))


def _data_folder() -> Path:
    """The folder of all workers of this user on this machine.

    Raises:
        LocalServerError: Somebody else has made it.
    """
    named = os.environ.get("FANBENCH_WORKER_DATA")
    folder = Path(named or f"{tempfile.gettempdir()}/fanbench-workers-{os.getuid()}").absolute()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    if not named and (
        found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077 or folder.is_symlink()
    ):
        raise LocalServerError(
            f"The folder {folder} belongs to another user, or other users can write to it.",
            hint="Set FANBENCH_WORKER_DATA to a folder of your own where `ray start` is run.",
        )
    return folder


def _folders_of_ray() -> list[str]:
    """Where Ray has its sockets, its logs and its token: whoever reaches them can do what Ray's user can."""
    import ray

    token = os.environ.get("RAY_AUTH_TOKEN_PATH")
    places = [
        Path(ray.get_runtime_context().get_temp_dir()),
        *([Path(token).absolute().parent] if token else []),
    ]
    return [str(place) for place in places if place.is_dir() and place not in (Path("/"), Path("/etc"))]
