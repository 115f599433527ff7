"""The server's side of Ray: sends jobs to the driver, follows each, and starts the driver again if it dies."""

from __future__ import annotations

import itertools
import math
import os
import secrets
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import anyio.to_thread
import structlog
from anyio.abc import Process, TaskGroup
from anyio.streams.buffered import BufferedByteReceiveStream

from fanbench._util import files
from fanbench._util.frames import framed, read_frame
from fanbench._util.install import install_command
from fanbench._util.text import last_line, many
from fanbench.errors import LocalServerError
from fanbench.local.carriers import Started
from fanbench.local.carriers.job import NotebookJob, Outcome, RunLost
from fanbench.local.carriers.ray.messages import (
    Accepted,
    Beat,
    Began,
    Cancel,
    Connected,
    Ended,
    Finished,
    Message,
    NoConnection,
    Notice,
    Order,
    Piece,
    Refused,
    Request,
    Said,
    Submit,
    Unprotected,
    Vanished,
    Wrote,
    decode_message,
    decode_notice,
    encode,
)
from fanbench.local.executor import Isolation, Protection
from fanbench.local.executor.environment import forkserver_environment, installer_environment
from fanbench.local.executor.supervise import Append
from fanbench.local.folder import PRIVATE
from fanbench.local.object_store import CREDENTIALS

__all__ = ["Cluster", "RayCarrier", "capacity_of", "check_ray", "examine_cluster"]

_log = structlog.get_logger(__name__)

_ATTEMPTS = 3
"""How often a Ray of our own is started: it gives up if its parts need over 15 s, as they may on a loaded machine."""

