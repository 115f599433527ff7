"""The life of the server: lock the data folder, bind, serve, and take everything down again."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
from fanbench.local.advertise import Addresses, addresses_for_workers, addresses_of, names_of
from fanbench.local.executor import Protection
from fanbench.local.executor.container import check_containers
from fanbench.local.folder import PRIVATE, DataFolder, open_data_folder
from fanbench.local.kept_options import save_options
from fanbench.local.listeners import listen_on
from fanbench.local.server_log import log_into
from fanbench.local.settings import ServerSettings, data_flag, default_data_folder

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from fanbench.faults.files import FaultPlan
    from fanbench.local.app import App
    from fanbench.local.carriers import Carrier
    from fanbench.local.environments import Environments
    from fanbench.local.http_server import HttpServer
    from fanbench.local.models.pool import MakeEngine, ModelPool
    from fanbench.local.outputs import Outputs
    from fanbench.local.proxy_workers.processes import ProxyWorkers
    from fanbench.local.scheduler import Scheduler
    from fanbench.local.state.claims import Claim
    from fanbench.local.state.database import Hold
    from fanbench.local.state.store import Store
    from fanbench.local.wire import Services

_log = structlog.get_logger(__name__)

_FILES_OF_RUNS_ELSEWHERE = 256
"""How many runs on other machines can send logs and outputs at the same time: that many files are kept free."""

_UNPROTECTED: dict[Protection, str] = {
    "mounts": "Runs can read and change everything that you can, including this server's data folder and its token: "
    "mounts are not possible here ({reason}). Run untrusted task files in a container.",
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
            recordings cannot be written or read, or the place for outputs cannot be used.
        UsageError: What is to be advertised is no address.
        UnknownModel: The judge, or the model of an alias, does not exist.
    """
    check_installed()
    if settings.isolation == "container" and not settings.cluster:
        check_containers()
    from fanbench.local.connections import connection_limit

    limit = connection_limit(
        settings.runs_at_once if settings.engine == "local" else _FILES_OF_RUNS_ELSEWHERE
    )
    with (
        open_data_folder(settings.data) as folder,
        log_into(folder.server_log),
        _listening(settings) as (listener, proxy_listener),
    ):
        proxy_port = proxy_listener.getsockname()[1] if proxy_listener is not None else None
        addresses = _addresses(settings, listener.getsockname()[1], proxy_port, say)
        _announce(settings, folder, addresses, say)
        address = Address(addresses.local, os.getpid(), str(folder.token_file), settings.stop_timeout)

        def answering() -> None:
            files.write(folder.server_file, msgspec.json.encode(address) + b"\n", mode=PRIVATE)
            listening(address)

        async with (
            _services(settings, folder, addresses, proxy_listener, say) as services,
            _background(services, cannot_run, say),
        ):
            save_options(folder, settings)
            try:
                await _serve_http(services, listener, limit, answering, say)
            finally:
                folder.server_file.unlink(missing_ok=True)


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


def _announce(
    settings: ServerSettings, folder: DataFolder, addresses: Addresses, say: Callable[[str], None]
) -> None:
    """Say what is unusual about this server."""
    for note in folder.notes:
        _log.warning(note)
        say(note)
    if settings.record is not None:
        say(f"Answers of models are recorded in {settings.record}.")
    if settings.replay is not None:
        say(f"Answers of models come from {settings.replay}. No model is asked.")
    if not addresses.model_proxy.startswith(f"{addresses.local}/"):
        say(f"Runs reach models at {addresses.model_proxy}.")


@contextlib.contextmanager
def _listening(settings: ServerSettings) -> Iterator[tuple[socket.socket, socket.socket | None]]:
    """The sockets of the server and, if it is to have processes of its own, of the Model Proxy."""
    host, port, any_port = settings.host, settings.port, settings.any_port
    with listen_on(host, port, any_port=any_port, in_use=_free_port_hint) as listener:
        if not settings.proxy_workers:
            yield listener, None
            return
        beside = settings.proxy_port
        if beside is None:
            beside = port + 1 if 0 < port < 65535 else 0
        hint = "Choose another one for the Model Proxy with --proxy-port."
        with listen_on(host, beside, any_port=any_port, in_use=lambda _port: hint) as proxy_listener:
            yield listener, proxy_listener


