"""The server of `fanbench view`: who may read what, and how changes reach a page."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import httpx
import pytest

from fanbench.sweeps.artifacts import path_of_part
from fanbench.sweeps.journal import Journal
from fanbench.view.columns import unpack
from fanbench.view.live import Live
from fanbench.view.server import serve_view
from fanbench.wire.messages import RunState
from tests.results.folders import add_run
from tests.view.sweeps import collect, schedule

pytestmark = [pytest.mark.anyio, pytest.mark.slow]


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[httpx.AsyncClient, Live]]:
    """A client that has the token, and what the server serves."""
    live = await anyio.to_thread.run_sync(Live, [folder])
    async with serve_view(live) as address:
        parts = urlsplit(address)
        headers = {"Authorization": f"Bearer {parts.fragment.removeprefix('token=')}"}
        async with httpx.AsyncClient(base_url=f"http://{parts.netloc}", headers=headers) as client:
            yield client, live


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add_run(tmp_path, "google/good", [True, False])
    return tmp_path


async def test_the_page_needs_no_token_and_has_no_data(folder: Path) -> None:
    """What the first address sends is the same for everybody, and everything else needs the token."""
    async with serving(folder) as (client, _):
        page = await client.get("/", headers={"Authorization": ""})
        assert page.status_code == 200
        assert "good" not in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        token = client.headers["Authorization"].removeprefix("Bearer ").encode()
        for path in ("snapshot", "events", "details", "sources", "comparison", "file"):
            for header in (b"", b"Bearer wrong", "Bearer ümlaut".encode(), token, b"Basic " + token):
                answer = await client.get(f"/api/{path}", headers={b"Authorization": header})
                assert answer.status_code == 401, path


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"Host": "evil.example"}, 421),
        ("GET", {"Host": "127.0.0.1:1"}, 421),
        ("GET", {"Origin": "http://evil.example"}, 403),
        ("GET", {"Origin": "null"}, 403),
        ("GET", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", {}, 405),
        ("DELETE", {}, 405),
        ("OPTIONS", {}, 405),
    ],
)
async def test_nobody_else_is_answered(
    folder: Path, method: str, headers: dict[str, str], status: int
) -> None:
    """Other names of this machine, pages of others, and everything but reading are refused, also with the token."""
    async with serving(folder) as (client, _):
        for path in ("/", "/api/snapshot"):
            answer = await client.request(method, path, headers=headers)
            assert answer.status_code == status
            assert answer.headers["x-content-type-options"] == "nosniff"


async def test_a_run_has_its_details_and_files(folder: Path) -> None:
    """The files that the details name can be read, and no other one, wherever its name leads."""
    run = folder / "quiz/1/good/1"
    (run / "answer.txt").write_text("42")
    (run.parent / "1.log").write_text("hello\n")
    (folder / "secret.txt").write_text("secret")
    (run / "link").symlink_to(folder / "secret.txt")
    async with serving(folder) as (client, _):
        details = (await client.get("/api/details", params={"generation": 1, "run": 0})).json()
        names = [file["name"] for file in details["files"]]
        assert "answer.txt" in names
        assert "link" not in names
        assert details["log"] == "hello\n"

        async def read(name: str) -> httpx.Response:
            return await client.get("/api/file", params={"generation": 1, "run": 0, "name": name})

        found = await read("answer.txt")
        assert (found.text, found.headers["content-type"]) == ("42", "application/octet-stream")
        assert "attachment" in found.headers["content-disposition"]
        assert (await read("../1.log")).text == "hello\n"
        for name in ("link", "../../../../secret.txt", str(folder / "secret.txt"), "", ".", "a\0b"):
            assert (await read(name)).status_code == 404, name


async def test_names_that_utf_8_cannot_have(tmp_path: Path) -> None:
    """A file whose name is no UTF-8 is shown, and sent, by a name with U+FFFD, and so is a folder."""
    run = add_run(tmp_path / os.fsdecode(b"bad\xff"), "google/good", [True])
    (run / os.fsdecode(b"note\xff.txt")).write_text("42")
    async with serving(tmp_path / os.fsdecode(b"bad\xff")) as (client, _):
        assert "bad\ufffd".encode() in (await client.get("/api/snapshot")).content
        found = await client.get("/api/file?generation=1&run=0&name=note\ufffd.txt")
        assert (found.status_code, found.text) == (200, "42")


@pytest.mark.parametrize(
    "query", ["", "generation=1&run=-1", "generation=1&run=9", "generation=1&run=١", "generation=2&run=0"]
)
async def test_a_wrong_question_is_refused(folder: Path, query: str) -> None:
    """Numbers that are none, and runs that are not there, are errors of the client."""
    async with serving(folder) as (client, _):
        assert (await client.get(f"/api/details?{query}")).status_code in (400, 404, 409)


async def test_a_change_reaches_the_page(tmp_path: Path) -> None:
    """A run that is scheduled, and ends, is a change of its row; its score comes with it."""
    with Journal.open(tmp_path) as journal:
        collect(tmp_path, journal, "quiz", "good", [True], RunState.COMPLETED, 1)
        schedule(tmp_path, journal, "sums", "good", 2)
        async with serving(tmp_path) as (client, _):
            head = (await client.get("/api/snapshot")).content
            size = int.from_bytes(head[:4], "little")
            moment = json.loads(head[4 : 4 + size])
            columns, _ = unpack(head[4 + size + (-(4 + size) % 8) :])
            states = moment["document"]["states"]
            assert [states[int(status)] for status in columns["status"]] == ["done", "scheduled"]
            params = {"generation": moment["generation"], "version": moment["version"]}
            async with client.stream("GET", "/api/events", params=params) as answer:
                collect(tmp_path, journal, "sums", "good", [True], RunState.COMPLETED, 2)
                with anyio.fail_after(60):
                    patches = (
                        json.loads(line[6:])
                        async for line in answer.aiter_lines()
                        if line.startswith("data: ")
                    )
                    async for patch in patches:
                        if patch["cells"]:
                            break
            assert patch["cells"][0]["value"] == 1.0
            row, _ = patch["columns"]["text"]
            assert row == [1]


async def test_a_page_that_is_too_far_behind_reads_everything_again(folder: Path) -> None:
    """A page of another generation, or of a version that is not kept, is told so, and its stream ends."""
    async with serving(folder) as (client, _):
        for moment in ({"generation": 7, "version": 0}, {"generation": 1, "version": 5}):
            answer = await client.get("/api/events", params=moment)
            assert answer.text == 'data: {"again": true}\n\n'


async def test_the_journal_is_not_touched(tmp_path: Path) -> None:
    """Reading a folder changes nothing in it, while another process writes there or not."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    async with serving(tmp_path) as (client, _):
        await client.get("/api/snapshot")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert os.listdir(tmp_path) == [".fanbench"]


async def test_a_log_is_read_as_it_grows(tmp_path: Path) -> None:
    """The log of a run that goes on is read from where the page is, line by line, wherever the sweep has it."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good", 7)
        part = path_of_part(tmp_path, 7)
        part.parent.mkdir(parents=True)
        async with serving(tmp_path) as (client, _):

            async def read(start: int) -> tuple[str, int]:
                answer = await client.get("/api/log", params={"generation": 1, "run": 0, "start": start})
                return answer.json()["text"], answer.json()["next"]

            assert await read(0) == ("", 0)
            part.write_bytes("one\nzwei ü".encode())
            assert await read(0) == ("one\n", 4)
            part.write_bytes("one\nzwei üx\n".encode() + b"\xff\n")
            assert await read(4) == ("zwei üx\n\ufffd\n", 15)
            assert await read(15) == ("", 15)
            assert await read(99) == ("", 99)
