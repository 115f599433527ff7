"""`init` and `auth`: which values and which files they write."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fanbench import Forbidden, NotFound, OutputError
from fanbench.operations.environment import (
    EXAMPLE_TASK,
    REFERENCE_NAME,
    expiry_phrase,
    fetch_credentials,
    fetch_environment,
    write_starters,
)
from fanbench.tasks import read_task_file
from fanbench.testing import Fault, SimulatedKaggle
from fanbench.wire.messages import ModelProxyToken
from tests.operations.conftest import model, simulated

pytestmark = pytest.mark.anyio

TOKEN = ModelProxyToken(
    token="abcd1234", base_uri="https://proxy/models", expiry_time=datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
)


def served(*names: str) -> SimulatedKaggle:
    client = simulated(models=[model(name.replace("/", "-"), proxy=name) for name in names])
    client.proxy_token = TOKEN
    return client


async def test_the_credentials() -> None:
    """The credentials are three variables, and the expiry time is in UTC with a Z."""
    assert await fetch_credentials(served()) == {
        "MODEL_PROXY_URL": "https://proxy/models",
        "MODEL_PROXY_API_KEY": "abcd1234",
        "MODEL_PROXY_EXPIRY_TIME": "2030-01-02T03:04:05.000Z",
    }


@pytest.mark.parametrize(
    ("kind", "status", "hint"), [(NotFound, 404, "Ask for access"), (Forbidden, 403, "Verify your phone")]
)
async def test_refusals_have_hints(kind: type[NotFound | Forbidden], status: int, hint: str) -> None:
    """A refused token has a hint that fits the status of the refusal."""
    error = kind("No.", call="CreateDefaultModelProxyToken", status=status)
    with pytest.raises(kind) as caught:
        await fetch_credentials(simulated(faults=(Fault("create_proxy_token", raises=error),)))
    assert caught.value.hint
    assert hint in caught.value.hint


async def test_a_new_environment_has_all_models() -> None:
    """A new environment lists all models, and the first one is the default and the judge."""
    values = (await fetch_environment(served("a/x", "b/y"), {})).variables
    assert values["LLM_DEFAULT"] == values["LLM_DEFAULT_EVAL"] == "a/x"
    assert values["LLMS_AVAILABLE"] == "a/x,b/y"
    assert values["MODEL_PROXY_API_KEY"] == "abcd1234"


async def test_chosen_models_are_kept_while_they_exist() -> None:
    """Chosen models are kept while they exist; others are replaced, and new ones are added behind."""
    current = {"LLM_DEFAULT": "b/y", "LLM_DEFAULT_EVAL": "gone/z", "LLMS_AVAILABLE": "c/z, gone/z,b/y"}
    values = (await fetch_environment(served("a/x", "b/y", "c/z"), current)).variables
    assert (values["LLM_DEFAULT"], values["LLM_DEFAULT_EVAL"]) == ("b/y", "b/y")
    assert values["LLMS_AVAILABLE"] == "c/z,b/y,a/x"


MANY = [
    "anthropic/opus",
    "anthropic/haiku",
    "google/gemini-3-pro",
    "google/gemini-2.5-flash",
    "google/gemini-3-flash-preview",
    "openai/gpt",
    "openai/gpt-nano",
    "qwen/qwen",
    "qwen/qwen-small",
    "minimax/minimax-m2",
    "minimax/minimax-m2-lite",
]


async def test_a_long_list_of_models_is_shortened() -> None:
    """Of a long list, each owner has one that is fast, and the default is among them; or all are listed."""
    short = (await fetch_environment(served(*MANY), {"LLMS_AVAILABLE": "openai/gpt"})).variables
    assert short["LLM_DEFAULT"] == "google/gemini-3-flash-preview"
    assert short["LLMS_AVAILABLE"].split(",") == [
        "openai/gpt",
        "anthropic/haiku",
        "google/gemini-2.5-flash",
        "google/gemini-3-flash-preview",
        "openai/gpt-nano",
        "qwen/qwen-small",
        "minimax/minimax-m2-lite",
    ]
    everything = (await fetch_environment(served(*MANY), {}, all_models=True)).variables
    assert everything["LLMS_AVAILABLE"].split(",") == MANY


async def test_credentials_do_not_need_the_list_of_models() -> None:
    """If the models cannot be listed, the environment has the credentials, and why it has no more."""
    client = served("a/x")
    client.change(faults=(Fault("list_models", 500),))
    found = await fetch_environment(client, {})
    assert sorted(found.variables) == ["MODEL_PROXY_API_KEY", "MODEL_PROXY_EXPIRY_TIME", "MODEL_PROXY_URL"]
    assert found.problem is not None


async def test_a_server_without_models() -> None:
    """The credentials do not need a model; the problem says how to add one."""
    found = await fetch_environment(served(), {})
    assert "MODEL_PROXY_API_KEY" in found.variables
    assert found.problem is not None
    assert "no model" in str(found.problem)
    assert "models add" in (found.problem.hint or "")


NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("left", "phrase"),
    [
        (timedelta(hours=2), "in 2 hours"),
        (timedelta(hours=1, minutes=59, seconds=58), "in 2 hours"),
        (timedelta(hours=1, minutes=20), "in 1 hour"),
        (timedelta(minutes=1), "in 1 minute"),
        (timedelta(minutes=59), "in 59 minutes"),
        (timedelta(days=3), "in 3 days"),
        (timedelta(seconds=-1), "expired"),
    ],
)
def test_the_remaining_time(left: timedelta, phrase: str) -> None:
    """The remaining time is given in one unit."""
    assert expiry_phrase((NOW + left).isoformat().replace("+00:00", "Z"), NOW) == phrase


def test_an_invalid_expiry_is_shown_unchanged() -> None:
    """An expiry time that cannot be parsed is shown as it is."""
    assert expiry_phrase("soon") == "soon"


def test_starters_are_written_once(tmp_path: Path) -> None:
    """The starter files are written once, and never overwrite what a user made of them."""
    example = tmp_path / "mine.py"
    assert [(file.path.name, file.existed) for file in write_starters(example)] == [
        ("mine.py", False),
        (REFERENCE_NAME, False),
    ]
    example.write_text("changed")
    assert [file.existed for file in write_starters(example)] == [True, True]
    assert example.read_text() == "changed"


@pytest.mark.parametrize("name", ["example_task.py", "example_task.ipynb"])
def test_the_example_passes_our_own_check(tmp_path: Path, name: str) -> None:
    """The example passes the check, as a notebook as well, and defines the task that the next step names."""
    write_starters(tmp_path / name)
    file = read_task_file(tmp_path / name)
    assert [task.slug for task in file.tasks] == [EXAMPLE_TASK]
    assert file.findings == ()


def test_starters_that_cannot_be_written(tmp_path: Path) -> None:
    """A folder that cannot be written to is one error."""
    with pytest.raises(OutputError):
        write_starters(tmp_path / "missing" / "example_task.py")


def test_python_examples_in_the_reference_can_be_parsed(tmp_path: Path) -> None:
    """Every Python example in the reference can be parsed."""
    write_starters(tmp_path / "example_task.py")
    blocks = re.findall(r"```python\n(.*?)```", (tmp_path / REFERENCE_NAME).read_text(), re.DOTALL)
    assert len(blocks) >= 6
    for block in blocks:
        compile(block, "reference", "exec")