_REACH_SECONDS = 5.0
"""How long the port of a cluster may take to accept a connection."""
_START_SECONDS = 90.0
"""How long a Ray of our own may take to start."""
_CONNECT_SECONDS = 45.0
"""How long the driver may take to connect to a cluster."""
_CLOSE_SECONDS = 10.0
"""How long the driver may take to end before it is killed."""
_CANCEL_SECONDS = 20.0
"""How long a worker may take to end a run before it is killed."""
_KILL_SECONDS = 3.0
"""How long Ray may take to report that a worker was killed."""
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
"""Seconds between two attempts to connect again to a cluster that was lost."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """Which Ray carries out runs, and what its workers are told."""

    address: str = ""
    """HOST:PORT of a cluster to which this machine belongs; empty for a Ray of our own, on this machine only."""
    cpus: int = 1
    """How many runs a Ray of our own carries out at a time."""
    folder: Path
    """The server's data folder, which runs are not to see."""
    datasets: Path
    isolation: Isolation = "fork"
    pass_on: tuple[str, ...] = ()
    """The names of further variables that a Ray of our own may see, since its runs may."""
    uploads: bool = False
    """Whether a Ray of our own sees the credentials of object stores, because its workers upload outputs."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    alive_every: float = 5.0
    """Seconds between two signs of life of a worker that has a job, and of the driver."""
    silence: float = 30.0
    """Seconds without one after which its run is lost, or the driver is started again."""

    @property
    def silent_beats(self) -> int:
        """The number of signs of life of the driver during `silence`."""
        return math.ceil(self.silence / self.alive_every)

    @property
    def name(self) -> str:
        """How the user names it."""
        return f"ray://{self.address}" if self.address else "ray"

    @property
    def log(self) -> Path:
        return self.folder / "ray.log"


def check_ray() -> None:
    """Raise LocalServerError, naming the extra, if Ray is not installed."""
    import importlib.util

    if importlib.util.find_spec("ray") is None:
        raise LocalServerError("Ray is not installed.", hint=f"Run `{install_command('ray')}`.")


class RayCarrier:
    """Executes each job as a Ray task, which waits in Ray's queue until a machine has a free processor.

    `output_of` returns the file for the zip of a job's output, unless that is uploaded; None if it is not wanted.
    """

    def __init__(
        self,
        cluster: Cluster,
        output_of: Callable[[str], Path | None],
        say: Callable[[str], None],
        tasks: TaskGroup,
    ) -> None:
        self._cluster = cluster
        self._output_of = output_of
        self._say = say
        self._has_warned = False
        self._tasks = tasks
        self._driver: _Driver | None = None
        self._lock = anyio.Lock()
        self._on_obstacle: Callable[[Protection, str], None] = lambda _what, _reason: None
        self._known_obstacles: set[tuple[str, Protection]] = set()

    @staticmethod
    @asynccontextmanager
    async def open(
        cluster: Cluster, output_of: Callable[[str], Path | None], say: Callable[[str], None]
    ) -> AsyncIterator[RayCarrier]:
        """A carrier that is connected to the cluster. `say` receives sentences for the person who starts the server.

        Raises:
            LocalServerError: Ray is not installed or does not start, or the cluster cannot be reached.
        """
        check_ray()
        driver, found = await _connect(cluster)
        async with anyio.create_task_group() as tasks:
            carrier = RayCarrier(cluster, output_of, say, tasks)
            carrier._use(driver)
            carrier._warn_without_token(has_token=found.has_token)
            if cluster.address:
                say(capacity_of(found, cluster))
            try:
                yield carrier
            finally:
                with anyio.CancelScope(shield=True):
                    await (carrier._driver or driver).close()
                tasks.cancel_scope.cancel()

    def _warn_without_token(self, *, has_token: bool) -> None:
        """Warn once if the cluster asks for no token, as seen from this machine or from a worker's."""
        if not has_token and not self._has_warned:
            self._has_warned = True
            text = (
                f"The cluster {self._cluster.name} asks for no token: whoever reaches its ports can run code on all of "
                "its machines, and so can each run. Start it with RAY_AUTH_MODE=token (docs/cluster.md)."
            )
            _log.warning(text)
            self._say(text)

    def _use(self, driver: _Driver) -> None:
        self._driver = driver
        self._tasks.start_soon(driver.listen)
        self._tasks.start_soon(driver.watch, self._cluster)

    def warm_up(
        self, on_failure: Callable[[LocalServerError], None], on_obstacle: Callable[[Protection, str], None]
    ) -> None:
        """Workers report what is not possible on their machines with their first run."""
        self._on_obstacle = on_obstacle

    async def run(self, job: NotebookJob, started: Started, append: Append) -> Outcome:
        """See `Carrier.run`."""
        while True:
            driver = await self._connected()
            try:
                return await self._carry_out(driver, job, started, append)
            except _NotAccepted:
                continue  # nothing of it has been executed, so that this is no attempt

    async def _connected(self) -> _Driver:
        """The driver. One that is gone is started again until it connects; callers can be cancelled meanwhile."""
        async with self._lock:
            pause = _FIRST_PAUSE
            while self._driver is None or not self._driver.alive:
                try:
                    driver, _ = await _connect(self._cluster)
                    self._use(driver)
                except LocalServerError as error:
                    _log.warning("no connection to Ray", error=str(error), hint=error.hint)
                    if pause == _FIRST_PAUSE:
                        self._say(f"{error} Runs wait until it can be used again.")
                    await anyio.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
            return self._driver

    async def _carry_out(
        self, driver: _Driver, job: NotebookJob, started: Started, append: Append
    ) -> Outcome:
        output = None if job.outputs else self._output_of(job.name)
        request = Request(
            job=job,
            isolation=self._cluster.isolation,
            alive_every=self._cluster.alive_every,
            return_output=output is not None,
            datasets=str(self._cluster.datasets),
            hidden=[str(self._cluster.folder)],
        )
        node = ""
        async with (
            files.in_threads(_receiving(output)) as part,
            driver.submitted(encode(request)) as call,
        ):
            async for message in call.messages(self._cluster):
                match message:
                    case Accepted():
                        node = message.node
                        self._warn_without_token(has_token=message.has_token)
                    case Began():
                        await started()
                    case Wrote():
                        for stream, data in message.pieces:
                            append(stream, data)
                    case Piece():
                        await anyio.to_thread.run_sync(_append, part, message.data)
                    case Unprotected():
                        self._report_obstacle(node, message)
                    case Finished():
                        return message.outcome
                    case Refused():
                        raise LocalServerError(message.reason, hint=message.hint)
                    case Vanished():
                        raise RunLost(message.reason)
        raise AssertionError("unreachable")

    def _report_obstacle(self, node: str, found: Unprotected) -> None:
        if (node, found.what) not in self._known_obstacles:
            self._known_obstacles.add((node, found.what))
            self._on_obstacle(found.what, f"on the node {node}: {found.reason}")


