"""`serve --record` and `--replay`: the answers of models, kept and given again."""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench import Client
from fanbench.cli.app import root
from fanbench.cli.views.serve import merge_settings
from fanbench.errors import LocalServerError
from fanbench.local.folder import DataFolder
from fanbench.local.kept_options import save_options
from fanbench.local.models import ModelEngine, ModelFault
from fanbench.local.models.embedded import Embedded
from fanbench.local.models.recordings import (
    NotRecorded,
    Recorder,
    Replayer,
    describe_difference,
    find_nearest,
)
from fanbench.local.models.scripted import Scripted
from fanbench.local.models.upstream import Upstream as UpstreamSpec
from fanbench.local.settings import ServerSettings
from fanbench.wire.messages import RunState

from .server_process import SECRET, log_text, push, run, run_server, task_source
from .test_proxy import Upstream, completion, running_upstream, sse

pytestmark = pytest.mark.anyio

SLUG = "vendor/big"
Request = dict[str, Any]


def models(url: str, key_env: str) -> str:
    """A catalogue with two models behind the endpoint, one with a key and one with a password, and one without it."""
    password = url.replace("http://", "http://me:my-password@")
    return (
        "default = 'test/four'\n"
        f"[[model]]\nslug = '{SLUG}'\nkind = 'upstream'\nurl = '{url}/v1'\nmodel = 'big-1'\n"
        f"key_env = '{key_env}'\ninput_price = 1.0\nalias = ['other/name']\n"
        f"[[model]]\nslug = 'vendor/locked'\nkind = 'upstream'\nurl = '{password}/v1'\n"
        "[[model]]\nslug = 'test/four'\nkind = 'scripted'\nreply = '4'\n"
    )


def question(text: str) -> Request:
    return {"messages": [{"role": "user", "content": text}]}


# --- A whole server ---


