"""What a plan finds of its tasks on the server, in virtual time: the same content, and runs to take over."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanbench import Client, SweepPlan, plan_sweep, sweep
from fanbench.sweeps.plan import PlannedTask
from fanbench.sweeps.spec import SweepSpec, TaskChoice
from fanbench.sweeps.sweep import plan_spec
from fanbench.tasks import notebook_of, read_task_file
from fanbench.testing import (
    Fault,
    RunScript,
    Scenario,
    SimulatedKaggle,
    SimulatedTransport,
    run_in_virtual_time,
)
from fanbench.wire.messages import RunState

CODE = """\
import kaggle_benchmarks as kbench

@kbench.task(name="t")
def t(llm) -> bool:
    return llm.prompt("x") == "x"

t.run(kbench.llm)
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "t.py"
    path.write_text(CODE)
    return path


def kaggle_with(text: str, *scripts: RunScript) -> SimulatedKaggle:
    """A Kaggle with task `t` in two versions, and runs of the second on model `m`, which begin with number 1002."""
    kaggle = SimulatedKaggle(Scenario(), models=["m", "n"])
    for each in ("earlier", text):
        kaggle.add_task("t", each)
    kaggle.add_run("t", "m", version=1, age=200.0)
    for script in scripts:
        kaggle.add_run("t", "m", script, version=2, age=100.0)
    return kaggle


def planned(kaggle: SimulatedKaggle, *tasks: Path | str, **options: Any) -> PlannedTask:
    async def work() -> SweepPlan:
        return await plan_sweep(kaggle, list(tasks), "m", **options)

    (task,) = run_in_virtual_time(work).tasks
    return task


DONE, RUNNING = RunScript(), RunScript(running=1e6)
BROKEN = RunScript(end=RunState.ERRORED)


@pytest.mark.parametrize("adopt", [False, True])
def test_a_version_with_the_same_content(file: Path, adopt: bool) -> None:
    """Its runs are found, the completed ones first, whether they are taken or only offered; errored ones are not."""
    kaggle = kaggle_with(notebook_of(read_task_file(file)), RUNNING, BROKEN, DONE)
    task = planned(kaggle, file, adopt=adopt)
    assert task.same_as_server is True
    assert [run.id for run in task.runs] == [1004, 1002]


@pytest.mark.parametrize(("text", "scripts", "same"), [("other", [DONE], False), (None, [RUNNING], None)])
def test_a_version_that_is_not_certainly_the_same(
    file: Path, text: str | None, scripts: list[RunScript], same: bool | None
) -> None:
    """Of a version with other content, or of which no run has ended, no run can be taken."""
    other = CODE.replace('"x"', '"y"')
    file.with_name("other.py").write_text(other)
    source = file if text is None else file.with_name("other.py")
    task = planned(kaggle_with(notebook_of(read_task_file(source)), *scripts), file, adopt=True)
    assert (task.same_as_server, task.runs) == (same, ())


def test_runs_do_not_tell_their_judge(file: Path) -> None:
    """With a judge, the content is compared, and no run is taken."""
    task = planned(kaggle_with(notebook_of(read_task_file(file)), DONE), file, adopt=True, judge="n")
    assert (task.same_as_server, task.runs) == (True, ())


def test_a_task_that_is_named_by_its_slug() -> None:
    """The newest version is run in any case, so nothing is compared, and its runs are listed only to be taken."""
    kaggle = kaggle_with("any", DONE)
    assert planned(kaggle, "t").runs == ()
    assert not kaggle.calls["list_runs"]
    task = planned(kaggle, "t", adopt=True)
    assert (task.same_as_server, [run.id for run in task.runs]) == (None, [1002])
    assert not kaggle.calls["download_output"]


def test_what_cannot_be_listed_is_not_taken() -> None:
    """If the runs of a task cannot be listed, the plan is made without them."""
    kaggle = kaggle_with("any", DONE)
    kaggle.change(faults=(Fault("list_runs", 500, times=99),))
    assert planned(kaggle, "t", adopt=True).runs == ()


def test_what_the_sweep_has_pushed_is_not_compared(file: Path) -> None:
    """A folder knows what it has pushed; a fresh sweep does not read it, and compares."""
    kaggle = SimulatedKaggle(Scenario(runs=RunScript(running=1.0)), models=["m"])

    async def work() -> list[bool | None]:
        async with Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
            await sweep(file, "m", client=client, output="results")
            spec = SweepSpec(tasks=(TaskChoice(file=file),), models=("m",), output=Path("results"))
            plans = [await plan_spec(client, spec, fresh=fresh) for fresh in (False, True)]
            return [plan.tasks[0].same_as_server for plan in plans]

    assert run_in_virtual_time(work) == [None, True]