@contextmanager
def _receiving(output: Path | None) -> Iterator[Path]:
    """The file to append to, which becomes `output` if the block ends without an exception."""
    if output is None:
        yield Path(os.devnull)
        return
    with files.output_errors(f"write {output}", kind=LocalServerError):
        output.parent.mkdir(parents=True, exist_ok=True)
        output.unlink(missing_ok=True)  # of an attempt whose end was not recorded
        with files.replacing(output, durable=False) as part:
            yield part


def _append(part: Path, data: bytes) -> None:
    with part.open("ab") as file:
        file.write(data)


class _NotAccepted(Exception):
    """The driver is gone, and no worker had the job."""


class _Call:
    """A job that was submitted, until nothing more comes of it."""

    def __init__(self, id_: int) -> None:
        self.id = id_
        self.put, self.notices = anyio.create_memory_object_stream[Beat | Said | Ended](64)
        self.over = False
        """No process of the run is left, or it cannot be known."""
        self.silent = False

    async def messages(self, cluster: Cluster) -> AsyncIterator[Message]:
        """What the worker says.

        Raises:
            LocalServerError: Ray could not carry out the job on any worker.
            RunLost: Its worker or the driver died, or has said nothing for `cluster.silence` seconds.
        """
        node, beats = None, 0
        while True:
            try:
                notice = await self.notices.receive()
            except anyio.EndOfStream:
                self.over = True
                raise (RunLost("the connection to Ray was lost") if node else _NotAccepted) from None
            if isinstance(notice, Beat):
                # Not a clock of ours: while this server does not listen, messages wait, with the beats among them.
                beats += 1
                # Until a worker has the job, it may wait for any time.
                if node and beats > cluster.silent_beats:
                    self.silent = True
                    raise RunLost(f"its node {node} has said nothing for {cluster.silence:g} s")
                continue
            beats = 0
            if isinstance(notice, Ended):
                self.over = True
                if notice.refused:
                    raise LocalServerError(f"{notice.refused}.", hint="See docs/cluster.md.")
                on_node = f" (on the node {node})" if node else ""
                raise RunLost(f"{notice.lost or 'somebody cancelled its Ray task'}{on_node}")
            message = decode_message(notice.message)
            node = message.node if isinstance(message, Accepted) else node
            self.over = isinstance(message, Finished | Refused | Vanished)
            yield message

    async def ended(self) -> None:
        """Drop all further notices, until the last."""
        with suppress(anyio.EndOfStream):
            while not isinstance(await self.notices.receive(), Ended):
                pass
        self.over = True


