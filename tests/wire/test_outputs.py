"""Downloads are complete or absent, and never harm what was there before."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from fanbench import BadAnswer, Bearer, Client, Config, ConnectionFailed, NotFound, OutputError, ServerFault
from fanbench.sweeps.artifacts import contents_of
from fanbench.wire import downloads
from fanbench.wire.downloads import BadZip, Downloaded
from fanbench.wire.retry import RetryPolicy
from fanbench.wire.safe_unzip import UnpackedFile
from tests.disk import Disk
from tests.wire.conftest import Connect
from tests.wire.fake_server import CUT, HANG, Answer, FakeServer, Request, problem
from tests.wire.test_zips import names_in, zipped

pytestmark = pytest.mark.anyio

CALL = "DownloadBenchmarkTaskRunOutput"
ZIP = {"Content-Type": "application/zip"}
RESUMABLE = {**ZIP, "ETag": '"v1"', "Accept-Ranges": "bytes"}
# More than a download may keep in memory, and half of it is less.
NOISE = random.Random(1).randbytes(1_300_000)
OUTPUT = zipped(("a.run.json", b"{}"), ("sub/noise.bin", NOISE))
FILES = ("a.run.json", "sub/noise.bin")
HALF = len(OUTPUT) // 2


def good(**headers: str) -> Answer:
    return Answer(OUTPUT, headers={**ZIP, **headers})


def cut(at: int = HALF, headers: dict[str, str] = ZIP, output: bytes = OUTPUT) -> Answer:
    return Answer([output[:at], CUT], headers=headers, length=len(output))


def rest(request: Request, output: bytes = OUTPUT) -> Answer:
    """The answers of a server that supports ranges."""
    start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
    extent = {"Content-Range": f"bytes {start}-{len(output) - 1}/{len(output)}"}
    return Answer(output[start:], status=206, headers={**RESUMABLE, **extent})


def in_turn(*answers: Answer | Callable[[Request], Answer]) -> Callable[[Request], Answer]:
    given = iter(answers)

    def answer(request: Request) -> Answer:
        following = next(given)
        return following(request) if callable(following) else following

    return answer


def put_old(target: Path) -> None:
    target.mkdir()
    (target / "old.txt").write_text("old")


def assert_old(target: Path) -> None:
    """Check that the old folder is unchanged, and that there is nothing beside it."""
    assert names_in(target.parent) == [target.name, f"{target.name}/old.txt"]


# --- Good ones ---


@pytest.mark.parametrize("length", [True, False])
async def test_a_download(connect: Connect, tmp_path: Path, length: bool) -> None:
    """A zip becomes a folder, with or without a Content-Length, and missing parents are created."""
    target = tmp_path / "task" / "1" / "model" / "7"
    with FakeServer({CALL: [Answer(OUTPUT, headers=ZIP, length=length)]}) as server:
        async with connect(server) as client:
            done = await client.download_output(7, target)
    assert done == Downloaded(target, FILES, len(NOISE) + 2)
    assert sorted(done.contents) == sorted(contents_of(target))
    assert (target / "sub" / "noise.bin").read_bytes() == NOISE
    assert names_in(target.parent) == ["7", "7/a.run.json", "7/sub", "7/sub/noise.bin"]
    assert server.requests[0].json == {"runId": 7}
    assert server.requests[0].headers["Accept-Encoding"] == "identity"


async def test_a_small_download(connect: Connect, tmp_path: Path) -> None:
    """A download that is kept in memory and breaks there is complete in the end."""
    output, target = zipped(("a.txt", b"a" * 10), ("b.bin", NOISE[:3000])), tmp_path / "7"
    answers = in_turn(cut(1000, RESUMABLE, output), lambda request: rest(request, output))
    with FakeServer({CALL: answers}) as server:
        async with connect(server) as client:
            done = await client.download_output(7, target)
    assert done.files == ("a.txt", "b.bin")
    assert (target / "b.bin").read_bytes() == NOISE[:3000]
    assert names_in(tmp_path) == ["7", "7/a.txt", "7/b.bin"]


async def test_sources_are_asked_for(connect: Connect, tmp_path: Path) -> None:
    """`include_source` is sent to the server."""
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            await client.download_output(7, tmp_path / "7", include_source=True)
    assert server.requests[0].json == {"runId": 7, "includeSource": True}


async def test_an_old_folder_is_replaced(connect: Connect, tmp_path: Path) -> None:
    """An old folder is replaced as a whole: none of its files remains."""
    put_old(tmp_path / "7")
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            await client.download_output(7, tmp_path / "7")
    assert names_in(tmp_path) == ["7", "7/a.run.json", "7/sub", "7/sub/noise.bin"]


async def test_a_linked_folder_stays_linked(connect: Connect, tmp_path: Path) -> None:
    """If the target is a link to a folder, that folder is replaced and the link stays."""
    put_old(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            await client.download_output(7, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in (tmp_path / "real").iterdir()) == ["a.run.json", "sub"]


async def test_progress_is_reported(connect: Connect, tmp_path: Path) -> None:
    """The reported bytes never decrease, and end at the total."""
    seen: list[tuple[int, int | None]] = []
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            await client.download_output(
                7, tmp_path / "7", progress=lambda done, total: seen.append((done, total))
            )
    assert seen == sorted(seen)
    assert seen[-1] == (len(OUTPUT), len(OUTPUT))


async def test_a_redirect_is_followed(connect: Connect, tmp_path: Path) -> None:
    """A redirect to another host is followed without sending our credentials."""
    with FakeServer({"bucket": [good()]}) as other:
        elsewhere = Answer(b"", status=302, headers={"Location": f"{other.url}/bucket"})
        with FakeServer({CALL: [elsewhere]}) as server:
            async with connect(server) as client:
                await client.download_output(7, tmp_path / "7")
    assert "Authorization" not in other.requests[0].headers


async def test_downloads_are_bounded(tmp_path: Path) -> None:
    """At most as many downloads are in flight as the limiter allows, and they do not delay calls."""
    script = {CALL: [Answer([HANG], headers=ZIP, length=9)], "GetBenchmarkTaskQuota": [Answer({})]}
    with FakeServer(script) as server:
        async with (
            Client(Config(server.url, Bearer("t"), concurrency=2)) as client,
            anyio.create_task_group() as group,
        ):
            for run in range(5):
                group.start_soon(client.download_output, run, tmp_path / str(run))
            with anyio.fail_after(60):
                await anyio.to_thread.run_sync(server.wait_until_open, 2, abandon_on_cancel=True)
                await client.task_quota()
            group.cancel_scope.cancel()
        assert len(server.calls(CALL)) == 2


# --- Broken connections ---


async def test_a_broken_download_is_resumed(connect: Connect, tmp_path: Path) -> None:
    """With ranges and a strong ETag, only the rest is asked for after a break."""
    with FakeServer({CALL: in_turn(cut(headers=RESUMABLE), rest)}) as server:
        async with connect(server) as client:
            done = await client.download_output(7, tmp_path / "7")
    assert done.files == FILES
    assert (tmp_path / "7" / "sub" / "noise.bin").read_bytes() == NOISE
    again = server.requests[1].headers
    assert (again["Range"], again["If-Range"]) == (f"bytes={HALF}-", '"v1"')


async def test_opening_is_tried_again(connect: Connect, tmp_path: Path) -> None:
    """A server that is busy for a moment is asked again, whatever form its answer has."""
    busy = Answer(OUTPUT, status=503, headers=ZIP)
    with FakeServer({CALL: [problem(429), busy, good()]}) as server:
        async with connect(server) as client:
            assert (await client.download_output(7, tmp_path / "7")).files == FILES
    assert len(server.requests) == 3


async def test_many_breaks_are_resumed(tmp_path: Path) -> None:
    """A download may break more often than there are attempts, as long as it makes progress."""

    def little(request: Request) -> Answer:
        whole = rest(request)
        return Answer([whole.body[: len(OUTPUT) // 10], CUT], 206, whole.headers, len(whole.body))

    first = cut(len(OUTPUT) // 10, RESUMABLE)
    policy = RetryPolicy(attempts=2, random=lambda: 0.0)
    with FakeServer({CALL: in_turn(first, *[little] * 8, rest)}) as server:
        async with Client(Config(server.url, Bearer("t")), retry=policy) as client:
            assert (await client.download_output(7, tmp_path / "7")).files == FILES
    assert len(server.requests) == 10


@pytest.mark.parametrize(
    "headers",
    [ZIP, {**ZIP, "ETag": '"v1"'}, {**ZIP, "Accept-Ranges": "bytes"}, {**RESUMABLE, "ETag": 'W/"v1"'}],
)
async def test_without_ranges_it_starts_again(
    connect: Connect, tmp_path: Path, headers: dict[str, str]
) -> None:
    """Without a strong ETag, a broken download starts again."""
    with FakeServer({CALL: [cut(headers=headers), good()]}) as server:
        async with connect(server) as client:
            assert (await client.download_output(7, tmp_path / "7")).files == FILES
    assert "Range" not in server.requests[1].headers


async def test_another_output_meanwhile(connect: Connect, tmp_path: Path) -> None:
    """If the output has changed, the server's complete answer to a range replaces what had arrived."""
    other = zipped(("new.txt", b"new"))
    with FakeServer({CALL: [cut(headers=RESUMABLE), Answer(other, headers=RESUMABLE)]}) as server:
        async with connect(server) as client:
            assert (await client.download_output(7, tmp_path / "7")).files == ("new.txt",)


