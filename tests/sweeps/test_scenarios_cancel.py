"""`--cancel`: what a sweep leaves is cancelled on the server, and nothing else, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanbench.sweeps.attempts import Phase
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import (
    CancelEnded,
    DrainReason,
    RunCancelled,
    RunFound,
    RunScheduled,
    RunStateChanged,
    RunUnlisted,
    SweepEvent,
    SweepStarted,
)
from fanbench.sweeps.spec import CancelPolicy, MaxFailures, Rules
from fanbench.testing import Fault, RunScript, Scenario, SimulatedRun
from fanbench.wire.messages import CancelRunsResponse, Run, RunState
from tests.sweeps.life import MortalKaggle
from tests.sweeps.world import World

pytestmark = pytest.mark.usefixtures("no_jitter", "quick_disk")

LONG = 10_000.0
RUNNING = RunScript(running=LONG)
QUEUED = RunScript(queued=LONG)
RUNNING_ON = RunScript(running=LONG, unreachable=1000)


def cancelled(world: World) -> set[str]:
    """The models on which runs were cancelled on the server."""
    return {run.model for run in world.kaggle.runs.values() if run.cancelled}


def on_models(**scripts: RunScript) -> Callable[[str, str, int], RunScript]:
    """The first run on each model has its script; later ones end at once."""
    return lambda task, model, nth: scripts[model] if nth == 1 else RunScript()


def cancel_when(
    moment: Callable[[SweepEvent], bool], policy: CancelPolicy = "all"
) -> Callable[[SweepEvent, Engine], None]:
    def meanwhile(event: SweepEvent, engine: Engine) -> None:
        if moment(event):
            engine.cancel(policy)

    return meanwhile


def check_resumed(world: World, planned: int) -> None:
    """The same sweep, without limits, makes again what was cancelled, and nothing else."""
    world.rules = Rules()
    world.serve(runs=RunScript(), faults=())
    for run in world.kaggle.runs.values():
        if not run.cancelled and run.ends > world.kaggle.now():
            run.finish(world.kaggle.now())
    assert world.run()
    world.check_server()
    assert world.ended.completed + world.ended.errored == planned


# --- Each reason to stop --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "expected"),
    [("never", set[str]()), ("queued", {"m3"}), ("all", {"m2", "m3"})],
)
@pytest.mark.parametrize("reason", ["deadline", "failures"])
def test_what_the_policy_says(tmp_path: Path, policy: CancelPolicy, expected: set[str], reason: str) -> None:
    """At the deadline and after too many failures, queued runs, or all, are cancelled, or none."""
    scripts = on_models(m1=RunScript.errored(), m2=RUNNING, m3=QUEUED)
    limit: dict[str, Any] = {"deadline": 100.0}
    if reason == "failures":
        limit = {"max_failures": MaxFailures(1), "deadline": 1000.0}
    world = World(tmp_path, Scenario(runs=scripts), models=3, rules=Rules(cancel=policy, **limit))
    assert world.run()
    assert cancelled(world) == expected
    assert {event.planned_run.model for event in world.of(RunCancelled)} == expected
    assert {one.planned_run.model for one in world.attempts(Phase.CANCELLED)} == expected
    ended = world.ended
    assert (ended.errored, ended.cancelled, ended.running) == (1, len(expected), 2 - len(expected))
    everything = policy == "all"
    assert ended.stopped is (DrainReason.FAILURES if reason == "failures" else DrainReason.DEADLINE)
    assert world.seconds < (101.0 if reason == "deadline" else 20.0 if everything else 1001.0)
    check_resumed(world, 3)
    assert [len(world.records.of("t1", model)) for model in ("m1", "m2", "m3")] == [
        1,
        1 + ("m2" in expected),
        1 + ("m3" in expected),
    ]


@pytest.mark.parametrize(("policy", "expected"), [("queued", {"m2"}), ("all", {"m1", "m2"})])
def test_the_time_limit_of_a_run(tmp_path: Path, policy: CancelPolicy, expected: set[str]) -> None:
    """A run that reaches --timeout is cancelled if the policy says so, else it is missing; the others go on."""
    scripts = on_models(m1=RUNNING, m2=QUEUED, m3=RunScript(running=90.0))
    world = World(tmp_path, Scenario(runs=scripts), models=3, rules=Rules(cancel=policy, timeout=95.0))
    assert world.run()
    assert cancelled(world) == expected
    assert {event.planned_run.model for event in world.missing()} == {"m1", "m2"} - expected
    assert (world.ended.completed, world.ended.cancelled) == (1, len(expected))
    assert world.seconds < 110.0


def test_a_run_at_its_time_limit_that_cannot_be_cancelled_is_missing(tmp_path: Path) -> None:
    """After a minute of tries, a run whose session cannot be reached is given up as without --cancel."""
    world = World(tmp_path, Scenario(runs=RUNNING_ON), rules=Rules(cancel="all", timeout=50.0))
    assert world.run()
    assert [event.stage for event in world.missing()] == ["timeout"]
    assert 105.0 < world.seconds < 125.0


def test_a_budget_that_is_used_up(tmp_path: Path) -> None:
    """When finished runs have cost all of --max-cost, the runs in flight are cancelled."""
    seconds = {"m1": 10.0, "m2": 10.0, "m3": 60.0, "m4": LONG}
    costs = {"m1": 0.1, "m2": 0.1, "m3": 2.0, "m4": 0.1}

    def script(task: str, model: str, nth: int) -> RunScript:
        return RunScript(running=seconds[model], cost=costs[model])

    world = World(tmp_path, Scenario(runs=script), models=4, rules=Rules(cancel="all", max_cost=1.0))
    assert world.run()
    assert cancelled(world) == {"m4"}
    assert world.ended.stopped is DrainReason.BUDGET
    assert world.seconds < 200.0


# --- On interrupt ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "expected"), [("queued", {"m2"}), ("all", {"m1", "m2"})])
def test_on_demand(tmp_path: Path, policy: CancelPolicy, expected: set[str]) -> None:
    """`Engine.cancel` cancels what is in flight and schedules nothing more; the rest is finished."""
    scripts = on_models(m1=RunScript(running=100.0), m2=QUEUED)
    world = World(tmp_path, Scenario(runs=scripts), models=2, repeats=2)

    def running(event: SweepEvent) -> bool:
        return isinstance(event, RunStateChanged) and event.state == RunState.RUNNING

    assert world.run(meanwhile=cancel_when(running, policy))
    assert cancelled(world) == expected
    assert len(world.kaggle.runs) == 2
    (event,) = world.of(CancelEnded)
    assert (event.cancelled, event.left) == (len(expected), 0)
    assert world.ended.stopped is DrainReason.INTERRUPTED
    check_resumed(world, 4)


def test_before_the_first_list(tmp_path: Path) -> None:
    """A run that the server has named, but no list has shown yet, is cancelled."""
    world = World(tmp_path, Scenario(runs=QUEUED, list_lag=30.0), models=2)
    done = cancel_when(lambda event: isinstance(event, RunScheduled))
    assert world.run(meanwhile=done)
    assert cancelled(world) == {"m1", "m2"}
    assert world.seconds < 5.0
    check_resumed(world, 2)


def test_by_the_next_process(tmp_path: Path) -> None:
    """A process that does nothing but cancel finds in the journal which runs are its own."""
    world = World(tmp_path, Scenario(runs=RUNNING), tasks=2, models=2, durable=True)
    assert not world.run(stop_after=20.0)

    at_once = cancel_when(lambda event: isinstance(event, SweepStarted))
    assert world.run(meanwhile=at_once, pause=5.0)
    assert len([run for run in world.kaggle.runs.values() if run.cancelled]) == 4
    assert world.calls["cancel_runs"] == 1
    assert world.ended.cancelled == 4
    check_resumed(world, 4)


# --- When the server does not do it ---------------------------------------------------------------------------


def test_sessions_that_cannot_be_reached_at_first(tmp_path: Path) -> None:
    """The server is asked again for what its lists still show, until they show nothing."""
    scripts = on_models(m1=RunScript(running=LONG, unreachable=3), m2=RUNNING)
    world = World(tmp_path, Scenario(runs=scripts), models=2, rules=Rules(cancel="all", deadline=30.0))
    assert world.run()
    assert cancelled(world) == {"m1", "m2"}
    assert world.ended.cancelled == 2
    assert world.seconds < 60.0
    check_resumed(world, 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("cancel_runs", 404, message="Unknown call", times=1e9),
        Fault("cancel_runs", 501, times=1e9),
        Fault("cancel_runs", 503, times=1e9),
        Fault("cancel_runs", times=1e9),
        Fault("cancel_runs", 401, times=1e9),
    ],
)
def test_a_cancel_that_fails(tmp_path: Path, fault: Fault) -> None:
    """It is said once, ends within a minute or so, and the next sweep continues with the runs."""
    scenario = Scenario(runs=RUNNING, faults=(fault,))
    world = World(tmp_path, scenario, models=2, rules=Rules(cancel="all", deadline=30.0))
    assert world.run()
    (event,) = world.of(CancelEnded)
    assert (event.cancelled, event.left) == (0, 2)
    assert event.error
    assert world.seconds < 100.0
    assert (world.ended.cancelled, world.ended.running) == (0, 2)
    assert (world.kaggle.calls["cancel_runs"] == 1) == (fault.status in (404, 501))
    check_resumed(world, 2)
    assert [one.number for one in world.attempts()] == [1, 1]


def test_a_lost_answer(tmp_path: Path) -> None:
    """If the answer to the call that cancelled the runs is lost, the next one or the lists show it."""
    faults = (Fault("cancel_runs", took_effect=True),)
    scenario = Scenario(runs=RUNNING, faults=faults)
    world = World(tmp_path, scenario, models=2, rules=Rules(cancel="all", deadline=30.0))
    assert world.run()
    assert world.ended.cancelled == 2
    check_resumed(world, 2)


def test_an_answer_that_the_process_does_not_live_to_see(tmp_path: Path) -> None:
    """The next process finds that the runs are gone, and makes them again, without a wait for lists to show them."""
    world = World(tmp_path, Scenario(runs=RUNNING), models=2, rules=Rules(cancel="all", deadline=30.0))
    assert not world.run(kill_in=("cancel_runs", True))
    assert cancelled(world) == {"m1", "m2"}
    assert {one.phase for one in world.attempts()} == {Phase.FOUND}
    world.rules = Rules()
    world.serve(runs=RunScript())
    assert world.run()
    assert world.ended.completed == 2
    assert world.seconds < 30.0
    assert [one.phase for one in world.records.of("t1", "m1")] == [Phase.CANCELLED, Phase.ENDED]


def test_runs_that_cannot_be_cancelled_are_followed(tmp_path: Path) -> None:
    """After too many failures, the sweep says that it follows what is left, or at the deadline that it does not."""
    scripts = on_models(m1=RunScript.errored(), m2=RunScript(running=200.0, unreachable=1000))
    rules = Rules(cancel="all", max_failures=MaxFailures(1))
    world = World(tmp_path, Scenario(runs=scripts), models=2, rules=rules)
    assert world.run()
    (event,) = world.of(CancelEnded)
    assert event.text == (
        "0 runs cancelled; 1 run left on the server: the server has not stopped it. "
        "It goes on, and is followed to its end; Ctrl-C twice leaves it."
    )
    assert (world.ended.completed, world.ended.running) == (1, 0)
    at_deadline = World(
        tmp_path / "b", Scenario(runs=RUNNING_ON), models=2, rules=Rules(cancel="all", deadline=30.0)
    )
    assert at_deadline.run()
    (event,) = at_deadline.of(CancelEnded)
    assert event.text == "0 runs cancelled; 2 runs left on the server: the server has not stopped them"
    assert at_deadline.ended.running == 2


def test_a_run_that_goes_on_after_all(tmp_path: Path) -> None:
    """A run that could not be cancelled, and errors later, is a failure of its model like any other."""
    script = RunScript(running=200.0, unreachable=1000, end=RunState.ERRORED, error="ValueError: no")
    world = World(tmp_path, Scenario(runs=script), rules=Rules(cancel="all", deadline=30.0))
    assert world.run()
    world.rules = Rules()
    assert world.run()
    assert (world.ended.errored, world.ended.cancelled) == (1, 0)


def test_runs_of_servers_that_do_not_name_them(tmp_path: Path) -> None:
    """Without run ids in its answers, a run may be somebody else's, so it is left, and that is said."""
    scenario = Scenario(runs=RUNNING, answers_run_ids=False)
    world = World(tmp_path, scenario, rules=Rules(cancel="all", deadline=30.0))
    assert world.run()
    (event,) = world.of(CancelEnded)
    assert (event.cancelled, event.left) == (0, 1)
    assert event.error == "it is not certain that this sweep scheduled it"
    assert world.kaggle.calls["cancel_runs"] == 0


