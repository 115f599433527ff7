"""The life of the server: lock the data folder, bind, serve, and take everything down again."""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import logging
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import anyio
import msgspec
import structlog
from anyio.abc import TaskStatus

from fanbench._util import files
from fanbench._util.text import many
from fanbench.errors import LocalServerError
from fanbench.local.address import Address, find_server
from fanbench.local.advertise import Addresses, addresses_of
from fanbench.local.executor import Protection
from fanbench.local.executor.container import check_containers
from fanbench.local.folder import PRIVATE, DataFolder, open_data_folder
from fanbench.local.kept_options import save_options
from fanbench.local.settings import ServerSettings, data_flag, default_data_folder

if TYPE_CHECKING:
    from fanbench.local.wire import Services

_log = structlog.get_logger(__name__)

BACKLOG = 2048
"""The most connections that wait until they are accepted."""

GRACEFUL_SECONDS = 2
"""How long open answers, such as log streams, may continue when the server is to end."""

_UNPROTECTED: dict[Protection, str] = {
    "mounts": "Runs can read and change everything that you can, with this server's data folder and its token: mounts "
    "are not possible here ({reason}). Run untrusted task files in a container.",
    "processes": "Runs can see and end the processes of other runs and of this server: PID namespaces are not possible "
    "here ({reason}). Run untrusted task files in a container.",
}


