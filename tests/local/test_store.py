"""The server's state, in SQLite and in PostgreSQL."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from fanbench.errors import LocalServerError
from fanbench.local.state.database import MIGRATIONS, REVISIONS, open_engine
from fanbench.local.state.store import Store
from fanbench.local.state.tables import LIVE_RUNS, Base, RunRow, UsageRow, VersionRow, now
from fanbench.wire.messages import Citation, RunState, SkipPolicy
from fanbench.wire.queue import IN_PROGRESS, Enqueue
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Path | str:
    """An empty database."""
    if request.param == "sqlite":
        return tmp_path / "state.sqlite"
    postgres: Postgres = request.getfixturevalue("postgres")
    return postgres.create_database()


@pytest.fixture
async def store(database: Path | str) -> AsyncIterator[Store]:
    async with Store.open(database) as store:
        yield store


any_text = st.text(st.characters(exclude_categories=()) | st.sampled_from("\0\ud800\udfff\n"), max_size=20)
any_number = st.integers(0, 2**63 - 1) | st.integers(0, 10**40) | st.sampled_from([2**31, 2**63 - 1, 2**63])
days = itertools.count(1)
"""So that no example counts what an earlier one has spent."""


def storable(text: str) -> str:
    return "".join("\ufffd" if c == "\0" or "\ud800" <= c <= "\udfff" else c for c in text)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=any_text)
@example("a\ud800\0b")
@example("long" * 1_000_000)
async def test_any_text_is_kept(store: Store, words: str) -> None:
    """Texts come back, alone and in lists, with U+FFFD for NUL and lone surrogates, which not every database stores."""
    slug, model = f"{words[:200]}{secrets.token_hex(8)}", words[:200]
    version = await store.add_version(slug, [words, "", words])
    found = await store.find_version(slug)
    assert found is not None
    assert (found.slug, found.datasets) == (storable(slug), [storable(words), "", storable(words)])
    run = await store.add_run(version.id, model, words)
    assert isinstance(run, RunRow)
    await store.update(RunRow, run.id, state=RunState.ERRORED, error=words)
    assert [row.error async for row in _runs(store, version.id, model)] == [storable(words)]
    assert (await store.model_ids([model])).keys() == {model}


async def _runs(store: Store, version_id: int, *models: str) -> AsyncIterator[RunRow]:
    rows, _ = await store.runs(version_id, models, after=0, limit=100)
    for row in rows:
        yield row


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(amounts=st.lists(any_number, max_size=4))
@example([2**31, 2**63, 2**63 - 1])
async def test_any_number_is_kept(store: Store, amounts: list[int]) -> None:
    """Costs of more than 63 bits count as the largest number, and their sum does not overflow."""
    moment = datetime.now(UTC) + timedelta(days=next(days))
    for amount in amounts:
        await store.add_usage(UsageRow(token_id=2**62, model="m", cost_nanodollars=amount, at=moment))
    assert await store.spent_nanodollars(moment) == pytest.approx(
        sum(min(amount, 2**63 - 1) for amount in amounts)
    )


async def test_ids_have_63_bits(store: Store) -> None:
    """Runs, versions and attempts are numbered beyond 32 bits."""
    large = 2**40
    async with store._change() as session:
        session.add(VersionRow(id=large, slug="t", version=large))
        await session.flush()
        session.add(RunRow(id=large, version_id=large, model="m", attempt=large))
    run = await store.get(RunRow, large)
    assert run is not None
    assert (run.version_id, run.attempt) == (large, large)
    assert (await store.add_version("t", [])).version == large + 1


async def test_times_sort(store: Store) -> None:
    """What happened since a moment is counted to the millisecond, whether or not the moment has a fraction."""
    version = await store.add_version("t", [])
    second = datetime(2026, 11, 29, 12, 0, 0, tzinfo=UTC)
    moments = [second + timedelta(milliseconds=each) for each in (0, 1, 10, 100, 999, 1000, 1001)]
    async with store._change() as session:
        for moment in moments:
            session.add(RunRow(version_id=version.id, model=str(moment), created=moment))
    assert [await store.runs_since(moment) for moment in moments] == [7, 6, 5, 4, 3, 2, 1]
    assert await store.runs_since(second + timedelta(microseconds=500)) == 6


async def test_racing_runs_of_a_model_are_one(database: Path | str) -> None:
    """Of eight runs of a version and model that two stores add at once, one is added; the next once that has ended."""
    async with Store.open(database) as one, Store.open(database) as two:
        version = await one.add_version("t", [])
        for _ in range(5):
            added: list[RunRow | str] = []

            async def add(store: Store, added: list[RunRow | str] = added) -> None:
                added.append(await store.add_run(version.id, "m"))

            async with anyio.create_task_group() as tasks:
                for store in [one, two] * 4:
                    tasks.start_soon(add, store)
            (run,) = [row for row in added if isinstance(row, RunRow)]
            assert len(added) == 8
            other = await one.add_run(version.id, "other")
            assert isinstance(other, RunRow)
            assert await one.unfinished() == ([version.id], [run.id, other.id])
            await two.update(RunRow, run.id, state=RunState.COMPLETED)
            await two.update(RunRow, other.id, state=RunState.ERRORED)


def lose_two_answers(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the connection break after each of the next two changes, which have been made."""
    change, breaks = store._change, iter([True, True, False])

    @contextlib.asynccontextmanager
    async def lossy() -> AsyncIterator[AsyncSession]:
        async with change() as session:
            yield session
        if next(breaks, False):
            raise OperationalError("INSERT", {}, psycopg.OperationalError("server closed the connection"))

    monkeypatch.setattr(store, "_change", lossy)


