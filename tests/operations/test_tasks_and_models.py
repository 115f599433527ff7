"""`status`, `list`, `publish`, `delete` and `models`."""

from __future__ import annotations

import traceback
from datetime import UTC, datetime

import pytest

from fanbench import FanbenchError, NotFound, ServerFault
from fanbench._util.text import error_line, last_line
from fanbench.operations.models import modalities, pick_default, proxy_names
from fanbench.operations.publish import delete_tasks, publish_tasks
from fanbench.operations.status import list_tasks, task_status
from fanbench.testing import Fault, RunScript
from fanbench.wire.messages import BenchmarkModel, Modality, ModelVersion, RunState
from tests.operations.conftest import model, only, simulated

pytestmark = pytest.mark.anyio


async def test_status_has_the_task_and_its_runs() -> None:
    """A status has the runs of the given models only."""
    client = simulated("my-task")
    client.add_run("my-task", "a", RunScript(running=0, end=RunState.ERRORED, error="x"))
    client.add_run("my-task", "b")
    assert [run.model_version_slug for run in (await task_status(client, "My Task")).runs] == ["b", "a"]
    only = await task_status(client, "my_task", ["google/a"])
    assert [run.model_version_slug for run in only.errored] == ["a"]


async def test_a_foreign_task_that_is_refused_counts_as_not_found() -> None:
    """A 403, which Kaggle answers for foreign tasks, becomes NotFound with the server's message."""

    client = simulated(faults=(Fault("get_task", 403, message="Not yours."),))
    with pytest.raises(NotFound, match=r"'a/b' not found: Not yours\."):
        await task_status(client, "a/b")


async def test_list_filters() -> None:
    """The server filters the list."""
    client = simulated("one", "two")
    assert [found.slug.task_slug for found in await list_tasks(client, regex="^t", status="completed")] == [
        "two"
    ]
    assert client.arguments("list_tasks") == [("^t", "completed")]


@pytest.mark.parametrize(
    ("message", "line"),
    [("", ""), ("one", "one"), ("Traceback\n  File x\nValueError: no\n\n", "ValueError: no")],
)
def test_the_last_line_of_a_traceback(message: str, line: str) -> None:
    """The last line of a traceback is the exception."""
    assert last_line(message) == line
    assert error_line(message) == line


def test_the_line_of_an_exception_with_a_long_message() -> None:
    """If the message has several lines, the line is the one that names the exception, not the last."""
    try:
        raise ValueError("1 mistake\n  Invalid JSON\n    For further information visit https://errors")
    except ValueError:
        text = traceback.format_exc()
    assert error_line(text) == "ValueError: 1 mistake"
    assert error_line(text.partition("\n")[2]) == "ValueError: 1 mistake"  # without its beginning


INVALID = """ValidationError: 1 validation error for X
a
  Input should be a valid integer
    For further information visit https://errors
"""
BOX = "playwright.Error: no browser\n╔════╗\n║ Run ║\n╚════╝\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (INVALID, "ValidationError: 1 validation error for X"),
        (
            "------\nValidationError   Traceback (most recent call last)\nCell In[3], line 5\n      4 def f():\n"
            f"----> 5     x()\n\nFile /usr/lib/x.py:3, in f(a)\n      1 a\n\n{INVALID}",
            "ValidationError: 1 validation error for X",
        ),
        (
            '  + Exception Group Traceback (most recent call last):\n  |   File "a.py", line 3, in f\n  |     x()\n'
            "  | ExceptionGroup: two (1 sub-exception)\n  +-+---------------- 1 ----------------\n"
            '    | Traceback (most recent call last):\n    |   File "a.py", line 1, in g\n    | ValueError: a\n'
            "    +------------------------------------\n",
            "ValueError: a",
        ),
        (BOX, "playwright.Error: no browser"),
        (
            f'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    x()\n{BOX}',
            "playwright.Error: no browser",
        ),
        ("The first line\nHelp: https://x\n════\n", "Help: https://x"),
        ('  File "a.py", line 3, in f\n    x()\nKeyboardInterrupt\n', "KeyboardInterrupt"),
        ("════", "════"),
    ],
    ids=["message", "notebook", "group", "box", "box-with-frames", "no-name", "no-message", "nothing"],
)
def test_the_line_says_which_error_it_is(text: str, line: str) -> None:
    """In tracebacks of notebooks and of groups, and in messages alone, the line is the one that names the exception."""
    assert error_line(text) == line