def test_someone_elses_run_that_was_adopted(tmp_path: Path) -> None:
    """A run of somebody else that the sweep watches in place of its own is not cancelled, in a later process either."""
    world = World(tmp_path, Scenario(runs=RUNNING), rules=Rules(cancel="all", deadline=60.0))
    world.texts.clear()
    world.kaggle.add_task("t1")
    world.kaggle.add_run("t1", "m1", RUNNING).ours = True
    for _ in range(2):
        assert world.run()
        assert world.of(RunFound) or world.attempts(Phase.FOUND)
        assert cancelled(world) == set()


# --- By someone else ------------------------------------------------------------------------------------------


def someone_cancels(world: World, at: float) -> Callable[[SweepEvent, Engine], None]:
    """At the first event `at` this time or later, someone else cancels the first run on m1."""
    first: list[SimulatedRun] = []

    def meanwhile(event: SweepEvent, engine: Engine) -> None:
        if world.kaggle.now() >= at and not first:
            first.extend(run for run in world.kaggle.runs.values() if run.model == "m1")
            first[0].cancel(world.kaggle.now(), include_active=True)

    return meanwhile


def use_local_server(world: World) -> None:
    """From now on, the server is one whose lists are never behind."""
    world.kaggle.config = replace(world.kaggle.config, local_data=Path("data"))