class Asker:
    """Sends requests to a server's Model Proxy through both of its APIs."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def chat(self, text: str, model: str = SLUG, **more: Any) -> httpx.Response:
        return await self._http.post(
            "openapi/chat/completions", json={**question(text), "model": model, **more}
        )

    async def text(self, text: str, **more: Any) -> str:
        answer = await self.chat(text, **more)
        assert answer.status_code == 200, answer.text
        said: str = answer.json()["choices"][0]["message"]["content"]
        return said

    async def genai(self, text: str, method: str) -> str:
        body = {"contents": [{"role": "user", "parts": [{"text": text}]}]}
        return (await self._http.post(f"genai/v1/models/{SLUG}:{method}?alt=sse", json=body)).text


@contextlib.asynccontextmanager
async def asking(client: Client) -> AsyncGenerator[Asker, None]:
    token = await client.create_proxy_token()
    headers = {"authorization": f"Bearer {token.token}", "x-goog-api-key": token.token}
    async with httpx.AsyncClient(base_url=token.base_uri, headers=headers, timeout=60) as http:
        yield Asker(http)


async def ask_all(asker: Asker, upstream: Upstream | None) -> list[Any]:
    """The answers of both APIs, whole and streamed, to the same requests. `upstream` gets what to answer."""
    answers: list[Any] = []

    def prepare(body: bytes, status: int = 200, kind: str = "application/json") -> None:
        if upstream is not None:
            upstream.body, upstream.status, upstream.headers = body, status, {"content-type": kind}

    for text in ("one", "two"):
        prepare(completion(text, echo=SECRET))
        answers.append(await asker.text("Say a number.", temperature=0.5))
    prepare(completion("by another name"))
    answers.append(await asker.text("By which name?", model="other/name"))
    chunks = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in ("a", "b")]
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    prepare(sse(*chunks, usage), kind="text/event-stream")
    answers.append(without_latency((await asker.chat("Stream.", stream=True)).text))
    answers.append(await asker.genai("Stream.", "streamGenerateContent"))
    prepare(completion("whole"))
    answers.append(await asker.genai("Say it whole.", "generateContent"))
    prepare(b'{"error": {"message": "too rude"}}', 400)
    refused = await asker.chat("Be rude.", model="vendor/locked")
    answers.append((refused.status_code, refused.json()))
    return answers


def without_latency(text: str) -> str:
    return re.sub(r'"total_backend_latency_ms": \d+', "", text)


@pytest.mark.e2e
async def test_a_recording_answers_like_the_model_itself(tmp_path: Path) -> None:
    """Replayed without network and key, both APIs give each recorded answer once and in order, then the last.

    Failures that may pass are not recorded, the files hold no secret, and a run with another request fails with the
    difference in its log.
    """
    answers = tmp_path / "answers"
    asks = 'kbench.assertions.assert_in("4", llm.prompt("What is 2 + 2?"), expectation="four")'
    with (
        running_upstream() as upstream,
        run_server(
            tmp_path / "data", "--record", "answers", models=models(upstream.url, "SOME_API_KEY")
        ) as server,
    ):
        async with server.client() as client, asking(client) as asker:
            upstream.status, upstream.body = 429, b"{}"
            assert (await asker.chat("Say a number.", temperature=0.5)).status_code == 429
            upstream.status = 500
            assert (await asker.chat("Say a number.", temperature=0.5)).status_code == 502
            assert not list(answers.iterdir())
            first = await ask_all(asker, upstream)
            upstream.body, upstream.status, upstream.headers = completion("It is 4."), 200, {}
            await push(client, "asks", task_source("asks", asks))
            await push(client, "asks-more", task_source("asks-more", asks.replace("2 + 2", "2 + 3")))
            (recorded,) = await run(client, "asks", "big")
        assert set(upstream.keys) == {f"Bearer {SECRET}", "Basic bWU6bXktcGFzc3dvcmQ="}
    assert recorded.state is RunState.COMPLETED, recorded.error_message
    assert first[:3] == ["one", "two", "by another name"]
    assert first[-1][0] == 400

    files = {file.name: file.read_bytes() for file in answers.iterdir()}
    assert all(re.fullmatch(r"[0-9a-f]{32}\.json", name) for name in files)
    everything = b"".join(files.values())
    for secret in (SECRET.encode(), b"my-password", b"bXktcGFzc3dvcmQ", b"earer", b"fb-"):
        assert secret not in everything
    assert b"[key]" in everything

    with run_server(
        tmp_path / "data", "--replay", "answers", models=models("http://127.0.0.1:9", "NOT_SET")
    ) as server:
        async with server.client() as client, asking(client) as asker:
            assert await ask_all(asker, None) == first
            assert await asker.text("Say a number.", temperature=0.5) == "two"
            assert await asker.text("anything", model="test/four") == "4"
            missing = await asker.chat("Say a number.", temperature=0.7)
            *_, same = await run(client, "asks", "big")
            (other,) = await run(client, "asks-more", "big")
            log = await log_text(client, other.id)
    assert missing.status_code == 404
    text = missing.json()["error"]["message"]
    assert f"was not recorded in {answers}" in text
    assert '-  "temperature": 0.5\n+  "temperature": 0.7' in text
    assert same.state is RunState.COMPLETED, same.error_message
    assert other.state is RunState.ERRORED
    assert "was not recorded" in other.error_message
    assert re.search(r'\n- .*2 \+ 2\?",?\n\+ .*2 \+ 3\?"', log), log
    assert {file.name: file.read_bytes() for file in answers.iterdir()} == files


# --- The files ---


class Spoken(ModelEngine):
    """A model that gives `answers` in this order: texts, or faults."""

    def __init__(self, *answers: str | ModelFault) -> None:
        self._answers = list(answers)

    async def complete(self, request: Request) -> Request:
        answer = self._answers.pop(0)
        if isinstance(answer, ModelFault):
            raise answer
        return {"choices": [{"message": {"content": answer}}]}

    async def stream(self, request: Request) -> AsyncGenerator[Request, None]:
        for answer in [*self._answers]:
            if isinstance(answer, ModelFault):
                raise answer
            yield {"choices": [{"delta": {"content": answer}}]}


class Speaking(UpstreamSpec, frozen=True, kw_only=True):
    """An entry of the catalogue whose engine is given."""

    engine: Any

    def make_engine(self, log: Path) -> ModelEngine:
        made: ModelEngine = self.engine
        return made


def recorded(folder: Path, *answers: str | ModelFault) -> ModelEngine:
    """A model with these answers, as a new server has it that records into `folder`."""
    return Recorder(folder).engine(Speaking(slug=SLUG, url="http://x", engine=Spoken(*answers)), folder)


def replayed(folder: Path) -> ModelEngine:
    return Replayer(folder).engine(UpstreamSpec(slug=SLUG, url="http://x"), folder)


async def say(engine: ModelEngine, request: Request) -> str:
    text: str = (await engine.complete(request))["choices"][0]["message"]["content"]
    return text


async def read_chunks(engine: ModelEngine, request: Request) -> list[Request]:
    return [chunk async for chunk in engine.stream(request)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
requests = st.dictionaries(st.text(), json_values, max_size=4)


@settings(max_examples=40)
@given(requests, st.lists(json_values, min_size=1, max_size=4), st.booleans())
def test_any_answers_come_back_in_order(request: Request, values: list[Any], stream: bool) -> None:
    """Whatever is asked and answered, the answers are replayed as they were, and the last one again."""

    class Giving(ModelEngine):
        def __init__(self) -> None:
            self._left = list(values)

        async def complete(self, request: Request) -> Request:
            return {"value": self._left.pop(0)}

        async def stream(self, request: Request) -> AsyncGenerator[Request, None]:
            value = self._left.pop(0)
            yield {"value": value}
            yield {"usage": value}

    async def ask(engine: ModelEngine) -> Any:
        return await read_chunks(engine, request) if stream else await engine.complete(request)

    async def both(folder: Path) -> None:
        engine = Recorder(folder).engine(Speaking(slug=SLUG, url="http://x", engine=Giving()), folder)
        first = [await ask(engine) for _ in values]
        again = replayed(folder)
        assert [await ask(again) for _ in [*values, None]] == [*first, first[-1]]
        (file,) = folder.iterdir()
        assert file.read_bytes().endswith(b"}\n")

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(both, Path(folder))


async def test_a_file_does_not_depend_on_the_order_of_keys(tmp_path: Path) -> None:
    """The same request has the same file and bytes, with its keys in any order, streamed options apart."""
    one, two = {"temperature": 1, **question("Hi.")}, {**question("Hi."), "temperature": 1, "stream": False}
    await say(recorded(tmp_path / "one", "Hello."), one)
    await say(recorded(tmp_path / "two", "Hello."), {**two, "model": "an-alias"})
    (first,), (second,) = (tmp_path / "one").iterdir(), (tmp_path / "two").iterdir()
    assert (first.name, first.read_bytes()) == (second.name, second.read_bytes())
    assert json.loads(first.read_bytes())["request"] == {**one, "model": SLUG}


async def test_recording_again_renews_what_is_asked_again(tmp_path: Path) -> None:
    """A new server replaces the answers to the requests that it gets, and leaves the other files alone."""
    first = recorded(tmp_path, "one", "two", "other")
    for text in ("Count.", "Count.", "Another."):
        await say(first, question(text))
    await say(recorded(tmp_path, "three"), question("Count."))
    again = replayed(tmp_path)
    assert [await say(again, question("Count.")) for _ in range(2)] == ["three", "three"]
    assert await say(again, question("Another.")) == "other"


async def test_answers_at_the_same_time_are_all_recorded(tmp_path: Path) -> None:
    """Runs that ask the same at once do not overwrite each other's answers."""
    texts = [f"answer {number}" for number in range(20)]
    engine = recorded(tmp_path, *texts)
    async with anyio.create_task_group() as tasks:
        for _ in texts:
            tasks.start_soon(engine.complete, question("All at once."))
    again = replayed(tmp_path)
    assert sorted([await say(again, question("All at once.")) for _ in texts]) == sorted(texts)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422, 429, 502, 504])
