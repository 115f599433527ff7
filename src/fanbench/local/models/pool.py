"""The models that the server offers, and the engines behind them, shared by all runs."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from fanbench.local.folder import DataFolder
from fanbench.local.models import Engine, ModelFault
from fanbench.local.models.catalog import Catalog, Embedded, ModelSpec, Scripted, Upstream, read_catalog
from fanbench.local.models.embedded import EmbeddedEngine
from fanbench.local.models.scripted import ScriptedEngine
from fanbench.local.models.upstream import ChatEndpoint


class ModelPool:
    """`catalog` follows `models.toml`: a model added while the server runs is available to the next call."""

    def __init__(self, folder: DataFolder, idle: float) -> None:
        self._folder = folder
        self._idle = idle
        self._stamp: tuple[int, int] | None = None
        self._catalog = Catalog()
        self._engines: dict[str, tuple[ModelSpec, Engine]] = {}
        self._retired: list[Engine] = []

    @property
    def catalog(self) -> Catalog:
        """Raises LocalServerError if the file is invalid."""
        try:
            status = self._folder.models_file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp:
            self._catalog = read_catalog(self._folder.models_file)
            self._stamp = stamp
        return self._catalog

    def engine(self, spec: ModelSpec) -> Engine:
        """The engine of `spec`, the same for all callers."""
        known = self._engines.get(spec.slug)
        if known is not None and known[0] == spec:
            return known[1]
        engine: Engine
        match spec:
            case Embedded():
                engine = EmbeddedEngine(spec, self._folder.worker_log)
            case Scripted():
                engine = ScriptedEngine(spec)
            case Upstream():
                key = os.environ.get(spec.key_env) if spec.key_env else ""
                if key is None:
                    text = f"the variable {spec.key_env}, which models.toml names, is not set in the server"
                    raise ModelFault(f"model {spec.slug}: {text}", status=401)
                engine = ChatEndpoint(
                    slug=spec.slug,
                    url=spec.url,
                    model=spec.model or spec.slug,
                    key=key,
                    concurrency=spec.concurrency,
                    timeout=spec.timeout,
                )
        if known is not None:
            self._retired.append(known[1])
        self._engines[spec.slug] = (spec, engine)
        return engine

    @staticmethod
    @asynccontextmanager
    async def open(folder: DataFolder, idle: float) -> AsyncIterator[ModelPool]:
        pool = ModelPool(folder, idle)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool._unload_idle)
            try:
                yield pool
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    for engine in [*pool._retired, *(engine for _, engine in pool._engines.values())]:
                        await engine.close()

    async def _unload_idle(self) -> None:
        while True:
            await anyio.sleep(min(self._idle, 30.0))
            for _, engine in self._engines.values():
                if not isinstance(engine, EmbeddedEngine) or not engine.loaded or engine.busy:
                    continue
                if time.monotonic() - engine.last_used >= self._idle:
                    await engine.close()
            for engine in [engine for engine in self._retired if not engine.busy]:
                self._retired.remove(engine)
                await engine.close()
