"""A plan checks all files first, then asks the server for everything at once, and changes nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import anyio
import msgspec
import pytest

from fanbench import FanbenchError, NotFound, TaskFileError, Unauthorized, UnknownModel, UsageError
from fanbench.config import Bearer
from fanbench.operations.lookup import UnsupportedByServer
from fanbench.results.scales import Scale
from fanbench.sweeps.attempts import content_identity, version_identity
from fanbench.sweeps.plan import SweepPlan, make_plan
from fanbench.sweeps.preview import preview
from fanbench.sweeps.resume import spec_of
from fanbench.sweeps.spec import Rules, SweepSpec, TaskChoice, classify
from fanbench.testing import Fault, SimulatedKaggle
from fanbench.wire.metadata import Metadata
from tests.operations.conftest import simulated
from tests.wire.scripted import in_virtual_time

pytestmark = pytest.mark.anyio
T = TypeVar("T")

SOURCE = """\
# %%
import kaggle_benchmarks as kbench
"""
TASK = """
@kbench.task(name="{name}")
def task_{number}(llm) -> bool:
    return True

task_{number}.run(kbench.llm)
"""


def file(folder: Path, *names: str, at: str = "") -> Path:
    """Write a file of tasks."""
    path = folder / (at or f"{names[0]}.py")
    path.write_text(SOURCE + "".join(TASK.format(name=name, number=at) for at, name in enumerate(names)))
    return path


def notebook(folder: Path, name: str, **fields: Any) -> Path:
    """Write a notebook with a title and one task. `fields` are those of the code cell."""
    code = {"cell_type": "code", "source": SOURCE + TASK.format(name=name, number=0), **fields}
    path = folder / f"{name}.ipynb"
    path.write_text(
        json.dumps({"nbformat": 4, "cells": [{"cell_type": "markdown", "source": "# Why"}, code]})
    )
    return path


def client(*slugs: str) -> SimulatedKaggle:
    return simulated(*slugs, models=["gemini-a", "gemini-b", "claude"], versions=3)


def spec(*tasks: Path | str, models: Sequence[str] = ("claude",), **more: Any) -> SweepSpec:
    chosen = (TaskChoice(file=one) if isinstance(one, Path) else TaskChoice(slug=one) for one in tasks)
    return SweepSpec(tasks=tuple(chosen), models=tuple(models), **more)


async def plan(server: SimulatedKaggle, wanted: SweepSpec) -> SweepPlan:
    return await make_plan(server, wanted)


# --- Plans ---


async def test_files_and_slugs_make_a_plan(tmp_path: Path) -> None:
    """Tasks come in the order given, and patterns of models in the order of the server."""
    server = client("b", "me/x")
    made = await plan(
        server,
        spec(
            file(tmp_path, "b"),
            "me/x",
            file(tmp_path, "a"),
            models=["claude", "gemini-*"],
            repeats=2,
            timeout=9,
        ),
    )
    assert [one.slug for one in made.tasks] == ["b", "me/x", "a"]
    assert made.models == ("claude", "gemini-a", "gemini-b")
    assert (made.repeats, made.output, made.rules) == (2, Path("results"), Rules(timeout=9))
    pushed, existing, new = made.tasks
    assert pushed.notebook
    assert pushed.identity == content_identity(pushed.notebook, [])
    assert (pushed.file, pushed.seen) == (tmp_path / "b.py", server.tasks["b"].message(server.now()))
    assert pushed.seen is not None
    assert pushed.seen.slug.version_number == 3
    assert (existing.notebook, existing.identity) == (None, version_identity(3))
    assert new.seen is None


async def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    """A plan makes one call per task, and one for the models."""
    server = client("x")
    await plan(server, spec(file(tmp_path, "a"), "x"))
    assert sorted(call for _, call, _ in server.history) == ["get_task", "get_task", "list_models"]


async def test_a_file_stands_for_all_its_tasks(tmp_path: Path) -> None:
    """A file gives its tasks in their order, or the one that is named, in any spelling."""
    path = file(tmp_path, "Second Task", "First Task")
    every = await plan(client(), spec(path))
    assert [one.slug for one in every.tasks] == ["second-task", "first-task"]
    assert len({one.notebook for one in every.tasks}) == 1
    chosen = SweepSpec(tasks=(TaskChoice(file=path, name="first_task"),), models=("claude",))
    assert [one.slug for one in (await plan(client(), chosen)).tasks] == ["first-task"]


async def test_own_datasets_replace_those_for_all(tmp_path: Path) -> None:
    """A task's own datasets count, even if there are none, and each is attached once."""
    choices = (
        TaskChoice(file=file(tmp_path, "a")),
        TaskChoice(file=file(tmp_path, "b"), datasets=()),
        TaskChoice(file=file(tmp_path, "c"), datasets=("me/own", "me/own")),
    )
    made = await plan(client(), SweepSpec(tasks=choices, models=("claude",), datasets=("me/all",)))
    assert [one.datasets for one in made.tasks] == [("me/all",), (), ("me/own",)]
    assert len({one.identity for one in made.tasks}) == 3