async def test_only_refusals_of_the_request_are_recorded(tmp_path: Path, status: int) -> None:
    """A refusal that depends on the request is replayed; what depends on keys, limits or luck is not kept."""
    fault = ModelFault("no", status=status)
    engine = recorded(tmp_path, fault)
    with pytest.raises(ModelFault):
        await engine.complete(question("Please."))
    with pytest.raises(ModelFault):
        await read_chunks(recorded(tmp_path, fault), question("Please."))
    kept = status in (400, 413, 422)
    assert len(list(tmp_path.iterdir())) == 2 * kept
    if kept:
        for ask in (say, read_chunks):
            with pytest.raises(ModelFault, match=r"^no$") as caught:
                await ask(replayed(tmp_path), question("Please."))
            assert caught.value.status == status


async def test_a_stream_that_breaks_is_not_recorded(tmp_path: Path) -> None:
    """Half an answer, by a fault of the model or because the run ended, leaves no file."""
    with pytest.raises(ModelFault):
        await read_chunks(recorded(tmp_path, "half", ModelFault("cut", status=400)), question("Stream."))
    left = recorded(tmp_path, "one", "two").stream(question("Stream."))
    await anext(left)
    await left.aclose()
    assert not list(tmp_path.iterdir())


async def test_an_answer_that_cannot_be_written_is_not_given(tmp_path: Path) -> None:
    """If the disk refuses the file, the run fails with the reason and a status that clients do not retry."""
    engine = recorded(tmp_path / "answers", "paid")
    (tmp_path / "answers").rmdir()
    with pytest.raises(ModelFault, match=r"cannot record .*No such file") as caught:
        await engine.complete(question("Hi."))
    assert caught.value.status == 400


def test_only_models_that_cost_something_are_recorded() -> None:
    """Endpoints and embedded models are recorded; scripted ones answer by themselves."""
    assert (UpstreamSpec.recorded, Embedded.recorded, Scripted.recorded) == (True, True, False)


