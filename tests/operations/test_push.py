"""Pushes: files are checked before anything is sent, and then all are pushed at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import anyio
import pytest
from trio.testing import MockClock

from fanbench import FanbenchError, RunFailed, TaskFileError, UsageError
from fanbench.config import Anonymous, Basic, Bearer, Credentials
from fanbench.operations.events import EarlierPending, Event, VersionSuperseded
from fanbench.operations.lookup import UnsupportedByServer
from fanbench.operations.metadata import Edited
from fanbench.operations.push import (
    DatasetsDetached,
    NotCompared,
    Pushed,
    PushPlan,
    Uploaded,
    plan_push,
    push_tasks,
)
from fanbench.operations.watch import StillRunning
from fanbench.testing import SimulatedKaggle
from fanbench.wire.messages import CreationState, Task
from tests.operations.conftest import INSTANT, Reported, only, simulated

pytestmark = pytest.mark.anyio

SOURCE = """\
# %%
import kaggle_benchmarks as kbench

@kbench.task(name="{name}")
def one(llm) -> bool:
    return True

one.run(kbench.llm)
"""


def file(folder: Path, name: str = "My Task", at: str = "task.py") -> Path:
    path = folder / at
    path.write_text(SOURCE.format(name=name))
    return path


def plan(folder: Path, name: str = "t", at: str = "task.py") -> PushPlan:
    return plan_push([file(folder, name, at)])[0]


# --- Plans ---


@pytest.mark.parametrize("name", ["my-task", "My Task", "my_task"])
def test_a_task_is_found_in_every_spelling(tmp_path: Path, name: str) -> None:
    """A name in any spelling finds its task, and a spelling other than the slug is kept for the warning."""
    (made,) = plan_push([file(tmp_path)], name)
    assert (made.slug, made.typed) == ("my-task", None if name == "my-task" else name)


def test_without_a_name_the_decorator_names_the_task(tmp_path: Path) -> None:
    """Each of several files is named by its decorator."""
    plans = plan_push([file(tmp_path, "A", "a.py"), file(tmp_path, "B", "b.py")])
    assert [(made.slug, made.typed) for made in plans] == [("a", None), ("b", None)]


def test_a_name_goes_with_one_file(tmp_path: Path) -> None:
    """A name with several files is a usage error."""
    with pytest.raises(UsageError, match="one file"):
        plan_push([file(tmp_path, "A", "a.py"), file(tmp_path, "B", "b.py")], "a")


def test_two_tasks_with_one_slug_are_refused(tmp_path: Path) -> None:
    """Two tasks with one slug are refused, because the order of their versions would be undefined."""
    with pytest.raises(UsageError, match=r"a\.py and in .*b\.py"):
        plan_push([file(tmp_path, "A", "a.py"), file(tmp_path, "a", "b.py")])


def test_all_tasks_of_a_file(tmp_path: Path) -> None:
    """Each task of a file becomes a plan."""
    path = file(tmp_path, "A")
    path.write_text(path.read_text() + SOURCE.format(name="B").replace("one", "two"))
    assert [made.slug for made in plan_push([path], all_tasks=True)] == ["a", "b"]
    with pytest.raises(UsageError, match="several tasks"):
        plan_push([path])


def test_a_task_that_nothing_runs_is_refused_unless_allowed(tmp_path: Path) -> None:
    """A task that is never run is an error unless it is allowed."""
    path = file(tmp_path)
    path.write_text(path.read_text().replace("one.run(kbench.llm)", ""))
    with pytest.raises(TaskFileError):
        plan_push([path])
    assert plan_push([path], allow_no_run=True)[0].slug == "my-task"


def test_all_files_with_errors_are_named(tmp_path: Path) -> None:
    """The error names every file that cannot be pushed, and how to see all findings."""
    paths = [file(tmp_path, name, f"{name}.py") for name in "abc"]
    for path in paths[1:]:
        path.write_text(path.read_text().replace("one.run(kbench.llm)", ""))
    several = file(tmp_path, "d", "d.py")
    several.write_text(several.read_text() + SOURCE.format(name="E").replace("one", "two"))
    with pytest.raises(TaskFileError) as caught:
        plan_push([*paths, tmp_path / "missing.py", several])
    assert caught.value.file == str(paths[1])
    assert [note.partition(": ")[0] for note in caught.value.__notes__] == [
        f"{paths[2]}:5:1",
        f"{tmp_path / 'missing.py'}",
        f"{several} has several tasks",
    ]
    assert "fanbench check" in (caught.value.hint or "")


# --- On the server ---


async def test_a_push_sends_a_notebook(tmp_path: Path, reported: Reported) -> None:
    """A push of a new task sends one notebook, and its event has the URLs of version 1."""
    client = simulated()
    pushed = only(await push_tasks(client, [plan(tmp_path)], emit=reported))
    assert client.arguments("create_task") == [("t", ())]
    assert (pushed.new_version, pushed.created) == (False, False)
    assert pushed.url == "https://www.kaggle.com/benchmarks/tasks/me/t/1"
    assert pushed.output_url == "https://www.kaggle.com/benchmarks/tasks/me/t?compare=true"
    assert reported.of(Uploaded) == [Uploaded(pushed)]


async def test_the_source_is_sent_as_a_notebook(tmp_path: Path) -> None:
    """The text that is sent is a JSON notebook with the file's cells."""
    client = simulated()
    only(await push_tasks(client, [plan(tmp_path)]))
    cells = json.loads(client.tasks["t"].newest.text)["cells"]
    assert "import kaggle_benchmarks" in "".join(cells[0]["source"])


