"""Whether the server has the content of a file is known from a run of its version, and never guessed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fanbench.operations import contents
from fanbench.operations.contents import has_content
from fanbench.tasks import to_notebook
from fanbench.testing import Fault, RunScript, SimulatedKaggle
from fanbench.wire.messages import DockerImageDefinition, RunState, TaskDefinition
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio

SOURCE = "# %%\nimport kaggle_benchmarks as kbench\n\n# %% [markdown]\n# Why\n"
NOTEBOOK = to_notebook(SOURCE)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def kaggle(text: str = NOTEBOOK, *, runs: int = 1, end: RunState = RunState.COMPLETED) -> SimulatedKaggle:
    """A server with the task `t` on the dataset `me/words`, and runs of it that have ended."""
    server = SimulatedKaggle()
    server.add_task("t", text, datasets=["me/words"])
    for _ in range(runs):
        server.add_run("t", "m", RunScript(end=end), age=1e6)
    return server


async def compare(
    server: SimulatedKaggle, notebook: str = NOTEBOOK, datasets: tuple[str, ...] = ("me/words",)
) -> bool | None:
    return await has_content(server, await server.get_task("t"), notebook, datasets)


def stored(**cell: Any) -> str:
    """The notebook as a server may keep it: with metadata, ids and outputs of its own, and lines in a list."""
    notebook = json.loads(NOTEBOOK)
    for each in notebook["cells"]:
        text = "".join(each["source"])
        each |= {"id": "x", "metadata": {"_uuid": "1"}, "source": text.splitlines(keepends=True), **cell}
    notebook["cells"][0] |= {"execution_count": 3, "outputs": [{"output_type": "stream", "text": "hello"}]}
    return json.dumps(notebook | {"metadata": {"kaggle": {"isInternetEnabled": True}}})


@pytest.mark.parametrize("end", [RunState.COMPLETED, RunState.ERRORED])
async def test_the_output_of_a_run_tells(end: RunState) -> None:
    """The notebook of an ended run is that of its version, whatever the server has added to it."""
    server = kaggle(stored(), end=end)
    assert await compare(server) is True
    assert await compare(server, to_notebook(SOURCE + "# Because\n")) is False
    assert server.calls["download_output"] == 1, "a version never changes"


async def test_a_completed_run_is_looked_at_first() -> None:
    """An errored run may have no output that can be read, so one that has completed is asked before it."""
    server = kaggle(runs=0)
    for script in (RunScript(end=RunState.ERRORED, bad_zips=9), RunScript()):
        server.add_run("t", "m", script, age=1e6)
    assert await compare(server) is True


async def test_other_datasets_are_another_content() -> None:
    """Datasets are compared without a look at any run."""
    server = kaggle()
    assert await compare(server, datasets=()) is False
    assert await compare(server, datasets=("me/words", "me/more")) is False
    assert not server.calls["list_runs"]


@pytest.mark.parametrize("tags", [["skip-execution"], ["skip-execution", "x"]])
async def test_a_cell_that_is_not_run_is_another_content(tags: list[str]) -> None:
    """The tag with which a cell is not run belongs to the content."""
    assert await compare(kaggle(stored(metadata={"tags": tags}))) is False


async def test_nothing_is_known_without_an_ended_run() -> None:
    """Nothing shows the content of a version without a run, or whose run has not ended."""
    assert await compare(kaggle(runs=0)) is None
    running = kaggle(runs=0)
    running.add_run("t", "m", RunScript(running=1e9))
    assert await compare(running) is None


@pytest.mark.parametrize("broken", ["no notebook", '{"cells": 1}', "{}"])
async def test_an_output_that_shows_no_notebook_proves_nothing(broken: str) -> None:
    """What is in place of the notebook is not taken for one, and is asked for again."""
    server = kaggle(broken)
    assert [await compare(server), await compare(server)] == [None, None]
    assert server.calls["download_output"] == 2


async def test_an_output_that_cannot_be_downloaded_proves_nothing() -> None:
    """A failed download is no error, and no proof."""
    server = kaggle()
    server.change(faults=(Fault("download_output", status=404),))
    assert await compare(server) is None


async def test_a_large_output_is_not_downloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run with a large output, the download ends as soon as its size is known: a push is the lesser evil."""
    monkeypatch.setattr(contents, "_MOST", 100)
    assert await compare(kaggle()) is None


async def test_a_docker_image_is_no_notebook() -> None:
    """A task that is a Docker image has other content than any file, without a download."""
    server = kaggle()
    server.change(definition=TaskDefinition(docker_image=DockerImageDefinition()))
    assert await compare(server) is False
    assert not server.calls["download_output"]


async def test_a_server_that_says_no_definition_is_asked_for_an_output() -> None:
    """A server that does not know definitions answers without one; the run tells all the same."""
    server = kaggle()
    server.change(definition=None)
    assert await compare(server) is True


async def test_a_task_that_was_made_again_is_another() -> None:
    """What is kept of a version is not taken for that of another task by the same name."""
    assert await compare(kaggle()) is True
    again = SimulatedKaggle()
    again.add_task("t", to_notebook("# %%\n1\n"), datasets=["me/words"], age=5.0)
    again.add_run("t", "m", age=4.0)
    assert await compare(again) is False
