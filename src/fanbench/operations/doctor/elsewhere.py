"""Probes what the last `fanbench serve` on the data folder has used elsewhere: Ray, PostgreSQL, an object store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib import metadata

import anyio
import anyio.to_thread

from fanbench._util.files import async_temporary_folder
from fanbench.errors import FanbenchError, LocalServerError
from fanbench.local.folder import DataFolder
from fanbench.local.kept_options import flags_of, read_options
from fanbench.local.settings import ServerSettings, default_data_folder
from fanbench.local.state.database_url import DATABASE_VARIABLE, check_database_url
from fanbench.operations.doctor.check import Check, DoctorTarget, failed_check

__all__ = ["probe_database", "probe_engine", "probe_files", "probe_options"]

_TRY_SECONDS = 60.0
_DEFAULTS = ServerSettings()


async def probe_options(target: DoctorTarget) -> list[Check]:
    """The options of the last server. They say what the next one needs."""
    try:
        flags = flags_of(await anyio.to_thread.run_sync(read_options, _folder(target)))
    except FanbenchError as error:
        return [failed_check("last-options", error)]
    if not flags:
        return []
    return [Check("last-options", "ok", f"the last `fanbench serve` had {' '.join(flags.values())}")]


async def probe_engine(target: DoctorTarget) -> list[Check]:
    """Ray: its version, and whether a cluster can be reached with our token."""
    settings = await _settings(target)
    if settings.engine == _DEFAULTS.engine:
        return []
    return await _examine("ray", partial(_engine, settings))


async def _engine(settings: ServerSettings) -> Check:
    from fanbench.local.carriers.ray.carrier import Cluster, capacity_of, check_ray, examine_cluster

    check_ray()
    if not settings.cluster:
        return Check("ray", "ok", f"Ray {metadata.version('ray')} is installed, for --engine ray")
    async with async_temporary_folder(".fanbench-doctor-") as empty:
        cluster = Cluster(address=settings.cluster, folder=empty, datasets=empty)
        found = await examine_cluster(cluster)
    text = f"{cluster.name} answers, with Ray {found.ray}. {capacity_of(found, cluster)}"
    if not found.has_token:
        text = (
            f"{cluster.name} answers without a token: whoever reaches its ports can run code on its machines"
        )
        return Check(
            "ray", "warn", text, "start it, and the server, with RAY_AUTH_MODE=token (docs/cluster.md)"
        )
    return Check("ray", "ok" if found.cpus else "warn", text.removesuffix("."))


async def probe_database(target: DoctorTarget) -> list[Check]:
    """PostgreSQL: its driver, whether it answers, its encoding, our rights, and whose it is."""
    settings = await _settings(target)
    named = target.env.get(DATABASE_VARIABLE) or settings.database
    return await _examine("database", partial(_database, _folder(target), named)) if named else []


async def _database(folder: DataFolder, named: str) -> Check:
    url = check_database_url(named)
    from fanbench.local.state.claims import check_claim
    from fanbench.local.state.database import examine_database, shown
    from fanbench.local.state.store import Store

    found = await examine_database(url)
    text = f"{shown(url)} answers, PostgreSQL {found.version}"
    if not found.is_current:
        return Check("database", "ok", f"{text}; the next server makes or migrates its tables")
    async with Store.open(url) as store:
        await check_claim(folder, store, url)
    return Check("database", "ok", text)


async def probe_files(target: DoctorTarget) -> list[Check]:
    """The place for outputs: obstore, and whether files can be written, read and deleted there."""
    settings = await _settings(target)
    return await _examine("files", partial(_files, _folder(target), settings.files)) if settings.files else []


async def _files(folder: DataFolder, url: str) -> Check:
    from fanbench.local.object_store import ObjectStore
    from fanbench.local.state.claims import read_claim

    claim = await anyio.to_thread.run_sync(read_claim, folder)
    store = await anyio.to_thread.run_sync(ObjectStore, url)
    await store.check(claim.id if claim is not None else "")
    return Check("files", "ok", f"outputs can be written to, read in and deleted from {url}")


async def _examine(name: str, probe: Callable[[], Awaitable[Check]]) -> list[Check]:
    try:
        with anyio.fail_after(_TRY_SECONDS):
            return [await probe()]
    except TimeoutError:
        text = f"no answer within {_TRY_SECONDS:g} s"
        return [Check(name, "fail", text, "check the network, and the options of `fanbench serve`")]
    except ImportError as error:
        return [Check(name, "fail", f"it cannot be examined: {error}")]
    except FanbenchError as error:
        return [failed_check(name, error)]


def _folder(target: DoctorTarget) -> DataFolder:
    return DataFolder((target.data or default_data_folder()).absolute())


async def _settings(target: DoctorTarget) -> ServerSettings:
    try:
        return await anyio.to_thread.run_sync(read_options, _folder(target))
    except LocalServerError:
        return _DEFAULTS  # `probe_options` reports it