async def test_a_run_whose_answer_was_lost_is_added_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the connection breaks after a run was added, `add_run` returns that run, and a reason for one of others."""
    version = await store.add_version("t", [])
    lose_two_answers(store, monkeypatch)
    run = await store.add_run(version.id, "m", "judge")
    assert isinstance(run, RunRow)
    assert await store.unfinished() == ([version.id], [run.id])
    assert await store.add_run(version.id, "m") == IN_PROGRESS
    expires = await store.add_token("token", timedelta(hours=1))
    found = await store.find_token("token")
    assert found is not None
    assert abs(found.expires - expires) < timedelta(seconds=5)


async def test_a_cancelled_run_stays_cancelled(store: Store) -> None:
    """A state that is recorded after a run was cancelled changes nothing, and lists leave the run out."""
    version = await store.add_version("t", [])
    run = await store.add_run(version.id, "m")
    assert isinstance(run, RunRow)
    before = await store.cancel_runs(versions=None, ids=[run.id], model="", effort="", states=LIVE_RUNS)
    assert before == {run.id: RunState.QUEUED}
    await store.update(RunRow, run.id, state=RunState.COMPLETED, error="")
    found = await store.get(RunRow, run.id)
    assert found is not None
    assert (found.state, found.error) == (RunState.ERRORED, "Cancelled.")
    assert await store.runs(version.id, [], after=0, limit=9) == ([], 0)


@pytest.mark.parametrize(
    ("named", "cancelled"),
    [
        ({"versions": [1]}, [1, 2, 3]),
        ({"ids": [2, 5]}, [2, 5]),
        ({"versions": [2], "ids": [1, 4]}, [4]),
        ({"versions": [1], "model": "m"}, [1, 2]),
        ({"versions": [1], "model": "m", "effort": "low"}, [2]),
        ({"ids": [1, 6], "states": [RunState.QUEUED]}, [1]),
    ],
)
async def test_only_the_runs_that_are_named_are_cancelled(
    store: Store, named: dict[str, Any], cancelled: list[int]
) -> None:
    """Versions, ids, a model, an effort and states each leave out the runs that they do not name."""
    for slug in ("one", "two"):
        version = await store.add_version(slug, [])
        for model, effort in (("m", ""), ("m", "low"), ("n", "")):
            await store.add_run(version.id, model, effort=effort)
    await store.update(RunRow, 6, state=RunState.RUNNING)
    everything = {"versions": None, "ids": None, "model": "", "effort": "", "states": LIVE_RUNS}
    assert sorted(await store.cancel_runs(**{**everything, **named})) == cancelled
    _, unfinished = await store.unfinished()
    assert unfinished == [number for number in range(1, 7) if number not in cancelled]


async def test_live_runs_at_efforts(store: Store) -> None:
    """A model may have one live run at each effort and one without, and each keeps its effort."""
    version = await store.add_version("t", [])
    runs = [await store.add_run(version.id, "m", effort=effort) for effort in ("low", "high", "", "low")]
    assert [run.effort for run in runs if isinstance(run, RunRow)] == ["low", "high", ""]
    assert runs[-1] == IN_PROGRESS


async def test_runs_of_the_queue(store: Store) -> None:
    """With ALL, runs are beside others; without, a run in progress is in the way, however it was scheduled."""
    everything, missing = Enqueue(skip=SkipPolicy.ALL, benchmark="local/board"), Enqueue()
    version = await store.add_version("t", [])
    rows = [await store.add_run(version.id, "m", "", "", each) for each in (everything, everything, None)]
    first, second, third = rows
    assert isinstance(first, RunRow)
    assert isinstance(second, RunRow)
    assert third == await store.add_run(version.id, "m", "", "", missing) == IN_PROGRESS
    for row, state in ((first, RunState.COMPLETED), (second, RunState.ERRORED)):
        assert row.benchmark == "board"
        await store.update(RunRow, row.id, state=state, ended=now())
    assert isinstance(await store.add_run(version.id, "m", "", "", missing), RunRow)
    day = now() - timedelta(days=1)
    assert sorted(await store.count_runs(day)) == sorted(
        [
            ("t", "m", "board", RunState.COMPLETED, 1),
            ("t", "m", "board", RunState.ERRORED, 1),
            ("t", "m", "", RunState.QUEUED, 1),
        ]
    )
    assert len(await store.count_runs(now() + timedelta(days=1))) == 1


async def test_a_run_of_the_queue_whose_answer_was_lost(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the connection breaks after a run was put beside others, there is still only one of it."""
    version = await store.add_version("t", [])
    lose_two_answers(store, monkeypatch)
    run = await store.add_run(version.id, "m", enqueue=Enqueue(skip=SkipPolicy.ALL))
    assert isinstance(run, RunRow)
    assert await store.unfinished() == ([version.id], [run.id])


