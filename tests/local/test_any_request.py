"""The local server's calls with bodies from their own schemas, valid and damaged, by schemathesis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
import schemathesis
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.local.app import CALLS
from fanbench.local.proxy.requests import ChatRequest, GenerateRequest
from fanbench.wire import protocol
from fanbench.wire.messages import ErrorBody, ListRunsResponse, ListTasksResponse, decode

from .server_process import ServerProcess, run_server

pytestmark = pytest.mark.e2e

CHAT = "/models/openapi/chat/completions"
GENERATE = "/models/genai/v1/models/test/four:generateContent"
PATHS: dict[str, type] = {
    **{call.path: kind for call, (kind, _) in CALLS.items()},
    CHAT: ChatRequest,
    GENERATE: GenerateRequest,
}
# Few, because it takes longer to make one from a schema than to answer it; with the profile `long`, many.
EXAMPLES = settings(max_examples=200 if settings().max_examples > 100 else 2)


def open_api() -> dict[str, Any]:
    """The calls as OpenAPI, made of the messages themselves."""
    _, schemas = msgspec.json.schema_components(PATHS.values(), ref_template="#/components/schemas/{name}")

    def operation(kind: type) -> dict[str, Any]:
        body = {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}
        return {
            "post": {
                "requestBody": {"required": True, "content": {"application/json": body}},
                "responses": {"200": {"description": "the answer"}},
            }
        }

    return {
        "openapi": "3.1.0",
        "info": {"title": "The local server", "version": "1"},
        "paths": {path: operation(kind) for path, kind in PATHS.items()},
        "components": {"schemas": schemas},
    }


OPERATIONS = {
    found.ok().path: found.ok() for found in schemathesis.openapi.from_dict(open_api()).get_all_operations()
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of its own: these tests delete tasks. It runs none."""
    with run_server(tmp_path_factory.mktemp("any") / "data", runs=False) as server:
        yield server


@pytest.fixture(scope="module")
def http(server: ServerProcess) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {server.address.token}"}
    with httpx.Client(base_url=server.address.url, headers=headers, timeout=60) as http:
        yield http


@pytest.fixture(scope="module")
def key(http: httpx.Client) -> str:
    """The key of the Model Proxy."""
    answer = http.post(protocol.CREATE_PROXY_TOKEN.path, json={})
    token: str = answer.json()["token"]
    return token


def as_json(body: Any) -> bytes:
    """The body as it is sent: some are damaged on purpose, and bytes already."""
    return body if isinstance(body, bytes) else msgspec.json.encode(body)


@pytest.mark.parametrize("path", PATHS)
def test_any_body_is_answered(http: httpx.Client, server: ServerProcess, key: str, path: str) -> None:
    """Whatever a request has, the server fails at nothing, and says in the form of the API what is wrong."""
    valid, damaged = (
        OPERATIONS[path].as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode
    )
    headers = {"authorization": f"Bearer {key}", "x-goog-api-key": key} if path.startswith("/models/") else {}

    @EXAMPLES
    @given(st.one_of(valid, damaged))
    def check(case: Any) -> None:
        answer = http.post(path, content=as_json(case.body), headers=headers)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and headers:
            assert answer.json()["error"]["code"] == answer.status_code
            assert answer.json()["error"]["message"]
        elif answer.status_code >= 400:
            error = decode(answer.content, ErrorBody)
            assert (error.code, bool(error.message)) == (answer.status_code, True)

    check()
    assert server.process.poll() is None


def test_nothing_half_done_is_left(http: httpx.Client, server: ServerProcess) -> None:
    """After all of these requests, each task that is listed can be read, and no incomplete file is left."""
    tasks = decode(http.post(protocol.LIST_TASKS.path, json={"pageSize": 500}).content, ListTasksResponse)
    for task in tasks.tasks:
        slug = {"ownerSlug": task.slug.owner_slug, "taskSlug": task.slug.task_slug}
        assert http.post(protocol.GET_TASK.path, json={"slug": slug}).status_code == 200
        runs = http.post(protocol.LIST_RUNS.path, json={"taskSlug": slug})
        assert runs.status_code == 200
        assert decode(runs.content, ListRunsResponse)
    assert not list(server.data.rglob("*.part"))
    log = (server.data / "server.log").read_text()
    assert "Traceback" not in log
