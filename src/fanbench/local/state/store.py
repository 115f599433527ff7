"""The server's state: one method per query or change of the tables."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, nullcontext
from datetime import datetime, timedelta
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import anyio
import structlog
from sqlalchemy import Float, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker

from fanbench.local.state.database import (
    RECONNECT_SECONDS,
    is_duplicate,
    is_unreachable,
    open_engine,
    uninterrupted,
)
from fanbench.local.state.tables import (
    LIVE_RUNS,
    PENDING_CREATIONS,
    Base,
    BenchmarkTaskRow,
    MetaRow,
    ModelRow,
    RunRow,
    TokenRow,
    UsageRow,
    VersionRow,
    now,
    storable,
)
from fanbench.wire.messages import RunState, SkipPolicy
from fanbench.wire.queue import IN_PROGRESS, Enqueue, skip_reason

_log = structlog.get_logger(__name__)

Row = TypeVar("Row", bound=Base)
Method = TypeVar("Method", bound=Callable[..., Awaitable[Any]])
T = TypeVar("T")

USAGE_SECONDS = 0.25
"""How long the usage of models waits to be written together with what follows."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two calls of a database that does not answer."""
_PAUSE_AFTER_FAILURE = 10.0
"""Seconds until usage that could not be written is written again."""

_PAGE_COLUMNS = ("description", "tags", "provenance", "citations")
_USAGE_COLUMNS = ("token_id", "model", "at", "input_tokens", "output_tokens", "cost_nanodollars")


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _again(method: Method) -> Method:
    """Repeat a method of a store while its database does not answer. What it does may happen twice without harm."""

    @wraps(method)
    async def patient(store: Store, *args: Any, **kwargs: Any) -> Any:
        return await store._patiently(partial(method, store, *args, **kwargs))

    return cast("Method", patient)