async def test_racing_pushes_are_numbered(database: Path | str) -> None:
    """Eight pushes of a task through two stores at once are its versions 1 to 8."""
    async with Store.open(database) as one, Store.open(database) as two:
        numbers: list[int] = []

        async def push(store: Store) -> None:
            numbers.append((await store.add_version("t", [])).version)

        async with anyio.create_task_group() as tasks:
            for store in [one, two] * 4:
                tasks.start_soon(push, store)
    assert sorted(numbers) == [*range(1, 9)]


async def test_racing_stores_agree_on_the_numbers_of_models(database: Path | str) -> None:
    """Stores that number the same models at once give each model one number."""
    async with Store.open(database) as one, Store.open(database) as two:
        found: list[dict[str, int]] = []

        async def number(store: Store, *models: str) -> None:
            found.append(await store.model_ids(models))

        async with anyio.create_task_group() as tasks:
            for store in [one, two] * 2:
                tasks.start_soon(number, store, "a", "b", "c")
                tasks.start_soon(number, store, "c", "b", "a")
    assert all(ids == found[0] for ids in found)
    assert len(set(found[0].values())) == 3


async def test_usage_is_written_soon_and_at_the_end(database: Path | str) -> None:
    """Usage is written a moment after it was noted, before it is read, and when the store is closed."""
    since = datetime.now(UTC) - timedelta(seconds=1)

    def usage() -> UsageRow:
        return UsageRow(token_id=1, model="m", cost_nanodollars=1)

    async with Store.open(database) as one, Store.open(database) as other:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.keep_usage)
            for count in range(1, 3):
                await one.add_usage(usage())
                while await other.spent_nanodollars(since) != count:
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()
        await one.add_usage(usage())
        assert await one.spent_nanodollars(since) == 3
        await one.add_usage(usage())
    async with Store.open(database) as again:
        assert await again.spent_nanodollars(since) == 4
        assert await again.spent_nanodollars(datetime.now(UTC)) == 0


