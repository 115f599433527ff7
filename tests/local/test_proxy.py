"""The Model Proxy: what its two APIs forward, refuse and count."""

from __future__ import annotations

import contextlib
import json
import re
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import FanbenchError, LocalServerError, NotFound, UnknownModel
from fanbench.local.folder import DataFolder
from fanbench.local.models.pool import ModelPool
from fanbench.local.proxy import genai
from fanbench.local.proxy.requests import GenerateRequest, read_request
from fanbench.wire.messages import RunState

from .server_process import MODELS, TASK, ServerProcess, ended, log_text, push, run, run_server, task_source

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


class Upstream:
    """An OpenAI-compatible endpoint with a configured answer, which records its requests."""

    def __init__(self) -> None:
        self.status = 200
        self.headers: dict[str, str] = {}
        self.body = b""
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.url = ""


def completion(text: str, **message: Any) -> bytes:
    choice = {
        "index": 0,
        "finish_reason": "stop",
        "message": {"role": "assistant", "content": text, **message},
    }
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    return json.dumps({"id": "1", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


@contextlib.contextmanager
def running_upstream() -> Iterator[Upstream]:
    upstream = Upstream()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            upstream.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            upstream.keys.append(self.headers.get("authorization", ""))
            self._answer()

        def _answer(self) -> None:
            self.send_response(upstream.status)
            for name, value in {"content-length": str(len(upstream.body)), **upstream.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(upstream.body)

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        upstream.url = f"http://127.0.0.1:{http.server_port}"
        try:
            yield upstream
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with running_upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module", params=["0", "2"], ids=["server", "workers"])
def proxy_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upstream: Upstream
) -> Iterator[ServerProcess]:
    """A server that answers as the Model Proxy itself, and one with processes that do."""
    models = f"""
default = "test/four"
[[model]]
slug = "test/four"
alias = ["google/gemini-2.5-flash", "google/*"]
kind = "scripted"
input_price = 1.0
output_price = 2.0
rules = [{{ match = "2 . 2", reply = "4" }}, {{ match = "enum", reply = '"RED"' }}]
[[model]]
slug = "vendor/big"
kind = "upstream"
url = "{upstream.url}/v1"
model = "big-1"
key_env = "SOME_API_KEY"
[[model]]
slug = "vendor/thinking"
kind = "upstream"
url = "{upstream.url}/v1"
efforts = ["low", "high"]
[[model]]
slug = "vendor/seeing"
kind = "upstream"
url = "{upstream.url}/v1"
modalities = ["text", "image", "audio", "video"]
[[model]]
slug = "vendor/narrow"
kind = "upstream"
url = "{upstream.url}/v1"
concurrency = 1
[[model]]
slug = "vendor/down"
kind = "upstream"
url = "http://127.0.0.1:9/v1"
[[model]]
slug = "vendor/keyless"
kind = "upstream"
url = "{upstream.url}/v1"
key_env = "NOT_THERE"
"""
    options = ["--model-alias", "anthropic/claude=vendor/big", "--proxy-workers", request.param]
    with run_server(tmp_path_factory.mktemp("proxy") / "data", *options, models=models) as server:
        yield server


@pytest.fixture
async def http(proxy_server: ServerProcess) -> Any:
    """A client of the proxy with a fresh key."""
    async with proxy_server.client() as client:
        token = await client.create_proxy_token()
    headers = {"authorization": f"Bearer {token.token}", "x-goog-api-key": token.token}
    async with httpx.AsyncClient(base_url=token.base_uri, headers=headers, timeout=60) as http:
        yield http


CHAT = "openapi/chat/completions"
ASK = {"messages": [{"role": "user", "content": "What is 2 + 2?"}]}


# The first test: the usage of earlier requests might be written down only in the middle of it.
async def test_usage_adds_up_in_the_quota(http: httpx.AsyncClient, proxy_server: ServerProcess) -> None:
    """The quota grows by the cost of each request, as soon as its process has written it down."""

    async def used() -> float:
        async with proxy_server.client() as client:
            return (await client.proxy_quotas()).quota_balances[0].quota_used

    before = await used()
    for _ in range(2):
        await http.post(CHAT, json={**ASK, "model": "test/four"})
    with anyio.fail_after(30):
        while (added := await used() - before) < 1.9 * 7e-6:
            await anyio.sleep(0.05)
    assert added == pytest.approx(2 * 7e-6)


async def test_a_completion_says_what_it_cost(http: httpx.AsyncClient) -> None:
    """The usage of a completion has tokens, the cost by the model's prices, and the latency."""
    answer = (await http.post(CHAT, json={**ASK, "model": "test/four", "temperature": None})).json()
    assert answer["choices"][0]["message"]["content"] == "4"
    usage = answer["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (5, 1)
    assert usage["cost"] == {"input_tokens_cost_nanodollars": 5000, "output_tokens_cost_nanodollars": 2000}
    assert usage["total_backend_latency_ms"] >= 0


async def test_any_amount_of_an_upstream_is_taken(http: httpx.AsyncClient, upstream: Upstream) -> None:
    """An answer whose usage has numbers of any size is passed on as it is."""
    cost = {"input_tokens_cost_nanodollars": 2**70}
    usage = {"prompt_tokens": 2**40, "completion_tokens": 2**63 - 1, "cost": cost}
    upstream.status, upstream.headers = 200, {}
    upstream.body = json.dumps({**json.loads(completion("hi")), "usage": usage}).encode()
    response = await http.post(CHAT, json={**ASK, "model": "vendor/big"})
    assert response.status_code == 200, response.text
    assert usage.items() <= response.json()["usage"].items()


async def test_a_stream_ends_with_usage_and_done(http: httpx.AsyncClient) -> None:
    """The chunks of a stream add up to the answer, the last one has the usage, and [DONE] follows."""
    response = await http.post(CHAT, json={**ASK, "model": "four", "stream": True})
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"])
    assert text == "4"
    assert chunks[-1]["usage"]["cost"]["output_tokens_cost_nanodollars"] == 2000


def sse(*chunks: Any, done: bool = True) -> bytes:
    events = [f"data: {chunk if isinstance(chunk, str) else json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*events, "data: [DONE]\n\n" if done else ""]).encode()


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


async def test_streams_of_an_upstream_release_their_slot(http: httpx.AsyncClient, upstream: Upstream) -> None:
    """With one request at a time, neither complete nor abandoned streams block the next request."""
    body = {**ASK, "model": "vendor/narrow", "stream": True}
    usage = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    upstream.status, upstream.headers = 200, {"content-type": "text/event-stream"}
    upstream.body = sse(delta("a"), delta("b"), usage)
    for _ in range(3):
        response = await http.post(CHAT, json=body)
        assert response.text.endswith("data: [DONE]\n\n")
        assert '"total_tokens": 3' in response.text
        async with http.stream("POST", CHAT, json=body) as left:
            await anext(left.aiter_lines())
    upstream.body, upstream.headers = completion("whole"), {}
    with anyio.fail_after(60):
        answer = await http.post(CHAT, json={**ASK, "model": "vendor/narrow"})
    assert answer.json()["choices"][0]["message"]["content"] == "whole"


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (sse([1]), "text/event-stream", "no chat completion"),
        (sse("null"), "text/event-stream", "no chat completion"),
        (sse(), "text/event-stream", "empty stream"),
        (b"<html></html>", "text/html", "no stream"),
    ],
)
async def test_an_invalid_stream_is_reported(
    http: httpx.AsyncClient, upstream: Upstream, body: bytes, kind: str, words: str
) -> None:
    """An invalid stream is an HTTP error with the model and the reason, before the first chunk."""
    upstream.status, upstream.headers, upstream.body = 200, {"content-type": kind}, body
    response = await http.post(CHAT, json={**ASK, "model": "vendor/big", "stream": True})
    assert response.status_code == 502
    assert words in response.json()["error"]["message"]
    assert "vendor/big" in response.json()["error"]["message"]


async def test_a_stream_that_breaks_ends_with_the_reason(http: httpx.AsyncClient, upstream: Upstream) -> None:
    """A broken stream is forwarded, then ends with an error that names the model, without [DONE]."""
    upstream.status, upstream.headers = 200, {"content-type": "text/event-stream", "content-length": "9999"}
    upstream.body = sse(delta("a"), done=False)
    response = await http.post(CHAT, json={**ASK, "model": "vendor/big", "stream": True})
    assert '"content": "a"' in response.text
    assert "model vendor/big" in response.text
    assert "[DONE]" not in response.text


async def test_what_the_upstream_is_asked(http: httpx.AsyncClient, upstream: Upstream) -> None:
    """The upstream gets its own model name and key, unchanged tools and schema, and no nulls; the cost is unknown."""
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    upstream.status, upstream.headers, upstream.body = 200, {}, completion("", tool_calls=[call])
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
    extra = {"tools": tools, "response_format": schema, "temperature": None, "seed": None}
    answer = (await http.post(CHAT, json={**ASK, **extra, "model": "vendor/big"})).json()
    asked = upstream.asked[-1]
    assert (asked["model"], asked["tools"], asked["response_format"]) == ("big-1", tools, schema)
    assert "temperature" not in asked
    assert "seed" not in asked
    assert upstream.keys[-1] == "Bearer a-secret-of-the-server"
    assert answer["choices"][0]["message"]["tool_calls"] == [call]
    assert answer["model"] == "vendor/big"
    assert "cost" not in answer["usage"]


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (
            401,
            b'{"error": {"message": "bad key a-secret-of-the-server"}}',
            401,
            "answered 401: bad key [key]",
        ),
        (429, b'{"error": "slow down"}', 429, "answered 429: slow down"),
        (500, b"<html>oops</html>", 502, "answered 500"),
        (200, b"<html>hello</html>", 502, "no chat completion"),
        (200, b"[1, 2]", 502, "no chat completion"),
        (200, b'{"choices": [null]}', 502, "no chat completion"),
        (200, b'{"choices": [], "usage": {"prompt_tokens": "many"}}', 502, "no chat completion"),
        (200, b'{"choices": [], "usage": [1]}', 502, "no chat completion"),
        (200, b'{"choices": [], "usage": {"cost": {"a": "x"}}}', 502, "no chat completion"),
        (200, b"\xff", 502, "no chat completion"),
    ],
)
async def test_an_upstream_failure_names_the_model(
    http: httpx.AsyncClient, upstream: Upstream, status: int, body: bytes, expected: int, words: str
) -> None:
    """The status shows whether the request was at fault; the message has the model and the upstream, not the key."""
    upstream.status, upstream.body, upstream.headers = status, body, {"retry-after": "7"}
    response = await http.post(CHAT, json={**ASK, "model": "vendor/big"})
    assert response.status_code == expected
    message = response.json()["error"]["message"]
    assert "vendor/big" in message
    assert words in message
    assert "a-secret" not in response.text
    if status == 429:
        assert response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("model", "status", "words"),
    [
        ("vendor/down", 502, "cannot be reached"),
        ("vendor/keyless", 401, "NOT_THERE"),
        ("vendor/nobody", 404, "test/four"),
    ],
)
async def test_models_that_cannot_answer(
    http: httpx.AsyncClient, model: str, status: int, words: str
) -> None:
    """A dead endpoint, a missing key and an unknown model are told apart."""
    gemini = {"contents": [{"parts": [{"text": "hi"}]}]}
    for path, body in ((CHAT, {**ASK, "model": model}), (f"genai/v1/models/{model}:generateContent", gemini)):
        response = await http.post(path, json=body)
        assert response.status_code == status
        assert words in response.json()["error"]["message"]


