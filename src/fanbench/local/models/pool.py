"""The models that the server offers, and the engines behind them, shared by all runs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import structlog

from fanbench.errors import LocalServerError, UnknownModel
from fanbench.local.folder import DataFolder
from fanbench.local.models import ModelEngine
from fanbench.local.models.catalog import Catalog, ModelSpec, read_catalog, read_valid_entries

__all__ = ["MakeEngine", "ModelPool", "make_engine"]

_log = structlog.get_logger(__name__)

MakeEngine = Callable[[ModelSpec, Path], ModelEngine]


def make_engine(spec: ModelSpec, log: Path) -> ModelEngine:
    """The engine of a model as its kind makes it. Raises ModelFault."""
    return spec.make_engine(log)


class ModelPool:
    """`catalog` follows `models.toml`: a model added while the server runs is available to the next call.

    A mistake in the file is logged, and changes nothing else: the catalogue that was read last stays. A server that
    starts with a mistake takes the entries that are valid. `make` makes the engine of a model, with a file for the
    output of its processes.
    """

    def __init__(
        self,
        folder: DataFolder,
        idle: float,
        aliases: Mapping[str, str],
        judge: str,
        make: MakeEngine,
    ) -> None:
        self._folder = folder
        self._idle = idle
        self._aliases = aliases
        self._judge = judge
        self._make = make
        self._stamp: tuple[int, int] | None = None
        self._catalog: Catalog | None = None
        self.mistake = ""
        """The mistake in `models.toml`, as a sentence that can follow another; empty if there is none."""
        self._engines: dict[str, tuple[ModelSpec, ModelEngine]] = {}
        self._retired: list[ModelEngine] = []

    @property
    def catalog(self) -> Catalog:
        """Raises LocalServerError if no valid entry of the file has been read so far."""
        try:
            status = self._folder.models_file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
        except OSError:
            stamp = None
        if self._catalog is None or stamp != self._stamp:
            catalog = self._read().with_aliases(self._aliases)
            judge = self._judge or catalog.judge
            self._catalog = msgspec.structs.replace(catalog, judge=judge)
            self._stamp = stamp
        return self._catalog

    def _read(self) -> Catalog:
        file = self._folder.models_file
        try:
            catalog = read_catalog(file)
        except LocalServerError as error:
            catalog = read_valid_entries(file) if self._catalog is None else self._catalog
            self.mistake = f"There is a mistake in models.toml: {error}"
            _log.error("models.toml has a mistake", error=str(error), kept=[m.slug for m in catalog.model])
        else:
            self.mistake = ""
        return catalog

    def engine(self, spec: ModelSpec) -> ModelEngine:
        """The engine of `spec`, the same for all callers."""
        known = self._engines.get(spec.slug)
        if known is not None and known[0] == spec:
            return known[1]
        engine = self._make(spec, self._folder.worker_log)
        if known is not None:
            self._retired.append(known[1])
        self._engines[spec.slug] = (spec, engine)
        return engine

    @staticmethod
    @asynccontextmanager
    async def open(
        folder: DataFolder,
        idle: float,
        aliases: Mapping[str, str],
        judge: str,
        make: MakeEngine = make_engine,
    ) -> AsyncIterator[ModelPool]:
        """A pool with the models of `models.toml`, to whose aliases and judge the arguments are preferred.

        Raises:
            UnknownModel: A model that is named does not exist.
            LocalServerError: An alias is itself the name of a model.
        """
        pool = ModelPool(folder, idle, aliases, judge, make)
        pool._check_options()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(pool._unload_idle)
            try:
                yield pool
            finally:
                tasks.cancel_scope.cancel()
                with anyio.CancelScope(shield=True):
                    for engine in [*pool._retired, *(engine for _, engine in pool._engines.values())]:
                        await engine.close()

    def _check_options(self) -> None:
        options = {f"--model-alias {alias}={name}": name for alias, name in self._aliases.items()}
        if self._judge:
            options[f"--judge {self._judge}"] = self._judge
        for option, name in options.items():
            if self.catalog.find(name) is None:
                known = ", ".join(model.slug for model in self.catalog.model)
                add = f"Run `fanbench models add smollm2{self._folder.flag}` first."
                raise UnknownModel(
                    f"{option}: this server has no model {name}.",
                    hint=f"The models are {known}." if known else add,
                )
        for alias, name in self._aliases.items():
            if (own := self.catalog.find(alias)) is not None and own != self.catalog.find(name):
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