def _free_port_hint(port: int) -> str:
    """What to do if the port is in use: also how to end the server of the default data folder, if it is that one."""
    holder = find_server(default_data_folder())
    if holder is None or urlsplit(holder.url).port != port:
        return "Choose a free port with --port 0."
    stop = f"fanbench stop{data_flag(default_data_folder())}"
    return f"Run `{stop}` to end the local server on this port, or choose a free one with --port 0."


@asynccontextmanager
async def _services(
    settings: ServerSettings,
    folder: DataFolder,
    addresses: Addresses,
    proxy_listener: socket.socket | None,
    say: Callable[[str], None],
) -> AsyncIterator[Services]:
    """Start everything behind the application, and end it in the opposite order."""
    from fanbench.local.environments import Environments
    from fanbench.local.models.pool import ModelPool
    from fanbench.local.scheduler import Scheduler
    from fanbench.local.state.claims import claim
    from fanbench.local.wire import Services

    make = _engine_maker(settings)
    aliases = dict(settings.model_aliases)
    environments = Environments(folder.environments)
    async with (
        _state(settings, folder) as (hold, store, outputs, checked),
        ModelPool.open(folder, settings.model_idle, aliases, settings.judge, make) as pool,
        _carrier(settings, folder, environments, say) as carrier,
    ):
        # Only now: a server that does not start must not tie the folder to its database or its place.
        await claim(folder, store, checked)
        await outputs.claim(checked.id)
        async with (
            Scheduler(
                settings, folder, store, pool, carrier, outputs, addresses.model_proxy
            ).running() as scheduler,
            _proxy_workers(settings, folder, addresses, proxy_listener, pool, scheduler) as proxy_workers,
        ):
            yield Services(
                settings=settings,
                folder=folder,
                store=store,
                hold=hold,
                pool=pool,
                environments=environments,
                carrier=carrier,
                outputs=outputs,
                scheduler=scheduler,
                proxy_workers=proxy_workers,
                addresses=addresses,
                token=folder.read_token(),
            )


def _engine_maker(settings: ServerSettings) -> MakeEngine:
    """What makes the engines of models: as they are, with their answers recorded, or with recorded answers."""
    from fanbench.local.models.pool import make_engine
    from fanbench.local.models.recordings import Recorder, Replayer

    if settings.record is not None:
        return Recorder(settings.record).engine
    if settings.replay is not None:
        return Replayer(settings.replay).engine
    return make_engine


@asynccontextmanager
async def _state(
    settings: ServerSettings, folder: DataFolder
) -> AsyncIterator[tuple[Hold, Store, Outputs, Claim]]:
    """The database and the place for outputs, and the claim that is to tie them to the data folder."""
    from fanbench.local.outputs import Outputs
    from fanbench.local.state.claims import check_claim
    from fanbench.local.state.database import Hold
    from fanbench.local.state.store import Store

    database = settings.database or folder.database
    async with Hold.of(database) as hold, Store.open(database) as store:
        checked = await check_claim(folder, store, database)
        yield hold, store, await Outputs.open(folder, settings.files, checked.id), checked


def _carrier(
    settings: ServerSettings, folder: DataFolder, environments: Environments, say: Callable[[str], None]
) -> AbstractAsyncContextManager[Carrier]:
    datasets = settings.dataset_folder.absolute()
    if settings.engine == "local":
        from fanbench.local.carriers.local import LocalCarrier

        return LocalCarrier.open(folder.root, environments, datasets, settings.isolation, folder.worker_log)
    from fanbench.local.carriers.ray.carrier import Cluster, RayCarrier

    cluster = Cluster(
        address=settings.cluster,
        cpus=settings.runs_at_once,
        folder=folder.root,
        datasets=datasets,
        isolation=settings.isolation,
        pass_on=settings.run_environment,
        uploads=bool(settings.files),
    )
    return RayCarrier.open(cluster, folder.returned_output, say)


def _addresses(
    settings: ServerSettings, port: int, proxy_port: int | None, say: Callable[[str], None]
) -> Addresses:
    if not settings.cluster:
        return addresses_of(settings, port, proxy_port)
    addresses, said = addresses_for_workers(settings, port, settings.engine, proxy_port)
    say(said)
    return addresses