@pytest.mark.parametrize("is_local", [False, True])
def test_a_run_that_someone_else_cancels(tmp_path: Path, is_local: bool) -> None:
    """It is said at once, counts as cancelled after a minute, or the next list of a local server, and is made again."""
    world = World(tmp_path, Scenario(runs=on_models(m1=QUEUED, m2=RunScript(running=300.0))), models=2)
    if is_local:
        use_local_server(world)
    assert world.run(meanwhile=someone_cancels(world, 30.0))
    ((said, event),) = world.said_of(RunUnlisted)
    ((ended, _),) = world.said_of(RunCancelled)
    assert (event.planned_run.model, event.run_id, event.seconds) == ("m1", 1001, 0.0 if is_local else 60.0)
    assert said < 60.0
    assert ended - said < 2.0 if is_local else 60.0 <= ended - said < 65.0
    assert (world.ended.completed, world.ended.cancelled, world.ended.missing) == (1, 1, 0)
    assert len(world.kaggle.runs) == 2
    check_resumed(world, 2)


def test_a_run_that_someone_else_cancels_between_two_processes(tmp_path: Path) -> None:
    """The next process finds after a minute that it is gone, and makes it again."""
    world = World(tmp_path, Scenario(runs=on_models(m1=RUNNING)))
    assert not world.run(stop_after=30.0)
    world.kaggle.runs[1001].cancel(world.kaggle.now(), include_active=True)
    assert world.run()
    assert (world.ended.completed, world.ended.cancelled) == (1, 0)
    assert [one.phase for one in world.attempts()] == [Phase.CANCELLED, Phase.ENDED]
    assert world.seconds < 120.0


