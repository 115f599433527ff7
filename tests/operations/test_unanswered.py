"""A push or a schedule call that gets no answer is looked for, and never made twice."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from fanbench import ConnectionFailed, FanbenchError, ServerFault
from fanbench.operations.push import Pushed, push_tasks
from fanbench.operations.run import run_tasks
from fanbench.operations.unanswered import CallUnanswered
from fanbench.testing import Fault, RunScript
from tests.operations.conftest import Reported, only, simulated
from tests.operations.test_push import plan
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio
LOST = [None, 500, 503, 504, 200]


@pytest.mark.parametrize("status", LOST)
async def test_a_push_that_took_effect_is_found(
    tmp_path: Path, status: int | None, reported: Reported
) -> None:
    """If the answer to a push is lost, its version is found, and there is one version."""
    client = simulated(faults=(Fault("create_task", status, took_effect=True),))
    pushed = only(await push_tasks(client, [plan(tmp_path)], wait=True, emit=reported))
    assert isinstance(pushed, Pushed)
    assert pushed.created
    assert len(client.tasks["t"].versions) == 1
    assert "t: it is unknown whether it was pushed; looking for the version" in str(
        only(reported.of(CallUnanswered)).text
    )


@pytest.mark.parametrize("status", LOST)
async def test_a_push_without_effect_is_an_error(tmp_path: Path, status: int | None) -> None:
    """If no version appears within a minute, the push is an error that says so, and it has not been repeated."""
    client = simulated("t", faults=(Fault("create_task", status),))
    (error,) = await push_tasks(client, [plan(tmp_path)])
    assert isinstance(error, FanbenchError)
    assert "No new version of 't' has appeared within 60 s" in (error.hint or "")
    assert client.calls["create_task"] == 1
    assert client.now() == pytest.approx(60, abs=3)


@pytest.mark.parametrize("status", LOST)
async def test_runs_that_were_scheduled_are_found(status: int | None, reported: Reported) -> None:
    """If the answer to a schedule call is lost, its runs are found in lists and waited for."""
    client = simulated(
        "t", models=["a", "b"], list_lag=25.0, faults=(Fault("schedule_runs", status, took_effect=True),)
    )
    client.add_run("t", "a", RunScript(running=0))
    report = await run_tasks(client, ["t"], ["a", "b"], until="ended", emit=reported)
    assert sorted(run.model_version_slug for run in report.runs) == ["a", "b"]
    assert len(client.runs) == 3
    assert [row.scheduled for row in report.launches[0].rows] == [True, True]
    assert "the server has scheduled 2 runs; looking for up to" in str(only(reported.of(CallUnanswered)).text)


async def test_runs_that_were_not_scheduled_are_an_error() -> None:
    """If no run is listed within a minute, that is an error, and the call has not been repeated."""
    client = simulated("t", models=["a"], faults=(Fault("schedule_runs"),))
    with pytest.raises(ConnectionFailed) as caught:
        await run_tasks(client, ["t"], ["a"], until="ended")
    assert "fanbench tasks status t" in (caught.value.hint or "")
    assert client.calls["schedule_runs"] == 1


async def test_without_wait_the_error_says_that_the_outcome_is_unknown() -> None:
    """Without a list of the runs before, the error says how to see whether there are new ones."""
    client = simulated("t", models=["a"], faults=(Fault("schedule_runs", 503, times=math.inf),))
    with pytest.raises(ServerFault) as caught:
        await run_tasks(client, ["t"], ["a"])
    assert "may have been scheduled. Run `fanbench tasks status t`" in (caught.value.hint or "")
    assert client.calls["schedule_runs"] == 1