async def test_the_same_file_makes_the_same_identity(tmp_path: Path) -> None:
    """The identity does not depend on where the file is."""
    (tmp_path / "other").mkdir()
    first = await plan(client(), spec(file(tmp_path, "a")))
    second = await plan(client(), spec(file(tmp_path / "other", "a")))
    assert first.tasks[0].identity == second.tasks[0].identity


async def test_all_models_are_those_that_the_server_lists(tmp_path: Path) -> None:
    """`all_models` selects every model of the server."""
    wanted = SweepSpec(tasks=(TaskChoice(slug="x"),), all_models=True)
    assert (await plan(client("x"), wanted)).models == ("gemini-a", "gemini-b", "claude")
    with pytest.raises(UnknownModel, match="The server has no models"):
        await plan(simulated("x"), wanted)


async def test_files_are_read_in_threads(tmp_path: Path) -> None:
    """By default, reading and converting do not block the event loop."""
    made = await make_plan(client(), spec(file(tmp_path, "a")))
    assert made.tasks[0].notebook


async def test_running_a_notebook_is_no_change_of_the_task(tmp_path: Path) -> None:
    """A notebook has its own cells in the plan, and the same identity after it was executed."""
    path = notebook(tmp_path, "a")
    (before,) = (await plan(client(), spec(path))).tasks
    assert "# Why" in (before.notebook or "")
    output = {"output_type": "stream", "name": "stdout", "text": "done"}
    notebook(tmp_path, "a", id="other", execution_count=3, outputs=[output])
    (after,) = (await plan(client(), spec(path))).tasks
    assert after.identity == before.identity


async def test_a_task_and_its_notebook_are_not_both_taken(tmp_path: Path) -> None:
    """If a Python file and a notebook define the same task, the error names both, and the pattern without notebooks."""
    source = file(tmp_path, "a")
    message = r"Task 'a' is given twice: by .*a\.py and by .*a\.ipynb"
    with pytest.raises(UsageError, match=message) as caught:
        await plan(client(), spec(source, notebook(tmp_path, "a")))
    assert f"`fanbench sweep '{tmp_path}/*.py'`" in str(caught.value.hint)


async def test_a_file_with_two_sets_of_datasets_is_refused(tmp_path: Path) -> None:
    """One file is not taken for a file in two formats."""
    path = file(tmp_path, "a")
    choices = (TaskChoice(file=path), TaskChoice(file=path, datasets=("me/d",)))
    with pytest.raises(UsageError, match="given twice") as caught:
        await plan(client(), SweepSpec(tasks=choices, models=("claude",)))
    assert caught.value.hint == "Leave one out, or rename one."