@asynccontextmanager
async def _proxy_workers(
    settings: ServerSettings,
    folder: DataFolder,
    addresses: Addresses,
    listener: socket.socket | None,
    pool: ModelPool,
    scheduler: Scheduler,
) -> AsyncIterator[ProxyWorkers | None]:
    if listener is None:
        yield None
        return
    from fanbench.local.proxy_workers.link import Setup
    from fanbench.local.proxy_workers.processes import ProxyWorkers

    setup = Setup(
        data=str(folder.root),
        database=settings.database,
        aliases=dict(settings.model_aliases),
        judge=settings.judge,
        recorded=settings.record is not None or settings.replay is not None,
        names=sorted(names_of(settings, addresses)),
    )
    workers = ProxyWorkers(setup, folder, listener, pool, scheduler.note)
    async with workers.running(settings.proxy_workers):
        yield workers


@asynccontextmanager
async def _background(
    services: Services, cannot_run: Callable[[LocalServerError], None], say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Prepare for the first run during the block, keep hold of the database, and write the usage of models."""

    def warm_up_failed(error: LocalServerError) -> None:
        _log.error("runs cannot be started", error=str(error))
        cannot_run(error)

    def unprotected(what: Protection, reason: str) -> None:
        text = _UNPROTECTED[what].format(reason=reason)
        _log.warning(text)
        say(text)

    async with anyio.create_task_group() as tasks:
        services.carrier.warm_up(warm_up_failed, unprotected)
        if services.settings.engine == "local":
            tasks.start_soon(_prepare_packages, services, warm_up_failed)
        tasks.start_soon(services.store.keep_usage)
        tasks.start_soon(_keep_database, services)
        try:
            yield
        finally:
            tasks.cancel_scope.cancel()


async def _prepare_packages(services: Services, failed: Callable[[LocalServerError], None]) -> None:
    """Install what runs need, and read the metadata of all packages, for which the first run need not wait."""
    try:
        await services.environments.constraints()
        await services.environments.prepare(services.settings.requirements, _log.info)
    except LocalServerError as error:
        failed(error)


async def _keep_database(services: Services) -> None:
    try:
        await services.hold.keep()
    except LocalServerError:
        services.store.patience = 0  # what ends with this server need not wait for the database
        raise


async def _serve_http(
    services: Services,
    listener: socket.socket,
    limit: int,
    listening: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    """Answer requests until a signal, or until the server is idle, and end its runs before its answers."""
    from fanbench.local.app import App

    app = App(services)
    server = _make_server(app, services.settings.faults, listener, limit, listening)

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
        await _wait_until_idle(app, services, timeout)
        await close()

    async with anyio.create_task_group() as tasks:
        await tasks.start(end_on_signal)
        if services.settings.idle_timeout is not None:
            tasks.start_soon(end_when_idle, services.settings.idle_timeout)
        await server.run_until_exit()
        tasks.cancel_scope.cancel()


async def _wait_until_idle(app: App, services: Services, timeout: float) -> None:
    """Return once there has been no request and no run for `timeout` seconds."""
    while True:
        quiet = time.monotonic() - max(app.last_request, services.last_used)
        if quiet >= timeout and not (app.open_requests or services.busy):
            return
        await anyio.sleep(max(timeout - quiet, min(timeout, 1.0)))


def _make_server(
    app: ASGIApp,
    faults: FaultPlan | None,
    listener: socket.socket,
    limit: int,
    listening: Callable[[], None],
) -> HttpServer:
    from fanbench.local.connections import OpenConnection
    from fanbench.local.faults import FaultyApp
    from fanbench.local.http_server import HttpServer

    if faults is None:
        return HttpServer(app, listener, limit, listening)
    _log.warning("answers fail on purpose", faults=faults.name, seed=faults.seed)
    faulty = FaultyApp(app, faults)
    return HttpServer(faulty, listener, limit, listening, connection=OpenConnection, dated=False)


async def _end_runs(services: Services, say: Callable[[str], None]) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    scheduler, timeout = services.scheduler, services.settings.stop_timeout
    if scheduler.in_progress and timeout:
        runs = many(scheduler.in_progress, "run")
        say(
            f"Stopping: {runs} in progress may continue for {timeout:g} s; a second signal ends them at once."
        )
    services.store.patience = timeout
    await scheduler.stop(timeout)
    try:
        versions, runs_left = await services.store.unfinished()
    except SQLAlchemyError:
        say("The database does not answer. The next server starts what has not ended from the beginning.")
        return
    if left := len(versions) + len(runs_left):
        say(f"The next server on this data folder starts {many(left, 'run')} from the beginning.")