async def test_usage_has_the_time_of_the_request(store: Store) -> None:
    """Usage counts from the moment at which it was noted, not from that of its writing."""
    await store.add_usage(UsageRow(token_id=1, model="m", cost_nanodollars=1))
    await anyio.sleep(0.002)
    assert await store.spent_nanodollars(datetime.now(UTC)) == 0
    assert await store.spent_nanodollars(datetime.now(UTC) - timedelta(hours=1)) == 1


async def test_usage_that_cannot_be_written_stays_noted(tmp_path: Path) -> None:
    """Usage that the database refuses at first is written once it no longer does."""
    path = tmp_path / "state.sqlite"
    async with Store.open(path) as store:
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("ALTER TABLE usage RENAME TO away")
            await store.add_usage(UsageRow(token_id=1, model="m", cost_nanodollars=1))
            with pytest.raises(OperationalError, match="no such table"):
                await store.spent_nanodollars(datetime(2026, 1, 1, tzinfo=UTC))
            other.execute("ALTER TABLE away RENAME TO usage")
        await store.add_usage(UsageRow(token_id=1, model="m", cost_nanodollars=1))
        assert await store.spent_nanodollars(datetime(2026, 1, 1, tzinfo=UTC)) == 2


# --- Pages and benchmarks ---


async def test_pages_belong_to_versions_and_tags_to_tasks(store: Store) -> None:
    """Each version keeps its own page, whose texts may be any; tags change for all, and a new version has both."""
    other = await store.add_version("other", [])
    first = await store.add_version("t", [])
    page = {"description": "a\0\ud800", "citations": [Citation(title="\0", url="http://a.org")]}
    await store.update_page(first, tags=["x", "\0"], **page)
    second = await store.add_version("t", [])
    assert second.tags == ["x", "\ufffd"]
    await store.update_page(second, tags=["y"], provenance="p")
    rows = [await store.find_version("t", number) for number in (1, 2)]
    citation = Citation(title="\ufffd", url="http://a.org")
    assert [(row.description, row.provenance, row.tags, row.citations) for row in rows if row] == [
        ("a\ufffd\ufffd", "", ["y"], [citation]),
        ("a\ufffd\ufffd", "p", ["y"], [citation]),
    ]
    untouched = await store.get(VersionRow, other.id)
    assert untouched is not None
    assert (untouched.description, untouched.tags) == ("", [])


async def test_a_benchmark_has_one_version_of_a_task(store: Store) -> None:
    """A task is added once, whichever version, and leaves with its task."""
    rows = [await store.add_version(slug, []) for slug in ("a", "a", "b")]
    assert [await store.add_to_benchmark("bench", row) for row in rows] == [True, False, True]
    assert [(row.slug, row.version) for row in await store.benchmark("bench")] == [("a", 1), ("b", 1)]
    assert await store.benchmark("\0") == []
    await store.delete_task("a")
    await store.remove_from_benchmark("bench", "none")
    assert [row.slug for row in await store.benchmark("bench")] == ["b"]
    await store.remove_from_benchmark("bench", "b")
    assert await store.benchmark("bench") == []


async def test_the_newest_result_counts(store: Store) -> None:
    """Of each model and effort, it is the last completed run that has a result."""
    version = await store.add_version("t", [])
    for effort, state, number in (
        ("", RunState.COMPLETED, 1.0),
        ("", RunState.COMPLETED, 2.0),
        ("", RunState.COMPLETED, None),
        ("high", RunState.COMPLETED, 3.0),
        ("high", RunState.ERRORED, 4.0),
    ):
        row = await store.add_run(version.id, "m", effort=effort)
        assert isinstance(row, RunRow)
        await store.update(RunRow, row.id, state=state, numeric_result=number)
    found = {row.effort: row.numeric_result for row in await store.results([version.id])}
    assert found == {"": 2.0, "high": 3.0}
    assert await store.results([]) == []


# --- Schemas ---