@pytest.mark.parametrize(
    "strange",
    [
        problem(416, "No such range."),
        Answer(OUTPUT[HALF:], 206, ZIP),
        Answer(OUTPUT[HALF:], 206, {**ZIP, "Content-Range": "bytes 999999999-1/2"}),
    ],
)
async def test_strange_ranges_start_again(connect: Connect, tmp_path: Path, strange: Answer) -> None:
    """After a wrong or impossible range, the download starts again."""
    with FakeServer({CALL: [cut(headers=RESUMABLE), strange, good()]}) as server:
        async with connect(server) as client:
            assert (await client.download_output(7, tmp_path / "7")).files == FILES
    assert "Range" not in server.requests[2].headers


async def test_a_range_of_before(connect: Connect, tmp_path: Path) -> None:
    """A range that starts earlier than asked for overwrites what is there."""
    extent = {"Content-Range": f"bytes 1000-{len(OUTPUT) - 1}/{len(OUTPUT)}"}
    earlier = Answer(OUTPUT[1000:], 206, {**RESUMABLE, **extent})
    with FakeServer({CALL: [cut(headers=RESUMABLE), earlier]}) as server:
        async with connect(server) as client:
            assert (await client.download_output(7, tmp_path / "7")).files == FILES


@pytest.mark.parametrize("headers", [ZIP, RESUMABLE])
async def test_cuts_without_end(tmp_path: Path, headers: dict[str, str]) -> None:
    """A download that always breaks in the same place fails, and leaves the old folder unchanged."""
    put_old(tmp_path / "7")
    extent = {"Content-Range": f"bytes {HALF}-{len(OUTPUT) - 1}/{len(OUTPUT)}"}
    nothing = Answer([CUT], 206, {**RESUMABLE, **extent}, len(OUTPUT) - HALF)
    script = [cut(headers=headers), nothing] if headers is RESUMABLE else [cut()]
    policy = RetryPolicy(attempts=3, random=lambda: 0.0)
    with FakeServer({CALL: script}) as server:
        async with Client(Config(server.url, Bearer("t")), retry=policy) as client:
            with pytest.raises(ConnectionFailed, match="broke off in DownloadBenchmarkTaskRunOutput"):
                await client.download_output(7, tmp_path / "7")
    assert len(server.requests) == 3
    assert_old(tmp_path / "7")


