"""A sweep under each preset, in virtual time."""

from __future__ import annotations

import math
from pathlib import Path

import anyio
import pytest

import fanbench
from fanbench.testing import (
    Damage,
    Fault,
    RunScript,
    Scenario,
    SimulatedKaggle,
    SimulatedTransport,
    read_faults,
    run_in_virtual_time,
)

MODELS = ["m1", "m2", "m3"]
TASK = """\
import kaggle_benchmarks as kbench

@kbench.task(name="{name}")
def ask(llm) -> bool:
    return "4" in llm.prompt("What is 2 + 2?")

ask.run(kbench.llm)
"""
SCRIPT = RunScript(queued=3.0, running=60.0, log=tuple((5.0 * part, f"line {part}\n") for part in range(10)))


def sweep(preset: str, seed: int, folder: Path, *more: Fault) -> tuple[SimulatedKaggle, fanbench.SweepReport]:
    """Sweep two tasks on three models under the preset and `more` faults, within an hour of virtual time."""
    for name in ("first", "second"):
        (folder / f"{name}.py").write_text(TASK.format(name=name))
    faults = read_faults(preset).faults if preset else ()
    scenario = Scenario(faults=(*faults, *more), seed=seed, runs=SCRIPT)
    kaggle = SimulatedKaggle(scenario, models=MODELS)

    async def main() -> fanbench.SweepReport:
        async with fanbench.Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
            with anyio.fail_after(3600):
                return await fanbench.sweep(folder / "*.py", MODELS, client=client, output=folder / "results")

    return kaggle, run_in_virtual_time(main)


def check_nothing_doubled(kaggle: SimulatedKaggle) -> None:
    runs = [(run.task, run.model) for run in kaggle.our_runs()]
    assert len(set(runs)) == len(runs)
    assert all(len(task.versions) == 1 for task in kaggle.tasks.values())


def check_logs(kaggle: SimulatedKaggle, report: fanbench.SweepReport, folder: Path) -> None:
    for row in report.rows:
        if row.log:
            saved = (folder / "results" / row.log).read_bytes()
            assert saved == kaggle.runs[row.run_id or 0].log.encode()


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("preset", ["rate-limited", "flaky"])
def test_presets_that_a_sweep_survives(preset: str, seed: int, tmp_path: Path) -> None:
    """Everything is complete, exactly once, with each output and each line of the logs."""
    kaggle, report = sweep(preset, seed, tmp_path)
    assert report.ok
    assert len(kaggle.our_runs()) == 6
    check_nothing_doubled(kaggle)
    assert all(row.log for row in report.rows)
    check_logs(kaggle, report, tmp_path)
    for row in report.rows:
        run = kaggle.runs[row.run_id or 0]
        for name, content in run.output().items():
            assert (tmp_path / "results" / (row.output or "") / name).read_bytes() == content


@pytest.mark.parametrize("seed", [0, 1])
def test_a_server_that_dies(seed: int, tmp_path: Path) -> None:
    """A sweep ends within minutes, names what is missing and why, and has doubled nothing."""
    kaggle, report = sweep("dying", seed, tmp_path)
    assert not report.ok
    check_nothing_doubled(kaggle)
    assert kaggle.now() < 900
    missing = [row for row in report.rows if row.status is fanbench.RunStatus.MISSING]
    assert missing
    assert all(row.error for row in missing)


def test_a_hostile_server(tmp_path: Path) -> None:
    """A sweep ends, has doubled nothing, and each run is complete, to the letter, or reported with what is wrong."""
    kaggle, report = sweep("hostile", 2, tmp_path)
    check_nothing_doubled(kaggle)
    for row in report.rows:
        assert row.error or (row.output and row.log and row.status is fanbench.RunStatus.COMPLETED)
    check_logs(kaggle, report, tmp_path)


@pytest.mark.parametrize("damage", ["sse_garbled", "sse_duplicated", "sse_end", "half", "null"])
def test_logs_that_are_damaged(damage: Damage, tmp_path: Path) -> None:
    """What a sweep saves as the log of a run is what the server has stored, whatever comes live, or comes first."""
    cut = Fault("logs", damage="sse_cut", times=math.inf)
    kaggle, report = sweep("", 3, tmp_path, Fault("logs", damage=damage, share=0.4), cut)
    assert report.ok
    check_logs(kaggle, report, tmp_path)