async def test_the_migrations_make_the_tables(database: Path | str) -> None:
    """The migrations make the tables of this code and the index of live runs, and the code knows each of them."""
    async with open_engine(database) as engine:

        def differences(connection: Connection) -> list[Any]:
            return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))

        async with engine.connect() as connection:
            ((change, index),) = await connection.run_sync(differences)
    assert (change, index.name) == ("remove_index", "one_live_run")
    scripts = [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()]
    assert tuple(reversed(scripts)) == REVISIONS


def test_a_start_without_migrations_does_not_import_alembic(tmp_path: Path) -> None:
    """A server whose database has the schema of this fanbench starts without Alembic, and without PostgreSQL."""
    code = (
        "import anyio, sys; from pathlib import Path; from fanbench.local.state.store import Store\n"
        "async def main():\n"
        "    async with Store.open(Path(sys.argv[1])): pass\n"
        "anyio.run(main)\n"
        "print(sorted({'alembic', 'sqlalchemy.dialects.postgresql'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "state.sqlite")]
    said = [subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2)]
    assert [words.splitlines()[-1] for words in said] == [
        "['alembic', 'sqlalchemy.dialects.postgresql']",
        "[]",
    ]


async def test_racing_starts_migrate_once(database: Path | str) -> None:
    """Stores that are opened on an empty database at the same time all work."""
    opened = []

    async def open_and_push() -> None:
        async with Store.open(database) as store:
            opened.append(await store.add_version("t", []))

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(open_and_push)
    assert sorted(row.version for row in opened) == [1, 2, 3]