class Store:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)
        # SQLite lets one connection write at a time, and the others try again and again.
        self._writing = anyio.Lock() if engine.dialect.name == "sqlite" else nullcontext()
        self._usage: list[dict[str, Any]] = []
        self._usage_noted, self._writing_usage = anyio.Event(), anyio.Lock()
        self.patience = RECONNECT_SECONDS
        """How many seconds to wait for a database that does not answer, such as one that restarts."""

    @staticmethod
    @asynccontextmanager
    async def open(database: Path | str) -> AsyncIterator[Store]:
        """The state in the SQLite file or at the URL of PostgreSQL, with the schema of this fanbench.

        Raises:
            LocalServerError: The database cannot be reached or used, or belongs to a newer fanbench.
        """
        async with open_engine(database) as engine:
            store = Store(engine)
            try:
                yield store
            finally:
                with anyio.CancelScope(shield=True):
                    await store._write_last_usage()

    async def _patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        start, pause = anyio.current_time(), _FIRST_PAUSE
        while True:
            try:
                return await work()
            except SQLAlchemyError as error:
                if not is_unreachable(error) or anyio.current_time() - start >= self.patience:
                    raise
                if pause == _FIRST_PAUSE:
                    _log.warning("the database does not answer", error=str(getattr(error, "orig", error)))
            await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[AsyncSession]:
        with uninterrupted(self._engine):
            async with self._sessions() as session:
                yield session

    @asynccontextmanager
    async def _change(self) -> AsyncIterator[AsyncSession]:
        """A transaction that writes. At its begin it waits for the database: until then, nothing can happen twice."""
        async with self._writing, self._session() as session, session.begin():
            await self._patiently(session.connection)
            yield session

    async def identity(self) -> str:
        """The id by which a data folder knows that the database is its own; empty if it belongs to none."""
        async with self._session() as session:
            row = await session.get(MetaRow, "id")
        return row.value if row else ""

    async def name(self, identity: str) -> None:
        """Give the database the id by which its data folder knows it."""
        async with self._change() as session:
            session.add(MetaRow(name="id", value=identity))

    @_again
    async def get(self, kind: type[Row], row_id: int) -> Row | None:
        async with self._session() as session:
            return await session.get(kind, row_id)

    @_again
    async def update(self, kind: type[VersionRow] | type[RunRow], row_id: int, **values: Any) -> None:
        async with self._change() as session:
            change = update(kind).where(kind.id == row_id).values(**values)
            if kind is RunRow:
                # Whoever carries out a run may learn only later that it was cancelled.
                change = change.where(RunRow.cancelled.is_(False))
            await session.execute(change)

    @_again
    async def unfinished(self) -> tuple[list[int], list[int]]:
        """The ids of the versions to validate and of the runs to carry out, oldest first."""
        versions = select(VersionRow.id).where(VersionRow.state.in_(PENDING_CREATIONS))
        runs = select(RunRow.id).where(RunRow.state.in_(LIVE_RUNS))
        async with self._session() as session:
            return (
                list(await session.scalars(versions.order_by(VersionRow.id))),
                list(await session.scalars(runs.order_by(RunRow.id))),
            )

    # --- Versions of tasks ---

    async def add_version(self, slug: str, datasets: Sequence[str]) -> VersionRow:
        """Add a version. Its page says what that of the version before it says."""
        newest = (
            select(VersionRow).where(VersionRow.slug == slug).order_by(VersionRow.version.desc()).limit(1)
        )
        while True:
            try:
                async with self._change() as session:
                    before = await session.scalar(newest)
                    kept = {name: getattr(before, name) for name in _PAGE_COLUMNS} if before else {}
                    number = (before.version if before else 0) + 1
                    row = VersionRow(slug=slug, version=number, datasets=list(datasets), **kept)
                    session.add(row)
                return row
            except IntegrityError as error:  # another push of the task was faster
                if not is_duplicate(error):
                    raise

    @_again
    async def find_version(self, slug: str, version: int = 0) -> VersionRow | None:
        """The given version of the task, by default the newest."""
        query = select(VersionRow).where(VersionRow.slug == slug)
        if version:
            query = query.where(VersionRow.version == version)
        async with self._session() as session:
            return await session.scalar(query.order_by(VersionRow.version.desc()).limit(1))

    @_again
    async def versions_of(self, slug: str) -> list[int]:
        """The ids of all versions of the task."""
        async with self._session() as session:
            return list(await session.scalars(select(VersionRow.id).where(VersionRow.slug == slug)))

    @_again
    async def newest_versions(self) -> list[VersionRow]:
        """The newest version of every task, oldest task first."""
        newest = select(func.max(VersionRow.id)).group_by(VersionRow.slug)
        query = select(VersionRow).where(VersionRow.id.in_(newest)).order_by(VersionRow.id)
        async with self._session() as session:
            return list(await session.scalars(query))

    @_again
    async def update_page(self, row: VersionRow, **values: Any) -> None:
        """Change what the page of a version says. Tags are changed for all versions of the task."""
        tags = {"tags": values.pop("tags")} if "tags" in values else None
        async with self._change() as session:
            if tags:
                await session.execute(update(VersionRow).where(VersionRow.slug == row.slug).values(**tags))
            if values:
                await session.execute(update(VersionRow).where(VersionRow.id == row.id).values(**values))

    async def delete_task(self, slug: str) -> tuple[list[int], list[int]]:
        """Delete the task. Return the ids of its versions and of its runs."""
        mine = select(VersionRow.id).where(VersionRow.slug == slug)
        async with self._change() as session:
            # Nobody adds runs to them meanwhile.
            versions = list(await session.scalars(mine.with_for_update()))
            runs = list(await session.scalars(select(RunRow.id).where(RunRow.version_id.in_(mine))))
            await session.execute(delete(RunRow).where(RunRow.version_id.in_(mine)))
            await session.execute(delete(BenchmarkTaskRow).where(BenchmarkTaskRow.task == slug))
            await session.execute(delete(VersionRow).where(VersionRow.slug == slug))
        return versions, runs

    # --- Benchmarks ---

    @_again
    async def benchmark(self, slug: str) -> list[VersionRow]:
        """The versions of tasks in the benchmark, in the order in which they were added; none if it does not exist."""
        query = select(VersionRow).join(BenchmarkTaskRow, BenchmarkTaskRow.version_id == VersionRow.id)
        query = query.where(BenchmarkTaskRow.benchmark == slug).order_by(BenchmarkTaskRow.id)
        async with self._session() as session:
            return list(await session.scalars(query))

    async def add_to_benchmark(self, slug: str, version: VersionRow) -> bool:
        """Add a version of a task to the benchmark; False if it has one already."""
        try:
            async with self._change() as session:
                row = BenchmarkTaskRow(benchmark=slug, task=version.slug, version_id=version.id)
                session.add(row)
        except IntegrityError as error:
            if not is_duplicate(error):
                raise
            return False
        return True

    @_again
    async def results(self, version_ids: Collection[int]) -> list[RunRow]:
        """The newest run with a result of each of the versions on each model and effort."""
        has_result = or_(RunRow.numeric_result.is_not(None), RunRow.boolean_result.is_not(None))
        newest = (
            select(func.max(RunRow.id))
            .where(RunRow.version_id.in_(version_ids), RunRow.state == RunState.COMPLETED, has_result)
            .group_by(RunRow.version_id, RunRow.model, RunRow.effort)
        )
        async with self._session() as session:
            return list(await session.scalars(select(RunRow).where(RunRow.id.in_(newest))))

    @_again
    async def remove_from_benchmark(self, slug: str, task: str) -> None:
        """Remove the task from the benchmark, if it is there."""
        gone = delete(BenchmarkTaskRow).where(
            BenchmarkTaskRow.benchmark == slug, BenchmarkTaskRow.task == task
        )
        async with self._change() as session:
            await session.execute(gone)

    # --- Runs ---

    async def add_run(
        self,
        version_id: int,
        model: str,
        judge: str = "",
        effort: str = "",
        enqueue: Enqueue | None = None,
    ) -> RunRow | str:
        """Add a run, or return why not: the queue skips it, or without the queue, another run is in progress."""
        created, tries = now(), itertools.count(1)
        pair = {"version_id": version_id, "model": model, "effort": effort}
        latest = select(RunRow.state, RunRow.ended).where(RunRow.cancelled.is_(False)).filter_by(**pair)
        latest = latest.order_by(RunRow.id.desc())

        async def add() -> RunRow | str:
            is_again = next(tries) > 1
            row = RunRow(judge=judge, created=created, benchmark="", beside=False, **pair)
            if enqueue is not None:
                row.benchmark = enqueue.benchmark.partition("/")[2]
                row.beside = enqueue.skip is SkipPolicy.ALL
            if is_again and (ours := await self._find_run(row)):
                return ours  # only the answer of the database was lost, and nobody else would start it
            try:
                async with self._change() as session:
                    runs = [(state, ended) for state, ended in await session.execute(latest)]
                    if enqueue is not None and (reason := skip_reason(enqueue, runs, created)):
                        return reason
                    if enqueue is None and any(state in LIVE_RUNS for state, _ in runs):
                        return IN_PROGRESS
                    session.add(row)
            except IntegrityError as error:  # another call was faster
                if not is_duplicate(error):
                    raise
                return IN_PROGRESS
            return row

        return await self._patiently(add)

    async def _find_run(self, row: RunRow) -> RunRow | None:
        """The run that is like `row`, and was created at the same moment."""
        names = ("version_id", "model", "effort", "created", "beside")
        same = [getattr(RunRow, name) == getattr(row, name) for name in names]
        async with self._session() as session:
            return await session.scalar(select(RunRow).where(*same))

    @_again
    async def count_runs(self, since: datetime) -> list[tuple[str, str, str, RunState, int]]:
        """The numbers of runs that are in progress or have ended since then, per task, model, benchmark and state."""
        recent = or_(RunRow.state.in_(LIVE_RUNS), RunRow.ended >= since)
        kinds = (VersionRow.slug, RunRow.model, RunRow.benchmark, RunRow.state)
        query = select(*kinds, func.count()).join(VersionRow, VersionRow.id == RunRow.version_id)
        query = query.where(RunRow.cancelled.is_(False), recent).group_by(*kinds)
        async with self._session() as session:
            return [(*row,) for row in await session.execute(query)]

    @_again
    async def benchmarks(self) -> list[BenchmarkTaskRow]:
        """The tasks of all benchmarks, in the order in which they were added."""
        async with self._session() as session:
            return list(await session.scalars(select(BenchmarkTaskRow).order_by(BenchmarkTaskRow.id)))

    async def cancel_runs(
        self,
        *,
        versions: Collection[int] | None,
        ids: Collection[int] | None,
        model: str,
        effort: str,
        states: Sequence[RunState],
    ) -> dict[int, RunState]:
        """Record the end of the runs in these states, and return the state of each before.

        Only those of `versions`, with `ids`, on the `model` and at the `effort`, where these are given.
        """
        live = select(RunRow.id, RunRow.version_id, RunRow.state).where(RunRow.state.in_(states))
        if model:
            live = live.where(RunRow.model == model)
        if effort:
            live = live.where(RunRow.effort == effort)
        end = {"state": RunState.ERRORED, "error": "Cancelled.", "ended": now(), "cancelled": True}
        async with self._change() as session:
            # A request may name more runs than a query takes.
            before = {
                row_id: state
                for row_id, version_id, state in await session.execute(live.with_for_update())
                if (versions is None or version_id in versions) and (ids is None or row_id in ids)
            }
            if before:
                await session.execute(update(RunRow), [{"id": row_id, **end} for row_id in before])
        return before

    @_again
    async def runs(
        self, version_id: int, models: Sequence[str], *, after: int, limit: int
    ) -> tuple[list[RunRow], int]:
        """Up to `limit` runs with ids above `after`, and the number of all runs."""
        chosen = [RunRow.version_id == version_id, RunRow.cancelled.is_(False)]
        if models:
            chosen.append(RunRow.model.in_(models))
        async with self._session() as session:
            total = await session.scalar(select(func.count()).select_from(RunRow).where(*chosen)) or 0
            page = select(RunRow).where(*chosen, RunRow.id > after).order_by(RunRow.id).limit(limit)
            return list(await session.scalars(page)), total

    @_again
    async def runs_since(self, moment: datetime) -> int:
        query = select(func.count()).select_from(RunRow).where(RunRow.created >= moment)
        async with self._session() as session:
            return await session.scalar(query) or 0

    # --- Models, tokens, usage ---

    @_again
    async def model_ids(self, slugs: Sequence[str]) -> dict[str, int]:
        while True:
            async with self._session() as session:
                known = {row.slug: row.id for row in await session.scalars(select(ModelRow))}
            new = {storable(slug) for slug in slugs} - known.keys()
            if not new:
                return {slug: known[storable(slug)] for slug in slugs}
            try:
                async with self._change() as session:
                    session.add_all([ModelRow(slug=slug) for slug in sorted(new)])
            except IntegrityError as error:  # another call was faster
                if not is_duplicate(error):
                    raise

    @_again
    async def add_token(self, token: str, lifetime: timedelta, model: str = "", effort: str = "") -> datetime:
        """Store the hash of a random token, whose requests to `model` are at `effort`. Return when it expires."""
        expires = now() + lifetime
        try:
            async with self._change() as session:
                session.add(TokenRow(digest=digest(token), expires=expires, model=model, effort=effort))
        except IntegrityError as error:  # the first time, only the answer of the database was lost
            if not is_duplicate(error):
                raise
        return expires

    @_again
    async def find_token(self, token: str) -> TokenRow | None:
        async with self._session() as session:
            return await session.scalar(select(TokenRow).where(TokenRow.digest == digest(token)))

    @_again
    async def revoke_token(self, token: str) -> None:
        async with self._change() as session:
            spent = TokenRow.digest == digest(token)
            await session.execute(update(TokenRow).where(spent).values(expires=now()))

    async def add_usage(self, usage: UsageRow) -> None:
        """Note the usage of a model, which `keep_usage` writes a moment later."""
        usage.at = usage.at or now()
        columns = {name: getattr(usage, name) for name in _USAGE_COLUMNS}
        self._usage.append({name: value for name, value in columns.items() if value is not None})
        self._usage_noted.set()

    async def keep_usage(self) -> None:
        """Write the usage of models as long as the server lives, many rows at a time."""
        while True:
            await self._usage_noted.wait()
            await anyio.sleep(USAGE_SECONDS)
            try:
                await self._write_usage()
            except SQLAlchemyError as error:  # it stays noted
                _log.error(
                    "cannot write the usage of models", rows=len(self._usage), error=str(error.__cause__)
                )
                await anyio.sleep(_PAUSE_AFTER_FAILURE)

    async def _write_usage(self) -> None:
        # Shielded: whoever interrupts a commit does not know whether the rows are there.
        with anyio.CancelScope(shield=True):
            async with self._writing_usage:
                if not (rows := self._usage):
                    return
                self._usage, self._usage_noted = [], anyio.Event()
                try:
                    async with self._change() as session:
                        await session.execute(insert(UsageRow), rows)
                except Exception:
                    self._usage = rows + self._usage
                    self._usage_noted.set()
                    raise

    async def _write_last_usage(self) -> None:
        self.patience = 0.0
        try:
            await self._write_usage()
        except SQLAlchemyError:
            _log.exception("the usage of models is lost", rows=len(self._usage))

    async def spent_nanodollars(self, since: datetime) -> int:
        # A sum of whole numbers overflows.
        query = select(func.sum(UsageRow.cost_nanodollars.cast(Float))).where(UsageRow.at >= since)
        await self._write_usage()
        async with self._session() as session:
            return int(await session.scalar(query) or 0)
