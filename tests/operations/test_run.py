"""Scheduling: what is refused before, what is sent, and what is waited for after."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from fanbench import ApiError, FanbenchError, NotFound, UnknownModel, UsageError
from fanbench.operations.candidates import find_candidates
from fanbench.operations.events import Event, TaskFailed
from fanbench.operations.models import runs_on
from fanbench.operations.queue import CannotEnqueue, NotEnqueued
from fanbench.operations.run import Launched, ModelsUnlisted, run_tasks
from fanbench.testing import Fault, RunScript, SimulatedKaggle
from fanbench.wire.messages import (
    BenchmarkModel,
    CreationState,
    ModelVersion,
    QueueSettings,
    Run,
    RunState,
    ScheduleResult,
)
from tests.operations.conftest import Reported, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


def client_with(*slugs: str, **scripts: RunScript | None) -> SimulatedKaggle:
    return simulated(*slugs, models=["m", "n"], runs=scripts)


async def test_each_task_is_scheduled_in_one_call() -> None:
    """All models of a task go in one call, in the user's order and without duplicates."""
    client = client_with("a", "b")
    await run_tasks(client, ["a", "B"], ["n", "x/m", "m"])
    sent = client.arguments("schedule_runs")
    assert sorted(sent, key=str) == [("a", ("n", "m")), ("b", ("n", "m"))]


class LocalServer(SimulatedKaggle):
    """A server that lets clients choose the judge, and records it."""

    judges: tuple[str, ...] = ()

    async def schedule_runs(self, *arguments: Any, judge: str = "", **settings: Any) -> list[ScheduleResult]:
        self.judges += (judge,)
        return await super().schedule_runs(*arguments, **settings)


async def test_the_judge_is_sent_by_its_slug() -> None:
    """The judge is sent as the slug of one model; without one, nothing is sent."""
    client = LocalServer(client_with("a").scenario, models=["m", "n"])
    client.add_task("a")
    await run_tasks(client, ["a"], ["m"], judge="google/n")
    await run_tasks(client, ["a"], ["n"])
    assert client.judges == ("n", "")


@pytest.mark.parametrize(
    ("judge", "endpoint", "words"),
    [
        ("nobody", "http://127.0.0.1:7777", "Unknown model"),
        ("*", "http://127.0.0.1:7777", "matches 2 models"),
        ("m", "https://api.kaggle.com", "works with a local server only"),
    ],
)
async def test_a_judge_that_cannot_be_is_refused(judge: str, endpoint: str, words: str) -> None:
    """A judge that is not one model, and any judge for Kaggle, is refused before anything is scheduled."""
    client = client_with("a")
    client.config = replace(client.config, endpoint=endpoint)
    with pytest.raises((UsageError, UnknownModel), match=re.escape(words)):
        await run_tasks(client, ["a"], ["m"], judge=judge)
    assert client.calls["schedule_runs"] == 0
    assert client.calls["list_models"] == ("kaggle.com" not in endpoint)


async def test_without_wait_nothing_is_listed() -> None:
    """Without a wait there is no need to tell new runs from old ones, so no run is listed."""
    client = client_with("a")
    report = await run_tasks(client, ["a"], ["m"])
    assert client.calls["list_runs"] == 0
    assert [row.state for row in report.launches[0].rows] == ["Scheduled"]


async def test_a_skipped_model_has_the_servers_reason() -> None:
    """The server's reason for a skipped model is passed on."""
    client = client_with("a", m=None)
    report = await run_tasks(client, ["a"], ["m", "n"])
    assert [row.state for row in report.launches[0].rows] == [
        "Skipped (The model is not available.)",
        "Scheduled",
    ]


async def test_only_what_was_scheduled_is_waited_for() -> None:
    """An old errored run of the same model neither ends nor fails the wait."""
    client = client_with("a", m=RunScript(running=7))
    client.add_run("a", "m", RunScript(running=0, end=RunState.ERRORED))
    report = await run_tasks(client, ["a"], ["m"], until="ended")
    assert [(run.id, run.state) for run in report.runs] == [(1002, RunState.COMPLETED)]
    assert client.now() == 7


async def test_a_skipped_models_run_in_flight_is_waited_for() -> None:
    """For a skipped model the run in flight is waited for, and an older one that has ended is not."""
    client = client_with("a", m=None)
    client.add_run("a", "m", RunScript(running=0, end=RunState.ERRORED))
    flying = client.add_run("a", "m", RunScript(running=20)).id
    report = await run_tasks(client, ["a"], ["m"], until="ended")
    assert [(run.id, run.state) for run in report.runs] == [(flying, RunState.COMPLETED)]
    assert report.launches[0].selection.ids == {flying}


async def test_a_skip_for_another_reason_is_not_waited_for() -> None:
    """If a model is skipped and no run is in flight, there is nothing to wait for."""
    client = client_with("a", m=None)
    report = await run_tasks(client, ["a"], ["m"], until="ended")
    assert report.runs == ()