class SlowToCancel(MortalKaggle):
    """Answers calls that cancel runs half a minute after it has done so."""

    async def cancel_runs(self, *args: Any, **options: Any) -> CancelRunsResponse:
        answer = await super().cancel_runs(*args, **options)
        await anyio.sleep(30.0)
        return answer


def test_a_list_before_the_answer_accuses_nobody_else(tmp_path: Path) -> None:
    """A list that lacks runs while the sweep's own call to cancel them is under way says nothing of others."""
    world = World(tmp_path, Scenario(runs=RUNNING), models=2, rules=Rules(poll_interval=5.0))
    world.kaggle = SlowToCancel(world.kaggle.scenario)
    use_local_server(world)
    assert world.run(meanwhile=cancel_when(lambda event: isinstance(event, RunStateChanged)))
    assert world.of(RunUnlisted) == []
    (event,) = world.of(CancelEnded)
    assert (event.cancelled, event.left, world.ended.cancelled) == (2, 0, 2)


class Blinking(MortalKaggle):
    """Between the seconds 30 and 60, lists are empty."""

    async def page_of_runs(
        self, task: str, models: Sequence[str], start: int, size: int | None = None, *, version: int = 0
    ) -> tuple[list[Run], int | None]:
        page = await super().page_of_runs(task, models, start, size, version=version)
        return ([], None) if 30.0 < self.now() < 60.0 else page


