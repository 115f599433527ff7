"""The operations of `fanbench.Client`, on both event loops, against a simulated Kaggle on a real socket."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from fanbench import (
    Client,
    FanbenchError,
    NotFound,
    Run,
    RunFailed,
    RunState,
    StillRunning,
    TaskFileError,
    UnknownModel,
    resolve_config,
)
from fanbench.operations.events import Event, RunChanged
from fanbench.testing import RunScript, Scenario, SimulatedKaggle, serve
from fanbench.wire.messages import CreationState

pytestmark = pytest.mark.anyio

TASK = "import kaggle_benchmarks as kb\n@kb.task(name='{name}')\ndef one(llm) -> bool: ...\none.run(kb.llm)\n"


#: A run that is over at once.
QUICK = RunScript(running=0.0, log=((0.0, "hello\n"),))
SLOW = RunScript(running=60.0)


@pytest.fixture
def kaggle() -> SimulatedKaggle:
    return SimulatedKaggle(Scenario(latency=0.0, creation=0.0, runs=QUICK), models=["four", "five"])


@pytest.fixture
async def client(kaggle: SimulatedKaggle) -> AsyncIterator[Client]:
    with serve(kaggle) as server:
        async with Client(resolve_config(endpoint=server.url, token="any-token", env={})) as client:
            yield client


def task_file(folder: Path, name: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(TASK.format(name=name))
    return path


# --- push ---


async def test_one_file_gives_what_was_pushed(client: Client, tmp_path: Path) -> None:
    """A file may be a path or a str, and with `wait` the push returns once the task is created."""
    path = task_file(tmp_path, "Red Fox")
    assert (await client.push(path)).slug == "red-fox"
    pushed = await client.push(str(path), task="red_fox", wait=True)
    assert (pushed.slug, pushed.created, pushed.new_version) == ("red-fox", True, True)


async def test_several_files_give_a_list_in_their_order(
    client: Client, kaggle: SimulatedKaggle, tmp_path: Path
) -> None:
    """Several files give one outcome each, in order, with an error for the one that failed."""
    kaggle.change(creation=60.0)
    kaggle.add_task("bad", age=0.0)
    kaggle.change(creation=0.0)
    files = [task_file(tmp_path, name) for name in ("a", "bad", "c")]
    first, second, third = await client.push(files)
    assert isinstance(second, FanbenchError)
    assert [getattr(item, "slug", None) for item in (first, third)] == ["a", "c"]


async def test_errors_of_one_file_are_raised(client: Client, kaggle: SimulatedKaggle, tmp_path: Path) -> None:
    """The error of a single file is raised, both for an invalid file and for a failed creation."""
    (tmp_path / "broken.py").write_text("def")
    with pytest.raises(TaskFileError):
        await client.push(tmp_path / "broken.py")
    with pytest.raises(TaskFileError):
        await client.push([task_file(tmp_path, "fine"), tmp_path / "broken.py"])
    assert kaggle.tasks == {}
    kaggle.change(creation=0.01, creation_end=CreationState.ERRORED)
    with pytest.raises(RunFailed, match="It broke"):
        await client.push(task_file(tmp_path, "fine"), wait=True)


# --- run, wait, lines ---


async def test_a_run_without_a_wait_gives_runs_to_go_on_with(client: Client, kaggle: SimulatedKaggle) -> None:
    """A run without `wait` returns runs that `wait` accepts, and returns in the same order."""
    kaggle.add_task("t")
    kaggle.add_run("t", "four", RunScript.errored(), age=10.0)
    kaggle.change(runs=RunScript(running=0.3))
    report = await client.run("t", ["four", "five"])
    assert {run.model_version_slug for run in report.runs} == {"four", "five"}
    ended = await client.wait(*report.runs)
    assert [run.id for run in ended] == [run.id for run in report.runs]
    assert {run.state for run in ended} == {RunState.COMPLETED}


async def test_a_run_with_a_wait_gives_the_ended_runs(client: Client, kaggle: SimulatedKaggle) -> None:
    """A run with `wait` returns the ended runs, also errored ones, and reports what happens."""
    kaggle.add_task("t")
    kaggle.change(runs={"four": RunScript(running=0.2), "five": RunScript(running=0.2, end=RunState.ERRORED)})
    seen: list[Event] = []
    report = await client.run(["t"], "*", wait=True, emit=seen.append)
    assert {(run.model_version_slug, run.state.label) for run in report.runs} == {
        ("four", "COMPLETED"),
        ("five", "ERRORED"),
    }
    assert any(isinstance(event, RunChanged) for event in seen)


async def test_a_task_is_waited_for_by_name(client: Client, kaggle: SimulatedKaggle) -> None:
    """A task name stands for all runs of the task."""
    kaggle.add_task("t")
    kaggle.add_run("t", "four")
    kaggle.change(runs=RunScript(running=0.2))
    await client.run("t", "five")
    assert [run.state.label for run in await client.wait("t")] == ["COMPLETED", "COMPLETED"]


async def test_a_wait_has_an_end(client: Client, kaggle: SimulatedKaggle) -> None:
    """The error of a timeout has the runs that have not ended."""
    kaggle.add_task("t")
    kaggle.change(runs=SLOW)
    report = await client.run("t", "four")
    with pytest.raises(StillRunning) as caught:
        await client.wait(*report.runs, timeout=0.1)
    assert [run.id for run in caught.value.runs] == [report.runs[0].id]


async def test_unknown_names_are_refused(client: Client, kaggle: SimulatedKaggle) -> None:
    """An unknown task raises NotFound, and a pattern without a match UnknownModel, with nothing scheduled."""
    with pytest.raises(UnknownModel, match="did you mean four"):
        await client.run("t", "fuor*")
    with pytest.raises(NotFound):
        await client.run("t", "four")
    assert kaggle.calls["schedule_runs"] == 0


async def test_the_lines_of_a_run(client: Client, kaggle: SimulatedKaggle) -> None:
    """The lines of an ended run are its whole log."""
    kaggle.add_task("t")
    kaggle.add_run("t", "four")
    (run,) = (await client.status("t")).runs
    async with aclosing(client.lines(run)) as lines:
        assert [line async for line in lines] == ["hello"]


async def test_the_lines_of_a_queued_run_are_waited_for(client: Client, kaggle: SimulatedKaggle) -> None:
    """The lines of a queued run are yielded once it runs."""
    kaggle.add_task("t")
    queued = kaggle.add_run("t", "four", replace(QUICK, queued=math.inf))
    (run,) = (await client.status("t")).runs
    got: list[str] = []

    async def read() -> None:
        async with aclosing(client.lines(run, poll_interval=0.05)) as lines:
            got.extend([line async for line in lines])

    async with anyio.create_task_group() as group:
        group.start_soon(read)
        await anyio.sleep(0.2)
        assert got == []
        queued.script = QUICK
    assert got == ["hello"]


async def test_an_ended_run_without_a_log(client: Client, kaggle: SimulatedKaggle) -> None:
    """The missing log of an ended run is an error at once."""
    kaggle.add_task("t")
    kaggle.add_run("t", "four", replace(QUICK, end=RunState.ERRORED, kept_log_delay=math.inf))
    (run,) = (await client.status("t")).runs
    with pytest.raises(NotFound, match="not available"):
        [line async for line in client.lines(run)]


# --- download, status ---


async def test_outputs_of_one_task(client: Client, kaggle: SimulatedKaggle, tmp_path: Path) -> None:
    """The report has one row per run, in the folder layout of the command line."""
    kaggle.add_task("t")
    run = kaggle.add_run("t", "four")
    kaggle.add_run("t", "five", SLOW)
    report = await client.download("T", output=str(tmp_path))
    assert [(row.outcome, row.path) for row in report.rows] == [("Done", tmp_path / "t/1/four" / str(run.id))]
    assert report.pending == 1
    again = await client.download("t", "four", output=tmp_path)
    assert [row.outcome for row in again.rows] == ["Cached"]


async def test_several_tasks(client: Client, kaggle: SimulatedKaggle, tmp_path: Path) -> None:
    """For several tasks, an error stands for a missing one; for a single task, it is raised."""
    kaggle.add_task("t")
    kaggle.add_run("t", "four")
    for outcomes in (
        await client.status(["t", "missing"]),
        await client.download(["t", "missing"], output=tmp_path),
    ):
        assert getattr(outcomes[0], "slug", None) == "t"
        assert isinstance(outcomes[1], NotFound)
    with pytest.raises(NotFound):
        await client.status("missing")
    with pytest.raises(NotFound):
        await client.download("missing", output=tmp_path)


# --- A client that is closed ---


async def test_a_closed_client_says_so_once(client: Client, tmp_path: Path) -> None:
    """Every operation on a closed client raises a single error, not one per item."""
    closed = Client(client.config)
    async with closed:
        pass
    path = task_file(tmp_path, "t")
    verbs: list[Callable[[], Awaitable[object]]] = [
        lambda: closed.push(path),
        lambda: closed.push([path, task_file(tmp_path, "u")], wait=True),
        lambda: closed.run(["t", "u"], "four"),
        lambda: closed.run("t", "four", wait=True),
        lambda: closed.wait("t"),
        lambda: closed.wait(Run(id=1), Run(id=2)),
        lambda: anext(closed.lines(Run(id=1))),
        lambda: closed.download("t"),
        lambda: closed.status(["t", "u"]),
    ]
    for verb in verbs:
        with pytest.raises(RuntimeError, match="not open"):
            await verb()