# --- Bad ones ---


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (Answer(b"no zip", headers=ZIP), BadZip, "damaged"),
        (Answer(OUTPUT[:-40], headers=ZIP), BadZip, "damaged"),
        (Answer(OUTPUT[:HALF] + b"?" * 100 + OUTPUT[HALF + 100 :], headers=ZIP), BadZip, "damaged"),
        (Answer(zipped(("../evil", b"x")), headers=ZIP), BadZip, "out of its folder"),
        (Answer(b"", headers=ZIP), BadZip, "damaged"),
        (Answer(b"<html>", headers={"Content-Type": "text/html"}), BadAnswer, "<html>"),
        (Answer({"some": "json"}), BadAnswer, "expected a zip file"),
        (Answer({"code": 404, "message": "Gone."}), NotFound, "Gone"),
        (problem(404, "Gone."), NotFound, "Gone"),
        (problem(500, "Boom."), ServerFault, "Boom"),
    ],
)
async def test_bad_downloads(
    connect: Connect, tmp_path: Path, answer: Answer, error: type[Exception], message: str
) -> None:
    """After a damaged or dangerous zip, a web page or an error, the old folder is unchanged."""
    put_old(tmp_path / "7")
    with FakeServer({CALL: [answer]}) as server:
        async with connect(server) as client:
            with pytest.raises(error, match=message):
                await client.download_output(7, tmp_path / "7")
    assert_old(tmp_path / "7")


