"""A server with its state in PostgreSQL: whose the database is, and what happens when it is away."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.exc import OperationalError

from fanbench import Client
from fanbench.errors import LocalServerError, UsageError
from fanbench.local.folder import DataFolder, open_data_folder
from fanbench.local.kept_options import read_options, save_options
from fanbench.local.launcher import stop_server
from fanbench.local.settings import ServerSettings
from fanbench.local.state import database as database_module
from fanbench.local.state import postgres as postgres_module
from fanbench.local.state.claims import check_claim, claim
from fanbench.local.state.database import Hold, is_unreachable
from fanbench.local.state.database_url import check_database_url, without_password
from fanbench.local.state.store import Store
from fanbench.wire.messages import RunState
from tests.postgres import PASSWORD, Postgres, find_programs, run_postgres

from .server_process import TASK, ended, push, run, run_server

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


@pytest.fixture
def own_postgres(postgres: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL server that the test may stop."""
    programs = find_programs()
    assert programs is not None
    with run_postgres(programs) as own:
        yield own


# --- URLs ---

names = st.text("abcXYZ09_-.~", min_size=1)
passwords = st.text(st.characters(exclude_characters="/?#@[]", exclude_categories=["C", "Z"]), min_size=8)


@given(scheme=st.sampled_from(["postgresql", "postgres"]), user=names, password=passwords, name=names)
def test_a_url_without_its_password_is_the_rest(scheme: str, user: str, password: str, name: str) -> None:
    """What is shown and kept of a URL has all of it but the passwords, also that of the key of a certificate."""
    rest = f"127.0.0.1:5432/{name}?sslmode=require"
    url = check_database_url(f"{scheme}://{user}:{password}@{rest}&sslpassword={user}")
    assert without_password(url) == f"postgresql://{user}@{rest}"
    assert check_database_url(without_password(url)) == without_password(url)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "secret",
        "sqlite:///secret",
        "se:cret://h/n",
        "postgresql://h",
        "postgresql://u:se/cret@h/n",
        "postgresql://u:12/secret@h/n",
        "postgresql://u:secret#@h/n",
        "postgresql://u:sec?ret@h/n",
        "postgresql://u:sec@ret@h/n",
        "postgresql://u:secret@[h/n",
        "postgresql://u@h:secret/n",
    ],
)
def test_what_is_no_url_of_postgres_is_refused(url: str) -> None:
    """What is no URL of PostgreSQL is refused with what to write, and never shown: it may have a password."""
    with pytest.raises(UsageError) as refused:
        check_database_url(url)
    assert "postgresql://USER@HOST/NAME" in (refused.value.hint or "")
    assert "cret" not in str(refused.value)


def test_the_kept_options_have_no_password(tmp_path: Path) -> None:
    """The next server has the database of the last one, whose password is not written."""
    folder = DataFolder(tmp_path)
    settings = ServerSettings(data=tmp_path, database="postgresql://fan:secret@h/n?sslmode=require")
    save_options(folder, settings)
    assert read_options(folder).database == "postgresql://fan@h/n?sslmode=require"
    assert "secret" not in folder.options_file.read_text() + repr(settings)


# --- A server ---


@pytest.mark.parametrize("options", [[], ["--proxy-workers", "1"]], ids=["alone", "with a proxy"])
async def test_a_server_has_its_state_in_postgres(
    tmp_path: Path,
    fake_sdk: None,
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    options: list[str],
) -> None:
    """A killed server's runs are carried out by the next one on the database, and the password is written nowhere."""
    data = tmp_path / "data"
    monkeypatch.setenv("FANBENCH_DATABASE", postgres.create_database())
    with run_server(data, *options) as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK)
            (first,) = await run(client, "two-plus-two", "four")
            await client.schedule_runs("two-plus-two", ["slow"])
            await _running(client, "slow")
            while not (spent := (await client.proxy_quotas()).quota_balances[0].quota_used):
                await anyio.sleep(0.02)  # a proxy writes the usage a moment later
        server.kill()
    with run_server(data, *options) as server:
        async with server.client() as client:
            (second,) = await ended(client, "two-plus-two", "slow")
            quotas = await client.proxy_quotas()
    assert (first.state, second.state) == (RunState.COMPLETED, RunState.COMPLETED)
    assert quotas.quota_balances[0].quota_used == spent
    assert (data / "state.sqlite").stat().st_size == 0
    written = [path for path in tmp_path.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in written if PASSWORD.encode() in path.read_bytes()] == []


async def _running(client: Client, model: str) -> None:
    while not any(
        [r.state is RunState.RUNNING async for r in client.list_runs("two-plus-two", models=[model])]
    ):
        await anyio.sleep(0.02)


