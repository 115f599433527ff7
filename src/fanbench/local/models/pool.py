"""The models that the server offers, and the engines behind them, shared by all runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import anyio

from fanbench.errors import LocalServerError
from fanbench.local.folder import DataFolder
from fanbench.local.models import ModelEngine
from fanbench.local.models.catalog import Catalog, ModelSpec, read_catalog


class ModelPool:
    """`catalog` follows `models.toml`: a model added while the server runs is available to the next call."""

    def __init__(self, folder: DataFolder, idle: float, aliases: Mapping[str, str]) -> None:
        self._folder = folder
        self._idle = idle
        self._aliases = aliases
        self._stamp: tuple[int, int] | None = None
        self._catalog = Catalog()
        self._engines: dict[str, tuple[ModelSpec, ModelEngine]] = {}
        self._retired: list[ModelEngine] = []

    @property
    def catalog(self) -> Catalog:
        """Raises LocalServerError if the file is invalid."""
        try:
            status = self._folder.models_file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except FileNotFoundError:
            stamp = None
        if stamp != self._stamp:
            self._catalog = read_catalog(self._folder.models_file).with_aliases(self._aliases)
            self._stamp = stamp
        return self._catalog

    def engine(self, spec: ModelSpec) -> ModelEngine:
        """The engine of `spec`, the same for all callers."""
        known = self._engines.get(spec.slug)
        if known is not None and known[0] == spec:
            return known[1]
        engine = spec.make_engine(self._folder.worker_log)
        if known is not None:
            self._retired.append(known[1])
        self._engines[spec.slug] = (spec, engine)
        return engine

    @staticmethod
    @asynccontextmanager
    async def open(folder: DataFolder, idle: float, aliases: Mapping[str, str]) -> AsyncIterator[ModelPool]:
        """A pool with the models of `models.toml`, and with `aliases` on top of those in it.

        Raises:
            LocalServerError: A model in `aliases` does not exist, or an alias is itself the name of a model.
        """
        pool = ModelPool(folder, idle, aliases)
        pool._check_aliases()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool._unload_idle)
            try:
                yield pool
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    for engine in [*pool._retired, *(engine for _, engine in pool._engines.values())]:
                        await engine.close()

    def _check_aliases(self) -> None:
        for alias, name in self._aliases.items():
            model, known = self.catalog.find(name), ", ".join(model.slug for model in self.catalog.model)
            if model is None:
                raise LocalServerError(
                    f"--model-alias {alias}={name}: this server has no model {name}.",
                    hint=f"The models are {known}." if known else "Run `fanbench models add smollm2` first.",
                )
            if (own := self.catalog.find(alias)) is not None and own != model:
                raise LocalServerError(
                    f"--model-alias {alias}={name}: {alias} is itself a model of this server.",
                    hint="Use aliases for names that no model has.",
                )

    async def _unload_idle(self) -> None:
        while True:
            await anyio.sleep(min(self._idle, 30.0))
            for _, engine in self._engines.values():
                await engine.unload(self._idle)
            for engine in [engine for engine in self._retired if not engine.busy]:
                self._retired.remove(engine)
                await engine.close()