async def test_the_same_task_is_taken_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is named twice, by other spellings of its path or its slug, is planned once."""
    monkeypatch.chdir(tmp_path)
    path = file(tmp_path, "a", "b")
    (tmp_path / "link.py").symlink_to(path)
    (tmp_path / "linked").symlink_to(tmp_path)
    names = ["a.py", "a.py", "./a.py", str(path), "link.py", "linked/a.py", "a.py::b", "x", "X"]
    words = await anyio.to_thread.run_sync(classify, names)
    made = await plan(client("x"), SweepSpec(tasks=words.tasks, models=("claude",)))
    assert [one.slug for one in made.tasks] == ["a", "b", "x"]


async def test_a_task_that_is_named_twice_has_its_declared_scale(tmp_path: Path) -> None:
    """A pattern may name the files, and a table the scale of one of them; two scales of a task are refused."""
    path = file(tmp_path, "a")
    plain, percent = TaskChoice(file=path), TaskChoice(file=path, scale=Scale(0, 100))
    for choices in ((plain, percent), (percent, plain), (percent, percent)):
        (task,) = (await plan(client(), SweepSpec(tasks=choices, models=("claude",)))).tasks
        assert task.scale == Scale(0, 100)
    other = TaskChoice(file=path, scale=Scale(0, 10))
    with pytest.raises(UsageError, match="Two scales are declared for task 'a'"):
        await plan(client(), SweepSpec(tasks=(percent, other), models=("claude",)))


async def test_a_declared_page_takes_the_place_of_what_the_file_says(tmp_path: Path) -> None:
    """Value by value, whichever mention of the task declares it; two pages of a task are refused."""
    path = file(tmp_path, "a")
    path.write_text(f'# /// fanbench\n# provenance = "P"\n# tags = ["a"]\n# ///\n{path.read_text()}')
    plain, tagged = TaskChoice(file=path), TaskChoice(file=path, page=Metadata(tags=("b",)))
    for choices in ((plain, tagged), (tagged, plain), (tagged, tagged)):
        (task,) = (await plan(client(), SweepSpec(tasks=choices, models=("claude",)))).tasks
        assert task.page == Metadata(provenance="P", tags=("b",))
        assert task.declared_page == Metadata(tags=("b",))
    (task,) = (await plan(client(), SweepSpec(tasks=(plain,), models=("claude",)))).tasks
    assert (task.page, task.declared_page) == (Metadata(provenance="P", tags=("a",)), None)
    other = TaskChoice(file=path, page=Metadata(tags=("c",)))
    with pytest.raises(UsageError, match="Two pages are declared for task 'a'"):
        await plan(client(), SweepSpec(tasks=(tagged, other), models=("claude",)))


async def test_a_folder_gives_the_files_that_have_tasks(tmp_path: Path) -> None:
    """Files of a folder without a task are skipped and named; a folder without any task is refused."""
    folder = tmp_path / "tasks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "helper.py").write_text("x = 1\n")
    (other := tmp_path / "more").mkdir()
    (other / "helper.py").write_text("x = 1\n")
    for folders, number in ([folder], 2), ([folder, other], 3):
        words = await anyio.to_thread.run_sync(classify, folders)
        wanted = SweepSpec(tasks=words.tasks, models=("claude",))
        with pytest.raises(TaskFileError, match=f"None of the {number} files here has a task") as caught:
            await plan(client(), wanted)
        assert caught.value.file == ", ".join(map(str, folders))
    file(folder, "a")
    words = await anyio.to_thread.run_sync(classify, [folder])
    wanted = SweepSpec(tasks=words.tasks, models=("claude",))
    made = await plan(client(), wanted)
    assert [one.slug for one in made.tasks] == ["a"]
    assert made.skipped == (folder / "__init__.py", folder / "helper.py")
    assert f"{folder / 'helper.py'} has no task, and is skipped." in preview(made).warnings
    (folder / "helper.py").write_text("x = (\n")
    with pytest.raises(TaskFileError, match=r"helper\.py:1"):
        await plan(client(), wanted)


# --- Refused before any call ---


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (SweepSpec(models=("m",)), "No task is given"),
        (SweepSpec(tasks=(TaskChoice(slug="x"),)), "No model is given"),
        (SweepSpec(tasks=(TaskChoice(slug="x"),), models=("m",), all_models=True), "cannot be used together"),
        (spec("x", repeats=0), "repeats must be 1 or more"),
        (spec("x", timeout=float("nan")), "timeout must be more than 0"),
        (spec("+"), "not a task name"),
        (spec(Path("a.txt")), "a.txt"),
        (spec(Path("no.py")), "no.py"),
    ],
)
async def test_an_invalid_request_is_refused(wanted: SweepSpec, message: str) -> None:
    """Invalid requests are refused before any call."""
    server = client("x", "y")
    with pytest.raises(FanbenchError) as caught:
        await plan(server, wanted)
    assert message in str(caught.value)
    assert server.history == []


async def test_bad_files_refuse_the_plan(tmp_path: Path) -> None:
    """The error has the place of the first mistake, its notes those of the others, and no call is made."""
    bad = tmp_path / "bad.py"
    bad.write_text("# %%\nx = (\n")
    server = client()
    with pytest.raises(TaskFileError, match=r"bad\.py:2") as caught:
        await plan(server, spec(file(tmp_path, "a"), bad, tmp_path / "missing.py"))
    assert caught.value.__notes__ == [f"{tmp_path / 'missing.py'}: The file does not exist."]
    assert server.history == []


async def test_a_file_without_a_task_is_refused(tmp_path: Path) -> None:
    """A file that was named must contain a task."""
    path = tmp_path / "empty.py"
    path.write_text("# %%\nx = 1\n")
    with pytest.raises(TaskFileError, match=r"empty\.py"):
        await plan(client(), spec(path))


@pytest.mark.parametrize("dataset", ["x", "a/b/c", "a/", "", "a b/c", "a/b "])
async def test_a_dataset_has_an_owner_and_a_name(tmp_path: Path, dataset: str) -> None:
    """A dataset without an owner is refused, because the server would attach nothing."""
    with pytest.raises(UsageError, match="is not a dataset"):
        await plan(client(), spec(file(tmp_path, "a"), datasets=(dataset,)))


async def test_a_task_is_in_a_sweep_once(tmp_path: Path) -> None:
    """A task from two files, or from a file and the server, is refused."""
    again = file(tmp_path, "A", at="again.py")
    with pytest.raises(UsageError, match=r"by .*a\.py and by .*again\.py"):
        await plan(client(), spec(file(tmp_path, "a"), again))
    with pytest.raises(UsageError, match=r"by the slug a and by .*a\.py"):
        await plan(client("a"), spec("a", file(tmp_path, "a")))


# --- Refused by the server's answers ---


async def test_a_task_is_the_same_with_and_without_its_owner() -> None:
    """The server's answer tells that both names mean one task."""
    server = simulated("x", models=["claude"])
    with pytest.raises(UsageError, match="by the slug x and by the slug me/x"):
        await plan(server, spec("x", "me/x"))