def test_a_run_that_is_listed_again(tmp_path: Path) -> None:
    """A run that lists lack for less than a minute is followed to its end."""
    world = World(tmp_path, Scenario(runs=RunScript(running=200.0)))
    world.kaggle = Blinking(world.kaggle.scenario)
    assert world.run()
    assert len(world.of(RunUnlisted)) == 1
    world.check_all_done()


def test_someone_elses_run_that_they_cancel(tmp_path: Path) -> None:
    """A sweep whose run was somebody else's, who cancels it, schedules its own."""
    world = World(tmp_path)
    world.texts.clear()
    world.kaggle.add_task("t1")
    world.kaggle.add_run("t1", "m1", RUNNING)
    assert world.run(meanwhile=someone_cancels(world, 30.0))
    assert [event.adopted for event in world.of(RunFound)] == [True, False]
    assert (world.ended.completed, world.ended.cancelled) == (1, 0)


# --- Nothing else, whatever happens ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_never_a_run_of_somebody_else(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever answers are lost or late, and whenever it is interrupted or killed, only own runs are cancelled.

    Others schedule runs of the same task on the same models, with the same account, at the same time.
    """
    seconds = st.floats(0.0, 40.0)
    faults = data.draw(
        st.lists(
            st.builds(
                Fault,
                st.sampled_from(["schedule_runs", "list_runs", "cancel_runs"]),
                first=st.integers(1, 3),
                took_effect=st.booleans(),
            ),
            max_size=4,
        )
    )
    scenario = Scenario(
        runs=RunScript(queued=data.draw(seconds), running=100.0, unreachable=data.draw(st.integers(0, 2))),
        one_run_per_model=data.draw(st.booleans()),
        list_lag=data.draw(st.sampled_from([0.0, 5.0])),
        late_arrival=data.draw(st.sampled_from([None, 3.0])),
        answers_run_ids=data.draw(st.booleans()),
        faults=tuple(faults),
    )
    world = World(
        tmp_path_factory.mktemp("sweep"),
        scenario,
        models=2,
        repeats=2,
        rules=Rules(cancel="all", deadline=data.draw(st.floats(5.0, 80.0)), confirm_within=10.0),
    )
    for at in data.draw(st.lists(seconds, max_size=4)):
        world.kaggle.add_future_run(at, "t1", data.draw(st.sampled_from(["m1", "m2"])), RUNNING)
    theirs = _take_account(world)
    for _ in range(data.draw(st.integers(1, 3))):
        world.run(
            stop_after=data.draw(st.none() | st.floats(1.0, 60.0)), pause=data.draw(st.floats(0.0, 20.0))
        )
        assert not [run.id for run in theirs if run.cancelled]


def _take_account(world: World) -> list[SimulatedRun]:
    """Let the server take all runs for the caller's; return the list of those that the sweep did not schedule."""
    theirs: list[SimulatedRun] = []
    start = world.kaggle._start

    def start_as_ours(*args: Any, ours: bool, **more: Any) -> SimulatedRun:
        run = start(*args, ours=True, **more)
        if not ours:
            theirs.append(run)
        return run

    world.kaggle._start = start_as_ours  # type: ignore[method-assign]
    return theirs
