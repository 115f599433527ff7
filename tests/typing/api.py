"""The types of the public API as a user's mypy sees them. Checked, never run."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import assert_type

import fanbench
from fanbench import (
    Bearer,
    BenchmarkModel,
    Client,
    Comparison,
    Config,
    CreationState,
    Credentials,
    DownloadReport,
    FanbenchError,
    Item,
    ItemState,
    LocalServer,
    LogEntry,
    Pushed,
    Ranking,
    ResultSet,
    Run,
    RunReport,
    RunResult,
    RunState,
    Scores,
    StillRunning,
    Sweep,
    SweepEvent,
    SweepPlan,
    SweepReport,
    Task,
    TaskStatus,
    Verdict,
    WaitTimeout,
)
from fanbench.operations.api import Api


async def clients() -> None:
    async with Client() as default:
        assert_type(default, Client)
    async with Client.local() as local:
        assert_type(local, Client)
    async with Client.local("folder", concurrency=4):
        pass
    config = fanbench.resolve_config(endpoint="http://x", token="t", concurrency=2)
    assert_type(config, Config)
    assert_type(config.credentials, Credentials)
    async with Client(Config("http://x", Bearer("t"))):
        pass
    async with fanbench.local_server(Path("data")) as server:
        assert_type(server, LocalServer)
        assert_type(server.url, str)
    assert_type(await fanbench.ensure_server(), LocalServer)


def operations(client: Client) -> Api:
    return client


async def pushes(client: Client) -> None:
    assert_type(await client.push("task.py"), Pushed)
    assert_type(await client.push(Path("task.py"), task="t", wait=True, timeout=5), Pushed)
    assert_type(await client.push(["a.py", Path("b.py")]), list[Pushed | FanbenchError])
    assert_type(await client.push((Path("a.py"),), all_tasks=True), list[Pushed | FanbenchError])
    assert_type(await client.push("task.py", all_tasks=True), list[Pushed | FanbenchError])
    await client.push(["a.py"], task="t")  # type: ignore[call-overload]


async def runs(client: Client) -> None:
    report = await client.run("task", "model")
    assert_type(report, RunReport)
    assert_type(report.runs, tuple[Run, ...])
    assert_type(await client.run(["a", "b"], ["x", "y"], wait=True, timeout=60, logs=True), RunReport)
    assert_type(await client.wait(*report.runs, "task", timeout=1.5), list[Run])
    run = report.runs[0]
    assert_type(run.state, RunState)
    async with aclosing(client.lines(run)) as lines:
        async for line in lines:
            assert_type(line, str)
    async for entry in client.logs(run.id):
        assert_type(entry, LogEntry)
    async for listed in client.list_runs("task", models=["x"]):
        assert_type(listed, Run)
    await client.lines(run.id)  # type: ignore[arg-type, misc]


async def results(client: Client) -> None:
    status = await client.status("task", "model")
    assert_type(status, TaskStatus)
    assert_type(status.task, Task)
    assert_type(status.task.creation_state, CreationState)
    assert_type(await client.status(["a", "b"]), list[TaskStatus | FanbenchError])
    assert_type(await client.download("task", output="results"), DownloadReport)
    assert_type(await client.download(["a"], output=Path("results")), list[DownloadReport | FanbenchError])
    assert_type(await client.list_models(), list[BenchmarkModel])
    found = fanbench.read_results([Path("results")])
    assert_type(found, ResultSet)
    assert_type(found.newest(), tuple[RunResult, ...])
    assert_type(found.items, Sequence[Item])
    assert_type(found.items[0].state, ItemState)
    assert_type(found.scores(), Scores)
    assert_type(found.leaderboard("like-these"), Ranking)
    assert_type(found.leaderboard(k=3).table().rows, tuple[tuple[str, ...], ...])
    assert_type(found.table("a*", sort="score", failed=True).plain(), str)
    found.table(sort="size")  # type: ignore[arg-type]
    assert_type(found.compare("a", "b"), Comparison)
    assert_type(found.compare_with(found, ["a"]), Comparison)
    assert_type(found.gate(found, margin=0.05).verdict, Verdict)


def errors(error: StillRunning) -> None:
    timeout: WaitTimeout = error
    base: FanbenchError = timeout
    assert_type(error.runs, tuple[Run, ...])
    assert_type(base.hint, str | None)


async def sweeps(client: Client) -> None:
    report = await fanbench.sweep("a.py", "gemini-*", client=client, output=Path("out"), max_failures="10%")
    assert_type(report, SweepReport)
    assert_type(await fanbench.sweep(tasks=[Path("a.py")], models=["m"], repeats=2, fresh=True), SweepReport)
    plan = await fanbench.plan_sweep(client, ["a.py", "a-slug"], all_models=True)
    assert_type(plan, SweepPlan)
    async with Sweep(client, plan) as sweep:
        async for event in sweep:
            assert_type(event, SweepEvent)
        assert_type(await sweep.report(), SweepReport)
    await fanbench.sweep("a.py", "m", max_costs=3)  # type: ignore[call-arg]