async def test_only_valid_keys_are_let_in(http: httpx.AsyncClient, proxy_server: ServerProcess) -> None:
    """A made-up key and the server's own token are refused by both APIs."""
    for key in ("none", "made-up", proxy_server.address.token):
        headers = {"authorization": f"Bearer {key}", "x-goog-api-key": key}
        for path in (CHAT, "genai/v1/models/test/four:generateContent"):
            response = await http.post(path, json={**ASK, "model": "test/four"}, headers=headers)
            assert response.status_code == 401


async def test_invalid_requests_are_refused(http: httpx.AsyncClient) -> None:
    """Invalid JSON and invalid requests give 400, not 500."""
    bodies = [b"{", b"[]", b"\xff\xfe"]
    for fields in ({"messages": 3}, {"messages": [1]}, {"messages": [], "stop": 5}):
        bodies.append(json.dumps({"model": "test/four", **fields}).encode())
    for body in bodies:
        response = await http.post(CHAT, content=body)
        assert response.status_code == 400, body
        assert response.json()["error"]["message"]
    wrong: list[Any] = [["hi"], [{"parts": [{"functionCall": {}}]}], 3]
    for contents in wrong:
        path = "genai/v1/models/test/four:generateContent"
        assert (await http.post(path, json={"contents": contents})).status_code == 400
    odd = {"contents": [], "generationConfig": {"responseSchema": {"properties": 3}}}
    assert (await http.post("genai/v1/models/test/four:generateContent", json=odd)).status_code == 400