async def test_a_restart_of_the_database_loses_no_run(
    tmp_path: Path, fake_sdk: None, own_postgres: Postgres
) -> None:
    """A run that ends while PostgreSQL is away is recorded once that is back, and the server holds it again."""
    data, database = tmp_path / "data", own_postgres.create_database()
    with run_server(data, "--database", database) as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK)
            await client.schedule_runs("two-plus-two", ["slow"])
            await _running(client, "slow")
            own_postgres.stop()
            log = data / "server.log"
            while "the database does not answer" not in log.read_text():
                await anyio.sleep(0.05)
            own_postgres.start()
            (slow,) = await ended(client, "two-plus-two", "slow")
            assert slow.state is RunState.COMPLETED, slow.error_message
            (four,) = await run(client, "two-plus-two", "four")
            assert four.state is RunState.COMPLETED, four.error_message
            while "the database is held again" not in log.read_text():
                await anyio.sleep(0.05)
        with pytest.raises(LocalServerError, match="in use by another server"):
            async with Hold.of(database):
                pass


async def test_a_server_stops_while_the_database_is_away(
    tmp_path: Path, fake_sdk: None, own_postgres: Postgres
) -> None:
    """A server that is stopped then does not wait for the database, and the next one carries out what was left."""
    data, database = tmp_path / "data", own_postgres.create_database()
    with run_server(data, "--database", database, "--stop-timeout", "0.5") as server:
        async with server.client() as client:
            await push(client, "two-plus-two", TASK)
            await client.schedule_runs("two-plus-two", ["slow"])
            await _running(client, "slow")
        own_postgres.stop()
        with anyio.fail_after(60):
            await stop_server(data)
    said = (tmp_path / "data.out").read_text()
    assert "The database does not answer. The next server starts what has not ended" in said
    assert "Traceback" not in said
    own_postgres.start()
    with run_server(data, "--database", database) as server:
        async with server.client() as client:
            (slow,) = await ended(client, "two-plus-two", "slow")
    assert slow.state is RunState.COMPLETED, slow.error_message


# --- A database that is there and does not answer ---