async def test_the_server_decides_about_a_model_that_it_does_not_list(reported: Reported) -> None:
    """A name that is not listed is sent with a warning, and the names close to it are in the refusal, too."""
    client = simulated("a", models=["gemini-2.5-pro", "claude"])
    with pytest.raises(NotFound, match=r"No such model: gemini-2\.5-prro") as caught:
        await run_tasks(client, ["a"], ["claude", "google/gemini-2.5-prro"], emit=reported)
    close = "gemini-2.5-prro (did you mean gemini-2.5-pro?)"
    assert caught.value.hint
    assert f"claude, {close};" in caught.value.hint
    assert [event.text for event in reported.of(ModelsUnlisted)] == [
        f"The server does not list the model {close}; it decides whether to run it."
    ]
    assert client.runs == {}


@pytest.mark.parametrize("status", [403, 404, 500])
async def test_models_that_cannot_be_listed(status: int, reported: Reported) -> None:
    """Where the list of models fails, names are sent as they are, and patterns fail with the list's error."""
    client = simulated("a", faults=(Fault("list_models", status, times=9),))
    report = await run_tasks(client, ["a"], ["google/m@default"], until="ended", emit=reported)
    assert [run.model_version_slug for run in report.runs] == ["m-default"]
    assert len(reported.of(ModelsUnlisted)) == 1
    with pytest.raises(ApiError) as caught:
        await run_tasks(client, ["a"], ["m*"])
    assert caught.value.status == status


@pytest.mark.parametrize("models", [[], ["m"]])
async def test_runs_are_found_under_another_name_of_their_model(models: list[str]) -> None:
    """The server may list a run on `m` as one on `m-default`, whose end is waited for, whether it lists `m` or not."""
    client = simulated(
        "a",
        "b",
        models=models,
        spell_model=lambda model: f"owner/{model}@default",
        runs=RunScript(running=5),
    )
    report = await run_tasks(client, ["a", "b"], ["m"], until="ended")
    assert [(run.model_version_slug, run.state) for run in report.runs] == [("m", RunState.COMPLETED)] * 2
    again = await run_tasks(client, ["a"], ["m"], until="scheduled")
    skipped = await run_tasks(client, ["a"], ["m"], until="ended")
    assert not skipped.launches[0].rows[0].scheduled
    assert again.launches[0].rows[0].scheduled
    assert [run.id for run in skipped.runs] == [max(client.runs)]


@pytest.mark.parametrize("state", [CreationState.RUNNING, CreationState.ERRORED])
async def test_a_task_that_is_not_completed_is_refused(state: CreationState) -> None:
    """A task that is not completed is refused with its state."""
    client = simulated(models=["m"], creation=99 if state.pending else 0, creation_end=state)
    client.add_task("a", age=0)
    with pytest.raises(FanbenchError, match=rf"not ready to run \(status: {state.label}\)"):
        await run_tasks(client, ["a"], ["m"])
    assert client.calls["schedule_runs"] == 0


async def test_a_task_that_does_not_exist() -> None:
    """A missing task raises NotFound with a hint."""
    with pytest.raises(NotFound, match="'a' not found") as caught:
        await run_tasks(client_with(), ["a"], ["m"])
    assert caught.value.hint
    assert "tasks list" in caught.value.hint


async def test_a_failed_task_does_not_affect_the_others(reported: Reported) -> None:
    """A failure is reported in its place, and the other tasks are scheduled and waited for."""
    client = client_with("a", "c", m=RunScript(running=3))
    report = await run_tasks(client, ["a", "b", "c"], ["m"], until="ended", emit=reported)
    order = [event for event in reported if isinstance(event, Launched | TaskFailed)]
    assert [type(event) for event in order] == [Launched, TaskFailed, Launched]
    assert [failure.slug for failure in report.failures] == ["b"]
    assert len(report.runs) == 2


# --- Names of models ---


def versioned(slug: str, version: str, proxy: str = "") -> BenchmarkModel:
    return BenchmarkModel(slug=slug, version=ModelVersion(slug=version, model_proxy_slug=proxy))


MODELS = [
    versioned("gemini-2.5-pro", "gemini-2.5-pro", "google/gemini-2.5-pro"),
    versioned("gemini-2.5-flash", "gemini-2.5-flash"),
    versioned("claude-haiku-4-5", "claude-haiku-4-5-20251001", "anthropic/claude-haiku-4-5@20251001"),
]


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (["gemini-2.5-pro"], ["gemini-2.5-pro"]),
        (["google/gemini-2.5-pro"], ["gemini-2.5-pro"]),
        (["anthropic/claude-haiku-4-5@20251001"], ["claude-haiku-4-5-20251001"]),
        (["claude-haiku-4-5"], ["claude-haiku-4-5-20251001"]),
        (["claude-haiku-4-5-20251001-default"], ["claude-haiku-4-5-20251001"]),
        (["google/*"], ["gemini-2.5-pro"]),
        (["gemini-*"], ["gemini-2.5-pro", "gemini-2.5-flash"]),
        (["gemini-2.5-flash", "*"], ["gemini-2.5-flash", "gemini-2.5-pro", "claude-haiku-4-5-20251001"]),
    ],
)
async def test_models_in_every_spelling(asked: list[str], sent: list[str]) -> None:
    """A model in any spelling becomes the slug of a version, without duplicates."""
    choice = await find_candidates(simulated(), asked, MODELS)
    assert (list(choice.labels), choice.warnings) == (sent, [])