class _Driver:
    """One process of `driver`, from its start to its death."""

    def __init__(self, process: Process, folder: AsyncExitStack) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._folder = folder
        self._stdin = process.stdin
        self._stdout = BufferedByteReceiveStream(process.stdout)
        self._writing = anyio.Lock()
        self._calls: dict[int, _Call] = {}
        self._ids = itertools.count()
        self.alive = True
        self._waiting = False
        """Whether it is the driver's turn to say something."""
        self._missed = 0

    async def read(self) -> Notice | None:
        """The next notice; None once the driver is gone."""
        try:
            return decode_notice(await read_frame(self._stdout.receive_exactly))
        except (
            anyio.IncompleteRead,
            anyio.EndOfStream,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
        ):
            return None

    async def listen(self) -> None:
        """Pass on notices until the driver is gone."""
        self._waiting = True
        while isinstance(notice := await self.read(), Beat | Said | Ended):
            self._waiting, self._missed = False, 0
            calls = [*self._calls.values()] if isinstance(notice, Beat) else [self._calls.get(notice.id)]
            for call in calls:
                if call is not None:
                    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                        await call.put.send(notice)
            self._waiting = True
        self.alive = False
        for call in self._calls.values():
            call.put.close()
        await self.close()

    async def watch(self, cluster: Cluster) -> None:
        """Kill a driver that says nothing, such as one that Ray blocks: no job would ever come back from it."""
        while self.alive and self._missed <= cluster.silent_beats:
            await anyio.sleep(cluster.alive_every)
            self._missed += self._waiting
        if self.alive:
            _log.warning("the driver of Ray says nothing, and is killed", seconds=cluster.silence)
            self.kill()

    @asynccontextmanager
    async def submitted(self, request: bytes) -> AsyncIterator[_Call]:
        """Give the driver a job. If it has not ended at the end of the block, it is cancelled."""
        call = _Call(next(self._ids))
        if not self.alive:
            raise _NotAccepted
        self._calls[call.id] = call
        try:
            await self._send(Submit(call.id, request))
            yield call
        finally:
            with anyio.CancelScope(shield=True):
                await self._end(call)
            del self._calls[call.id]
            call.put.close()
            call.notices.close()

    async def _end(self, call: _Call) -> None:
        """Cancel the job if it is not over. A worker that is silent, or too slow, is killed."""
        if not call.over and not call.silent:
            await self._send(Cancel(call.id))
            with anyio.move_on_after(_CANCEL_SECONDS):
                await call.ended()
        if not call.over:
            await self._send(Cancel(call.id, force=True))
            with anyio.move_on_after(0 if call.silent else _KILL_SECONDS):
                await call.ended()

    async def _send(self, order: Order) -> None:
        # Shielded: half of an order would spoil all that follow.
        with anyio.CancelScope(shield=True):
            async with self._writing:
                with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                    await self._stdin.send(framed(encode(order)))

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self._process.kill()

    async def close(self) -> None:
        """End the driver, and with it its jobs and a Ray of our own."""
        self.alive = False
        with anyio.CancelScope(shield=True):
            await self._stdin.aclose()
            with anyio.move_on_after(_CLOSE_SECONDS):
                await self._process.wait()
            self.kill()
            await self._process.wait()
            await self._folder.aclose()


async def examine_cluster(cluster: Cluster) -> Connected:
    """What a server finds at the cluster when it starts.

    Raises:
        LocalServerError: Ray is not installed, or the cluster cannot be used.
    """
    check_ray()
    driver, found = await _connect(cluster)
    driver.kill()
    await driver.close()
    return found


def capacity_of(found: Connected, cluster: Cluster) -> str:
    """A sentence about how many runs the cluster carries out at a time."""
    if not found.cpus:
        return f"No machine of the cluster carries out runs yet: run `ray start --address {cluster.address}` on some."
    return (
        f"The cluster carries out {many(found.cpus, 'run')} at a time, on {many(found.machines, 'machine')}."
    )


async def _connect(cluster: Cluster) -> tuple[_Driver, Connected]:
    """A driver that is connected to the cluster, or to a Ray of its own, and what it has found there.

    Raises:
        LocalServerError: That is not possible, or not in time.
    """
    if cluster.address:
        await _reach(cluster)
    for attempt in itertools.count(1):
        begun = cluster.log.stat().st_size if cluster.log.exists() else 0
        driver = await _start(cluster)
        try:
            notice = None
            with anyio.move_on_after(_CONNECT_SECONDS if cluster.address else _START_SECONDS):
                notice = await driver.read()
            if isinstance(notice, Connected):
                return driver, notice
            reason = notice.reason if isinstance(notice, NoConnection) else ""
            said = await anyio.to_thread.run_sync(_log_since, cluster.log, begun)
            error = _explain(cluster, reason, said)
        except BaseException:
            driver.kill()
            await driver.close()
            raise
        driver.kill()
        await driver.close()
        if cluster.address or attempt == _ATTEMPTS:
            raise error
        _log.warning("Ray did not start", attempt=attempt, error=str(error))
    raise AssertionError("unreachable")