async def test_a_statement_does_not_wait_without_end(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that gets no answer ends like one to a database that is away, and the next one has an answer."""
    monkeypatch.setattr(postgres_module, "ANSWER_SECONDS", 0.5)
    database = postgres.create_database()
    async with Store.open(database) as store:
        store.patience = 0
        async with _session_with(database, "BEGIN; LOCK TABLE meta"):
            with (
                anyio.fail_after(60),
                pytest.raises(OperationalError, match=r"no answer within 0\.5 s") as caught,
            ):
                await store.identity()
        assert is_unreachable(caught.value)
        assert await store.identity() == ""


async def test_a_migration_does_not_wait_without_end(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If another session uses what is to be migrated, the server says so, and how to find it."""
    monkeypatch.setattr(database_module, "_LOCK_SECONDS", 1)
    database = postgres.create_database()
    async with _session_with(database, "BEGIN; CREATE TABLE meta ()"):
        with anyio.fail_after(60), pytest.raises(LocalServerError, match="lock timeout") as caught:
            async with Store.open(database):
                pass
    assert "pg_stat_activity" in str(caught.value.hint)


@asynccontextmanager
async def _session_with(database: str, statements: str) -> AsyncIterator[None]:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as session:
        await session.execute(statements.encode())
        yield


# --- One server per database ---


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for a lost database at once, and wait for it a little."""
    monkeypatch.setattr(database_module, "_LOOK_EVERY", 0.05)
    monkeypatch.setattr(database_module, "RECONNECT_SECONDS", 0.5)


async def test_a_lost_hold_is_taken_again(postgres: Postgres, quick: None) -> None:
    """If the connection that holds a database is ended, the database is held again soon."""
    database = postgres.create_database()
    async with Hold.of(database) as hold, anyio.create_task_group() as tasks:
        tasks.start_soon(hold.keep)
        before = _holder(postgres, database)
        postgres.psql(f"SELECT pg_terminate_backend({before})")
        while (after := _holder(postgres, database)) in ("", before):
            await anyio.sleep(0.05)
        with pytest.raises(LocalServerError, match="in use by another server"):
            async with Hold.of(database):
                pass
        tasks.cancel_scope.cancel()
    while _holder(postgres, database) == after:
        await anyio.sleep(0.05)


async def test_a_server_ends_if_another_one_holds_its_database(postgres: Postgres, quick: None) -> None:
    """If another server takes the database before the connection that held it is back, the first one ends."""
    database = postgres.create_database()
    async with Hold.of(database) as hold:
        postgres.psql(f"SELECT pg_terminate_backend({_holder(postgres, database)})")
        while _holder(postgres, database):
            await anyio.sleep(0.01)
        async with Hold.of(database):
            with pytest.raises(LocalServerError, match=r"has lost its database, and ends: .* another server"):
                await hold.keep()


def _holder(postgres: Postgres, database: str) -> str:
    """The process of PostgreSQL that holds the lock of the server; empty if none does."""
    name = database.rpartition("/")[2]
    oid = f"(SELECT oid FROM pg_database WHERE datname = '{name}')"
    return postgres.psql(f"SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND database = {oid}").strip()


# --- One data folder per database ---


async def test_a_data_folder_belongs_to_one_database(tmp_path: Path, postgres: Postgres) -> None:
    """A folder is refused with another database, and a database with another folder, and neither is changed."""
    one, two, place = postgres.create_database(), postgres.create_database(), tmp_path / "a"
    with open_data_folder(place) as folder, open_data_folder(tmp_path / "b") as other:
        for _ in range(2):
            await _claim(folder, one)
        with pytest.raises(
            LocalServerError, match="belongs to another database: postgresql://fan@"
        ) as refused:
            await _claim(folder, two)
        assert without_password(one) in (refused.value.hint or "")
        with pytest.raises(LocalServerError, match="belongs to another database: postgresql://fan@"):
            await _claim(folder, folder.database)
        with pytest.raises(LocalServerError, match="belongs to another data folder"):
            await _claim(other, one)
        await _claim(other, two)


async def test_a_folder_with_sqlite_is_refused_with_postgres(tmp_path: Path, postgres: Postgres) -> None:
    """A folder with tasks in SQLite, also those of an older server, is refused with PostgreSQL."""
    database = postgres.create_database()
    with open_data_folder(tmp_path) as folder:
        async with Store.open(folder.database) as store:
            await store.add_version("adds", [])
        for _ in range(2):
            with pytest.raises(LocalServerError, match=r"has its state in state.sqlite"):
                await _claim(folder, database)
            await _claim(folder, folder.database)
        folder.database.unlink()  # to begin again
        await _claim(folder, folder.database)


async def test_a_folder_without_tasks_may_go_to_postgres(tmp_path: Path, postgres: Postgres) -> None:
    """Whoever has forgotten `--database` at first can add it, and then the folder belongs to that database."""
    database = postgres.create_database()
    with open_data_folder(tmp_path) as folder:
        await _claim(folder, folder.database)
        await _claim(folder, database)
        with pytest.raises(LocalServerError, match="belongs to another database: postgresql://fan@"):
            await _claim(folder, folder.database)


async def _claim(folder: DataFolder, database: Path | str) -> None:
    async with Store.open(database) as store:
        await claim(folder, store, await check_claim(folder, store, database))


async def test_a_server_that_does_not_start_claims_nothing(
    tmp_path: Path, postgres: Postgres, fake_sdk: None
) -> None:
    """After a start with a bad option, its data folder, its database and its place for outputs are free."""
    database, place, data = postgres.create_database(), tmp_path / "shared", tmp_path / "data"
    for option in ("--files=s3://", "--judge=test/gone", "--engine=ray://127.0.0.1:9"):
        for state in ([], ["--database", database]):
            words = [*state, "--files", place.as_uri(), "--advertise=10.0.0.1", option]
            with pytest.raises(AssertionError, match="hint: "), run_server(data, *words):
                pass
            assert not (data / "database.json").exists()
            assert [*place.glob("*")] == []
    with run_server(tmp_path / "other", "--database", database, "--files", place.as_uri(), runs=False):
        pass
    with run_server(data, "--database", postgres.create_database(), runs=False):
        pass


# --- Errors ---


@pytest.mark.parametrize(
    ("user", "words", "hint"),
    [
        ("fan:wrong-secret", "password authentication failed", "FANBENCH_DATABASE"),
        ("fan", "no password", "FANBENCH_DATABASE"),
        ("low:a-secret", "permission denied for schema public", "GRANT CREATE"),
    ],
)
async def test_a_user_who_may_not_is_told_why(postgres: Postgres, user: str, words: str, hint: str) -> None:
    """Whom the database does not let in, or does not let create tables, is told so without the password."""
    if not postgres.psql("SELECT 1 FROM pg_roles WHERE rolname = 'low'"):
        postgres.psql("CREATE ROLE low LOGIN PASSWORD 'a-secret'")
    database = postgres.create_database().replace(f"fan:{PASSWORD}", user)
    await _refused(database, words, hint)


async def test_a_database_that_is_not_there_is_named(postgres: Postgres) -> None:
    """A database that does not exist, or whose server does not answer, is named without the password."""
    await _refused(postgres.url("nowhere"), 'database "nowhere" does not exist', "createdb")
    await _refused(f"postgresql://fan:{PASSWORD}@127.0.0.1:1/nowhere", "Connection refused", "running there")


async def test_a_database_that_cannot_store_every_text_is_refused(postgres: Postgres) -> None:
    """A database with another encoding than UTF-8 is refused before it has tables."""
    if not postgres.psql("SELECT 1 FROM pg_database WHERE datname = 'ascii'"):
        postgres.psql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0 LOCALE 'C'")
    await _refused(postgres.url("ascii"), "its encoding is SQL_ASCII", "createdb --encoding UTF8")


async def _refused(database: str, words: str, hint: str) -> None:
    with pytest.raises(LocalServerError, match=words) as refused:
        async with Store.open(database):
            pass
    assert hint in (refused.value.hint or "")
    assert "secret" not in str(refused.value)


def test_the_driver_may_be_missing(tmp_path: Path) -> None:
    """Without the extra, the error names it."""
    code = (
        "import sys; sys.modules['psycopg'] = None; "
        "from fanbench.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["serve", "--data", str(tmp_path), "--port", "0", "--database", "postgresql://fan:secret@h/n"]
    command = [sys.executable, "-c", code, *words]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "The driver for PostgreSQL is not installed." in refused.stderr
    assert "postgres]" in refused.stderr
    assert "secret" not in refused.stderr
