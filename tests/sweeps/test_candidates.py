"""Sweeps over models at reasoning efforts, and over agents."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from fanbench import Client, SweepError, SweepPlan, SweepReport, UsageError, plan_sweep, sweep
from fanbench.operations.lookup import model_of
from fanbench.results.names import find_models
from fanbench.sweeps.engine import Engine
from fanbench.sweeps.events import RunScheduled, SweepEvent
from fanbench.sweeps.results import read_journals, read_results
from fanbench.sweeps.resume import read_saved, refuse_other_sweep, resumed, saved_text
from fanbench.sweeps.spec import merge
from fanbench.sweeps.sweep_file import read_sweep_file
from fanbench.testing import RunScript, Scenario, SimulatedKaggle, SimulatedTransport, run_in_virtual_time
from fanbench.view.document import build
from fanbench.wire.messages import CandidateType, Run, ScheduleResult
from tests.sweeps.life import MortalKaggle
from tests.sweeps.world import World

AGENTS = {"coder-1": "m1", "coder-2": "m2"}
LABELS = ["m1", "m1@low", "m1@high", "m2", "m2@high", "m1-default@max", *AGENTS]


def script(task: str, label: str, number: int) -> RunScript:
    """A run whose result tells its task and its candidate, and which takes as long as these make it."""
    value = 100.0 * len(task) + LABELS.index(label)
    return RunScript(queued=LABELS.index(label) % 3, running=1.0 + number, result=value)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=st.lists(st.sampled_from(LABELS), min_size=1, max_size=5, unique=True),
    tasks=st.lists(st.sampled_from(["t", "tt"]), min_size=1, unique=True),
    repeats=st.integers(1, 2),
    one_run=st.booleans(),
    kill_after=st.integers(1, 60),
)
def test_each_planned_run_is_made_once_and_lands_in_its_cell(
    labels: list[str], tasks: list[str], repeats: int, one_run: bool, kill_after: int
) -> None:
    """Whatever is planned, and wherever the first process dies: each run is made once, and its result is its own."""
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(runs=script, one_run_per_model=one_run)
        world = World(Path(folder), scenario, tasks=tasks, models=labels, repeats=repeats, durable=True)
        world.kaggle.agents = dict(AGENTS)
        if not world.run(kill_after=kill_after):
            world.check()
            assert world.run(pause=5.0)
        world.check_all_done()
        made = Counter((run.task, run.model) for run in world.kaggle.our_runs())
        assert made == {(task, label): repeats for task in tasks for label in labels}
        for run in world.kaggle.our_runs():
            assert (run.candidate.agent in AGENTS) == (run.model in AGENTS)
        results = read_results(world.folder)
        cells = Counter((run.task, run.model, run.value) for run in results.runs)
        assert cells == {
            (task, label, script(task, label, 1).result): repeats for task in tasks for label in labels
        }
        assert {run.full_model for run in results.runs} == set(labels)
        assert len(results.scores().models) == len(labels)
        known, _ = read_journals([world.folder])
        assert sorted(build(results, known, title="").document.models) == sorted(labels)


class Renaming(MortalKaggle):
    """Lists name the configurations of runs in a way that does not tell their efforts."""

    answers_after = 0.0

    async def schedule_runs(self, *arguments: Any, **settings: Any) -> list[ScheduleResult]:
        results = await super().schedule_runs(*arguments, **settings)
        await anyio.sleep(self.answers_after)
        return results

    async def list_runs(
        self, task: str, *, models: Sequence[str] = (), version: int = 0
    ) -> AsyncGenerator[Run, None]:
        async for run in super().list_runs(task, version=version):
            renamed = structs.replace(run, model_version_config_slug=f"thinking-{run.effort}-mode", effort="")
            if not models or model_of(renamed) in models:
                yield renamed


@pytest.mark.parametrize("answers_after", [0.0, 20.0], ids=["at-once", "after-a-list"])
def test_runs_that_the_server_names_are_found_whatever_it_calls_their_models(
    tmp_path: Path, answers_after: float
) -> None:
    """A run is matched by its id in the answer to the schedule call, so that none is made twice."""
    scenario = Scenario(runs=RunScript(running=60.0))
    world = World(tmp_path, scenario, models=["m1@low", "m1@high"], repeats=2)
    world.kaggle = kaggle = Renaming(scenario)
    kaggle.answers_after = answers_after
    world.unchecked = True
    assert world.run()
    world.check_all_done()
    assert Counter(run.model for run in world.kaggle.our_runs()) == {"m1@low": 2, "m1@high": 2}


@pytest.mark.parametrize("durable", [False, True])
def test_runs_that_the_server_has_named_are_found_by_the_next_process(tmp_path: Path, durable: bool) -> None:
    """The journal has the ids in the answers, so a process that ends before it sees a list loses no run."""
    scenario = Scenario(runs=RunScript(running=60.0))
    world = World(tmp_path, scenario, models=["m1@low", "m1@high"], durable=durable)
    world.kaggle = kaggle = Renaming(scenario)
    world.unchecked = True

    def kill(event: SweepEvent, engine: Engine) -> None:
        if isinstance(event, RunScheduled):
            kaggle.life.point(last=True)

    assert not world.run(meanwhile=kill)
    assert world.run(pause=5.0)
    world.check_all_done()
    assert Counter(run.model for run in kaggle.our_runs()) == {"m1@low": 1, "m1@high": 1}


def kaggle_with_models() -> SimulatedKaggle:
    """A Kaggle with a task, whose model `m` takes low and high, `n` takes high, and that has an agent."""
    kaggle = SimulatedKaggle(Scenario(runs=RunScript(running=1.0)))
    kaggle.add_model("google/m", efforts=["low", "high"])
    kaggle.add_model("n", efforts=["high"])
    kaggle.agents = {"coder-1": "m"}
    kaggle.add_task("t")
    return kaggle


def swept(
    kaggle: SimulatedKaggle, folder: Path, tasks: str | tuple[str, ...] = "t", **options: Any
) -> SweepReport:
    """The report of a sweep into `folder`, in virtual time."""

    async def work() -> SweepReport:
        async with Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
            return await sweep(tasks, client=client, output=folder, **options)

    return run_in_virtual_time(work)


def planned(kaggle: SimulatedKaggle, **options: Any) -> SweepPlan:
    async def work() -> SweepPlan:
        return await plan_sweep(kaggle, "t", **options)

    return run_in_virtual_time(work)


def test_a_plan_is_of_tasks_and_candidates() -> None:
    """Each model is planned at each effort, models with an effort of their own at this one, and agents come last."""
    plan = planned(kaggle_with_models(), models=["m", "n@high"], efforts=["low", "high"], agents="coder-1")
    assert plan.models == ("m@low", "m@high", "n@high", "coder-1")
    assert plan.choice.agents == {"coder-1"}


def test_a_model_that_lacks_an_effort_is_refused_at_the_plan() -> None:
    """The error lists each model that lacks an effort, with those that it has."""
    with pytest.raises(UsageError, match="n does not take low: it takes high"):
        planned(kaggle_with_models(), models=["*"], efforts=["low", "high"])


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (CandidateType.AGENTS, {"models": ["m"]}, "is run on agents, not on models"),
        (CandidateType.AGENTS, {"models": ["m"], "agents": ["coder-1"]}, "is run on agents, not on models"),
        (CandidateType.MODEL_VERSIONS, {"agents": ["coder-1"]}, "is run on models, not on agents"),
    ],
)
def test_a_task_that_does_not_fit_is_refused_at_the_plan(
    kind: CandidateType, options: dict[str, Any], words: str
) -> None:
    """A task that is run on agents is not planned on models, nor the reverse."""
    kaggle = kaggle_with_models()
    kaggle.tasks["t"].candidate_type = kind
    with pytest.raises(UsageError, match=words):
        planned(kaggle, **options)


def test_a_sweep_over_efforts_is_resumed_and_extended(tmp_path: Path) -> None:
    """The folder keeps each candidate: the same sweep makes nothing again, one more effort adds its runs only."""
    kaggle = kaggle_with_models()
    report = swept(kaggle, tmp_path, models=["m"], efforts=["low"], agents=["coder-1"])
    assert [row.planned_run.model for row in report.rows] == ["m@low", "coder-1"]
    spec = resumed(tmp_path)
    assert (spec.models, spec.agents, spec.efforts) == (("m@low",), ("coder-1",), ())
    swept(kaggle, tmp_path, ())
    assert len(kaggle.our_runs()) == 2
    swept(kaggle, tmp_path, models=["m"], efforts=["low", "high"], agents=["coder-1"])
    assert [run.model for run in kaggle.our_runs()] == ["m@low", "coder-1", "m@high"]
    swept(kaggle, tmp_path, (), rerun="t:*@high")
    assert [run.model for run in kaggle.our_runs()][3:] == ["m@high"]
    assert {path.name for path in (tmp_path / "t" / "1").iterdir()} == {"m@low", "m@high", "coder-1"}
    models = read_results(tmp_path).scores().models
    assert sorted(models) == ["coder-1", "m@high", "m@low"]
    assert find_models(["m@low"], models) == ["m@low"]


def test_a_sweep_of_other_candidates_is_refused(tmp_path: Path) -> None:
    """A folder's sweep at one effort, or on an agent, is not continued by one without it."""
    kaggle = kaggle_with_models()
    swept(kaggle, tmp_path, models=["m@low"], agents=["coder-1"])
    with pytest.raises(SweepError, match="this one lacks its model m@low"):
        swept(kaggle, tmp_path, models=["m"], agents=["coder-1"])
    with pytest.raises(SweepError, match="this one lacks its agent coder-1"):
        swept(kaggle, tmp_path, models=["m@low", "coder-1"])


def test_journals_of_before_are_read(tmp_path: Path) -> None:
    """What earlier versions kept of a sweep has no agents and no efforts."""
    kaggle = kaggle_with_models()
    plan = planned(kaggle, models=["m"])
    saved = json.loads(saved_text(plan, "server"))
    assert saved.pop("agents") == []
    for name in ("efforts", "agents"):
        saved["spec"].pop(name, None)
    old = json.dumps(saved)
    assert read_saved(old).models == ("m",)
    refuse_other_sweep(old, plan, "server")


def test_efforts_and_agents_in_a_sweep_file(tmp_path: Path) -> None:
    """`effort` and `agents` are lists, and flags replace them."""
    path = tmp_path / "sweep.toml"
    path.write_text('tasks = ["t"]\nmodels = ["m"]\nefforts = ["low", "high"]\nagents = ["coder-1"]\n')
    spec = read_sweep_file(path)
    assert (spec.efforts, spec.agents) == (("low", "high"), ("coder-1",))
    assert merge(spec, efforts=("max",)).efforts == ("max",)
    assert merge(spec, agents="coder-2").agents == ("coder-2",)