async def test_tasks_of_two_owners_may_have_one_name() -> None:
    """Tasks of two owners with the same name are two tasks."""
    server = simulated("me/x", "you/x", models=["claude"])
    assert [one.slug for one in (await plan(server, spec("me/x", "you/x"))).tasks] == ["me/x", "you/x"]


async def test_all_unknown_tasks_are_named_at_once(tmp_path: Path) -> None:
    """All unknown slugs are listed with similar names, but tasks from files need not exist."""
    with pytest.raises(NotFound) as caught:
        await plan(client("sums", "x"), spec("sum", "x", "zebra", file(tmp_path, "new")))
    assert caught.value.message == "No such tasks:\n  sum (did you mean sums?)\n  zebra"


async def test_a_mistyped_task_is_found_among_many() -> None:
    """Hundreds of tasks are searched for a similar name."""
    many = [f"number-{at}" for at in range(300)]
    with pytest.raises(NotFound, match=r"sums-of-tree \(did you mean sums-of-three\?\)"):
        await plan(client(*many, "sums-of-three"), spec("sums-of-tree"))


async def test_an_unknown_task_is_reported_even_if_the_list_fails() -> None:
    """The similar names only improve the message."""

    server = simulated(models=["claude"], faults=(Fault("list_tasks"),))
    with pytest.raises(NotFound, match="No such task:\n  x"):
        await plan(server, spec("x"))


