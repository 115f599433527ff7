"""Pushes and creations that fail, take long, or delay the end of a sweep, in virtual time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from fanbench.sweeps.attempts import TaskPhase, TaskRecord, content_identity
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    CreationChanged,
    DrainReason,
    PageEdited,
    SweepEvent,
    TaskPreparationFailed,
    TaskPushed,
    TaskReady,
)
from fanbench.sweeps.spec import Rules
from fanbench.testing import Fault, RunScript, Scenario
from fanbench.testing.state import EPOCH
from fanbench.wire.messages import CreationState, Task, TaskSlug
from fanbench.wire.metadata import Metadata
from tests.sweeps.life import MortalKaggle
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")


def drain_at_ready(event: SweepEvent, engine: Engine) -> None:
    """Drains once one of the tasks is ready."""
    if isinstance(event, TaskReady):
        engine.drain(DrainReason.INTERRUPTED)


# --- Looks --------------------------------------------------------------------------------------------------


def test_a_push_whose_answer_is_lost_is_seen_soon(tmp_path: Path) -> None:
    """After a lost response, the new version is looked for every two seconds."""
    world = World(tmp_path, Scenario(push_lag=3.0, faults=(Fault("create_task", took_effect=True),)))
    assert world.run(until="push")
    assert world.times(TaskPushed)[0] < 6.0
    world.check_server()


def test_a_server_that_is_away_after_a_lost_answer(tmp_path: Path) -> None:
    """If the server is down after a lost response, the lookup is repeated and nothing is pushed twice."""
    faults = (Fault("create_task", took_effect=True), Fault("get_task", times=3))
    world = World(tmp_path, Scenario(faults=faults))
    assert world.run()
    world.check_all_done()
    assert world.calls["create_task"] == 1


def test_the_last_look_comes_after_the_grace(tmp_path: Path) -> None:
    """The last lookup comes after the period of grace, however slow lookups are."""
    world = World(
        tmp_path, Scenario(push_lag=10.9, latency=2.2, faults=(Fault("create_task", took_effect=True),))
    )
    assert world.run()
    world.check_all_done()
    assert world.calls["create_task"] == 1


def test_a_clock_that_was_set_back(tmp_path: Path) -> None:
    """A push whose recorded time is in the future is looked for as long as one made just now."""
    world = World(tmp_path)
    identity = content_identity(world.texts["t1"], ())
    world.records.save_task(TaskRecord("t1", identity, TaskPhase.PUSHING, pushed_at=EPOCH + 3600.0))
    assert world.run()
    world.check_all_done()
    assert 60 < world.times(TaskPushed)[0] < 62


def test_a_push_that_was_refused_is_made_again_at_once(tmp_path: Path) -> None:
    """A refused push had no effect, so the next process repeats it without looking for its version."""
    world = World(tmp_path, Scenario(faults=(Fault("create_task", 400),)))
    assert world.run()
    assert world.counts == (0, 0, 1, 0)
    assert world.run()
    world.check_all_done()
    assert world.times(TaskPushed)[0] < 1.0


# --- What the server says -----------------------------------------------------------------------------------


class Complaining(MortalKaggle):
    """Creates nothing, and returns the reason in a successful response."""

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        self.calls["create_task"] += 1
        return Task(slug=TaskSlug(task_slug=slug), error="Too large.")


def test_an_answer_that_is_an_error(tmp_path: Path) -> None:
    """A push that was answered with an error fails with the server's reason."""
    world = World(tmp_path)
    world.kaggle = Complaining(world.kaggle.scenario)
    assert world.run(stop_after=1000.0)
    assert world.counts == (0, 0, 1, 0)
    assert [event.error for event in world.of(TaskPreparationFailed)] == [
        "Task 't1' could not be pushed: Too large."
    ]
    assert world.calls == {"create_task": 1}


class Vague(MortalKaggle):
    """The response to a push contains neither the version nor the state."""

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        await super().create_task(slug, text, datasets=datasets)
        return Task(slug=TaskSlug(task_slug=slug))


def test_an_answer_that_says_little(tmp_path: Path) -> None:
    """If the response has no version, it is the previous one plus one, and its state is polled."""
    world = World(tmp_path)
    world.kaggle = Vague(world.kaggle.scenario)
    world.kaggle.add_task("t1", "somebody's")
    assert world.run()
    world.check_all_done()
    assert [event.version for event in world.of(TaskPushed)] == [2]


def test_a_creation_that_fails_says_why(tmp_path: Path) -> None:
    """A failed creation is reported with the server's reason."""
    world = World(tmp_path, Scenario(failed_creations=1))
    assert world.run()
    assert [event.error for event in world.of(TaskPreparationFailed)] == [
        "Task 't1' creation failed (status: ERRORED): It broke."
    ]


def test_a_server_that_is_away_during_the_creation_has_refused_nothing(tmp_path: Path) -> None:
    """If the server is down during the creation, the version stays valid and the next sweep does not push again."""
    world = World(tmp_path, Scenario(creation=30.0, faults=(Fault("get_task", 500, times=math.inf),)))
    assert world.run()
    assert world.counts == (0, 0, 1, 0)
    world.serve(faults=())
    assert world.run()
    world.check_all_done()
    assert world.calls["create_task"] == 0