async def test_a_pending_earlier_version_is_an_error(tmp_path: Path) -> None:
    """Without `wait`, nothing is sent while an earlier version is being created."""
    client = simulated(creation=99)
    client.add_task("t", age=0)
    with pytest.raises(FanbenchError, match="still being created") as caught:
        only(await push_tasks(client, [plan(tmp_path)]))
    assert caught.value.hint
    assert "--wait" in caught.value.hint
    assert client.calls["create_task"] == 0


async def test_wait_includes_an_earlier_version_however_it_ends(tmp_path: Path, reported: Reported) -> None:
    """An earlier version that fails does not prevent the next push."""
    client = simulated(creation=0.05, creation_end=CreationState.ERRORED)
    client.add_task("t", age=0)
    with pytest.raises(RunFailed):
        only(await push_tasks(client, [plan(tmp_path)], wait=True, poll_interval=0.01, emit=reported))
    assert reported.of(EarlierPending) == [EarlierPending("t")]
    assert client.arguments("create_task") == [("t", ())]


async def test_wait_includes_the_creation(tmp_path: Path) -> None:
    """With `wait`, a push returns the task as it is once its creation is completed."""
    pushed = only(await push_tasks(simulated(creation=0.01), [plan(tmp_path)], wait=True, poll_interval=0.01))
    assert pushed.created
    assert pushed.task.creation_state == CreationState.COMPLETED


async def test_a_failed_creation_has_the_servers_reason(tmp_path: Path) -> None:
    """The error of a failed creation has the state and the server's reason."""
    client = simulated(creation=0.01, creation_end=CreationState.KERNEL_WITHOUT_RUN)
    with pytest.raises(RunFailed, match=r"(?s)KERNEL_WITHOUT_RUN.*It broke\."):
        only(await push_tasks(client, [plan(tmp_path)], wait=True, poll_interval=0.01))


async def test_the_timeout_covers_both_versions(tmp_path: Path) -> None:
    """The earlier version and the new one share the timeout."""
    with pytest.raises(StillRunning):
        only(
            await push_tasks(
                simulated(creation=99), [plan(tmp_path)], wait=True, timeout=0.05, poll_interval=0.01
            )
        )


async def test_a_push_that_the_server_refuses_in_its_answer(tmp_path: Path) -> None:
    """An answer with status 200 and an `error` is a failure."""
    with pytest.raises(FanbenchError, match="Too large"):
        only(await push_tasks(simulated(push_error="Too large."), [plan(tmp_path)]))