def test_a_server_that_is_interrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose store is cancelled in any operation of SQLite, also while it opens or closes, ends."""
    path = tmp_path / "state.sqlite"
    execute: Callable[..., Awaitable[Any]] = aiosqlite.Connection._execute

    async def use(interrupted: int) -> bool:
        operations = itertools.count(1)
        with anyio.CancelScope() as scope:

            async def interrupt(*args: Any, **kwargs: Any) -> Any:
                if next(operations) == interrupted:
                    scope.cancel()
                return await execute(*args, **kwargs)

            monkeypatch.setattr(aiosqlite.Connection, "_execute", interrupt)
            async with Store.open(path) as store, anyio.create_task_group() as tasks:
                tasks.start_soon(store.add_version, "a", [])
                await store.add_version("b", [])
        return next(operations) <= interrupted

    points = itertools.takewhile(lambda point: not anyio.run(use, point), itertools.count(1))
    assert len(list(points)) > 10


async def test_a_newer_database_is_refused(database: Path | str) -> None:
    """A database with a schema that this fanbench does not know is left alone."""
    async with open_engine(database) as engine, engine.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(LocalServerError, match="newer fanbench: its schema is '9999'") as refused:
        async with Store.open(database):
            pass
    assert "secret" not in str(refused.value)


OLD_TABLES = """
CREATE TABLE task_version (
    id INTEGER NOT NULL, slug VARCHAR NOT NULL, version INTEGER NOT NULL, state VARCHAR NOT NULL,
    error VARCHAR NOT NULL, created VARCHAR NOT NULL, datasets JSON NOT NULL, public BOOLEAN NOT NULL,
    notebook_public BOOLEAN NOT NULL, PRIMARY KEY (id), UNIQUE (slug, version)
);
CREATE INDEX ix_task_version_slug ON task_version (slug);
CREATE TABLE model (id INTEGER NOT NULL, slug VARCHAR NOT NULL, PRIMARY KEY (id), UNIQUE (slug));
CREATE TABLE token (
    id INTEGER NOT NULL, digest VARCHAR NOT NULL, expires VARCHAR NOT NULL, {token} PRIMARY KEY (id), UNIQUE (digest)
);
CREATE TABLE usage (
    id INTEGER NOT NULL, token_id INTEGER NOT NULL, model VARCHAR NOT NULL, at VARCHAR NOT NULL,
    input_tokens {number} NOT NULL, output_tokens {number} NOT NULL, cost_nanodollars {number} NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_usage_at ON usage (at);
CREATE INDEX ix_usage_token_id ON usage (token_id);
CREATE TABLE run (
    id INTEGER NOT NULL, version_id INTEGER NOT NULL, model VARCHAR NOT NULL, {judge} state VARCHAR NOT NULL,
    started VARCHAR, ended VARCHAR, error VARCHAR NOT NULL, created VARCHAR NOT NULL, PRIMARY KEY (id),
    FOREIGN KEY(version_id) REFERENCES task_version (id)
);
CREATE INDEX ix_run_created ON run (created);
CREATE INDEX ix_run_version_id ON run (version_id);
INSERT INTO task_version VALUES
    (1, 't', 1, 'BENCHMARK_TASK_VERSION_CREATION_STATE_COMPLETED', '', '2026-11-01T12:00:00+00:00',
     '["me/words"]', 0, 0);
INSERT INTO token (id, digest, expires) VALUES (7, 'd', '2026-11-01T12:00:00.500000+00:00');
INSERT INTO usage VALUES (1, 7, 'four', '2026-11-01T12:00:00.500000+00:00', 1, 2, 4000000000);
INSERT INTO run (id, version_id, model, state, started, ended, error, created) VALUES
    (1, 1, 'four', 'BENCHMARK_TASK_RUN_STATE_COMPLETED', '2026-11-01T12:00:00+00:00', '2026-11-01T12:00:01+00:00', '',
     '2026-11-01T12:00:00+00:00'),
    (2, 1, 'four', 'BENCHMARK_TASK_RUN_STATE_RUNNING', NULL, NULL, '', '2026-11-01T12:00:00.001000+00:00'),
    (3, 1, 'four', 'BENCHMARK_TASK_RUN_STATE_QUEUED', NULL, NULL, '', '2026-11-01T12:00:00.001000+00:00'),
    (4, 1, 'five', 'BENCHMARK_TASK_RUN_STATE_QUEUED', NULL, NULL, '', '2026-11-01T12:00:00.001000+00:00');
"""
"""What servers before there were migrations wrote, with two live runs of a model, which none of them should have."""


@pytest.mark.parametrize(
    "differences",
    [
        {"token": "run_id INTEGER,", "number": "INTEGER", "judge": ""},
        {"token": "", "number": "INTEGER", "judge": ""},
        {"token": "", "number": "BIGINT", "judge": "judge VARCHAR DEFAULT '' NOT NULL,"},
    ],
    ids=["first", "without judges", "last"],
)
async def test_the_database_of_an_older_server_is_brought_up_to_date(
    tmp_path: Path, differences: dict[str, str]
) -> None:
    """Its rows are kept, its runs have the server's judge, and of two live runs of a model the older goes on."""
    path = tmp_path / "state.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(OLD_TABLES.format(**differences))
    for count in range(2):
        async with Store.open(path) as store:
            rows, _total = await store.runs(1, [], after=0, limit=9)
            assert [(row.model, row.state.label, row.judge, row.attempt) for row in rows] == [
                ("four", "COMPLETED", "", 0),
                ("four", "RUNNING", "", 0),
                ("four", "ERRORED", "", 0),
                ("five", "QUEUED", "", 0),
            ]
            assert rows[2].error == "Another run of this version and model was in progress."
            assert rows[0].version.datasets == ["me/words"]
            assert rows[0].ended == datetime(2026, 11, 1, 12, 0, 1, tzinfo=UTC)
            assert (await store.unfinished())[1] == [2, 4]
            assert await store.spent_nanodollars(datetime(2026, 11, 1, tzinfo=UTC)) == 4_000_000_000
            assert await store.add_run(1, "four") == IN_PROGRESS
            assert (await store.add_version(f"t{count}", [])).id == 2 + count


async def test_a_migration_that_fails_changes_nothing(tmp_path: Path) -> None:
    """If a migration fails half way, the database is as it was, and the error names it."""
    path = tmp_path / "state.sqlite"
    with contextlib.closing(sqlite3.connect(path)) as old:
        old.executescript(OLD_TABLES.format(token="", number="BIGINT", judge=""))
        old.execute("CREATE TABLE meta (of TEXT)")
        before = old.execute("SELECT sql FROM sqlite_master").fetchall()
        with pytest.raises(LocalServerError, match=r"state.sqlite cannot be used: table meta already exists"):
            async with Store.open(path):
                pass
        assert old.execute("SELECT sql FROM sqlite_master").fetchall() == before
