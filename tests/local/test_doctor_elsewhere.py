"""The doctor, and what the options of the last server need elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fanbench.local.folder import open_data_folder
from fanbench.local.kept_options import save_options
from fanbench.local.settings import ServerSettings
from fanbench.local.state.claims import check_claim, claim
from fanbench.local.state.store import Store
from fanbench.operations.doctor import Check, DoctorTarget
from fanbench.operations.doctor.elsewhere import probe_database, probe_engine, probe_files, probe_options
from tests.postgres import PASSWORD, Postgres

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


def target_of(data: Path, **options: str) -> DoctorTarget:
    """A data folder whose last server had these options."""
    with open_data_folder(data) as folder:
        save_options(folder, ServerSettings(data=data, **options))  # type: ignore[arg-type]
    return DoctorTarget(data=data, env={})


async def test_a_server_of_this_machine_alone_needs_nothing(tmp_path: Path) -> None:
    """Without such options, there is nothing to say."""
    for probe in (probe_options, probe_engine, probe_database, probe_files):
        assert await probe(DoctorTarget(data=tmp_path, env={})) == []


async def test_options_that_cannot_be_read(tmp_path: Path) -> None:
    """They are one failure, with the command that replaces them."""
    (tmp_path / "serve.json").write_text("{")
    target = DoctorTarget(data=tmp_path, env={})
    (check,) = await probe_options(target)
    assert check.level == "fail"
    assert "fanbench serve" in str(check.fix)
    for probe in (probe_engine, probe_database, probe_files):
        assert await probe(target) == []


async def test_a_database_that_answers(tmp_path: Path, postgres: Postgres) -> None:
    """The check names PostgreSQL's version, changes nothing in an empty database, and knows whose a used one is."""
    database = postgres.create_database()
    target = DoctorTarget(data=tmp_path / "ours", env={"FANBENCH_DATABASE": database})
    for _ in range(2):
        (check,) = await probe_database(target)
        assert check.level == "ok"
        assert "answers, PostgreSQL 1" in check.message
        assert "the next server makes or migrates its tables" in check.message
    with open_data_folder(tmp_path / "ours") as folder:
        async with Store.open(database) as store:
            await claim(folder, store, await check_claim(folder, store, database))
    (check,) = await probe_database(target)
    assert check.level == "ok"
    assert "migrates" not in check.message
    (other,) = await probe_database(DoctorTarget(data=tmp_path / "other", env=target.env))
    assert other.level == "fail"
    assert "belongs to another data folder" in other.message
    assert PASSWORD not in f"{check}{other}"


async def test_a_database_that_cannot_be_used(tmp_path: Path, postgres: Postgres) -> None:
    """The check says what the server would say: no password, an encoding that loses texts, or no right to create."""
    database = postgres.create_database()
    (check,) = await probe_database(target_of(tmp_path, database=database))
    assert check.level == "fail"
    assert "no password" in check.message
    assert "FANBENCH_DATABASE" in str(check.fix)
    name = f"latin_{tmp_path.name[-8:].strip('_').lower()}"
    postgres.psql(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    postgres.psql("CREATE USER doctor_guest PASSWORD 'guest'")
    found = []
    for url in (postgres.url(name), postgres.url(database.rpartition("/")[2], "doctor_guest", "guest")):
        found += await probe_database(DoctorTarget(data=tmp_path, env={"FANBENCH_DATABASE": url}))
    assert [check.level for check in found] == ["fail", "fail"]
    assert "its encoding is LATIN1" in found[0].message
    assert "GRANT CREATE" in str(found[1].fix)


async def test_a_place_for_outputs(tmp_path: Path) -> None:
    """A folder that can be written is as it was afterwards, and one that is not there is a failure."""
    place = tmp_path / "share"
    place.mkdir()
    target = target_of(tmp_path / "data", files=f"file://{place}")
    (check,) = await probe_files(target)
    assert check == Check(
        "files", "ok", f"outputs can be written to, read in and deleted from file://{place}"
    )
    assert [*place.iterdir()] == []
    place.rmdir()
    (check,) = await probe_files(target)
    assert check.level == "fail"
    assert "No such file or directory" in check.message


async def test_a_cluster_that_is_not_there(tmp_path: Path) -> None:
    """The check says what the server would say."""
    (check,) = await probe_engine(target_of(tmp_path, engine="ray://127.0.0.1:9"))
    assert check.level == "fail"
    assert "There is no Ray cluster at 127.0.0.1:9" in check.message
    assert "ray start --head" in str(check.fix)


async def test_extras_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks name the commands that install the packages of the options."""
    target = target_of(
        tmp_path, engine="ray", database="postgresql://me@localhost/bench", files="s3://bucket/lab"
    )
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    monkeypatch.setitem(sys.modules, "obstore.exceptions", None)
    for probe, extra in ((probe_engine, "ray"), (probe_database, "postgres"), (probe_files, "files")):
        (check,) = await probe(target)
        assert check.level == "fail"
        assert f"[{extra}]" in str(check.fix)