async def test_datasets_that_would_be_detached_are_reported(tmp_path: Path, reported: Reported) -> None:
    """Detached datasets are reported only if the push names none itself."""
    client = simulated()
    client.add_task("t", datasets=["o/d"])
    only(await push_tasks(client, [plan(tmp_path)], emit=reported))
    assert reported.of(DatasetsDetached) == [DatasetsDetached("t", ("o/d",))]
    reported.clear()
    only(await push_tasks(client, [plan(tmp_path)], datasets=["o/e"], emit=reported))
    assert reported.of(DatasetsDetached) == []


async def test_one_push_that_fails_does_not_end_the_others(tmp_path: Path) -> None:
    """The outcomes are in the order of the plans, whichever fails."""
    client = simulated(creation=99)
    client.add_task("b", age=0)
    plans = [plan(tmp_path, name, f"{name}.py") for name in ("a", "b", "c")]
    outcomes = await push_tasks(client, plans)
    assert [type(outcome) for outcome in outcomes] == [Pushed, FanbenchError, Pushed]


class Together(SimulatedKaggle):
    """Creates nothing before all tasks have been pushed."""

    async def get_task(self, task: str, *, version: int = 0, include_definition: bool = False) -> Task:
        if len(self.tasks) == 3:
            self.finish()
        return await super().get_task(task)


async def test_waiting_pushes_do_not_hold_back_others(tmp_path: Path) -> None:
    """Waiting pushes do not hold back others, even if only one call may be made at a time."""
    plans = [plan(tmp_path, name, f"{name}.py") for name in "abc"]
    client = Together(replace(INSTANT, creation=1e9))
    client.config = replace(client.config, concurrency=1)
    with anyio.fail_after(30):
        outcomes = await push_tasks(client, plans, wait=True, poll_interval=0.01)
    assert all(isinstance(outcome, Pushed) and outcome.created for outcome in outcomes)


async def test_an_earlier_version_in_an_unknown_state_does_not_block_a_push(tmp_path: Path) -> None:
    """Nobody can say whether such a version will ever end, so the server decides whether it takes another."""
    creating = CreationState("BENCHMARK_TASK_VERSION_CREATION_STATE_CHECKING")
    client = simulated(creation=60, creating=creating)
    await client.create_task("t", "{}")
    (pushed,) = await push_tasks(client, [plan(tmp_path)])
    assert isinstance(pushed, Pushed)
    assert client.tasks["t"].newest.number == 2


@pytest.mark.parametrize("typed", ["T", "me/T", "Me/t"])
async def test_ones_own_name_may_stand_before_a_task(tmp_path: Path, typed: str) -> None:
    """`me/t` is one's own task `t`."""
    client = simulated()
    client.config = replace(client.config, credentials=Basic("me", "key"))
    (pushed,) = await push_tasks(client, plan_push([plan(tmp_path).file.path], typed))
    assert isinstance(pushed, Pushed)
    assert list(client.tasks) == ["t"]


@pytest.mark.parametrize(
    ("credentials", "words"),
    [
        (Basic("you", "key"), "belongs to me, and you are you"),
        (Bearer("x"), ""),
        (Anonymous(), "does not say"),
    ],
)
async def test_a_push_to_somebody_elses_task_is_refused(
    tmp_path: Path, credentials: Credentials, words: str
) -> None:
    """Nothing is pushed to one's own task `t` if `me/t` was meant, and the user is not `me`."""
    client = simulated()
    client.config = replace(client.config, credentials=credentials)
    (outcome,) = await push_tasks(client, plan_push([plan(tmp_path).file.path], "me/t"))
    assert client.calls["create_task"] == (0 if words else 1)
    assert not words or (isinstance(outcome, UsageError) and words in outcome.message)


@pytest.mark.parametrize("anyio_backend", [("trio", {"clock": MockClock(autojump_threshold=0)})])
async def test_a_push_of_somebody_else_meanwhile(tmp_path: Path, reported: Reported) -> None:
    """If a newer version appears while ours is created, that is said once, and ours is waited for to its end."""
    client = simulated(creation=6.0, creation_end=CreationState.ERRORED)

    def emit(event: Event) -> None:
        reported(event)
        if isinstance(event, Uploaded):
            rival = client.add_task("t", "of somebody else", age=0.0)
            rival.versions[-1] = replace(rival.newest, ready_at=0.0, end=CreationState.COMPLETED)

    (outcome,) = await push_tasks(client, [plan(tmp_path)], wait=True, emit=emit)
    assert isinstance(outcome, RunFailed)
    assert reported.of(VersionSuperseded) == [VersionSuperseded("t", 1, 2)]
    assert client.now() >= 6.0


