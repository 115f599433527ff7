"""Scheduling: what is refused before, what is sent, and what is waited for after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from fanbench import FanbenchError, NotFound, UsageError
from fanbench.operations.events import TaskFailed
from fanbench.operations.models import resolve_models
from fanbench.operations.run import Launched, run_tasks
from fanbench.testing import RunScript, SimulatedKaggle
from fanbench.wire.messages import BenchmarkModel, CreationState, ModelVersion, RunState, ScheduleResult
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

    async def schedule_runs(
        self, task: str, models: Sequence[str], *, judge: str = ""
    ) -> list[ScheduleResult]:
        self.judges += (judge,)
        return await super().schedule_runs(task, models)


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
    with pytest.raises(UsageError, match=re.escape(words)):
        await run_tasks(client, ["a"], ["m"], judge=judge)
    assert client.calls["schedule_runs"] == 0


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


async def test_an_unknown_model_is_refused_before_anything_is_scheduled() -> None:
    """The error names the unknown model and the closest known ones."""
    client = simulated("a", models=["gemini-2.5-pro", "claude"])
    with pytest.raises(UsageError, match=r"gemini-2\.5-prro \(did you mean gemini-2\.5-pro\?\)"):
        await run_tasks(client, ["a"], ["claude", "google/gemini-2.5-prro"])
    assert client.calls["schedule_runs"] == 0


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
        (["gemini-*"], ["gemini-2.5-pro", "gemini-2.5-flash"]),
        (["gemini-2.5-flash", "*"], ["gemini-2.5-flash", "gemini-2.5-pro", "claude-haiku-4-5-20251001"]),
    ],
)
def test_models_in_every_spelling(asked: list[str], sent: list[str]) -> None:
    """A model in any spelling becomes the slug of a version, without duplicates."""
    assert resolve_models(asked, MODELS) == sent


@pytest.mark.parametrize("asked", [["gpt"], ["gpt-*"], ["gemini-2.5-pro", "gpt"], []])
def test_unknown_models_are_refused(asked: list[str]) -> None:
    """An unknown model, and naming none, are usage errors."""
    with pytest.raises(UsageError):
        resolve_models(asked, MODELS)
