"""The types of `fanbench.sync` as a user's mypy sees them. Checked, never run."""

from __future__ import annotations

from pathlib import Path
from typing import assert_type

from fanbench import (
    BenchmarkModel,
    DownloadReport,
    FanbenchError,
    LocalServer,
    LogEntry,
    Pushed,
    Run,
    RunReport,
    SweepEvent,
    SweepPlan,
    SweepReport,
    Task,
    TaskStatus,
)
from fanbench.sync import Client, Sweep, ensure_server, local_server, plan_sweep, sweep


def clients() -> None:
    with Client() as default:
        assert_type(default, Client)
    with Client.local("folder", concurrency=4) as local:
        assert_type(local, Client)
    with local_server(Path("data")) as server:
        assert_type(server, LocalServer)
    assert_type(ensure_server(), LocalServer)


def operations(client: Client) -> None:
    assert_type(client.push("task.py", task="t", wait=True, timeout=5), Pushed)
    assert_type(client.push(["a.py", Path("b.py")]), list[Pushed | FanbenchError])
    client.push(["a.py"], task="t")  # type: ignore[call-overload]
    report = client.run(["a", "b"], "x", wait=True, timeout=60)
    assert_type(report, RunReport)
    client.run("a", "x", wait="yes")  # type: ignore[arg-type]
    assert_type(client.wait(*report.runs, "task", timeout=1.5), list[Run])
    assert_type(client.status("task", "model"), TaskStatus)
    assert_type(client.status(["a", "b"]), list[TaskStatus | FanbenchError])
    assert_type(client.download("task", output="results"), DownloadReport)
    assert_type(client.download(["a"]), list[DownloadReport | FanbenchError])
    assert_type(client.list_models(), list[BenchmarkModel])


def iterators(client: Client, run: Run) -> None:
    for line in client.lines(run):
        assert_type(line, str)
    for entry in client.logs(run.id, merge=True):
        assert_type(entry, LogEntry)
    for task in client.list_tasks():
        assert_type(task, Task)
    for listed in client.list_runs("task", models=["x"]):
        assert_type(listed, Run)
    client.lines(run.id)  # type: ignore[arg-type]


def sweeps(client: Client) -> None:
    assert_type(sweep("a.py", "gemini-*", client=client, output=Path("out"), max_failures="10%"), SweepReport)
    plan = plan_sweep(client, ["a.py", "a-slug"], all_models=True)
    assert_type(plan, SweepPlan)
    with Sweep(client, plan) as running:
        for event in running:
            assert_type(event, SweepEvent)
        assert_type(running.report(), SweepReport)
    sweep("a.py", "m", max_costs=3)  # type: ignore[call-arg]