# --- Pages ---


def described(folder: Path, *, can_update: bool = True) -> tuple[PushPlan, SimulatedKaggle]:
    """The plan of a file with a block, and a Kaggle."""
    path = file(folder, "t")
    path.write_text(
        f'# /// fanbench\n# tags = ["Reasoning", "new"]\n# description = "D"\n# ///\n{path.read_text()}'
    )
    return plan_push([path])[0], simulated(can_update=can_update)


async def test_the_page_is_changed_once_the_version_is_there(tmp_path: Path) -> None:
    """What the block of the file says is sent after the creation, and a second push sends only what differs."""
    made, kaggle = described(tmp_path)
    pushed = only(await push_tasks(kaggle, [made], wait=True))
    assert isinstance(pushed.page, Edited)
    assert list(pushed.page.change.given) == ["description", "tags"]
    assert pushed.page.unknown_tags == ("new",)
    tags, rest = (arguments for _, call, arguments in kaggle.history if call == "update_task")
    assert (tags, rest) == (("t", 0, {"tags": ("Reasoning", "new")}), ("t", 1, {"description": "D"}))
    kaggle.tasks["t"].tags = ("reasoning", "new")
    pushed = only(await push_tasks(kaggle, [made], wait=True))
    assert isinstance(pushed.page, Edited)
    assert not pushed.page.change.given
    assert kaggle.calls["update_task"] == 2


async def test_without_a_block_or_a_wait_no_page_is_changed(tmp_path: Path) -> None:
    """A page that was written on the site stays, and nothing is sent before the version has been created."""
    made, kaggle = described(tmp_path)
    assert only(await push_tasks(kaggle, [made])).page is None
    plain = plan_push([file(tmp_path, "plain", "plain.py")])
    assert only(await push_tasks(kaggle, plain, wait=True)).page is None
    assert kaggle.calls["update_task"] == 0


async def test_a_page_that_cannot_be_changed_fails_no_push(tmp_path: Path) -> None:
    """On a server without the call, the push succeeds, and says why the page was not changed."""
    made, kaggle = described(tmp_path, can_update=False)
    pushed = only(await push_tasks(kaggle, [made], wait=True))
    assert pushed.created
    assert isinstance(pushed.page, UnsupportedByServer)


async def test_what_has_not_changed_is_not_pushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `if_changed`, a version whose run shows the same notebook is kept; any other content is pushed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    client = simulated()
    mine = plan(tmp_path)
    for runs, versions in ((0, 1), (0, 2), (1, 2)):
        for _ in range(runs):
            client.add_run("t", "m", age=9.0)
        events: list[Event] = []
        (pushed,) = await push_tasks(client, [mine], if_changed=True, wait=True, emit=events.append)
        assert [event for event in events if isinstance(event, NotCompared)] == (
            [NotCompared("t", 1)] if (runs, versions) == (0, 2) else []
        )
        assert isinstance(pushed, Pushed)
        assert (pushed.unchanged, pushed.task.slug.version_number) == (runs > 0, versions)
    (attached,) = await push_tasks(client, [mine], datasets=["me/words"], if_changed=True, wait=True)
    assert isinstance(attached, Pushed)
    assert (attached.unchanged, attached.task.slug.version_number) == (False, 3)


async def test_the_page_of_an_unchanged_version_is_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `if_changed`, the version that is there gets what the file says, without a wait."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made, kaggle = described(tmp_path)
    await push_tasks(kaggle, [made])
    kaggle.add_run("t", "m", age=9.0)
    pushed = only(await push_tasks(kaggle, [made], if_changed=True))
    assert pushed.unchanged
    assert isinstance(pushed.page, Edited)
    assert kaggle.tasks["t"].tags == ("reasoning",)