# --- What was not recorded ---


async def test_the_nearest_request_is_found_and_compared(tmp_path: Path) -> None:
    """Among many, the request that differs least is shown, in few lines, also within a long prompt."""
    prompt = "You are careful, and you answer in one word. " * 40
    engine = recorded(tmp_path, *["x"] * 30)
    for number in range(30):
        await say(engine, question(f"{prompt}The capital of country {number} is?\nThink.\n{prompt}"))
    with pytest.raises(NotRecorded) as caught:
        await say(
            replayed(tmp_path), question(f"{prompt}The capital of country 17, please?\nThink.\n{prompt}")
        )
    assert caught.value.status == 404
    removed, added = re.findall(r"^[-+](?![-+]).*", caught.value.message, re.M)
    assert "country 17 is?" in removed
    assert "country 17, please?" in added
    assert len(caught.value.message) < 2000


@settings(max_examples=40)
@given(requests, st.lists(requests, min_size=1, max_size=4))
def test_differences_are_short(request: Request, others: list[Request]) -> None:
    """For any requests the nearest is one of them, an equal one if there is, and the difference has 25 lines."""
    nearest = find_nearest(request, others)
    assert nearest in others
    assert find_nearest(request, [*others, request]) == request
    lines = describe_difference(nearest, request).split("\n")
    assert len(lines) <= 25
    assert all(len(line) <= 162 for line in lines)
    assert describe_difference(request, request) == ""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "truncated"),
        ("<<<<<<< HEAD\n", "malformed"),
        ('{"request": {}, "answers": []}', "one or more"),
        ('{"request": {"stream": true}, "answers": [{"kind": "completion", "completion": {}}]}', "a stream"),
        ('{"request": {}, "answers": [{"kind": "refusal", "status": "x", "message": ""}]}', "answers"),
        ('{"request": {}, "answers": [{"kind": "refusal", "status": 400, "message": ""}], "x": 1}', "`x`"),
    ],
)
def test_a_file_that_is_not_a_recording_is_named(tmp_path: Path, content: str, words: str) -> None:
    """A server does not start on a folder with a damaged file, as after a bad merge, and names it."""
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(LocalServerError, match=rf"a\.json: .*{words}"):
        Replayer(tmp_path)


@given(st.binary() | json_values.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_are_a_recording_or_an_error(content: bytes) -> None:
    """Whatever a file holds, reading it ends with a recording or with the error that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "a.json").write_bytes(content)
        with pytest.raises(LocalServerError, match=r"a\.json"):
            Replayer(Path(folder))


async def test_a_request_that_was_edited_is_found(tmp_path: Path) -> None:
    """The content of a file counts, not its name; two files with the same request are refused."""
    await say(recorded(tmp_path, "Hello."), question("Hi."))
    (file,) = tmp_path.iterdir()
    file.write_text(file.read_text().replace("Hi.", "Hi!"))
    assert await say(replayed(tmp_path), question("Hi!")) == "Hello."
    (tmp_path / "copy.json").write_text(file.read_text())
    with pytest.raises(LocalServerError, match="same request"):
        Replayer(tmp_path)


# --- Options ---


def test_recording_and_replaying_exclude_each_other(tmp_path: Path) -> None:
    """Both options, no recordings, and a folder that is not there are errors before anything is served."""

    def refused(*words: str) -> str:
        data = ["--data", str(tmp_path / "data"), "--port", "0"]
        result = CliRunner().invoke(root, ["serve", *words, *data])
        assert result.exit_code in (1, 2)
        return result.stderr

    assert "exclude each other" in refused("--record", str(tmp_path), "--replay", str(tmp_path))
    assert "does not exist" in refused("--replay", str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    assert f"no recordings in {tmp_path / 'empty'}" in refused("--replay", str(tmp_path / "empty"))
    assert "Cannot record" in refused("--record", "/proc/answers")


@pytest.mark.parametrize(("kept", "now"), [("record", "replay"), ("replay", "record")])
def test_one_option_takes_the_place_of_the_other(tmp_path: Path, kept: str, now: str) -> None:
    """With --last-options, --replay replaces the --record of the last server, and the other way round."""
    folder = DataFolder(tmp_path)
    save_options(folder, ServerSettings(**{kept: tmp_path / "old"}))  # type: ignore[arg-type]
    settings = merge_settings(folder, {now: tmp_path / "new"})
    assert (getattr(settings, kept), getattr(settings, now)) == (None, tmp_path / "new")
    assert getattr(merge_settings(folder, {}), kept) == tmp_path / "old"
