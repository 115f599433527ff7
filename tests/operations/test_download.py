"""Downloads: all at once, one row per run, and nothing lost by a failure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fanbench import OutputError
from fanbench.operations.download import RowDone, download_tasks
from fanbench.testing import RunScript, SimulatedKaggle
from fanbench.wire.messages import RunState
from tests.operations.conftest import Reported, only, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.fixture
def client() -> SimulatedKaggle:
    return simulated("t", versions=3)


async def test_outputs_follow_the_layout(client: SimulatedKaggle, tmp_path: Path) -> None:
    """An output goes to `<output>/<task>/<version>/<model>/<run_id>/`, with the normalized model."""
    run = client.add_run("t", "google/gemma@default").id
    report = only(await download_tasks(client, ["T"], output=tmp_path))
    assert report.rows[0].path == tmp_path / "t/3/gemma-default" / str(run)
    assert (tmp_path / f"t/3/gemma-default/{run}/a.run.json").is_file()
    assert [(row.outcome, row.size) for row in report.rows] == [("Done", 2)]


async def test_a_task_without_a_version_and_with_an_owner(tmp_path: Path) -> None:
    """The owner is a folder, as with the vendor, and a missing version is `unset`."""
    client = simulated()
    task = client.add_task("me/t")
    task.versions = [replace(task.newest, number=0)]
    run = client.add_run("me/t", "m").id
    report = only(await download_tasks(client, ["me/t"], output=tmp_path))
    assert report.rows[0].path == tmp_path / "me/t/unset/m" / str(run)


async def test_rows_come_in_the_order_of_the_list(
    client: SimulatedKaggle, tmp_path: Path, reported: Reported
) -> None:
    """Rows are reported in the server's order, and as many downloads run at once as allowed."""
    runs = [
        client.add_run("t", "m", RunScript(running=0, end=RunState.ERRORED, download_time=seconds)).id
        for seconds in range(1, 9)
    ]
    client.config = replace(client.config, concurrency=4)
    # Forced, so that no thread looks at the disk meanwhile: the virtual clock would run ahead of it.
    only(await download_tasks(client, ["t"], output=tmp_path, force=True, emit=reported))
    assert [event.row.run.id for event in reported if isinstance(event, RowDone)] == sorted(
        runs, reverse=True
    )
    assert client.most_at_once["downloads"] == 4


async def test_existing_outputs_are_kept(client: SimulatedKaggle, tmp_path: Path) -> None:
    """An existing output is not fetched again unless that is forced."""
    client.add_run("t", "m")
    only(await download_tasks(client, ["t"], output=tmp_path))
    again = only(await download_tasks(client, ["t"], output=tmp_path))
    assert [(row.outcome, row.size) for row in again.rows] == [("Cached", 2)]
    forced = only(await download_tasks(client, ["t"], output=tmp_path, force=True))
    assert [row.outcome for row in forced.rows] == ["Done"]
    assert client.calls["download_output"] == 2


async def test_a_cached_run_without_sources_is_marked(client: SimulatedKaggle, tmp_path: Path) -> None:
    """A cached output without notebooks is marked if notebooks were requested."""
    client.add_run("t", "m")
    only(await download_tasks(client, ["t"], output=tmp_path))
    assert not only(await download_tasks(client, ["t"], output=tmp_path)).rows[0].lacks_source
    report = only(await download_tasks(client, ["t"], output=tmp_path, include_source=True))
    assert report.rows[0].lacks_source


async def test_a_failed_download_does_not_affect_the_others(client: SimulatedKaggle, tmp_path: Path) -> None:
    """A failed download is a row like the others, and a damaged zip differs from a lost connection."""
    client.add_run("t", "m", RunScript(running=0, bad_zips=9))
    client.add_run("t", "m", RunScript(running=0, download_time=9))
    client.add_run("t", "m", RunScript(running=0, broken_downloads=9))
    report = only(await download_tasks(client, ["t"], output=tmp_path))
    assert [row.outcome for row in report.rows] == ["Failed", "Done", "Bad zip"]
    assert len(report.failed) == 2


async def test_runs_that_have_not_ended_are_left_out(client: SimulatedKaggle, tmp_path: Path) -> None:
    """Runs that have not ended are left out and counted."""
    client.add_run("t", "m", RunScript(running=9))
    report = only(await download_tasks(client, ["t"], output=tmp_path / "new"))
    assert (report.rows, report.pending) == ((), 1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["..", ".", "a\\..\\b"])
async def test_a_models_name_does_not_lead_out_of_the_folder(
    client: SimulatedKaggle, tmp_path: Path, name: str
) -> None:
    """A model's name from the server cannot lead out of the output folder."""
    client.add_run("t", name)
    report = only(await download_tasks(client, ["t"], output=tmp_path))
    assert report.rows[0].path.resolve().parent.parent == (tmp_path / "t/3").resolve()


async def test_an_output_that_cannot_be_written(client: SimulatedKaggle, tmp_path: Path) -> None:
    """An output folder that cannot be written to is one error, before anything is fetched."""
    client.add_run("t", "m")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        only(await download_tasks(client, ["t"], output=tmp_path / "file"))
    assert client.calls["download_output"] == 0