async def test_models_that_the_server_does_not_list_are_in_the_plan() -> None:
    """They are planned, because the scheduler decides, and the plan warns with names close to them."""
    made = await plan(client("x"), spec("x", models=["gemini-c", "claude"]))
    assert made.models == ("gemini-c", "claude")
    (warning,) = preview(made).warnings
    assert warning.startswith("The server does not list the model gemini-c (did you mean gemini-")


async def test_a_server_that_refuses_is_reported_once() -> None:
    """The error is neither "no such task" nor repeated for each call."""
    server = client("x", "y")
    server.change(faults=(Fault("get_task", 401, message="who?", times=2),))
    with pytest.raises(Unauthorized, match=r"who\?"):
        await plan(server, spec("x", "y"))


def test_calls_and_conversion_run_at_once(tmp_path: Path) -> None:
    """Twenty tasks take as long as one."""

    async def in_a_second(work: Callable[[], T]) -> T:
        await anyio.sleep(1)
        return work()

    async def main() -> float:
        server = simulated(*(f"t{number}" for number in range(20)), models=["claude"], latency=1.0)
        begun = anyio.current_time()
        await make_plan(server, spec(*server.tasks, file(tmp_path, "a")), offload=in_a_second)
        return anyio.current_time() - begun

    assert in_virtual_time(main) == 2.0  # one for reading the files, one for all the rest


# --- What to make again ---


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["a:claude"], ["a:claude"]),
        (["*:claude", "a:gemini-*"], ["a:gemini-a", "a:gemini-b", "a:claude", "me/x:claude"]),
        (["me/x:gemini-a"], ["me/x:gemini-a"]),
        (["X:google/gemini-a"], ["me/x:gemini-a"]),
        (["*x:gemini-?"], ["me/x:gemini-a", "me/x:gemini-b"]),
        (["a*:claude", "me/*:claude"], ["a:claude", "me/x:claude"]),
    ],
)
async def test_what_to_make_again_is_named_by_task_and_model(asked: list[str], found: list[str]) -> None:
    """Names and patterns, with owners or without, stand for all repeats; the saved sweep does not have them."""
    wanted = spec("a", "me/x", models=["gemini-*", "claude"], repeats=2, rerun=tuple(asked))
    made = await plan(client("a", "me/x"), wanted)
    named = [f"{run.task}:{run.model}" for run in made.rerun]
    assert named == [name for name in found for _ in range(2)]
    saved = spec_of(made)
    assert saved is not None
    assert saved.rerun == ()


@pytest.mark.parametrize(
    ("asked", "message", "hint"),
    [
        ("a", "--rerun takes TASK:MODEL, not 'a'", "'my-task:*'"),
        (":claude", "--rerun takes TASK:MODEL, not ':claude'", "'my-task:*'"),
        (
            "b:claude",
            "--rerun b:claude: the sweep has no such run",
            "Its tasks are a. Its models are claude.",
        ),
        ("*:gemini-*", "the sweep has no such run", "Its tasks are a. Its models are claude."),
    ],
)
async def test_what_is_not_planned_cannot_be_made_again(asked: str, message: str, hint: str) -> None:
    """The error names the tasks and models there are."""
    with pytest.raises(UsageError, match=re.escape(message)) as caught:
        await plan(client("a"), spec("a", rerun=("a:*", asked)))
    assert hint in str(caught.value.hint)


# --- Benchmarks ---


def with_benchmark(*slugs: str) -> SimulatedKaggle:
    """A Kaggle with tasks at version 3, all of them in the benchmark `them/bench`, and credentials of `me`."""
    server = client(*slugs)
    server.config = replace(server.config, credentials=Bearer("a-token"))
    server.benchmarks["them", "bench"] = [server.tasks[slug].version_slug(3) for slug in slugs]
    return server


