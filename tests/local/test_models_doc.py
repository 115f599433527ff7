"""docs/models.md: its files are valid, and its task runs on its scripted model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from fanbench.local.models.catalog import ModelSpec, read_catalog
from fanbench.local.models.embedded import Embedded
from fanbench.local.models.scripted import Rule, Scripted
from fanbench.local.models.upstream import Upstream
from fanbench.wire.messages import RunState

from .server_process import ServerProcess, log_text, push, run

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]

PAGE = (Path(__file__).parents[2] / "docs/models.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
OVERVIEW, SCRIPTED = (text for language, text in BLOCKS if language == "toml")
(TASK,) = (text for language, text in BLOCKS if language == "python")


def test_the_files_are_valid(tmp_path: Path) -> None:
    """Both examples of models.toml can be read, and the first has a model of each kind."""
    for number, text in enumerate((OVERVIEW, SCRIPTED)):
        (tmp_path / f"{number}.toml").write_text(text)
    kinds = [type(model) for model in read_catalog(tmp_path / "0.toml").model]
    assert kinds == [Embedded, Upstream, Scripted]
    assert len(read_catalog(tmp_path / "1.toml").model) == 1


def test_every_key_is_described() -> None:
    """The tables of the page have each key of each kind of model, and of the rules of scripted ones."""
    described = {
        name for row in re.findall(r"^\| (`.*?) \|", PAGE, re.M) for name in re.findall(r"`(\w+)`", row)
    }
    kinds: tuple[Any, ...] = (*ModelSpec.__args__, Rule)
    keys = {field.encode_name for kind in kinds for field in msgspec.structs.fields(kind)}
    assert keys | {"kind"} == described | {"rules"}


@pytest.fixture
def documented(server: ServerProcess) -> Iterator[ServerProcess]:
    """The shared server with the scripted model of the page in addition to its own."""
    file = server.data / "models.toml"
    before = file.read_text()
    file.write_text(before + SCRIPTED)
    yield server
    file.write_text(before)


async def test_the_task_passes_on_the_scripted_model(documented: ServerProcess) -> None:
    """Text, structured output and calls of tools come from the table, through both APIs, whole and as streams."""
    genai = TASK.replace("scripted-answers", "by-genai").replace(
        ".run(kbench.llm)", '.run(kbench.kaggle.load_model(kbench.llm.name, api="genai"))'
    )
    async with documented.client() as client:
        for slug, source in (("scripted-answers", TASK), ("by-genai", genai)):
            await push(client, slug, source)
            (done,) = await run(client, slug, "scripted")
            assert done.state is RunState.COMPLETED, done.error_message
            assert "RESULT:   1.0" in await log_text(client, done.id)
        token = await client.create_proxy_token()
    headers = {"authorization": f"Bearer {token.token}", "x-goog-api-key": token.token}
    async with httpx.AsyncClient(base_url=token.base_uri, headers=headers, timeout=60) as http:
        await _check_streams(http)
        await _check_failures_and_usage(http)


async def _check_streams(http: httpx.AsyncClient) -> None:
    """Calls of tools are streamed in each API's own form, and only if the request offers them."""
    question = "What is the weather in Oslo?"
    tool = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}
    body = {"model": "test/scripted", "messages": [{"role": "user", "content": question}], "stream": True}
    plain = await http.post("openapi/chat/completions", json=body)
    assert "tool_calls" not in plain.text
    body["tools"] = [{"type": "function", "function": tool}]
    streamed = await http.post("openapi/chat/completions", json=body)
    chunks = [json.loads(line[6:]) for line in streamed.text.split("\n\n") if line.startswith("data: {")]
    (call,) = chunks[0]["choices"][0]["delta"]["tool_calls"]
    assert call["function"] == {"name": "weather", "arguments": '{"city": "Oslo"}'}
    assert chunks[1]["choices"][0]["finish_reason"] == "tool_calls"
    gemini = {"contents": [{"parts": [{"text": question}]}], "tools": [{"functionDeclarations": [tool]}]}
    answer = await http.post("genai/v1/models/test/scripted:streamGenerateContent?alt=sse", json=gemini)
    events = [json.loads(line[6:]) for line in answer.text.split("\n\n") if line]
    (part,) = [part for event in events for part in event["candidates"][0]["content"]["parts"]]
    assert (part["functionCall"]["name"], part["functionCall"]["args"]) == ("weather", {"city": "Oslo"})


async def _check_failures_and_usage(http: httpx.AsyncClient) -> None:
    """A rule fails as often as it says, and its usage replaces the count of words."""

    async def ask(text: str) -> httpx.Response:
        body = {"model": "test/scripted", "messages": [{"role": "user", "content": text}]}
        return await http.post("openapi/chat/completions", json=body)

    assert [(await ask("an unreliable one")).status_code for _ in range(3)] == [503, 503, 200]
    usage = (await ask("a long answer")).json()["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (1000, 5000)
    assert usage["cost"]["output_tokens_cost_nanodollars"] == 5000 * 4000