async def test_a_file_in_the_way(connect: Connect, tmp_path: Path) -> None:
    """A file in place of the target or its parent is an error before anything is sent."""
    (tmp_path / "7").write_text("mine")
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            with pytest.raises(OutputError, match="it is a file"):
                await client.download_output(7, tmp_path / "7")
            with pytest.raises(OutputError, match="Cannot write the output to"):
                await client.download_output(7, tmp_path / "7" / "below")
    assert (tmp_path / "7").read_text() == "mine"
    assert not server.requests


@pytest.mark.parametrize("step", [0, 1, 2])
async def test_a_full_disk(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """A disk that is full at any file or folder of the output is reported as such, and the old folder stays."""
    put_old(tmp_path / "7")
    disk = Disk(monkeypatch)
    disk.fails_at = step
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            with pytest.raises(OutputError, match="No space left on device"):
                await client.download_output(7, tmp_path / "7")
    assert [kind for kind, *_ in disk.asked] == ["fsync"] * (step + 1)
    assert_old(tmp_path / "7")


async def test_a_swap_that_fails(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the new folder cannot be moved into place, the old one is moved back."""
    put_old(tmp_path / "7")
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if target.name == "7" and not self.name.endswith(".old.part"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            with pytest.raises(OutputError, match="Input/output error"):
                await client.download_output(7, tmp_path / "7")
    assert_old(tmp_path / "7")


async def test_cancelled_in_the_middle(connect: Connect, tmp_path: Path) -> None:
    """A cancelled download leaves the old folder, no temporary files and no slot taken."""
    put_old(tmp_path / "7")
    arrived = anyio.Event()
    with FakeServer({CALL: [Answer([OUTPUT[:HALF], HANG], headers=ZIP, length=len(OUTPUT))]}) as server:
        async with connect(server) as client:
            async with anyio.create_task_group() as group:

                async def download() -> None:
                    await client.download_output(
                        7, tmp_path / "7", progress=lambda done, total: arrived.set()
                    )

                group.start_soon(download)
                await arrived.wait()
                group.cancel_scope.cancel()
            assert client.transport.limits.downloads.borrowed_tokens == 0
    assert_old(tmp_path / "7")


async def test_cancelled_while_unpacking(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unpacking stops soon after it is cancelled, and leaves the old folder unchanged."""
    put_old(tmp_path / "7")
    begun, ended = threading.Event(), threading.Event()

    def endless(
        archive: Path, folder: Path, *, check: Callable[[], object], **_: object
    ) -> list[UnpackedFile]:
        begun.set()
        try:
            while True:
                check()
                ended.wait(0.005)
        finally:
            ended.set()

    monkeypatch.setattr(downloads, "unpack", endless)
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client, anyio.create_task_group() as group:
            group.start_soon(client.download_output, 7, tmp_path / "7")
            with anyio.fail_after(60):
                await anyio.to_thread.run_sync(begun.wait, abandon_on_cancel=True)
            group.cancel_scope.cancel()
    assert ended.is_set()
    assert_old(tmp_path / "7")


async def test_clean_up_that_hangs(connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that hangs during the clean-up does not keep the program from ending."""
    put_old(tmp_path / "7")
    free = threading.Event()
    remove = shutil.rmtree

    def hanging(path: Path, ignore_errors: bool = False) -> None:
        free.wait(30)
        remove(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", hanging)
    monkeypatch.setattr(downloads, "CLEAN_UP_TIMEOUT", 0.05)
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            with anyio.fail_after(20):
                assert (await client.download_output(7, tmp_path / "7")).files == FILES
            free.set()


# --- What a killed program has left ---


def _dead_pid() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


async def test_what_a_killed_download_left_is_removed(connect: Connect, tmp_path: Path) -> None:
    """A download deletes what killed programs left behind, but not the files of running programs."""
    target = tmp_path / "7"
    names = (f"7-{_dead_pid()}-x", f"7-{os.getpid()}-y", "17-1-z")
    stale, living, other = (tmp_path / f".{name}.part" for name in names)
    for folder in (stale, living, other):
        (folder / "sub").mkdir(parents=True)
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            await client.download_output(7, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([living.name, other.name, "7"])


async def test_what_was_moved_aside_by_a_killed_download_comes_back(connect: Connect, tmp_path: Path) -> None:
    """After a kill between the two renames, the old output is moved back, even if the new download fails."""
    target = tmp_path / "7"
    put_old(tmp_path / "kept")
    pid = _dead_pid()
    (tmp_path / f".7-{pid}-x.part").mkdir()
    (tmp_path / "kept").rename(tmp_path / f".7-{pid}-x.old.part")
    with FakeServer({CALL: [problem(404, "gone")]}) as server:
        async with connect(server) as client:
            with pytest.raises(NotFound):
                await client.download_output(7, target)
    assert_old(target)


async def test_what_was_moved_aside_is_removed_after_a_kill(connect: Connect, tmp_path: Path) -> None:
    """After a kill behind the two renames, the new output stays and the old one is deleted."""
    target = tmp_path / "7"
    put_old(target)
    (tmp_path / f".7-{_dead_pid()}-x.old.part" / "sub").mkdir(parents=True)
    with FakeServer({CALL: [problem(404, "gone")]}) as server:
        async with connect(server) as client:
            with pytest.raises(NotFound):
                await client.download_output(7, target)
    assert_old(target)


async def test_an_output_has_its_name_when_it_is_on_the_disk(
    connect: Connect, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files and folders reach the disk first, then the name in one step, then the parent folder."""
    disk = Disk(monkeypatch)
    with FakeServer({CALL: [good()]}) as server:
        async with connect(server) as client:
            await client.download_output(7, tmp_path / "m" / "7")
    steps = [(step, name) for step, name, _ in disk.asked]
    part = steps[-2][1]
    assert part.startswith(".7-")
    assert steps[:2] == [("fsync", "a.run.json"), ("fsync", "noise.bin")]
    assert set(steps[2:4]) == {("fsync", part), ("fsync", "sub")}
    assert steps[4:] == [("rename", "7"), ("rename", part), ("fsync", "m")]
