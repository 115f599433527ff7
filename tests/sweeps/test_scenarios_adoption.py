"""A sweep takes over what the server has of its contents: versions, and with --adopt runs, each for one planned run."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanbench.sweeps.events import RunFound, RunScheduled, TaskPushed
from fanbench.sweeps.spec import Rules
from fanbench.testing import RunScript
from fanbench.wire.messages import RunState
from tests.sweeps.world import World

DONE, BROKEN = RunScript(), RunScript(end=RunState.ERRORED, error="no")
ADOPT = Rules(adopt=True)


def world(
    folder: Path, *, rules: Rules = ADOPT, models: int = 1, repeats: int = 1, text: str | None = None
) -> World:
    """A sweep of `t1`, which the server has in its second version: with the same content, unless `text` is given."""
    made = World(folder, models=models, repeats=repeats, rules=rules)
    made.compares = True
    made.kaggle.add_task("t1", "earlier")
    made.kaggle.add_task("t1", made.texts["t1"] if text is None else text)
    return made


def test_the_same_content_is_not_pushed(tmp_path: Path) -> None:
    """A version that has the same content is run as it is, and the journal knows it from then on."""
    made = world(tmp_path, rules=Rules())
    assert made.run()
    assert not made.of(TaskPushed)
    assert not made.calls["create_task"]
    made.check_all_done()
    made.compares = False
    assert made.run()
    assert made.calls.total() == 0


def test_what_another_machine_has_pushed_meanwhile_is_not_pushed(tmp_path: Path) -> None:
    """A folder that has pushed earlier content takes the version with the new content that somebody else has pushed."""
    made = world(tmp_path, rules=Rules())
    assert made.run()
    made.edit("t1")
    made.kaggle.add_task("t1", made.texts["t1"], age=5.0)
    assert made.run(pause=10.0)
    assert not made.calls["create_task"]
    assert {one.version for one in made.attempts()} == {2, 3}
    made.check_all_done()


def test_a_late_push_is_not_taken_for_what_was_compared(tmp_path: Path) -> None:
    """If a push of earlier content arrives after the comparison, the content that is wanted now is pushed."""
    made = world(tmp_path, rules=Rules())
    wanted = made.texts["t1"]
    made.edit("t1")
    made.serve(late_arrival=2.0)
    made.run(kill_in=("create_task", False))
    made.texts["t1"] = wanted
    assert made.run()
    assert [version.text for version in made.kaggle.tasks["t1"].versions][-1] == wanted
    assert {run.version for run in made.kaggle.our_runs()} == {len(made.kaggle.tasks["t1"].versions)}


def test_other_content_is_pushed_and_its_runs_are_left(tmp_path: Path) -> None:
    """Where the server has other content, a version is pushed, and no run of another version is taken."""
    made = world(tmp_path, text="other")
    for version in (1, 2):
        made.kaggle.add_run("t1", "m1", DONE, version=version, age=100.0)
    assert made.run()
    assert [event.version for event in made.of(TaskPushed)] == [3]
    assert len(made.of(RunScheduled)) == 1
    made.check_all_done()


def test_without_the_flag_nothing_is_taken(tmp_path: Path) -> None:
    """Runs of others are left alone unless it is asked for."""
    made = world(tmp_path, rules=Rules())
    made.kaggle.add_run("t1", "m1", DONE, age=100.0)
    assert made.run()
    assert len(made.kaggle.our_runs()) == 1
    made.check_all_done()


def test_completed_and_running_runs_are_taken(tmp_path: Path) -> None:
    """What has completed is downloaded, what runs is watched, what errored is made anew, and the rest is scheduled."""
    made = world(tmp_path, models=4)
    taken = [
        made.kaggle.add_run("t1", "m1", DONE, age=100.0).id,
        made.kaggle.add_run("t1", "m2", RunScript(running=500.0), age=100.0).id,
    ]
    made.kaggle.add_run("t1", "m3", BROKEN, age=100.0)
    assert made.run()
    assert sorted(event.run_id for event in made.of(RunFound) if event.adopted) == taken
    assert {run.model for run in made.kaggle.our_runs()} == {"m3", "m4"}
    assert made.counts == (4, 0, 0, 0)
    assert made.seconds >= 400.0
    made.check_all_done()


def test_completed_runs_come_before_running_ones(tmp_path: Path) -> None:
    """Of more runs than are planned, those that have completed are taken, and the others stay their owner's."""
    made = world(tmp_path, repeats=2)
    made.kaggle.add_run("t1", "m1", RunScript(running=1e6), age=300.0)
    done = [made.kaggle.add_run("t1", "m1", DONE, age=100.0).id for _ in range(2)]
    assert made.run()
    assert [one.run_id for one in made.attempts()] == done
    assert not made.kaggle.our_runs()
    made.check_all_done()


def test_runs_are_taken_in_the_stage_that_schedules(tmp_path: Path) -> None:
    """With --step, the stage that schedules takes runs, and the last one watches and downloads them."""
    made = world(tmp_path, models=2)
    made.kaggle.add_run("t1", "m1", DONE, age=100.0)
    made.run(until="schedule")
    assert len(made.kaggle.our_runs()) == 1
    assert not made.kaggle.arguments("download_output")
    assert made.run()
    assert len(made.kaggle.our_runs()) == 1
    made.check_all_done()


def test_a_later_process_takes_what_has_come_meanwhile(tmp_path: Path) -> None:
    """Runs that others have made since the sweep stopped are taken, and none that it has already."""
    made = world(tmp_path, repeats=3)
    made.kaggle.add_run("t1", "m1", DONE, age=100.0)
    made.run(until="push")
    made.kaggle.add_run("t1", "m1", DONE, age=50.0)
    assert made.run()
    assert len(made.kaggle.our_runs()) == 1
    made.check_all_done()


_SCRIPTS = {
    "done": DONE,
    "running": RunScript(running=200.0),
    "queued": RunScript(queued=150.0),
    "errored": BROKEN,
}


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_each_planned_run_is_made_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Whatever is on the server and wherever the sweep is killed, taken and scheduled runs are one for each planned."""
    models, repeats = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    made = world(tmp_path_factory.mktemp("sweep"), models=models, repeats=repeats)
    there = data.draw(st.lists(st.tuples(st.integers(1, models), st.sampled_from([*_SCRIPTS])), max_size=6))
    usable: Counter[str] = Counter()
    for model, kind in there:
        made.kaggle.add_run("t1", f"m{model}", _SCRIPTS[kind], age=100.0)
        usable[f"m{model}"] += kind != "errored"
    kill = data.draw(st.none() | st.integers(1, 60))
    if kill is None or not made.run(kill_after=kill):
        assert made.run(pause=data.draw(st.sampled_from([0.0, 30.0])))
    made.check_all_done()
    runs = [one.run_id for one in made.attempts() if one.run_id is not None]
    assert len(set(runs)) == len(runs) == models * repeats
    scheduled = Counter(run.model for run in made.kaggle.our_runs())
    assert all(scheduled[model] == max(0, repeats - usable[model]) for model in made.models)