def test_datasets_go_along(tmp_path: Path) -> None:
    """A task is pushed with its datasets."""
    world = World(tmp_path)
    planned = world._planned
    world._planned = lambda slug: replace(planned(slug), datasets=("o/d",))  # type: ignore[method-assign]
    assert world.run()
    assert world.kaggle.tasks["t1"].versions[0].datasets == ("o/d",)


def test_creations_are_asked_about_as_often_as_wished(tmp_path: Path) -> None:
    """`--poll-interval` applies to creations, and only changes of their state are reported."""
    world = World(tmp_path, Scenario(creation=600.0), rules=Rules(poll_interval=2.0))
    assert world.run(until="push")
    assert world.seconds < 603
    assert world.calls["get_task"] > 250
    assert [event.state for event in world.of(CreationChanged)] == [
        CreationState.RUNNING,
        CreationState.COMPLETED,
    ]
    assert world.calls["list_runs"] == 0


# --- Runs that there are already ----------------------------------------------------------------------------


def test_a_run_of_others_that_comes_while_a_task_is_created(tmp_path: Path) -> None:
    """A run that others start during the creation is not adopted, because runs are listed just before scheduling."""
    world = World(tmp_path, Scenario(creation=100.0, one_run_per_model=False))
    world.kaggle.add_future_run(50.0, "t1", "m1", RunScript(running=1.0))
    assert world.run()
    assert len(world.kaggle.runs) == 2
    assert [one.run_id for one in world.attempts()] == [run.id for run in world.kaggle.our_runs()]
    world.check_all_done()


def test_an_attempt_that_comes_to_nothing_after_a_push_has_failed(tmp_path: Path) -> None:
    """If the push failed, an attempt without a run is not repeated, which is reported."""
    world = World(tmp_path)
    assert not world.run(kill_in=("schedule_runs", False))
    world.kaggle.add_task("t1", "somebody's")
    world.models = ("m1", "m2")
    world.serve(faults=(Fault("create_task", 400, times=math.inf),))
    assert world.run()
    assert world.counts == (0, 0, 2, 0)
    assert {(event.planned_run.model, event.stage) for event in world.missing()} == {
        ("m1", "push"),
        ("m2", "push"),
    }


# --- An end that comes first --------------------------------------------------------------------------------


def test_a_drain_while_an_earlier_version_is_created(tmp_path: Path) -> None:
    """A drain does not wait for the creation of an earlier version, and pushes nothing."""
    world = World(tmp_path, Scenario(creation=lambda slug: 3600.0 if slug == "t1" else 1.0), tasks=2)
    world.kaggle.add_task("t1", "somebody's", age=0.0)
    assert world.run(meanwhile=drain_at_ready)
    assert world.calls["create_task"] == 1
    assert world.seconds < 10


def test_a_drain_while_a_push_is_looked_for(tmp_path: Path) -> None:
    """A drain ends the lookup of a push that a kill interrupted."""
    world = World(tmp_path, tasks=2)
    identity = content_identity(world.texts["t1"], ())
    world.records.save_task(TaskRecord("t1", identity, TaskPhase.PUSHING, pushed_at=EPOCH))
    assert world.run(meanwhile=drain_at_ready)
    assert world.calls["create_task"] == 1
    assert world.seconds < 7


def test_a_drain_while_a_push_is_put_off(tmp_path: Path) -> None:
    """After a drain, a postponed push is not repeated."""
    faults = (Fault("create_task", 429, retry_after=60.0),)
    world = World(tmp_path, Scenario(faults=faults, creation=1.0), tasks=2)
    assert world.run(meanwhile=drain_at_ready)
    assert world.calls["create_task"] == 2
    assert world.counts == (0, 0, 0, 2)
    assert world.seconds < 10


@pytest.mark.parametrize("name", ["VALIDATING", "CHECKING"])
def test_a_creation_in_any_state_that_is_no_end_is_waited_for(tmp_path: Path, name: str) -> None:
    """A sweep waits for a creation that is validated, or in a state that only a newer server knows."""
    creating = CreationState(f"BENCHMARK_TASK_VERSION_CREATION_STATE_{name}")
    world = World(tmp_path, Scenario(creation=30.0, creating=creating))
    assert world.run()
    world.check_all_done()
    assert [event.state.label for event in world.of(CreationChanged)] == [name, "COMPLETED"]


# --- Pages --------------------------------------------------------------------------------------------------


def test_the_page_of_a_new_version_is_changed_once(tmp_path: Path) -> None:
    """What the file says is sent when the version is ready, and not again by processes that push nothing."""
    world = World(tmp_path, models=2)
    world.pages["t1"] = Metadata(description="D", tags=("reasoning", "new"))
    assert world.run(until="push")
    assert world.of(PageEdited) == [PageEdited("t1", ("description", "tags"), ("new",))]
    assert world.kaggle.tasks["t1"].newest.metadata.description == "D"
    world.kaggle.tasks["t1"].update(Metadata(description="edited on the site"))
    assert world.run()
    world.check_all_done()
    assert (world.of(PageEdited), world.calls["update_task"]) == ([], 0)


def test_a_page_that_cannot_be_changed_keeps_no_run(tmp_path: Path) -> None:
    """A server without the call is named in one event, and the runs are made."""
    world = World(tmp_path, Scenario(can_update=False))
    world.pages["t1"] = Metadata(description="D")
    assert world.run()
    world.check_all_done()
    (event,) = world.of(PageEdited)
    assert "This server cannot change what the page of a task says" in event.text
