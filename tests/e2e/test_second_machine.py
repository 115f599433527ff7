"""A sweep on a second machine, with a local server: what the server has is neither pushed nor run again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fanbench import Client, plan_sweep, sweep
from fanbench.sweeps.report import SweepReport
from fanbench.sweeps.sweep import SweepOptions
from fanbench.wire.messages import Task
from tests.local.server_process import TASK, ServerProcess, run_server_with_fake_sdk

pytestmark = [pytest.mark.anyio, pytest.mark.e2e]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with run_server_with_fake_sdk(tmp_path_factory.mktemp("second")) as server:
        yield server


class OldServer(Client):
    """A client whose server does not say what is behind a task, as those of before."""

    async def get_task(self, task: str, *, version: int = 0, include_definition: bool = False) -> Task:
        return await super().get_task(task, version=version)


def made(report: SweepReport) -> list[int | None]:
    return [row.run_id for row in report.rows]


@pytest.mark.parametrize("kind", [Client, OldServer])
async def test_a_second_machine_continues_what_the_first_began(
    server: ServerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[Client]
) -> None:
    """The version is known by what the server says of it, or else by the output of a run, and the runs are taken."""
    name = f"second-{kind.__name__.lower()}"
    (tmp_path / "task.py").write_text(TASK.replace("two-plus-two", name))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first-home"))
    async with kind(server.client().config) as client:
        first = await sweep(
            tmp_path / "task.py",
            ["four", "wrong"],
            client=client,
            output=tmp_path / "first",
            poll_interval=0.1,
        )
        assert first.ok
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second-home"))
        more: SweepOptions = {
            "poll_interval": 0.1,
            "repeats": 2,
            "adopt": True,
            "output": tmp_path / "second",
        }
        plan = await plan_sweep(client, tmp_path / "task.py", ["four", "wrong"], **more)
        assert (plan.tasks[0].same_as_server, len(plan.tasks[0].runs)) == (True, 2)
        second = await sweep(tmp_path / "task.py", ["four", "wrong"], client=client, **more)
        assert second.ok
        assert made(second)[::2] == made(first)
        assert not {*made(second)[1::2]} & {*made(first)}
        assert (await client.get_task(name)).slug.version_number == 1
    (tmp_path / "task.py").write_text(TASK.replace("two-plus-two", name) + "\nprint('changed')\n")
    async with kind(server.client().config) as client:
        third = await sweep(
            tmp_path / "task.py",
            "four",
            client=client,
            adopt=True,
            output=tmp_path / "third",
            poll_interval=0.1,
        )
        assert (await client.get_task(name)).slug.version_number == 2
        assert not {*made(third)} & {*made(second)}
