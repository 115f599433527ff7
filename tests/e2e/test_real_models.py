"""The two embedded language models behind the whole chain: the real SDK, real prompts and real answers."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import httpx
import msgspec
import pytest

from fanbench.local.models.catalog import read_catalog
from fanbench.local.models.embedded import Embedded
from fanbench.results import read_results
from fanbench.tasks import choose_task, read_task_file
from fanbench.wire.messages import RunState
from tests.e2e.command_lines import Ended, Fanbench
from tests.local.server_process import TASK, ServerProcess, children_with, push, run, run_server

MODELS = Path(os.environ.get("FANBENCH_TEST_MODELS", ""), "models.toml")
EXAMPLES = Path(__file__).parents[2] / "examples/tasks"
SMOLLM2, GEMMA = "huggingface/smollm2-135m-instruct", "google/gemma-3-270m"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.anyio,
    pytest.mark.skipif(
        "FANBENCH_TEST_MODELS" not in os.environ,
        reason="no models: `make test` adds them (fanbench models add smollm2 gemma3 --data DIR) and names DIR",
    ),
]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


OTHERS = """
[[model]]
slug = "test/four"
kind = "scripted"
reply = "4"
[[model]]
slug = "mine/damaged"
kind = "embedded"
path = "{damaged}"
"""


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with both models and a damaged one, which unloads them after two idle seconds."""
    folder = tmp_path_factory.mktemp("real")
    (folder / "damaged.gguf").write_bytes(b"GGUF" + os.urandom(4096))
    # Creations take the default model, which need not be a slow one.
    models = f'default = "test/four"\n{MODELS.read_text()}{OTHERS.format(damaged=folder / "damaged.gguf")}'
    with run_server(folder / "data", "--model-idle", "2", models=models) as server:
        yield server


@pytest.fixture
async def proxy(real: ServerProcess) -> AsyncIterator[httpx.AsyncClient]:
    async with real.client() as client:
        token = await client.create_proxy_token()
    headers = {"authorization": f"Bearer {token.token}"}
    async with httpx.AsyncClient(base_url=token.base_uri, headers=headers, timeout=100) as http:
        yield http


async def ask(proxy: httpx.AsyncClient, model: str, prompt: str, **options: object) -> str:
    body = {"model": model, "messages": [{"role": "user", "content": prompt}], "max_tokens": 64, **options}
    answer = (await proxy.post("openapi/chat/completions", json=body)).raise_for_status().json()
    assert answer["usage"]["completion_tokens"] > 0
    assert answer["usage"]["cost"]["output_tokens_cost_nanodollars"] == 0
    return str(answer["choices"][0]["message"]["content"])


@pytest.mark.parametrize("model", [SMOLLM2, GEMMA])
async def test_the_models_answer(proxy: httpx.AsyncClient, model: str) -> None:
    """Both models answer two common questions correctly with greedy decoding."""
    assert "4" in await ask(proxy, model, "What is 2 + 2?")
    assert "platform" in (await ask(proxy, model, "What is Kaggle?")).lower()


async def test_a_schema_is_enforced(proxy: httpx.AsyncClient) -> None:
    """Even at a high temperature the answer is JSON that matches the schema."""

    class Person(msgspec.Struct, forbid_unknown_fields=True):
        name: str
        age: int

    properties = {"name": {"type": "string", "maxLength": 20}, "age": {"type": "integer", "maximum": 200}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": schema}}
    for seed in range(3):
        text = await ask(
            proxy,
            SMOLLM2,
            "Invent a person.",
            response_format=wanted,
            temperature=1.5,
            seed=seed,
            max_tokens=128,
        )
        msgspec.json.decode(text, type=Person)


async def test_the_examples_run_on_both_and_tell_them_apart(real: ServerProcess, tmp_path: Path) -> None:
    """The three example tasks complete on both models, and their results are in one table."""
    async with real.client() as client:

        async def push_and_run(path: Path) -> None:
            slug = choose_task(read_task_file(path), None).slug
            task = await push(client, slug, path.read_text())
            assert task.creation_state.label == "COMPLETED", task.creation_error_message
            for done in await run(client, slug, SMOLLM2, GEMMA):
                assert done.state is RunState.COMPLETED, done.error_message
                target = tmp_path / slug / "1" / done.model_version_slug / str(done.id)
                await client.download_output(done.id, target)

        async with anyio.create_task_group() as tasks:
            for path in EXAMPLES.glob("*.py"):
                tasks.start_soon(push_and_run, path)
    found = read_results([tmp_path])
    assert not found.problems
    values = {(row.task, row.model): row.value for row in found.runs}
    assert len(values) == 6
    assert values["arithmetic", "smollm2-135m-instruct"] != values["arithmetic", "gemma-3-270m"]


def hosts(server: ServerProcess) -> list[int]:
    """The process ids of the server's llama.cpp processes."""
    return children_with(server.address.pid, "llama_host")


async def test_an_idle_model_is_unloaded_and_loaded_again(
    real: ServerProcess, proxy: httpx.AsyncClient
) -> None:
    """The process of a model ends after --model-idle, and the next request loads the model again."""
    await ask(proxy, SMOLLM2, "What is 2 + 2?")
    assert hosts(real)
    with anyio.fail_after(30):
        while hosts(real):
            await anyio.sleep(0.1)
    assert "4" in await ask(proxy, SMOLLM2, "What is 2 + 2?")


async def test_a_model_whose_process_dies_is_started_again(
    real: ServerProcess, proxy: httpx.AsyncClient
) -> None:
    """After a crash of llama.cpp the next request is answered by a new process."""
    await ask(proxy, SMOLLM2, "What is 2 + 2?")
    for pid in hosts(real):
        os.kill(pid, signal.SIGKILL)
    assert "4" in await ask(proxy, SMOLLM2, "What is 2 + 2?")


async def test_a_damaged_file_fails_its_runs_only(real: ServerProcess) -> None:
    """A damaged file fails its run with the file's name, and the other model's run completes."""
    async with real.client() as client:
        await push(client, "two-plus-two", TASK)
        damaged, four = await run(client, "two-plus-two", "damaged", "four")
    assert (damaged.state, four.state) == (RunState.ERRORED, RunState.COMPLETED)
    assert "mine/damaged" in damaged.error_message
    assert "cannot load" in damaged.error_message


def test_a_users_own_file_is_added_listed_and_removed(real: ServerProcess, tmp_path: Path) -> None:
    """`models add PATH.gguf` loads the file first, and does not list one that fails to load."""

    fanbench = Fanbench(real.address, tmp_path)

    def models(*words: str) -> Ended:
        return fanbench.run("models", *words, "--data", str(tmp_path / "data"))

    source = next(m for m in read_catalog(MODELS).model if m.slug == SMOLLM2)
    assert isinstance(source, Embedded)
    shutil.copyfile(source.path, tmp_path / "My Model.gguf")
    (tmp_path / "damaged.gguf").write_bytes(b"GGUF" + os.urandom(4096))
    assert models("add", str(tmp_path / "My Model.gguf")).code == 0
    refused = models("add", str(tmp_path / "damaged.gguf"))
    assert refused.code == 1
    assert "cannot load" in refused.err
    assert "Traceback" not in refused.err
    assert models("add", "smollm2", "--default").code == 0
    listed = models("list").out
    assert "  local/my-model " in listed
    assert f"* {SMOLLM2} " in listed
    assert "damaged" not in listed
    assert models("remove", "local/my-model").code == 0
    assert "my-model" not in models("list").out
    assert models("remove", "local/my-model").code == 4