async def serve(
    settings: ServerSettings,
    listening: Callable[[Address], None],
    cannot_run: Callable[[LocalServerError], None],
    say: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM, or until idle for `settings.idle_timeout`.

    `listening` is called once the server answers, and `cannot_run` if it does, but runs will fail until that
    error is fixed. `say` receives sentences for the person who has started the server.

    Raises:
        LocalServerError: The extra is not installed, the port or the data folder is in use or unusable, or
            recordings cannot be written or read.
        UsageError: What is to be advertised is no address.
        UnknownModel: The judge, or the model of an alias, does not exist.
    """
    check_installed()
    if settings.isolation == "container":
        check_containers()
    from fanbench.local.connections import connection_limit

    limit = connection_limit(settings.workers)
    with open_data_folder(settings.data) as folder, _log_into(folder), _bind(settings) as listener:
        for note in folder.notes:
            _log.warning(note)
            say(note)
        if settings.record is not None:
            say(f"Answers of models are recorded in {settings.record}.")
        if settings.replay is not None:
            say(f"Answers of models come from {settings.replay}. No model is asked.")
        addresses = addresses_of(settings, listener.getsockname()[1])
        address = Address(addresses.local, os.getpid(), str(folder.token_file), settings.stop_timeout)

        def warm_up_failed(error: LocalServerError) -> None:
            _log.error("runs cannot be started", error=str(error))
            cannot_run(error)

        def unprotected(what: Protection, reason: str) -> None:
            text = _UNPROTECTED[what].format(reason=reason)
            _log.warning(text)
            say(text)

        async def prepare_packages(services: Services) -> None:
            try:
                # The first run need not wait until the metadata of all packages has been read.
                await services.environments.constraints()
                await services.environments.prepare(settings.requirements, _log.info)
            except LocalServerError as error:
                warm_up_failed(error)

        async with _services(settings, folder, addresses) as services, anyio.create_task_group() as preparing:
            services.carrier.warm_up(warm_up_failed, unprotected)
            preparing.start_soon(prepare_packages, services)
            save_options(folder, settings)

            def answering() -> None:
                files.write(folder.server_file, msgspec.json.encode(address) + b"\n", mode=PRIVATE)
                listening(address)

            try:
                await _serve_http(services, listener, limit, answering, say)
            finally:
                folder.server_file.unlink(missing_ok=True)
                preparing.cancel_scope.cancel()


def check_installed() -> None:
    """Raise LocalServerError, naming the extra, if a package of the server is missing."""
    from fanbench.local.executor.forkserver_executor import missing_extra

    for name in (
        "starlette",
        "uvicorn",
        "sqlalchemy",
        "aiosqlite",
        "alembic",
        "IPython",
        "kaggle_benchmarks",
    ):
        if importlib.util.find_spec(name) is None:
            raise missing_extra(f"no package {name}")


def _bind(settings: ServerSettings) -> socket.socket:
    def listen(port: int) -> socket.socket:
        listener = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((settings.host, port))
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener

    try:
        return listen(settings.port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            place = f"{settings.host}:{settings.port}"
            raise LocalServerError(f"Cannot listen on {place}: {error.strerror or error}.") from None
    if settings.any_port:
        return listen(0)
    raise LocalServerError(
        f"The port {settings.port} of {settings.host} is in use.",
        hint=_free_port_hint(settings.port),
    )


def _free_port_hint(port: int) -> str:
    """What to do if the port is in use: also how to end the server of the default data folder, if it is that one."""
    holder = find_server(default_data_folder())
    if holder is None or urlsplit(holder.url).port != port:
        return "Choose a free port with --port 0."
    stop = f"fanbench stop{data_flag(default_data_folder())}"
    return f"Run `{stop}` to end the local server on this port, or choose a free one with --port 0."


@asynccontextmanager
async def _services(
    settings: ServerSettings, folder: DataFolder, addresses: Addresses
) -> AsyncIterator[Services]:
    """Start everything behind the application, and end it in the opposite order."""
    from fanbench.local.carriers.local import LocalCarrier
    from fanbench.local.environments import Environments
    from fanbench.local.models.pool import ModelPool, make_engine
    from fanbench.local.models.recordings import Recorder, Replayer
    from fanbench.local.scheduler import Scheduler
    from fanbench.local.store import Store
    from fanbench.local.wire import Services

    make = make_engine
    if settings.record is not None:
        make = Recorder(settings.record).engine
    elif settings.replay is not None:
        make = Replayer(settings.replay).engine
    aliases = dict(settings.model_aliases)
    environments = Environments(folder.environments)
    async with (
        Store.open(folder.database) as store,
        ModelPool.open(folder, settings.model_idle, aliases, settings.judge, make) as pool,
        LocalCarrier.open(
            folder.root, environments, settings.dataset_folder, settings.isolation, folder.worker_log
        ) as carrier,
        Scheduler(settings, folder, store, pool, carrier, addresses.model_proxy).running() as scheduler,
    ):
        yield Services(
            settings=settings,
            folder=folder,
            store=store,
            pool=pool,
            environments=environments,
            carrier=carrier,
            scheduler=scheduler,
            addresses=addresses,
            token=folder.read_token(),
        )


async def _serve_http(
    services: Services,
    listener: socket.socket,
    limit: int,
    listening: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    import uvicorn

    from fanbench.local.app import App
    from fanbench.local.connections import ACCEPT_AT_ONCE, Connection, OpenConnection, limited_to
    from fanbench.local.faults import FaultyApp

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            # uvicorn would raise the signal again at its end, and kill us before we have cleaned up.
            yield

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            listener.listen(BACKLOG)  # asyncio has set it to the number that it accepts at once
            listening()

    app, faults = App(services), services.settings.faults
    if faults is not None:
        _log.warning("answers fail on purpose", faults=faults.name, seed=faults.seed)
    config = uvicorn.Config(
        app if faults is None else FaultyApp(app, faults),
        lifespan="off",
        log_config=None,
        access_log=False,
        http=limited_to(limit, Connection if faults is None else OpenConnection),
        backlog=ACCEPT_AT_ONCE,
        server_header=False,
        date_header=faults is None,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )
    server = Server(config)

    async def end_on_signal(*, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            task_status.started()
            await anext(signals)
            tasks.start_soon(end)
            async for _ in signals:  # the second signal: wait for nothing
                server.force_exit = True
                await services.scheduler.stop(0)

    async def end() -> None:
        # Runs first: without the Model Proxy, which ends with the server, they would fail.
        try:
            await _end_runs(services, say)
        finally:
            with anyio.CancelScope(shield=True):
                await close()

    async def close() -> None:
        # Clients that find no address wait for the end of this server, and start the next one.
        await anyio.Path(services.folder.server_file).unlink(missing_ok=True)
        server.should_exit = True

    async def end_when_idle(timeout: float) -> None:
        while not server.should_exit:
            quiet = time.monotonic() - app.last_request
            if quiet >= timeout and not app.open_requests and not services.scheduler.busy:
                await close()
                return
            await anyio.sleep(max(timeout - quiet, min(timeout, 1.0)))

    async with anyio.create_task_group() as tasks:
        await tasks.start(end_on_signal)
        if services.settings.idle_timeout is not None:
            tasks.start_soon(end_when_idle, services.settings.idle_timeout)
        await server.serve(sockets=[listener])
        tasks.cancel_scope.cancel()


async def _end_runs(services: Services, say: Callable[[str], None]) -> None:
    scheduler, timeout = services.scheduler, services.settings.stop_timeout
    if scheduler.in_progress and timeout:
        runs = many(scheduler.in_progress, "run")
        say(
            f"Stopping: {runs} in progress may continue for {timeout:g} s; a second signal ends them at once."
        )
    await scheduler.stop(timeout)
    versions, runs_left = await services.store.unfinished()
    if left := len(versions) + len(runs_left):
        say(f"The next server on this data folder starts {many(left, 'run')} from the beginning.")


@contextlib.contextmanager
def _log_into(folder: DataFolder) -> Iterator[None]:
    """Send the lines of structlog, uvicorn and everything else that is logged to the server's log file."""
    with files.output_errors(f"write {folder.server_log}", kind=LocalServerError):
        file = folder.server_log.open("a", encoding="utf-8")
    with file:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.LogfmtRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file),
        )
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            structlog.reset_defaults()
