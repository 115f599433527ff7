"""Cancelling runs, in virtual time."""

from __future__ import annotations

import anyio
import pytest

from fanbench.operations.cancel import cancel_runs
from fanbench.operations.lookup import runs_of
from fanbench.testing import RunScript
from fanbench.wire.messages import RunState
from tests.operations.conftest import simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def test_a_queued_run_that_begins_meanwhile_is_left() -> None:
    """With `queued_only`, a run that begins before the call reaches the server goes on, and is not asked for again."""
    client = simulated("t", runs=RunScript(queued=10.0, running=100.0))
    await client.schedule_runs("t", ["m"])
    (queued,) = await runs_of(client, "t")
    await anyio.sleep(20.0)
    (done,) = await cancel_runs(client, [queued], queued_only=True)
    assert (done.run.state, done.outcome) == (RunState.RUNNING, "started")
    assert client.calls["cancel_runs"] == 1
    assert not client.runs[queued.id].cancelled