async def test_genai_answers_and_streams(http: httpx.AsyncClient) -> None:
    """generateContent and streamGenerateContent answer in Gemini's format, with usage and bare enum values."""
    body = {"contents": [{"role": "user", "parts": [{"text": "What is 2 + 2?"}]}]}
    answer = (await http.post("genai/v1/models/test/four:generateContent", json=body)).json()
    assert answer["candidates"][0]["content"]["parts"] == [{"text": "4"}]
    assert answer["candidates"][0]["finishReason"] == "STOP"
    assert answer["usageMetadata"]["candidatesTokenCount"] == 1
    streamed = await http.post("genai/v1/models/test/four:streamGenerateContent?alt=sse", json=body)
    events = [json.loads(line[6:]) for line in streamed.text.split("\n\n") if line]
    assert "".join(p["text"] for e in events for p in e["candidates"][0]["content"]["parts"]) == "4"
    assert events[-1]["usageMetadata"]["totalTokenCount"] == 6
    config = {"responseMimeType": "text/x.enum", "responseSchema": {"type": "STRING", "enum": ["RED"]}}
    wanted = {"contents": [{"parts": [{"text": "enum"}]}], "generationConfig": config}
    enum = (await http.post("genai/v1/models/test/four:generateContent", json=wanted)).json()
    assert enum["candidates"][0]["content"]["parts"] == [{"text": "RED"}]


