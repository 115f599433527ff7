"""`fanbench serve --files`: the life of an output, from the run to its deletion, on a real server."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from fanbench import Client, NotFound
from fanbench.local.object_store import BLOCK, ObjectStore
from fanbench.wire.messages import RunState
from tests.s3 import FaultyS3

from .server_process import ended, ensure_pushed, log_text, push, run, run_server, task_source

pytestmark = [pytest.mark.anyio, pytest.mark.e2e, pytest.mark.usefixtures("fake_sdk")]

MODEL = "test/four"

NOISE = task_source(
    "noise", f"open('noise.bin', 'wb').write(os.urandom({2 * BLOCK + 5}))", before="import os"
)


async def test_an_output_goes_to_its_place(place: str, tmp_path: Path) -> None:
    """The output of a run is in its place and not in the data folder, can be downloaded, and goes with its task."""
    with run_server(tmp_path / "data", "--files", place) as server:
        async with server.client() as client:
            await ensure_pushed(client)
            (done,) = await run(client, "two-plus-two", MODEL)
            assert done.state is RunState.COMPLETED, done.error_message
            store = ObjectStore(place)
            assert await store.find("runs/1/1.zip") is not None
            assert [*(server.data / "runs").iterdir()] == []
            plain = await client.download_output(done.id, tmp_path / "plain")
            full = await client.download_output(done.id, tmp_path / "full", include_source=True)
            assert {*full.files} - {*plain.files} == {"__notebook__.ipynb", "__notebook_source__.ipynb"}
            assert any(name.endswith(".run.json") for name in plain.files)
            await client.delete_task("two-plus-two")
            assert await store.find("runs/1/1.zip") is None
            assert await store.find("runs/1/1-source.zip") is None


async def test_the_next_server_has_the_place(place: str, tmp_path: Path) -> None:
    """With the options of the last server, outputs are where it left them; without, a lost one is not an empty one."""
    data = tmp_path / "data"
    with run_server(data, "--files", place) as server:
        async with server.client() as client:
            await ensure_pushed(client)
            (done,) = await run(client, "two-plus-two", MODEL)
    with run_server(data, "--last-options", runs=False) as server:
        async with server.client() as client:
            assert (await client.download_output(done.id, tmp_path / "out")).files
    with run_server(data, runs=False) as server:
        async with server.client() as client:
            with pytest.raises(NotFound, match="no longer where this server keeps outputs"):
                await client.download_output(done.id, tmp_path / "none")


async def test_a_run_is_not_completed_without_its_output(
    bucket: str, faulty: FaultyS3, tmp_path: Path
) -> None:
    """A run whose output is refused ends with that as its error; its log and, on this machine, its files remain."""
    with run_server(tmp_path / "data", "--files", bucket) as server:
        async with server.client() as client:
            await push(client, "says", task_source("says", "print('what it says')"))
            faulty.fault = lambda method, path: 403 if "/runs/" in path else None
            (failed,) = await run(client, "says", MODEL)
            assert failed.state is RunState.ERRORED
            assert failed.error_message == (
                f"The output was not stored: Cannot write to {bucket}: it answers AccessDenied."
            )
            log = await log_text(client, failed.id)
            assert "what it says" in log
            assert "[fanbench] The output was not stored: " in log
            assert (await client.download_output(failed.id, tmp_path / "out")).files


async def test_a_server_that_is_killed_during_an_upload(
    bucket: str, faulty: FaultyS3, tmp_path: Path
) -> None:
    """The run has not ended; the next server starts it over, and its output is that of the new attempt."""
    faulty.fault = lambda method, path: 0 if "/runs/" in path else None
    with run_server(tmp_path / "data", "--files", bucket) as server:
        async with server.client() as client:
            await ensure_pushed(client)
            await client.schedule_runs("two-plus-two", [MODEL])
            await anyio.to_thread.run_sync(faulty.failed.wait)
            (begun,) = [each async for each in client.list_runs("two-plus-two")]
            assert not begun.state.terminal
        server.kill()
    faulty.fault = lambda method, path: None
    with run_server(tmp_path / "data", "--files", bucket) as server:
        async with server.client() as client:
            (done,) = await ended(client, "two-plus-two", MODEL)
            assert (done.id, done.state) == (begun.id, RunState.COMPLETED)
            assert (await client.download_output(done.id, tmp_path / "out")).files
    store = ObjectStore(bucket)
    assert await store.find("runs/1/1.zip") is None
    assert await store.find("runs/1/2.zip") is not None


async def test_a_download_that_breaks_is_resumed(bucket: str, faulty: FaultyS3, tmp_path: Path) -> None:
    """If the store fails in the middle of a download, our client asks for the rest, and for no byte twice."""
    with run_server(tmp_path / "data", "--files", bucket) as server:
        async with server.client() as client:
            await push(client, "noise", NOISE)
            (done,) = await run(client, "noise", MODEL)
            await _download_with_break(client, done.id, faulty, tmp_path / "out")
    assert (tmp_path / "out/noise.bin").stat().st_size == 2 * BLOCK + 5


async def _download_with_break(client: Client, run_id: int, faulty: FaultyS3, target: Path) -> None:
    blocks = 0

    def third_block(method: str, path: str) -> int | None:
        nonlocal blocks
        blocks += method == "GET"
        return 403 if method == "GET" and blocks == 3 else None

    faulty.fault = third_block
    seen: list[int] = []
    await client.download_output(run_id, target, progress=lambda received, _: seen.append(received))
    assert faulty.failed.is_set()
    assert seen == sorted(seen)
    assert blocks == 4
