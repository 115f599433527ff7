"""Measure what faults cost a sweep, and what single faults do to our commands and to the vendor's.

    python benchmarks/faults.py [--seeds 10] [--socket] [--table]

36 runs (3 tasks × 12 models) of two to four minutes, with creations of 12 s and 0.2 s per answer: once without faults,
and once for each seed with 503 on 20% of all answers (half of them after the work was done), 429 on 10%, 30% of logs
and downloads cut, 5% of answers dripping and 5% stalling. Every run must have been made once, and every output and log
must be complete. The sweep runs in virtual time, or with `--socket` as a command on a real server, in real time.

`--table` runs our commands and the vendor's once under each of the faults of docs/reliability.md, in real time.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

from commands import BIN, VENDOR, environment, ours
from servers import model_name
from sweep import write_tasks

import fanbench
from fanbench.testing import (
    Fault,
    RunScript,
    Scenario,
    SimulatedKaggle,
    SimulatedTransport,
    run_in_virtual_time,
    serve,
)

TASKS, MODELS = 3, 12
CREATION = 12.0
RUN_SECONDS = (120.0, 240.0)
LINES = 50
#: The lists of this server are never behind, so nothing need be looked for as long as on Kaggle.
CONFIRM_WITHIN = 5.0
FAULTS = (
    Fault("all", 503, share=0.1),
    Fault("all", 503, share=0.1, took_effect=True),
    Fault("all", 429, share=0.1, retry_after=1),
    Fault("download_output", damage="cut", share=0.3),
    Fault("logs", damage="cut", share=0.3),
    Fault("all", damage="drip", rate=200, share=0.05),
    Fault("all", damage="stall", share=0.05),
)


# --- One sweep ------------------------------------------------------------------------------------------------


def script(task: str, model: str, number: int) -> RunScript:
    first, last = RUN_SECONDS
    seconds = first + (last - first) * int(model.removeprefix("model-")) / (MODELS - 1)
    lines = log_of(task, model).splitlines(keepends=True)
    log = tuple((seconds * (number + 1) / LINES, line) for number, line in enumerate(lines))
    return RunScript(running=seconds, log=log, output=output_of(task, model))


def log_of(task: str, model: str) -> str:
    return "".join(f"{task} on {model}: step {number} of {LINES}\n" for number in range(LINES))


@cache
def output_of(task: str, model: str) -> dict[str, bytes]:
    run = {
        "taskVersion": {"name": task, "versionNumber": 1},
        "modelVersion": {"slug": model},
        "state": "BENCHMARK_TASK_RUN_STATE_COMPLETED",
        "results": [{"booleanResult": True}],
    }
    return {
        f"{task}.run.json": json.dumps(run).encode(),
        "answers.bin": random.Random(f"{task} {model}").randbytes(100_000),
    }


def server(faults: Sequence[Fault], seed: int) -> SimulatedKaggle:
    scenario = Scenario(latency=0.2, creation=CREATION, runs=script, faults=tuple(faults), seed=seed)
    return SimulatedKaggle(scenario, models=[model_name(number) for number in range(MODELS)])


def in_virtual_time(faults: Sequence[Fault], seed: int) -> float:
    """Sweep, check what came of it, and return the seconds."""
    kaggle = server(faults, seed)
    with tempfile.TemporaryDirectory() as top:
        folder = Path(top)
        files = [f"{folder / name}.py" for name in write_tasks(folder, TASKS)]

        async def sweep() -> None:
            async with fanbench.Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
                output = folder / "results"
                report = await fanbench.sweep(
                    files, "*", output=output, confirm_within=CONFIRM_WITHIN, client=client
                )
                assert report.ok, report.counts

        run_in_virtual_time(sweep)
        check(kaggle, folder / "results")
    return kaggle.now()


def on_a_socket(faults: Sequence[Fault], seed: int) -> float:
    kaggle = server(faults, seed)
    with tempfile.TemporaryDirectory() as top, serve(kaggle) as served:
        folder = Path(top)
        files = [f"{name}.py" for name in write_tasks(folder, TASKS)]
        words = [
            "sweep",
            *files,
            "--all-models",
            "-o",
            "results",
            "-y",
            "--confirm-within",
            str(CONFIRM_WITHIN),
        ]
        began = time.perf_counter()
        ours(served.url, folder, *words)
        seconds = time.perf_counter() - began
        check(kaggle, folder / "results")
    return seconds


def check(kaggle: SimulatedKaggle, results: Path) -> None:
    """Every run was made once, and its output and log are those of the server, byte for byte."""
    made = sorted((run.task, run.model) for run in kaggle.runs.values())
    expected = [(f"task-{task}", model_name(model)) for task in range(TASKS) for model in range(MODELS)]
    assert made == expected, made
    for run in kaggle.runs.values():
        (folder,) = results.glob(f"{run.task}/*/{run.model}/{run.id}")
        for name, content in output_of(run.task, run.model).items():
            assert (folder / name).read_bytes() == content, folder / name
        log = folder.with_name(f"{folder.name}.log")
        assert log.read_text() == log_of(run.task, run.model), log


# --- Single faults --------------------------------------------------------------------------------------------

#: Seconds after which a command is stopped, and counts as hanging.
PATIENCE = 100.0
PUSH = ("push", "new", "-f", "task-0.py")
RUN = ("run", "t", "-m", "model-000", "--wait", "--poll-interval", "1")
STATUS, LIST, LOG = ("status", "t"), ("list", "--all"), ("log", "t", "-m", "model-000")
DOWNLOAD = ("download", "t", "-m", "model-000", "-o", "out")
CASES: dict[str, tuple[tuple[str, ...], Scenario]] = {
    name: (
        words,
        Scenario(latency=0, creation=1, faults=faults, runs=RunScript(running=0, log=((0, "line\n"),))),
    )
    for name, words, *faults_of in [
        ("push: answer lost after the work", PUSH, Fault("create_task", took_effect=True)),
        ("push: 503 after the work", PUSH, Fault("create_task", 503, took_effect=True)),
        ("push: 503 before the work", PUSH, Fault("create_task", 503)),
        ("run: answer lost after the work", RUN, Fault("schedule_runs", took_effect=True)),
        ("run: 503 after the work", RUN, Fault("schedule_runs", 503, took_effect=True)),
        ("run: lists without runs, twice", RUN, Fault("list_runs", damage="stale", times=2)),
        ("status: 503 once", STATUS, Fault("list_runs", 503)),
        ("status: 502 once", STATUS, Fault("get_task", 502)),
        ("status: connection reset once", STATUS, Fault("list_runs")),
        ("status: 429, Retry-After 2", STATUS, Fault("list_runs", 429, retry_after=2)),
        ("status: list cut once", STATUS, Fault("list_runs", damage="cut")),
        ("status: half a list once", STATUS, Fault("list_runs", damage="half")),
        ("status: null in a list once", STATUS, Fault("list_runs", damage="null")),
        ("status: HTML once", STATUS, Fault("list_runs", damage="html")),
        ("status: unknown states", STATUS, Fault("list_runs", damage="unknown_enum", every=1)),
        ("status: an answer stalls once", STATUS, Fault("list_runs", damage="stall")),
        ("status: an answer drips", STATUS, Fault("list_runs", damage="drip")),
        ("list: the same page without an end", LIST, Fault("list_tasks", damage="page_loop", every=1)),
        ("list: new pages without an end", LIST, Fault("list_tasks", damage="page_flood", every=1)),
        ("log: cut once", LOG, Fault("logs", damage="cut")),
        ("log: silent after the end of its run", LOG, Fault("logs", damage="stall")),
        ("download: cut once", DOWNLOAD, Fault("download_output", damage="cut")),
        ("download: shorter than announced, once", DOWNLOAD, Fault("download_output", damage="short")),
        ("download: stalls once", DOWNLOAD, Fault("download_output", damage="stall")),
        ("download: 503 once", DOWNLOAD, Fault("download_output", 503)),
    ]
    for faults in [tuple(faults_of)]
}


def table() -> dict[str, Any]:
    with ThreadPoolExecutor(4) as pool:
        rows = [(name, side, pool.submit(single, name, side)) for name in CASES for side in COMMANDS]
        found: dict[str, Any] = {name: {} for name in CASES}
        for name, side, row in rows:
            found[name][side] = row.result()
    return found


def single(name: str, side: str) -> str:
    """What one command does under one fault: its exit code, its time, and what it has done twice or not."""
    words, scenario = CASES[name]
    kaggle = SimulatedKaggle(scenario, models=[model_name(0), model_name(1)])
    kaggle.add_task("t")
    if words is not RUN:
        kaggle.add_run("t", model_name(0), age=1000.0)
    with tempfile.TemporaryDirectory() as top, serve(kaggle) as served:
        folder = Path(top)
        write_tasks(folder, 1)
        text = (folder / "task-0.py").read_text()
        (folder / "task-0.py").write_text(text.replace('"task-0"', '"new"'))
        command = [*COMMANDS[side](served.url), *words]
        began = time.perf_counter()
        code, output = ended(command, folder)
        seconds = time.perf_counter() - began
        done = ""
        if words is PUSH:
            done = f"; {len(kaggle.tasks['new'].versions) if 'new' in kaggle.tasks else 0} versions"
        elif words is RUN:
            done = f"; {len(kaggle.runs)} runs"
        elif words is DOWNLOAD:
            done = f"; {sum(path.is_file() for path in (folder / 'out').rglob('*'))} files"
    if code is None:
        return f"hangs (over {PATIENCE:.0f} s){done}"
    trace = ", traceback" if "Traceback (most recent call last)" in output else ""
    return f"exit {code} in {seconds:.1f} s{trace}{done}"


def ended(command: Sequence[str], folder: Path) -> tuple[int | None, str]:
    """The exit code, None if the command had to be stopped, and what it printed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, done.stdout.decode(errors="replace")


COMMANDS: dict[str, Callable[[str], list[str]]] = {
    "fanbench": lambda url: [str(BIN / "fanbench"), "--endpoint", url, "tasks"],
    "kaggle": lambda url: [*VENDOR, url, "benchmarks", "tasks"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--socket", action="store_true")
    parser.add_argument("--table", action="store_true")
    words = parser.parse_args()
    if words.table:
        print(json.dumps(table(), indent=2))
        return
    measure = on_a_socket if words.socket else in_virtual_time
    without = measure((), 0)
    ratios = [measure(FAULTS, seed) / without for seed in range(words.seeds)]
    report = {
        "seconds without faults": round(without, 1),
        "ratio with faults, median": round(statistics.median(ratios), 2),
        "least": round(min(ratios), 2),
        "most": round(max(ratios), 2),
        "ratios": [round(ratio, 2) for ratio in ratios],
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
