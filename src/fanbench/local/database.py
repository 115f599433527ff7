"""Where the server's state is: the URL of the database, its connections, its schema, and what its errors mean."""

from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio.to_thread
import structlog
from sqlalchemy import Connection, create_engine, event, inspect, text
from sqlalchemy.engine import URL, Engine, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from fanbench._util.install import install_command
from fanbench.errors import LocalServerError, UsageError

__all__ = ["MIGRATIONS", "REVISIONS", "is_duplicate", "open_engine", "parse_url", "shown", "sqlite_url"]

_log = structlog.get_logger(__name__)

REVISIONS = ("0001", "0002")
"""The schemas that this fanbench knows, oldest first, so that Alembic is imported only to migrate."""

MIGRATIONS = Path(__file__).with_name("migrations")

_LOCK = 0x66616E62
"""The first half of the keys of our advisory locks; the second says what is locked."""
_MIGRATING = 1

_UNIQUE_VIOLATION = "23505"


def sqlite_url(path: Path) -> URL:
    # Not a URL as text: a path may contain any character.
    return URL.create("sqlite", database=str(path))


def parse_url(words: str) -> URL:
    """The URL of a PostgreSQL database as a person has written it.

    Raises:
        UsageError: It is not the URL of a PostgreSQL database.
    """
    hint = "Write for instance postgresql://USER@HOST/NAME. Without one, the state is in the data folder."
    try:
        url = make_url(words)
    except (SQLAlchemyError, ValueError):
        raise UsageError(
            "The URL of the database cannot be read.", hint=hint
        ) from None  # it may have a password
    if url.drivername not in ("postgresql", "postgres", "postgresql+psycopg"):
        raise UsageError(f"The server cannot use a database of the kind {url.drivername!r}.", hint=hint)
    return url.set(drivername="postgresql")


def shown(url: URL) -> str:
    """The path or the URL without passwords, for people and logs."""
    if url.drivername == "sqlite":
        return str(url.database)
    return url.set(password=None, query={}).render_as_string()


@asynccontextmanager
async def open_engine(url: URL) -> AsyncIterator[AsyncEngine]:
    """Connect to the database and migrate it to the schema of this fanbench.

    Raises:
        LocalServerError: It cannot be reached or used, or belongs to a newer fanbench.
    """
    engine = _async_engine(url)
    try:
        try:
            async with engine.connect() as connection:
                revision = await connection.run_sync(_revision)
            if revision and revision not in REVISIONS:
                raise LocalServerError(
                    f"The database {shown(url)} belongs to a newer fanbench: its schema is {revision!r}, and this "
                    f"fanbench knows {REVISIONS[-1]!r}.",
                    hint="Update fanbench, or choose another data folder with --data DIR.",
                )
            if revision != REVISIONS[-1]:
                await anyio.to_thread.run_sync(_migrate, url)
        except SQLAlchemyError as error:
            raise _unusable(url, error) from None
        yield engine
    finally:
        await engine.dispose()


def _async_engine(url: URL) -> AsyncEngine:
    if url.drivername == "sqlite":
        engine = create_async_engine(url.set(drivername="sqlite+aiosqlite"))
        _configure(engine.sync_engine)
        return engine
    if importlib.util.find_spec("psycopg") is None:
        raise LocalServerError(
            "The driver for PostgreSQL is not installed.", hint=f"Run `{install_command('postgres')}`."
        )
    # A connection may have died with a database that was started again: ask before each use.
    return create_async_engine(url.set(drivername="postgresql+psycopg"), pool_pre_ping=True)


def _configure(engine: Engine) -> None:
    @event.listens_for(engine, "connect")
    def configure(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "busy_timeout=10000"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.scalar(text("SELECT version_num FROM alembic_version"))
    return revision


def _migrate(url: URL) -> None:
    """Migrate the database in one transaction. Servers that start at the same time wait for the first of them."""
    from alembic import command
    from alembic.config import Config

    postgres = url.drivername == "postgresql"
    engine = create_engine(url.set(drivername="postgresql+psycopg") if postgres else url)
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    try:
        with engine.begin() as connection:
            if postgres:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK}, {_MIGRATING})")
            else:
                # Python's driver would begin only before the first change of a row, and commit each table.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            config.attributes["connection"] = connection
            command.upgrade(config, REVISIONS[-1])
    finally:
        engine.dispose()
    _log.info("database migrated", database=shown(url), schema=REVISIONS[-1])


def is_duplicate(error: SQLAlchemyError) -> bool:
    """Whether the database refuses a row because of one that is there already."""
    cause = getattr(error, "orig", None)
    names = getattr(cause, "sqlite_errorname", ""), getattr(cause, "sqlstate", "")
    return names[0] == "SQLITE_CONSTRAINT_UNIQUE" or names[1] == _UNIQUE_VIOLATION


def _unusable(url: URL, error: SQLAlchemyError) -> LocalServerError:
    cause = str(getattr(error, "orig", None) or error)
    if url.drivername == "sqlite":
        hint = "Move the data folder aside, or choose another one with --data DIR."
        return LocalServerError(f"The database {shown(url)} cannot be used: {cause}.", hint=hint)
    raise error