@pytest.mark.parametrize(
    ("public", "notebook", "wanted", "calls", "became"),
    [
        (False, False, True, 1, "published"),
        (False, False, False, 1, "left private"),
        (True, False, True, 1, "published"),
        (True, False, False, 0, "left private"),
        (True, True, True, 0, "already published"),
        (True, True, False, 0, "left private"),
    ],
)
async def test_publish_makes_only_private_parts_public(
    public: bool, notebook: bool, wanted: bool, calls: int, became: str
) -> None:
    """Only what is not public yet is published, and the state of the notebook is returned."""
    client = simulated()
    task = client.add_task("t")
    task.is_public, task.is_notebook_public = public, notebook
    done = only(await publish_tasks(client, ["t"], publish_notebook=wanted))
    assert (client.calls["publish_task"], done.notebook, done.was_public) == (calls, became, public)


async def test_delete() -> None:
    """A task is deleted if the server can do so."""
    client = simulated("t", can_delete=True)
    only(await delete_tasks(client, ["t"]))
    assert client.tasks == {}


@pytest.mark.parametrize("status", [404, 501])
async def test_delete_on_a_server_without_the_call(status: int) -> None:
    """A server without the call gives the vendor's message."""
    client = simulated("t", faults=(Fault("delete_task", status),))
    with pytest.raises(FanbenchError, match=r"^Delete is not supported by the server yet\.$"):
        only(await delete_tasks(client, ["t"]))


async def test_delete_of_a_task_that_does_not_exist() -> None:
    """A missing task raises NotFound, which differs from a missing call."""
    with pytest.raises(NotFound):
        only(await delete_tasks(simulated(can_delete=True), ["t"]))


async def test_delete_passes_other_errors_on() -> None:
    """Any other error of the server is passed on."""
    client = simulated("t", faults=(Fault("delete_task", 500),))
    with pytest.raises(ServerFault):
        only(await delete_tasks(client, ["t"]))


TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO


@pytest.mark.parametrize(
    ("takes", "gives", "word"),
    [
        ([TEXT], [TEXT], "Text-to-Text"),
        ([TEXT, IMAGE], [TEXT], "Image-Text-to-Text"),
        ([TEXT, IMAGE, AUDIO], [AUDIO, TEXT, IMAGE], "Any-to-Any"),
        ([], [TEXT], "Unknown-to-Text"),
        ([], [], ""),
    ],
)
def test_modalities(takes: list[Modality], gives: list[Modality], word: str) -> None:
    """Modalities are formatted as by the vendor."""
    assert modalities(ModelVersion(input_modalities=takes, output_modalities=gives)) == word


def test_proxy_names_are_those_that_the_proxy_serves() -> None:
    """Names are the server's own; retired models and models that the proxy does not serve are left out."""
    retired = ModelVersion(
        slug="old", allow_model_proxy=True, deprecation_time=datetime(2020, 1, 1, tzinfo=UTC)
    )
    available = [
        model("a", proxy="o/a@default"),
        model("b"),
        model("c", allowed=False),
        BenchmarkModel(slug="old", version=retired),
        BenchmarkModel(slug="no-version"),
    ]
    assert proxy_names(available) == ["o/a@default", "b"]


@pytest.mark.parametrize(
    ("names", "default"),
    [
        ([], None),
        (["a/b", "c/d"], "a/b"),
        (
            ["a/b", "google/gemini-2.5-flash", "google/gemini-3-flash-preview"],
            "google/gemini-3-flash-preview",
        ),
        (["google/gemini-10.0-flash", "google/gemini-9.5-flash"], "google/gemini-10.0-flash"),
        (["x/y", "google/gemini-3-flash-lite", "google/gemini-3-pro"], "x/y"),
    ],
)
def test_the_default_is_the_newest_flash_or_the_first(names: list[str], default: str | None) -> None:
    """The default is the newest Flash model, not counting Lite and image models, or else the first model."""
    assert pick_default(names) == default
