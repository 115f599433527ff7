"""Where the server's state is: the connections to its database, its schema, and what its errors mean."""

from __future__ import annotations

import importlib.util
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import structlog
from sqlalchemy import Connection, NullPool, create_engine, event, inspect, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fanbench._util.install import install_command
from fanbench.errors import LocalServerError
from fanbench.local.state.database_url import without_password

__all__ = [
    "MIGRATIONS",
    "RECONNECT_SECONDS",
    "REVISIONS",
    "FoundDatabase",
    "Hold",
    "examine_database",
    "is_duplicate",
    "is_unreachable",
    "open_engine",
    "shown",
    "uninterrupted",
]

_log = structlog.get_logger(__name__)

REVISIONS = ("0001", "0002", "0003", "0004", "0005", "0006", "0007")
"""The schemas that this fanbench knows, oldest first, so that Alembic is imported only to migrate."""

MIGRATIONS = Path(__file__).with_name("migrations")

RECONNECT_SECONDS = 300.0
"""How long the server waits for a database that does not answer, before it ends."""

_LOCK = 0x66616E62
"""The first half of the keys of our advisory locks; the second says what is locked."""
_MIGRATING, _SERVING = 1, 2

_CONNECTION = {
    "application_name": "fanbench",
    "client_encoding": "utf8",
    "connect_timeout": "10",
    # A connection whose other end has vanished fails within half a minute.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}
_CONNECTIONS = 8
"""All are kept, because opening one takes longer than a write. More do not write faster (`benchmarks/store.py`)."""

_LOOK_EVERY = 2.0
"""Seconds between two checks whether the database is still held."""
_ANSWER_SECONDS = 10.0
_LOCK_SECONDS = 30
"""How long a migration waits for other sessions that use the tables."""

_UNIQUE_VIOLATION = "23505"
_NO_CONNECTIONS_LEFT = "53300"
_SHUTDOWN_OR_START = "57P"
_CONNECTION_EXCEPTION = "08"


def shown(database: Path | str) -> str:
    """The path, or the URL without passwords, for people and logs."""
    return without_password(database) if isinstance(database, str) else str(database)


@asynccontextmanager
async def open_engine(database: Path | str) -> AsyncIterator[AsyncEngine]:
    """Connect to the SQLite file or the URL of PostgreSQL, and migrate it to the schema of this fanbench.

    Raises:
        LocalServerError: It cannot be reached or used, or belongs to a newer fanbench.
    """
    pool = {"pool_size": _CONNECTIONS, "max_overflow": 0} if isinstance(database, str) else {}
    engine = _async_engine(database, **pool)
    try:
        try:
            with uninterrupted(engine):
                async with engine.connect() as connection:
                    revision = await connection.run_sync(_revision)
            _check_revision(database, revision)
            if revision != REVISIONS[-1]:
                await anyio.to_thread.run_sync(_migrate, database)
        except SQLAlchemyError as error:
            raise _unusable(database, error) from None
        yield engine
    finally:
        with uninterrupted(engine):
            await engine.dispose()


def _check_revision(database: Path | str, revision: str | None) -> None:
    if revision and revision not in REVISIONS:
        raise LocalServerError(
            f"The database {shown(database)} belongs to a newer fanbench: its schema is {revision!r}, and "
            f"this fanbench knows {REVISIONS[-1]!r}.",
            hint="Update fanbench, or choose another data folder with --data DIR.",
        )


@dataclass(frozen=True, slots=True)
class FoundDatabase:
    """What is at a URL of PostgreSQL."""

    version: str
    """That of PostgreSQL, such as `15.8`."""
    is_current: bool
    """Whether it has the tables of this fanbench; otherwise, the next server makes or migrates them."""


async def examine_database(url: str) -> FoundDatabase:
    """What a server would find in PostgreSQL. Nothing is changed.

    Raises:
        LocalServerError: It cannot be reached or used, or belongs to a newer fanbench.
    """
    engine = _async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            revision = await connection.run_sync(_revision)
            _check_revision(url, revision)
            if revision is None:
                await connection.run_sync(partial(_check_encoding, url))
                await connection.run_sync(partial(_check_rights, url))
            version = await connection.scalar(text("SHOW server_version"))
            return FoundDatabase(str(version).partition(" ")[0], revision == REVISIONS[-1])
    except SQLAlchemyError as error:
        raise _unusable(url, error) from None
    finally:
        await engine.dispose()


def uninterrupted(engine: AsyncEngine) -> AbstractContextManager[object]:
    """Delay a cancellation until the end of the block, if the database is SQLite.

    A cancelled operation of aiosqlite 0.22 can close its connection twice, and then waits without end.
    """
    return anyio.CancelScope(shield=True) if engine.dialect.name == "sqlite" else nullcontext()


def _async_engine(database: Path | str, **settings: Any) -> AsyncEngine:
    url = _url(database)
    if isinstance(database, Path):
        engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"), **settings)
        _configure(engine.sync_engine)
        return engine
    from fanbench.local.state.postgres import BoundedConnection

    creator = {"async_creator_fn": BoundedConnection.connect}
    # A connection may have died with a database that was started again: ask before each use.
    return create_async_engine(url, pool_pre_ping=True, connect_args=creator, **settings)


def _url(database: Path | str) -> URL:
    if isinstance(database, Path):
        # Not a URL as text: a path may contain any character.
        return URL.create("sqlite", database=str(database))
    if importlib.util.find_spec("psycopg") is None:
        raise LocalServerError(
            "The driver for PostgreSQL is not installed.", hint=f"Run `{install_command('postgres')}`."
        )
    url = make_url(database).set(drivername="postgresql+psycopg")
    return url.set(query={**_CONNECTION, **url.query})


def _configure(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("busy_timeout=10000", "synchronous=NORMAL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            # If two connections change a new file at the same time, SQLite refuses one of them at once, whatever its
            # time-out. The other one changes the file for both.
            if error.sqlite_errorname != "SQLITE_BUSY":
                raise
        cursor.close()


# --- The schema ---


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(database: Path | str) -> None:
    """Migrate the database in one transaction. Servers that start at the same time wait for the first of them."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    patience = {"timeout": RECONNECT_SECONDS} if isinstance(database, Path) else {}
    engine = create_engine(_url(database), connect_args=patience)
    try:
        with engine.begin() as connection:
            if isinstance(database, Path):
                # Python's driver would begin only before the first change of a row, and commit each table.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK}, {_MIGRATING})")
                _check_encoding(database, connection)
            config.attributes["connection"] = connection
            command.upgrade(config, REVISIONS[-1])
    finally:
        engine.dispose()
    _log.info("database migrated", database=shown(database), schema=REVISIONS[-1])


def _check_encoding(database: str, connection: Connection) -> None:
    encoding = connection.scalar(text("SHOW server_encoding"))
    if encoding != "UTF8":
        raise LocalServerError(
            f"The database {shown(database)} cannot store every text: its encoding is {encoding}.",
            hint="Create another one with `createdb --encoding UTF8 --template template0 NAME`.",
        )


def _check_rights(database: str, connection: Connection) -> None:
    if not connection.scalar(text("SELECT has_schema_privilege(current_schema(), 'CREATE')")):
        raise LocalServerError(
            f"The database {shown(database)} cannot be used: permission denied for its schema.",
            hint=_HINTS["permission denied"],
        )


# --- One server per database ---


class Hold:
    """The right to be the only server of a database.

    In PostgreSQL, it is an advisory lock of a connection that does nothing else, and that ends with this process. For
    SQLite, the lock of the data folder is enough.
    """

    def __init__(self, database: Path | str) -> None:
        self._database = database
        self._engine = _async_engine(database, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        self._connection: AsyncConnection | None = None

    @staticmethod
    @asynccontextmanager
    async def of(database: Path | str) -> AsyncIterator[Hold]:
        """Hold the database during the block.

        Raises:
            LocalServerError: Another server holds it, or it cannot be reached.
        """
        hold = Hold(database)
        try:
            if isinstance(database, str):
                await hold._acquire(database)
            yield hold
        finally:
            await hold._release()

    async def keep(self) -> None:
        """Look every few seconds whether the database is still held. If not, hold it again.

        Raises:
            LocalServerError: That was not possible within `RECONNECT_SECONDS`. This server must end, because another
                one may carry out its runs.
        """
        while isinstance(self._database, str):
            await anyio.sleep(_LOOK_EVERY)
            if (reason := await self._lost()) is not None:
                _log.warning("the connection that holds the database is lost", reason=reason)
                await self._acquire_again(self._database)
                _log.warning("the database is held again")

    async def _acquire(self, database: str) -> None:
        try:
            connection = await self._engine.connect()
            held = await connection.scalar(text(f"SELECT pg_try_advisory_lock({_LOCK}, {_SERVING})"))
        except SQLAlchemyError as error:
            raise _unusable(database, error) from None
        self._connection = connection
        if not held:
            await self._release()
            raise LocalServerError(
                f"The database {shown(database)} is in use by another server.",
                hint="End that server, or choose another database with --database URL.",
            )

    async def _lost(self) -> str | None:
        """Why the database is no longer held; None if it is."""
        assert self._connection is not None
        try:
            with anyio.fail_after(_ANSWER_SECONDS):
                await self._connection.execute(text("SELECT 1"))
        except (SQLAlchemyError, TimeoutError) as error:
            return _reason(error) or "no answer"
        return None

    async def _acquire_again(self, database: str) -> None:
        deadline = anyio.current_time() + RECONNECT_SECONDS
        while True:
            await self._release()
            try:
                return await self._acquire(database)
            except (
                LocalServerError
            ) as error:  # for a while, the database may take the lost connection for alive
                if anyio.current_time() > deadline:
                    raise LocalServerError(
                        f"This server has lost its database, and ends: {error}", hint=error.hint
                    ) from None
            await anyio.sleep(_LOOK_EVERY)

    async def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(_ANSWER_SECONDS):
                await connection.invalidate()
                await connection.close()


# --- Errors ---


def is_duplicate(error: SQLAlchemyError) -> bool:
    """Whether the database refuses a row because of one that is there already."""
    cause = getattr(error, "orig", None)
    return _state_of(error) == _UNIQUE_VIOLATION or (
        getattr(cause, "sqlite_errorname", None) == "SQLITE_CONSTRAINT_UNIQUE"
    )


def is_unreachable(error: SQLAlchemyError) -> bool:
    """Whether the database is away, such as while it is started again. What was asked of it may have been done."""
    if isinstance(error, PoolTimeout):
        return True
    if not isinstance(error, OperationalError | InterfaceError) or _is_of_sqlite(error):
        return isinstance(error, DBAPIError) and error.connection_invalidated
    state = _state_of(error)
    return state in ("", _NO_CONNECTIONS_LEFT) or state.startswith(
        (_SHUTDOWN_OR_START, _CONNECTION_EXCEPTION)
    )


def _is_of_sqlite(error: SQLAlchemyError) -> bool:
    return type(getattr(error, "orig", None)).__module__ == "sqlite3"


def _state_of(error: SQLAlchemyError) -> str:
    """The SQLSTATE of an error of PostgreSQL; empty if it has none, as those of connections."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) or ""


def _reason(error: BaseException) -> str:
    """The last thing that the database has said, in one line."""
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    said = next(
        (line for line in reversed(lines) if "FATAL:" in line or "ERROR:" in line), lines[0] if lines else ""
    )
    return said.rpartition("FATAL:")[2].rpartition("ERROR:")[2].strip().rstrip(".")


_HINTS = {
    "lock timeout": "End what uses its tables: `SELECT pid, application_name, query FROM pg_stat_activity` shows it.",
    "password": "Put the password into the URL in FANBENCH_DATABASE, or into ~/.pgpass.",
    "does not exist": "Create it with `createdb`, or correct the URL.",
    "permission denied": "Let its owner allow it with `GRANT CREATE ON SCHEMA public TO` and the name of the user.",
}


def _unusable(database: Path | str, error: SQLAlchemyError) -> LocalServerError:
    if isinstance(database, Path):
        cause = getattr(error, "orig", None) or error
        return LocalServerError(
            f"The database {database} cannot be used: {cause}.",
            hint="Move the data folder aside, or choose another one with --data DIR.",
        )
    reason = _reason(error)
    hint = next((hint for words, hint in _HINTS.items() if words in reason), None)
    if hint is None and is_unreachable(error):
        hint = "Is PostgreSQL running there? Correct the URL, or start it."
    return LocalServerError(f"The database {shown(database)} cannot be used: {reason}.", hint=hint)