async def test_the_tasks_of_a_benchmark_are_run_as_they_are() -> None:
    """They are planned in its order, one's own by their short names, and none of them is pushed."""
    made = await plan(with_benchmark("them/x", "b"), spec(benchmark="them/bench"))
    assert [(one.slug, one.notebook) for one in made.tasks] == [("them/x", None), ("b", None)]
    assert [one.identity for one in made.tasks] == [version_identity(3)] * 2
    resumed = spec_of(made)
    assert resumed is not None
    assert [choice.slug for choice in resumed.tasks] == ["them/x", "b"]


async def test_a_task_that_is_named_as_well_is_planned_once(tmp_path: Path) -> None:
    """What is named by its file is pushed, and what is named by its slug, long or short, comes first."""
    server = with_benchmark("them/x", "b", "c")
    made = await plan(server, spec("me/c", file(tmp_path, "b"), benchmark="them/bench"))
    assert [(one.slug, one.notebook is None) for one in made.tasks] == [
        ("me/c", True),
        ("b", False),
        ("them/x", True),
    ]


async def test_another_version_than_that_of_the_benchmark_is_said() -> None:
    """The newest version is run, and the plan warns if the benchmark has an earlier one."""
    server = with_benchmark("them/x", "b")
    server.benchmarks["them", "bench"][1] = server.tasks["b"].version_slug(2)
    made = await plan(server, spec(benchmark="them/bench"))
    assert preview(made, None).warnings == (
        "b is run at version 3, its newest; the benchmark has version 2.",
    )


async def test_runs_are_queued_for_a_benchmark_of_ones_own(tmp_path: Path) -> None:
    """Of the tasks that it has as they are run, also when the sweep is resumed, and not where the budget counts."""
    server = with_benchmark("b", "c", "d", "e")
    server.benchmarks["me", "bench"] = server.benchmarks.pop(("them", "bench"))
    server.benchmarks["me", "bench"][1] = server.tasks["c"].version_slug(2)
    wanted = spec("e", file(tmp_path, "d"), benchmark="bench", enqueue="auto")
    made = await plan(server, wanted)
    resumed = spec_of(made)
    assert resumed is not None
    for each in (made, await plan(server, resumed)):
        queued = {task.slug: each.attributed_to(task) for task in each.tasks}
        assert queued == {"e": "me/bench", "d": "", "b": "me/bench", "c": ""}
        assert any("the benchmark me/bench" in line for line in preview(each, None).lines())
    for changes in ({"max_cost": 5.0}, {"enqueue": "never"}):
        made = await plan(server, msgspec.structs.replace(wanted, **changes))
        assert not any(map(made.attributed_to, made.tasks))
    server.benchmarks["them", "bench"] = server.benchmarks["me", "bench"]
    made = await plan(server, spec(benchmark="them/bench", enqueue="auto"))
    assert not any(map(made.attributed_to, made.tasks))


@pytest.mark.parametrize(
    ("benchmark", "kind", "words"),
    [
        ("them/empty", UsageError, "'them/empty' has no tasks"),
        ("them/none", NotFound, "No such benchmark"),
        ("a/b/c", UsageError, "'a/b/c' is not a benchmark"),
    ],
)
async def test_benchmarks_without_tasks(benchmark: str, kind: type[Exception], words: str) -> None:
    """A benchmark that does not exist, has no tasks, or has no valid name is an error."""
    server = with_benchmark("b")
    server.benchmarks["them", "empty"] = []
    with pytest.raises(kind, match=words):
        await plan(server, spec(benchmark=benchmark))


async def test_a_server_that_cannot_list_them() -> None:
    """A server that would answer with all tasks of the user is found out before anything is run."""
    server = with_benchmark("b")
    server.change(has_benchmarks=False)
    with pytest.raises(UnsupportedByServer, match="cannot list the tasks of a benchmark"):
        await plan(server, spec(benchmark="them/bench"))
