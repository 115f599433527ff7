"""Models at reasoning efforts, and agents: what users ask for, and the runs that come of it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest
from msgspec import structs

from fanbench import ApiError, Client, UnknownModel, UsageError
from fanbench.errors import NotFound, error_for_status
from fanbench.operations.candidates import find_candidates
from fanbench.operations.download import DownloadReport, download_tasks
from fanbench.operations.lookup import UnsupportedByServer, model_of
from fanbench.operations.models import runs_on
from fanbench.operations.run import ModelsUnlisted, run_tasks
from fanbench.operations.status import task_status
from fanbench.testing import Fault, RunScript, SimulatedKaggle, SimulatedTransport
from fanbench.wire.messages import BenchmarkModel, CandidateType, ModelVersion, Run, RunState
from tests.operations.conftest import Reported, only, simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


def kaggle_with(*tasks: str) -> SimulatedKaggle:
    """A Kaggle whose model `m` takes low and high, `n` takes high, `plain` takes none, and that has two agents."""
    kaggle = simulated(*tasks)
    kaggle.add_model("google/m", efforts=["low", "high"])
    kaggle.add_model("n", efforts=["high"])
    kaggle.add_model("plain")
    kaggle.agents = {"coder-1": "m", "coder-2": "n"}
    return kaggle


@pytest.mark.parametrize(
    ("asked", "efforts", "labels"),
    [
        (["m"], [], ["m"]),
        (["m"], ["low", "high"], ["m@low", "m@high"]),
        (["google/m@low", "m", "m@low"], [], ["m@low", "m"]),
        (["m@low", "n"], ["high"], ["m@low", "n@high"]),
        (["[mn]"], ["high"], ["m@high", "n@high"]),
        (["[mn]@high"], [], ["m@high", "n@high"]),
    ],
)
async def test_each_model_at_each_effort(asked: list[str], efforts: list[str], labels: list[str]) -> None:
    """A model without an effort of its own is taken at each of the efforts."""
    choice = await find_candidates(kaggle_with(), asked, efforts=efforts)
    assert (list(choice.labels), choice.warnings) == (labels, [])


async def test_efforts_that_models_lack() -> None:
    """All models that lack an effort are listed, with what they take."""
    with pytest.raises(UsageError) as caught:
        await find_candidates(kaggle_with(), ["*"], efforts=["low", "HIGH", "extreme"])
    assert str(caught.value).splitlines()[1:] == [
        "  m does not take HIGH (did you mean high?), extreme: it takes low, high",
        "  n does not take low, HIGH (did you mean high?), extreme: it takes high",
        "  plain does not take low, HIGH, extreme: it takes no effort",
    ]
    assert "-m MODEL@EFFORT -m MODEL" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("asked", "efforts", "agents", "words"),
    [
        ([], ["low"], ["coder-1"], "An agent has a reasoning effort of its own"),
        (["m@low"], ["high"], [], "Every model has an effort of its own"),
        (["m"], ["20250514"], [], "not a reasoning effort"),
        (["m@"], [], [], "'m@' has no effort after the @"),
        (["@low"], [], [], "'@low' has no model before the @"),
        (["google/@low"], [], [], "'google/@low' has no model before the @"),
        (["m@low@high"], [], [], "'m@low@high' has two efforts"),
        (["x*@*"], [], [], r"'x\*@\*' has a pattern after the @: patterns are for models"),
        (["m"], [], ["m"], "m is given as a model and as an agent"),
        ([], [], [], "No model is given"),
        (["m"], [""], [], "The name of a reasoning effort is empty"),
        ([], [], [" "], "The name of an agent is empty"),
    ],
)
async def test_what_cannot_be_meant(
    asked: list[str], efforts: list[str], agents: list[str], words: str
) -> None:
    """Requests that contradict themselves are refused."""
    with pytest.raises(UsageError, match=words):
        await find_candidates(kaggle_with(), asked, efforts=efforts, agents=agents)


async def test_a_pattern_of_models_that_matches_nothing() -> None:
    """A pattern before an effort must match a model, too."""
    with pytest.raises(UnknownModel, match=r"x\*"):
        await find_candidates(kaggle_with(), ["x*@high"])


async def test_a_model_whose_name_has_an_at_sign() -> None:
    """If only the whole name is that of a model, what follows the @ is its version."""
    version = ModelVersion(slug="m-turbo", model_proxy_slug="o/m@turbo")
    choice = await find_candidates(simulated(), ["o/m@turbo"], [BenchmarkModel(slug="x", version=version)])
    assert choice.labels == ("m-turbo",)


@pytest.mark.parametrize("asked", [["m"], ["unlisted"]])
async def test_a_server_that_does_not_know_efforts(asked: list[str]) -> None:
    """On an older server, which would leave out the effort, nothing is scheduled; without efforts, all is as before."""
    kaggle = kaggle_with("t")
    kaggle.change(has_configs=False)
    with pytest.raises(UnsupportedByServer, match="does not know the reasoning efforts"):
        await run_tasks(kaggle, ["t"], asked, efforts=["high"])
    assert kaggle.calls["schedule_runs"] == 0
    report = await run_tasks(kaggle, ["t"], ["m"], until="ended")
    assert [model_of(run) for run in report.runs] == ["m"]


@pytest.mark.parametrize("status", [403, 500, None])
async def test_a_server_that_does_not_show_efforts(reported: Reported, status: int | None) -> None:
    """If the efforts cannot be listed, the server decides which it takes, which is said in one line."""
    kaggle = kaggle_with("t")
    kaggle.change(faults=(Fault("list_configs", status, times=9),))
    with pytest.raises(ApiError, match="m has no configuration with the reasoning effort extreme"):
        await run_tasks(kaggle, ["t"], ["m"], efforts=["extreme"], emit=reported)
    (warned,) = reported.of(ModelsUnlisted)
    assert (
        warned.text == "The server does not show the efforts of its models; it decides whether to take them."
    )
    report = await run_tasks(kaggle, ["t"], ["m"], efforts=["high"], until="ended")
    assert [model_of(run) for run in report.runs] == ["m@high"]


class Renaming(SimulatedKaggle):
    """Lists name the configurations of runs in a way that does not tell their efforts."""

    async def list_runs(
        self, task: str, *, models: Sequence[str] = (), version: int = 0
    ) -> AsyncGenerator[Run, None]:
        async for run in super().list_runs(task, version=version):
            renamed = structs.replace(run, model_version_config_slug="thinking-hard", effort="")
            if not models or model_of(renamed) in models:
                yield renamed


async def test_runs_that_the_server_names_are_waited_for_whatever_it_calls_their_models() -> None:
    """Runs are matched by their ids in the answer to the schedule call, if the list does not tell their efforts."""
    kaggle = Renaming()
    kaggle.add_model("m", efforts=["low", "high"])
    kaggle.add_task("t")
    kaggle.change(faults=(Fault("list_configs", 403, times=9),))
    theirs = kaggle.add_run("t", "m@low", age=60.0)
    report = await run_tasks(kaggle, ["t"], ["m"], efforts=["high", "low"], until="ended")
    assert {run.id for run in report.runs} == {run.id for run in kaggle.runs.values()} - {theirs.id}
    assert [run.state for run in report.runs] == [RunState.COMPLETED] * 2


@pytest.mark.parametrize("over_http", [False, True])
async def test_runs_at_efforts_and_on_agents(over_http: bool) -> None:
    """Runs at several efforts and on agents are scheduled in one call each, waited for, and told apart."""
    kaggle = kaggle_with("t")
    kaggle.add_run("t", "m@high", RunScript(queued=30, running=5))
    config, transport = kaggle.config, SimulatedTransport(kaggle)
    async with Client(config, http=transport) as client:
        report = await run_tasks(
            client if over_http else kaggle,
            ["t"],
            ["m", "n@high"],
            efforts=["low", "high"],
            agents=["coder-2", "coder-1"],
            until="ended",
        )
    (launch,) = report.launches
    assert [(row.model, row.scheduled) for row in launch.rows] == [
        ("m@low", True),
        ("m@high", False),
        ("n@high", True),
        ("coder-2", True),
        ("coder-1", True),
    ]
    assert kaggle.arguments("schedule_runs") == [
        ("t", ("m@low",)),
        ("t", ("m@high", "n@high")),
        ("t", ("coder-2", "coder-1")),
    ]
    assert sorted(map(model_of, report.runs)) == ["coder-1", "coder-2", "m@high", "m@low", "n@high"]
    assert all(run.state is RunState.COMPLETED for run in report.runs)


async def test_an_agent_that_does_not_exist() -> None:
    """The hint is about the agents that the server has refused, and not about models."""
    kaggle = kaggle_with("t")
    with pytest.raises(NotFound, match="No such agent: coder-3") as caught:
        await run_tasks(kaggle, ["t"], ["m"], agents=["coder-3"])
    assert caught.value.hint
    assert caught.value.hint.startswith("Runs on m have been scheduled. Check the agents: coder-3;")


async def test_a_task_that_is_not_run_on_agents() -> None:
    """If any task is not run on agents, nothing is scheduled."""
    kaggle = kaggle_with("a", "b")
    kaggle.tasks["b"].candidate_type = CandidateType.MODEL_VERSIONS
    with pytest.raises(UsageError, match="Task 'b' is run on models, not on agents"):
        await run_tasks(kaggle, ["a", "b"], [], agents=["coder-1"])
    assert kaggle.calls["schedule_runs"] == 0


async def test_a_task_that_is_run_on_agents_only() -> None:
    """A task that is run on agents is not scheduled on models."""
    kaggle = kaggle_with("a", "b")
    kaggle.tasks["b"].candidate_type = CandidateType.AGENTS
    with pytest.raises(UsageError, match="Task 'b' is run on agents, not on models"):
        await run_tasks(kaggle, ["b"], ["m"])
    report = await run_tasks(kaggle, ["a", "b"], ["m"])
    assert [failure.slug for failure in report.failures] == ["b"]
    report = await run_tasks(kaggle, ["b"], [], agents=["coder-1"])
    assert [row.model for launch in report.launches for row in launch.rows] == ["coder-1"]


async def test_the_second_of_two_calls_fails() -> None:
    """The error says which runs the first call has scheduled."""
    kaggle = kaggle_with("t")
    kaggle.change(faults=(Fault("schedule_runs", first=2, raises=error_for_status("x", 400, "Not now.")),))
    with pytest.raises(ApiError, match=r"Not now\.") as caught:
        await run_tasks(kaggle, ["t"], ["m"], efforts=["low", "high"])
    assert caught.value.hint
    assert caught.value.hint.startswith("Runs on m@low have been scheduled.")


RUNS = [
    Run(id=0, model_version_slug="o/m@default"),
    Run(id=1, model_version_slug="o/m@default", model_version_config_slug="c", effort="low"),
    Run(id=2, model_version_slug="m", model_version_config_slug="c", effort="high"),
    Run(id=3, model_version_slug="n", model_version_config_slug="n-high-reasoning-effort"),
    Run(id=4, model_version_slug="m", agent_slug="coder-1"),
]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["m"], [0]),
        (["m@low"], [1]),
        (["google/m-default@low"], [1]),
        (["*@high"], [2, 3]),
        (["m*"], [0, 1, 2]),
        (["m@*"], [1, 2]),
        (["coder-1", "n@high"], [3, 4]),
    ],
)
def test_runs_are_selected_by_model_and_effort(asked: list[str], found: list[int]) -> None:
    """A name means exactly that model, at exactly that effort; patterns are about whole labels."""
    assert [run.id for run in runs_on("t", RUNS, asked)] == found


async def test_outputs_of_efforts_are_in_folders_of_their_own(tmp_path: Path) -> None:
    """The output of each run is in a folder that is called by its model and effort, or by its agent."""
    kaggle = kaggle_with("t")
    for label in ("m", "m@low", "m@high", "coder-1"):
        kaggle.add_run("t", label)
    report = only(await download_tasks(kaggle, ["t"], output=tmp_path))
    assert isinstance(report, DownloadReport)
    assert {path.name for path in (tmp_path / "t" / "1").iterdir()} == {"m", "m@low", "m@high", "coder-1"}
    status = await task_status(kaggle, "t", ["m@low", "coder*"])
    assert sorted(map(model_of, status.runs)) == ["coder-1", "m@low"]