@pytest.mark.parametrize("asked", [["gpt-*"], ["gpt", "gpt-*"], ["other/gemini-*"]])
async def test_patterns_that_match_nothing_are_refused(asked: list[str]) -> None:
    """The error has the pattern and the names that there are."""
    with pytest.raises(UnknownModel, match=r"(?s)\*.*gemini-2.5-pro, gemini-2.5-flash, claude-haiku"):
        await find_candidates(simulated(), asked, MODELS)


async def test_no_model_is_a_usage_error() -> None:
    """At least one model must be named."""
    with pytest.raises(UsageError, match="No model is given"):
        await find_candidates(simulated(), [], MODELS)


RUNS = [
    Run(id=number, model_version_slug=slug)
    for number, slug in enumerate(["o/a@default", "b-mini", "b-max", "a@default"])
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ([], [0, 1, 2, 3]),
        (["a"], [0, 3]),
        (["x/a"], [0, 3]),
        (["a-default"], [0, 3]),
        (["b-mini-default"], [1]),
        (["b-*"], [1, 2]),
        (["x/b-*"], [1, 2]),
        (["*a"], [0, 3]),
        (["b-max", "a"], [0, 2, 3]),
    ],
)
def test_runs_are_found_by_every_spelling_of_their_model(asked: list[str], found: list[int]) -> None:
    """An owner and `-default` may be left out or added, in names and in patterns."""
    assert [run.id for run in runs_on("t", RUNS, asked)] == found


@pytest.mark.parametrize("asked", ["c", "c*", "x/*", "b"])
def test_names_that_match_no_run_are_an_error(asked: str) -> None:
    """The error has the names that there are; without any runs, the command that starts one."""
    with pytest.raises(UnknownModel, match=r"no run on .*\. Its runs are on a-default, b-mini, b-max"):
        runs_on("t", RUNS, [asked])
    with pytest.raises(UnknownModel, match="'t' has no runs") as caught:
        runs_on("t", [], [asked])
    assert caught.value.hint
    assert "tasks run t -m" in caught.value.hint
    with pytest.raises(UnknownModel, match="Version 3 of task 't' has no run") as caught:
        runs_on("t", RUNS, [asked], 3)
    assert caught.value.hint
    assert caught.value.hint.endswith("For the runs of the version before, add --version 2.")


# --- The server's queue ---


def busy(queue: QueueSettings | None) -> SimulatedKaggle:
    """A server on which a run of task `a` on model `m` is in flight."""
    client = client_with("a", "b")
    client.change(queue=queue, runs=RunScript(running=50.0))
    client.add_run("a", "m")
    return client


async def test_enqueued_runs_are_beside_others() -> None:
    """By the queue, a task runs on a model although a run of it is in flight; without, the model is skipped."""
    client = busy(QueueSettings(enabled=True))
    report = await run_tasks(client, ["a", "b"], ["m", "n"], enqueue="always")
    assert all(row.scheduled for launch in report.launches for row in launch.rows)
    assert (client.calls["queue_status"], client.calls["schedule_runs"]) == (1, 2)
    report = await run_tasks(client, ["a"], ["m"])
    assert not report.launches[0].rows[0].scheduled


@pytest.mark.parametrize("queue", [None, QueueSettings()])
async def test_runs_without_a_queue(queue: QueueSettings | None) -> None:
    """With `auto`, an account without the queue runs its tasks all the same, and is told so once."""
    client = busy(queue)
    events: list[Event] = []
    report = await run_tasks(client, ["a", "b"], ["n"], enqueue="auto", emit=events.append)
    assert len(report.launches) == 2
    (said,) = [event for event in events if isinstance(event, NotEnqueued)]
    assert "without the server's queue" in said.text
    with pytest.raises(CannotEnqueue, match="cannot be put into the server's queue"):
        await run_tasks(client, ["b"], ["x"], enqueue="always")
    assert not client.our_runs(model="x")


async def test_a_task_that_does_not_exist_says_nothing_of_the_queue() -> None:
    """A 404 because of an unknown model is an error about the model, not about the queue."""
    client = busy(QueueSettings(enabled=True))
    client.change(unknown_models=frozenset({"x"}))
    events: list[Event] = []
    with pytest.raises(NotFound, match="No such model"):
        await run_tasks(client, ["a"], ["x"], enqueue="auto", emit=events.append)
    assert not [event for event in events if isinstance(event, NotEnqueued)]