async def test_the_sdk_speaks_both_apis_through_the_proxy(
    proxy_server: ServerProcess, tmp_path: Path
) -> None:
    """A task with the SDK's genai backend and one with its default both get their answers."""
    source = """
# %%
import kaggle_benchmarks as kbench
@kbench.task(name="both-apis")
def both_apis(llm) -> float:
    other = kbench.kaggle.load_model("test/four", api="genai")
    answers = [llm.prompt("What is 2 + 2?"), other.prompt("What is 2 + 2?")]
    print("ANSWERS", answers, sorted(kbench.llms), kbench.llms["test/four"].prompt("2 + 2"))
    return sum(answer == "4" for answer in answers) / 2
both_apis.run(kbench.llm)
"""
    async with proxy_server.client() as client:
        await push(client, "both-apis", source)
        (done,) = await run(client, "both-apis", "four")
        assert done.state is RunState.COMPLETED, done.error_message
        await client.download_output(done.id, tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.run.json")
    assert json.loads(file.read_text())["results"][0]["numericResult"]["value"] == 1.0


EFFORTS = """
# %%
import os
import kaggle_benchmarks as kbench
import openai
@kbench.task(name="efforts")
def efforts(llm) -> bool:
    llm.prompt("as it is")
    kbench.kaggle.load_model(llm.name, api="genai").prompt("by genai")
    kbench.judge_llm.prompt("judge")
    url, key = os.environ["MODEL_PROXY_URL"] + "/openapi", os.environ["MODEL_PROXY_API_KEY"]
    client = openai.OpenAI(base_url=url, api_key=key)
    ask = [{"role": "user", "content": "own"}]
    client.chat.completions.create(model=llm.name, messages=ask, reasoning_effort="medium")
    return True
efforts.run(kbench.llm)
"""


async def test_the_effort_of_a_run_reaches_its_model(proxy_server: ServerProcess, upstream: Upstream) -> None:
    """Requests to the model of a run have its effort unless they have their own; those to the judge have none."""
    upstream.status, upstream.headers, upstream.body = 200, {}, completion("yes")
    async with proxy_server.client() as client:
        await push(client, "efforts", EFFORTS)
        upstream.asked.clear()
        await client.schedule_runs("efforts", ["vendor/thinking"], effort="high", judge="vendor/big")
        (done,) = await ended(client, "efforts")
        assert done.state is RunState.COMPLETED, done.error_message
    asked = [(str(each["messages"][-1]["content"]), each.get("reasoning_effort")) for each in upstream.asked]
    words = ("as it is", "by genai", "judge", "own")
    efforts = [next(effort for text, effort in asked if word in text) for word in words]
    assert efforts == ["high", "high", None, "medium"]


MEDIA = """
# %%
import kaggle_benchmarks as kbench
from kaggle_benchmarks.content_types import audios, images, videos
@kbench.task(name="media")
def media(llm) -> int:
    media = {
        "image": images.from_base64("iVBORw0KGgo=", format="png"),
        "audio": audios.from_base64("AAAA", format="wav"),
        "video": videos.from_url("https://www.youtube.com/watch?v=aqz-KE-bpKQ"),
    }
    answers = 0
    for api in ("openai", "genai"):
        for name, medium in media.items():
            with kbench.chats.new(f"{api} {name}"):
                try:
                    model = kbench.kaggle.load_model(llm.name, api=api)
                    model.prompt("What is it?", **{name: medium})
                    answers += 1
                except Exception as error:
                    print("REFUSED", api, name, error)
    return answers
media.run(kbench.llm)
"""


async def test_media_reach_models_that_take_them(proxy_server: ServerProcess, upstream: Upstream) -> None:
    """Both APIs of the SDK send the same media to a model, and a model of text refuses each by name."""
    upstream.status, upstream.headers, upstream.body = 200, {}, completion("a cat")
    async with proxy_server.client() as client:
        await push(client, "media", MEDIA)
        upstream.asked.clear()
        (seeing, four) = await run(client, "media", "seeing", "four")
        logs = [await log_text(client, each.id) for each in (seeing, four)]
    assert (seeing.state, four.state) == (RunState.COMPLETED, RunState.COMPLETED)
    assert "REFUSED" not in logs[0]
    parts = [
        part
        for asked in upstream.asked
        for message in asked["messages"]
        for part in (message["content"] if isinstance(message["content"], list) else [])
        if part["type"] != "text"
    ]
    sent = [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
        {"type": "image_url", "image_url": {"url": "https://www.youtube.com/watch?v=aqz-KE-bpKQ"}},
    ]
    assert parts == sent * 2
    for what in ("an image (image/png)", "audio (audio/wav)", "video (video/*)"):
        refusal = (
            f"Model test/four takes text only; the request has {what}. Use a model that does: vendor/seeing."
        )
        assert logs[1].count(refusal) == 2


async def test_models_list_what_they_take(proxy_server: ServerProcess) -> None:
    """The list of models shows their modalities: those in models.toml, or text."""
    async with proxy_server.client() as client:
        models = {each.slug: each.version for each in await client.list_models()}
    for slug, words in (
        ("seeing", ["TEXT", "IMAGE", "AUDIO", "VIDEO"]),
        ("four", ["TEXT"]),
        ("big", ["TEXT"]),
    ):
        version = models[slug]
        assert version is not None
        assert [each.value for each in version.input_modalities] == [f"MODALITY_{word}" for word in words]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x.example/cat"}}, "has an image. "),
        ({"type": "image_url", "image_url": {"url": "https://x.example/cat.mp4"}}, "has video (video/mp4)"),
        (
            {"type": "file", "file": {"file_data": "data:application/pdf;base64,QQ=="}},
            "has a file (application/pdf)",
        ),
        ({"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}}, "has audio (audio/mp3)"),
    ],
)
async def test_media_are_refused_by_name(http: httpx.AsyncClient, part: dict[str, Any], words: str) -> None:
    """A request with a medium that the model does not take is 400, with the medium, on the OpenAI API, too."""
    messages = [{"role": "user", "content": [{"type": "text", "text": "hi"}, part]}]
    response = await http.post(CHAT, json={"model": "test/four", "messages": messages})
    assert response.status_code == 400
    assert words in response.json()["error"]["message"]


async def test_tasks_reach_models_by_aliases(
    proxy_server: ServerProcess, upstream: Upstream, tmp_path: Path
) -> None:
    """However a task names a model, an alias answers; the run file has the task's name, the log has the model's."""
    upstream.status, upstream.headers, upstream.body = 200, {}, completion("4")
    source = """
# %%
import kaggle_benchmarks as kbench
from kaggle_benchmarks.kaggle.model_proxy import ModelProxy
@kbench.task(name="by-alias")
def by_alias(llm) -> float:
    llms = kbench.llms
    asked = [
        llm,
        llms["google/gemini-2.5-flash"],
        llms.get("anthropic/claude"),
        kbench.kaggle.load_model("google/gemini-9", api="genai"),
        ModelProxy(model="google/gemini-2.5-flash"),
    ]
    print("LISTED", sorted(llms), "google/gemini-9" in llms, "meta/llama" in llms)
    try:
        llms["meta/llama"]
    except KeyError as error:
        print("UNKNOWN", error)
    return sum(each.prompt("What is 2 + 2?") == "4" for each in asked) / len(asked)
by_alias.run(kbench.llms["google/gemini-2.5-flash"])
"""
    async with proxy_server.client() as client:
        await push(client, "by-alias", source)
        (done,) = await run(client, "by-alias", "four")
        assert done.state is RunState.COMPLETED, done.error_message
        log = await log_text(client, done.id)
        await client.download_output(done.id, tmp_path / "out")
    (file,) = (tmp_path / "out").glob("*.run.json")
    record = json.loads(file.read_text())
    assert record["results"][0]["numericResult"]["value"] == 1.0
    assert record["modelVersion"]["slug"] == "google/gemini-2.5-flash"
    assert "'vendor/thinking'] True False\n" in log
    assert "UNKNOWN Unknown model 'meta/llama'. The models are test/four, vendor/big" in log
    assert "--model-alias 'meta/llama=test/four'" in log
    for alias, model in (("google/gemini-2.5-flash", "test/four"), ("anthropic/claude", "vendor/big")):
        assert log.count(f"[fanbench] {model} answers for {alias} (alias)\n") == 1


@pytest.mark.parametrize("proxy_server", ["0"], indirect=True)
async def test_check_finds_models_by_aliases_too(proxy_server: ServerProcess, tmp_path: Path) -> None:
    """With `check --run` on a local server, `kbench.llms` finds aliases, and names the models if there is none."""
    body = "assert kbench.llms['google/gemini-2.5-flash'].prompt('2 + 2') == '4'\nkbench.llms['meta/llama']"
    (tmp_path / "task.py").write_text(task_source("found", body))
    command = [sys.executable, "-m", "fanbench", "check", "task.py", "--run"]
    command += ["--endpoint", proxy_server.address.url, "--token", proxy_server.address.token]
    ended = await anyio.run_process(command, cwd=tmp_path, check=False)
    output = ended.stdout.decode()
    assert "Unknown model 'meta/llama'. The models are test/four, vendor/big" in output
    assert "--model-alias 'meta/llama=test/four'" in output


async def test_an_alias_is_no_model_to_run_on(proxy_server: ServerProcess) -> None:
    """A run is scheduled on a model by its own name only: its results belong to that model."""
    async with proxy_server.client() as client:
        await push(client, "not-on-an-alias", TASK.replace("two-plus-two", "not-on-an-alias"))
        with pytest.raises(NotFound, match=r"gemini-2\.5-flash \(the judge\)"):
            await client.schedule_runs("not-on-an-alias", ["four"], judge="google/gemini-2.5-flash")
        with pytest.raises(NotFound, match=r"gemini-2\.5-flash"):
            await client.schedule_runs("not-on-an-alias", ["google/gemini-2.5-flash"])
        listed = [each.slug for each in await client.list_models()]
    assert listed == ["four", "big", "thinking", "seeing", "narrow", "down", "keyless"]


@pytest.mark.parametrize(
    ("aliases", "judge", "kind", "words"),
    [
        (
            {"x/y": "test/none"},
            "",
            UnknownModel,
            "--model-alias x/y=test/none: this server has no model test/none",
        ),
        ({"test/four": "test/wrong"}, "", LocalServerError, "test/four is itself a model"),
        ({}, "test/none", UnknownModel, "--judge test/none: this server has no model test/none"),
    ],
)
async def test_a_model_that_does_not_exist_is_refused_at_the_start(
    tmp_path: Path, aliases: dict[str, str], judge: str, kind: type[FanbenchError], words: str
) -> None:
    """The server does not start with an alias or a judge that is no model, or an alias that is another model."""
    (tmp_path / "models.toml").write_text(MODELS)
    with pytest.raises(kind, match=re.escape(words)) as caught:
        async with ModelPool.open(DataFolder(tmp_path), 1.0, aliases, judge):
            pass
    assert caught.value.hint


async def test_an_upstream_that_is_down_fails_its_run_only(proxy_server: ServerProcess) -> None:
    """The run's error has the model and the reason, and the other run completes."""
    async with proxy_server.client() as client:
        await push(client, "two-plus-two", TASK)
        down, four = await run(client, "two-plus-two", "down", "four")
    assert (down.state, four.state) == (RunState.ERRORED, RunState.COMPLETED)
    assert "vendor/down" in down.error_message
    assert "cannot be reached" in down.error_message


@given(
    arguments=st.lists(st.dictionaries(st.text(max_size=5), st.integers()), min_size=1, max_size=3),
    size=st.integers(1, 9),
)
def test_calls_of_functions_are_put_together(arguments: list[dict[str, int]], size: int) -> None:
    """However a stream cuts calls of functions into pieces, the Gemini API has each of them once and whole."""
    translate = genai.ChunkTranslator()
    answers = []
    for index, value in enumerate(arguments):
        text = json.dumps(value)
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        for number, piece in enumerate(pieces):
            named = {"id": f"c{index}", "function": {"name": "f", "arguments": piece}}
            call = named if number == 0 else {"function": {"arguments": piece}}
            delta = {"tool_calls": [{"index": index, **call}]}
            answers.append(translate({"choices": [{"delta": delta}]}))
    answers.append(translate({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]}))
    answers.append(translate({"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}))
    parts = [part for answer in answers if answer for part in answer["candidates"][0]["content"]["parts"]]
    assert [part["functionCall"] for part in parts] == [
        {"id": f"c{index}", "name": "f", "args": value} for index, value in enumerate(arguments)
    ]


def in_snake_case(text: str) -> str:
    """The JSON with all keys in snake case."""
    return re.sub(r'"(\w+)":', lambda key: '"' + re.sub("([A-Z])", r"_\1", key[1]).lower() + '":', text)


@pytest.mark.parametrize("style", [str, in_snake_case])
def test_genai_requests_become_chat_requests(style: Callable[[str], str]) -> None:
    """All parts of a request are translated, whether its keys are in camel case or in snake case."""
    body = {
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {
                "role": "user",
                "parts": [
                    {"text": "look"},
                    {"inlineData": {"mimeType": "image/png", "data": "QQ=="}},
                    {"inlineData": {"mimeType": "audio/mpeg", "data": "QQ=="}},
                    {"inlineData": {"mimeType": "application/pdf", "data": "QQ=="}},
                    {"fileData": {"mimeType": "audio/wav", "fileUri": "https://x.example/a"}},
                ],
            },
            {
                "role": "model",
                "parts": [{"functionCall": {"name": "f", "args": {"x_y": 1}}, "thoughtSignature": "sig"}],
            },
            {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"y_z": 2}}}]},
        ],
        "generationConfig": {
            "temperature": 0.5,
            "maxOutputTokens": 9,
            "thinkingConfig": {"thinkingLevel": "LOW", "includeThoughts": True},
            "responseMimeType": "application/json",
            "responseSchema": {
                "type": "OBJECT",
                "propertyOrdering": ["a_b"],
                "properties": {
                    "a_b": {"type": "ARRAY", "minItems": "1", "items": {"type": "INTEGER"}, "nullable": True}
                },
            },
        },
        "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
    }
    asked = read_request(style(json.dumps(body)).encode(), GenerateRequest, "generateContent")
    chat = genai.to_chat(asked)
    assert [m["role"] for m in chat["messages"]] == ["system", "user", "assistant", "tool"]
    assert chat["messages"][1]["content"][1:] == [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,QQ=="}},
        {"type": "input_audio", "input_audio": {"data": "QQ==", "format": "mp3"}},
        {"type": "file", "file": {"filename": "file.pdf", "file_data": "data:application/pdf;base64,QQ=="}},
        {"type": "audio_url", "audio_url": {"url": "https://x.example/a"}},
    ]
    (call,) = chat["messages"][2]["tool_calls"]
    assert call["function"] == {"name": "f", "arguments": '{"x_y": 1}'}
    assert call["extra_content"] == {"google": {"thought_signature": "sig"}}
    assert json.loads(chat["messages"][3]["content"]) == {"y_z": 2}
    assert (chat["temperature"], chat["max_tokens"], chat["reasoning_effort"]) == (0.5, 9, "low")
    inner = {"type": "array", "minItems": 1, "items": {"type": "integer"}}
    assert chat["response_format"]["json_schema"]["schema"] == {
        "type": "object",
        "properties": {"a_b": {"anyOf": [inner, {"type": "null"}]}},
    }
    assert chat["tools"][0]["function"]["parameters"] == {"type": "object"}
    assert chat["tool_choice"] == {"type": "function", "function": {"name": "f"}}
