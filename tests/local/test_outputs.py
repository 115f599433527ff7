"""Outputs in an object store: uploaded where a run was, answered, and deleted."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

import anyio
import pytest

from fanbench.errors import LocalServerError, UsageError
from fanbench.local import object_store
from fanbench.local.folder import DataFolder
from fanbench.local.object_store import ObjectStore, checked_url, upload_output
from fanbench.local.outputs import Outputs
from fanbench.local.state.tables import RunRow
from fanbench.local.zips import write_output_zip
from fanbench.wire.messages import RunState
from tests.s3 import ACCESS_KEY, SECRET_KEY, FaultyS3

pytestmark = pytest.mark.anyio

ODD = "a b/ü%23%3F%25/*[x]"
"""A prefix whose name is "a b/ü#?%/*[x]"."""


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is given up after a moment."""
    monkeypatch.setattr(object_store, "REQUEST_SECONDS", 0.3)
    monkeypatch.setattr(object_store, "RETRY_SECONDS", 0.3)
    monkeypatch.setattr(object_store, "CALL_SECONDS", 2.0)


def finished_run(folder: Path, size: int = 1000) -> Path:
    """The folder of a run that has written a file of `size` random bytes."""
    (folder / "working").mkdir(parents=True)
    (folder / "working/noise.bin").write_bytes(os.urandom(size))
    (folder / "source.ipynb").write_text("{}")
    return folder


async def open_outputs(root: Path, url: str) -> Outputs:
    root.mkdir(exist_ok=True)
    outputs = await Outputs.open(DataFolder(root), url, owner=root.name)
    await outputs.claim(root.name)
    return outputs


async def download(
    outputs: Outputs,
    headers: Mapping[str, str] | None = None,
    *,
    run: int = 7,
    attempt: int = 1,
    source: bool = False,
) -> tuple[int, dict[str, str], bytes] | None:
    """The status, the headers and the body of an answer; None if there is no output."""
    row = RunRow(id=run, attempt=attempt, state=RunState.COMPLETED)
    response = await outputs.response(row, include_source=source)
    if response is None:
        return None
    given = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    sent: list[bytes] = []
    answer: dict[str, str] = {}
    status = 0

    async def send(message) -> None:  # type: ignore[no-untyped-def]
        nonlocal status
        if message["type"] == "http.response.start":
            status = message["status"]
            answer.update({name.decode(): value.decode() for name, value in message["headers"]})
        else:
            sent.append(message.get("body", b""))

    async def receive():  # type: ignore[no-untyped-def]
        await anyio.sleep_forever()

    await response({"type": "http", "method": "POST", "headers": given}, receive, send)
    return status, answer, b"".join(sent)


async def whole(outputs: Outputs, *, run: int = 7, attempt: int = 1, source: bool = False) -> bytes:
    answer = await download(outputs, run=run, attempt=attempt, source=source)
    assert answer is not None
    assert answer[0] == 200
    return answer[2]


# --- Upload and download ---


@pytest.mark.parametrize("source", [False, True])
async def test_an_uploaded_output_is_what_the_folder_gives(place: str, tmp_path: Path, source: bool) -> None:
    """The zip that comes from the store is, byte for byte, the one of the run's folder."""
    outputs = await open_outputs(tmp_path / "data", f"{place}/{ODD}")
    run = finished_run(tmp_path / "run")
    await upload_output(run, outputs.place(7, 1))
    write_output_zip(run, tmp_path / "expected.zip", include_source=source)
    assert await whole(outputs, source=source) == (tmp_path / "expected.zip").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".fanbench")) == []


async def test_nothing_is_uploaded_without_a_url(tmp_path: Path) -> None:
    """Without `--files` a run has no place for its output, which its folder gives."""
    outputs = await open_outputs(tmp_path, "")
    assert outputs.place(7, 1) == ""
    finished_run(tmp_path / "runs/7")
    assert zipfile.ZipFile(BytesIO(await whole(outputs))).namelist() == ["noise.bin"]


async def test_what_is_in_the_folders_stays_there(place: str, tmp_path: Path) -> None:
    """A server that is given a place for outputs still gives those of its earlier runs."""
    finished_run(tmp_path / "runs/7")
    outputs = await open_outputs(tmp_path, place)
    assert zipfile.ZipFile(BytesIO(await whole(outputs))).namelist() == ["noise.bin"]


async def test_each_attempt_has_its_own_output(place: str, tmp_path: Path) -> None:
    """The late upload of an attempt that was given up does not replace the output of the next one."""
    outputs = await open_outputs(tmp_path / "data", place)
    await upload_output(finished_run(tmp_path / "second"), outputs.place(7, 2))
    accepted = await whole(outputs, attempt=2)
    await upload_output(finished_run(tmp_path / "first"), outputs.place(7, 1))
    assert await whole(outputs, attempt=2) == accepted