async def _reach(cluster: Cluster) -> None:
    host, _, port = cluster.address.rpartition(":")
    try:
        with anyio.fail_after(_REACH_SECONDS):
            await (await anyio.connect_tcp(host.strip("[]"), int(port))).aclose()
    except (OSError, TimeoutError) as error:
        cause = error.__cause__
        refused = (
            os.strerror(cause.errno) if isinstance(cause, OSError) and cause.errno else last_line(str(error))
        )
        reason = refused or f"no answer within {_REACH_SECONDS:g} s"
        raise LocalServerError(
            f"There is no Ray cluster at {cluster.address}: {reason}.",
            hint="Name the head's address and port, as `ray start --head --port 6379` prints it.",
        ) from None


async def _start(cluster: Cluster) -> _Driver:
    async with AsyncExitStack() as opened:
        # A path below a long one would be too long for Ray's sockets.
        place = tempfile.gettempdir()
        parent = Path(place if len(place) < 20 else "/tmp")  # noqa: S108 - the folder is ours alone
        folder = await opened.enter_async_context(files.async_temporary_folder("fanbench-ray-", parent))
        words = [cluster.address, str(cluster.cpus), str(folder), str(cluster.alive_every)]
        environment = await anyio.to_thread.run_sync(_environment, cluster)
        with cluster.log.open("ab") as log, anyio.CancelScope(shield=True):
            process = await anyio.open_process(
                # It dies with this process, and Ray's processes with it.
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "fanbench.local.executor.lifetime",
                    sys.executable,
                    "-P",
                    "-m",
                    "fanbench.local.carriers.ray.driver",
                    *words,
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,  # Ray adds it to the path of modules on all workers
                env=environment,
                start_new_session=True,
            )
        return _Driver(process, opened.pop_all())


def _environment(cluster: Cluster) -> dict[str, str]:
    """What the driver, and a Ray of our own with its workers, need of our environment."""
    outside = cluster.environment
    kept = {**installer_environment(outside), **forkserver_environment(outside)}
    kept |= {name: outside[name] for name in cluster.pass_on if name in outside}
    kept |= {
        name: value for name, value in outside.items() if name.startswith("RAY_") and name != "RAY_ADDRESS"
    }
    kept["RAY_USAGE_STATS_ENABLED"] = "0"
    if not cluster.address:
        token = cluster.folder / "ray-token"
        files.write(token, secrets.token_hex(32), mode=PRIVATE)
        if cluster.uploads:
            kept |= {name: value for name, value in outside.items() if name.startswith(CREDENTIALS)}
        kept |= {
            "FANBENCH_WORKER_DATA": str(cluster.folder / "workers"),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            # Otherwise Ray takes 127.0.0.1 for the address that leads out.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
    return kept


def _log_since(log: Path, begun: int) -> str:
    with log.open("rb") as file:
        file.seek(begun)
        return file.read(1 << 20).decode("utf-8", "replace")


def _explain(cluster: Cluster, reason: str, said: str) -> LocalServerError:
    """Why there is no connection, from the driver's `reason`, and from what Ray has `said` in its log."""
    if not cluster.address:
        detail = last_line(reason).removesuffix(".") or f"it was not ready within {_START_SECONDS:g} s"
        return LocalServerError(f"Ray did not start: {detail}.", hint=f"See {cluster.log}.")
    if "InvalidAuthToken" in said or "Unauthenticated" in said or "authentication token" in reason:
        return LocalServerError(
            f"The Ray cluster at {cluster.address} does not accept our token.",
            hint="Set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN_PATH to the file with the token of its head.",
        )
    if "Version mismatch" in reason:
        versions = " ".join(line.strip() for line in reason.splitlines()).removesuffix(".")
        return LocalServerError(
            f"The Ray cluster at {cluster.address} has other versions: {versions}.",
            hint="Install the same versions of Python and of fanbench[ray] on all machines.",
        )
    detail = last_line(reason).removesuffix(".") or f"it did not answer within {_CONNECT_SECONDS:g} s"
    return LocalServerError(
        f"Cannot use the Ray cluster at {cluster.address}: {detail}.",
        hint=f"Is this machine a node of it? Run `ray start --address {cluster.address} --num-cpus 0` here.",
    )