@pytest.mark.parametrize("url", ["", "place"])
async def test_a_lost_output_is_not_an_empty_one(
    url: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A completed run whose output is nowhere has none, while one that failed early has an empty zip."""
    outputs = await open_outputs(tmp_path / "data", url and (tmp_path / "shared").as_uri())
    assert await download(outputs) is None
    failed = await outputs.response(RunRow(id=8, attempt=1, state=RunState.ERRORED), include_source=False)
    assert failed is not None
    assert zipfile.ZipFile(tmp_path / "data/outputs/8.zip").namelist() == []


async def test_ranges(place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A range of the version that the client has is answered with it, over the bounds of blocks; others with all."""
    monkeypatch.setattr(object_store, "BLOCK", 100)
    outputs = await open_outputs(tmp_path / "data", place)
    await upload_output(finished_run(tmp_path / "run"), outputs.place(7, 1))
    answer = await download(outputs)
    assert answer is not None
    _, headers, body = answer
    tag, size = headers["etag"], len(body)
    assert re.fullmatch(r'"[^"]+"', tag)
    assert (headers["content-length"], headers["accept-ranges"]) == (str(size), "bytes")

    for asked, start, end in ("350-", 350, size), ("0-0", 0, 1), (f"9-{size + 5}", 9, size):
        part = await download(outputs, {"range": f"bytes={asked}", "if-range": tag})
        assert part is not None
        assert (part[0], part[2]) == (206, body[start:end])
        assert part[1]["content-range"] == f"bytes {start}-{end - 1}/{size}"
        assert part[1]["content-length"] == str(end - start)
    others = [
        {"range": "bytes=5-", "if-range": '"other"'},
        {"range": "bytes=1-2,4-5"},
        {"range": "lines=1-"},
    ]
    for given in others:
        assert (await download(outputs, given) or ())[::2] == (200, body)
    beyond = await download(outputs, {"range": f"bytes={size}-"})
    assert beyond is not None
    assert (beyond[0], beyond[1]["content-range"]) == (416, f"bytes */{size}")


async def test_a_download_is_of_one_version(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zip that is replaced while it is sent breaks the download, instead of mixing two."""
    monkeypatch.setattr(object_store, "BLOCK", 100)
    outputs = await open_outputs(tmp_path / "data", place)
    store = ObjectStore(place)
    await upload_output(finished_run(tmp_path / "run"), outputs.place(7, 1))
    stored = await store.find("runs/7/1.zip")
    assert stored is not None
    blocks = stored.read(0, stored.size)
    await anext(blocks)
    await upload_output(finished_run(tmp_path / "other"), outputs.place(7, 1))
    with pytest.raises(LocalServerError, match="Cannot read from"):
        await anext(blocks)


async def test_outputs_are_deleted_with_all_their_attempts(place: str, tmp_path: Path) -> None:
    """Deleting the outputs of a run leaves those of others, also of one whose number begins with the same digits."""
    outputs = await open_outputs(tmp_path / "data", place)
    run = finished_run(tmp_path / "run")
    for run_id, attempt in [(7, 1), (7, 2), (70, 1)]:
        await upload_output(run, outputs.place(run_id, attempt))
    await outputs.delete([7, 8])
    assert await download(outputs, run=7, attempt=1) is None
    assert await download(outputs, run=7, attempt=2) is None
    assert await whole(outputs, run=70)


# --- The place ---


async def test_two_servers_have_a_place_each(place: str, tmp_path: Path) -> None:
    """A server does not start where another one has its outputs, and starts beside it and where its own are."""
    await open_outputs(tmp_path / "one", f"{place}/one")
    await open_outputs(tmp_path / "two", f"{place}/two")
    await open_outputs(tmp_path / "one", f"{place}/one/")
    with pytest.raises(LocalServerError, match=r"The outputs in .* belong to another database") as raised:
        await open_outputs(tmp_path / "two", f"{place}/one")
    assert raised.value.hint == f"Choose another place, such as --files {place}/one/NAME."


@pytest.mark.parametrize(
    "url",
    [
        "s3://KEY:PASSWORD@bucket/prefix",
        "s3://bucket/prefix?secret=PASSWORD",
        "s3://bucket/prefix#PASSWORD",
        "az://PASSWORD@container/prefix",
    ],
)
def test_credentials_in_a_url_are_refused(url: str) -> None:
    """A URL with credentials, or with parts that would be ignored, is refused without being repeated."""
    with pytest.raises(UsageError) as raised:
        checked_url(url)
    assert "PASSWORD" not in f"{raised.value} {raised.value.hint}"


@pytest.mark.parametrize(
    "url",
    ["folder", "s3://", "s3://[bucket/x", "file:///", "memory:///", "ftp://host/x", "file://host/x", ""],
)
def test_what_is_no_place_is_refused(url: str) -> None:
    """What is no URL of a store, or of one that only this process sees, is refused with a sentence."""
    with pytest.raises((LocalServerError, UsageError)) as raised:
        ObjectStore(url)
    assert str(raised.value).endswith(".")
    assert "\n" not in str(raised.value)


async def test_a_share_that_is_missing_is_not_created(tmp_path: Path) -> None:
    """A machine on which the shared folder is not mounted fails, instead of keeping the output for itself."""
    missing = tmp_path / "missing"
    with pytest.raises(LocalServerError, match="No such file or directory"):
        await upload_output(finished_run(tmp_path / "run"), f"{missing.as_uri()}/runs/7/1")
    assert not missing.exists()


@pytest.mark.parametrize("broken", ["PUT", "GET", "POST"])
async def test_missing_permissions_are_said_at_the_start(
    broken: str, bucket: str, faulty: FaultyS3, tmp_path: Path
) -> None:
    """A place that cannot be written, read or emptied stops the start, with the reason and no key."""
    faulty.fault = lambda method, path: 403 if method == broken else None
    with pytest.raises(LocalServerError) as raised:
        await open_outputs(tmp_path, bucket)
    deed = {"PUT": "write to", "GET": "read from", "POST": "delete from"}[broken]
    assert str(raised.value) == f"Cannot {deed} {bucket}: it answers AccessDenied."
    assert not {ACCESS_KEY, SECRET_KEY} & set(re.findall(r"\w+", f"{raised.value} {raised.value.hint}"))


async def test_a_missing_bucket_is_said_at_the_start(bucket: str, tmp_path: Path) -> None:
    """A bucket that does not exist stops the start, with the reason."""
    with pytest.raises(LocalServerError, match=r"^Cannot write to s3://none/x: it answers NoSuchBucket\.$"):
        await open_outputs(tmp_path, "s3://none/x")


# --- Stores that fail ---


async def test_a_store_that_fails_for_a_moment_is_tried_again(
    bucket: str, faulty: FaultyS3, tmp_path: Path
) -> None:
    """An upload and a download outlast a few answers that the store is busy."""
    outputs = await open_outputs(tmp_path / "data", bucket)
    left = [503, 500]
    faulty.fault = lambda method, path: left.pop() if left else None
    await upload_output(finished_run(tmp_path / "run"), outputs.place(7, 1))
    assert not left
    left += [503, 500]
    assert await whole(outputs)
    assert not left


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize(
    ("status", "reason"),
    [(503, "it answers AccessDenied"), (403, "it answers AccessDenied"), (0, "it does not answer")],
)
async def test_a_store_that_goes_on_failing_is_given_up(
    status: int, reason: str, bucket: str, faulty: FaultyS3, tmp_path: Path
) -> None:
    """Uploads and downloads end with the reason if the store refuses them, or does not answer at all."""
    outputs = await open_outputs(tmp_path / "data", bucket)
    run = finished_run(tmp_path / "run")
    faulty.fault = lambda method, path: status
    with pytest.raises(LocalServerError) as raised:
        await upload_output(run, outputs.place(7, 1))
    assert str(raised.value) == f"Cannot write to {bucket}: {reason}."
    with pytest.raises(LocalServerError, match="Cannot read from"):
        await download(outputs)
    await outputs.delete([7])


async def test_what_is_not_complete_has_no_name(bucket: str, faulty: FaultyS3, tmp_path: Path) -> None:
    """An upload that is cancelled between its parts leaves nothing under the name of the output."""
    outputs = await open_outputs(tmp_path / "data", bucket)
    run = finished_run(tmp_path / "run", size=3 * object_store.PART)
    faulty.fault = lambda method, path: 0 if "partNumber=2" in path else None
    async with anyio.create_task_group() as group:
        group.start_soon(upload_output, run, outputs.place(7, 1))
        await anyio.to_thread.run_sync(faulty.failed.wait)
        group.cancel_scope.cancel()
    assert await download(outputs) is None
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".fanbench")] == []


PUT_AND_MEASURE = """
import os, resource, sys
from pathlib import Path
import anyio
from fanbench.local.object_store import ObjectStore

async def main(url, small, large):
    store = ObjectStore(url)
    await store.put("small", Path(small))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await store.put("large", Path(large))
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10, flush=True)
    os._exit(0)  # threads of obstore can abort Python while it ends

anyio.run(main, *sys.argv[1:])
"""


@pytest.mark.slow
async def test_memory_does_not_grow_with_the_output(bucket: str, tmp_path: Path) -> None:
    """The upload of a large file takes no more memory than the parts that are under way."""
    parts = object_store.PARTS_AT_ONCE + 2  # one is read, and one is being copied
    for name, size in ("small", 1), ("large", 4 * parts * object_store.PART):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    words = [sys.executable, "-c", PUT_AND_MEASURE, bucket, str(tmp_path / "small"), str(tmp_path / "large")]
    done = await anyio.run_process(words, stderr=None)
    assert int(done.stdout) << 20 < 2 * parts * object_store.PART


def test_runs_do_not_see_the_shared_folder() -> None:
    """The folder to hide from runs is the one with the outputs of all of them, by the name that it has on the disk."""
    assert object_store.shared_folder("file:///srv/a%20b/runs/7/1") == ["/srv/a b"]
    assert object_store.shared_folder("s3://bucket/prefix/runs/7/1") == []
    assert object_store.shared_folder("") == []


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without obstore, the error names the command that installs it."""
    monkeypatch.setitem(sys.modules, "obstore.store", None)
    with pytest.raises(LocalServerError, match=r"^obstore is not installed\.$") as raised:
        ObjectStore("s3://bucket/prefix")
    assert "files]" in (raised.value.hint or "")
