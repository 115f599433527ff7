"""The simulated servers that commands are measured on. They answer from a thread of the measuring program."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count

from fanbench.testing import RunScript, Scenario, SimulatedKaggle, SimulatedServer, serve

TASK = "measured"
SIZES = [size * 1000 for size in range(20, 201, 20)]


def counts(server: SimulatedServer) -> dict[str, int]:
    """The calls since the last count, by name."""
    found = dict(server.kaggle.calls)
    server.kaggle.calls.clear()
    return found


def model_name(number: int) -> str:
    return f"model-{number:03d}"


@contextmanager
def one_task(
    *,
    delay: float = 0.0,
    creation: float = 0.0,
    run_seconds: Sequence[float] = (0.0,),
    runs: int = 0,
    size: int = 1000,
) -> Iterator[SimulatedServer]:
    """A server with 50 models and the task `measured`, which has `runs` ended runs.

    Each of these has an output and a log of about `size` bytes. Every response takes `delay` seconds, a creation
    `creation`; of the runs to come, that of model 0 takes the first of `run_seconds`, that of model 1 the second.
    """
    output = {"measured.run.json": b"{}", "answers.bin": random.Random(7).randbytes(size)}
    log = tuple((number / 100, "x" * 99 + "\n") for number in range(size // 100))
    ended = RunScript(running=0.0, log=log, output=output)

    def script(task: str, model: str, number: int) -> RunScript:
        seconds = run_seconds[int(model.removeprefix("model-")) % len(run_seconds)]
        return RunScript(running=seconds, log=((0.1, "begun\n"),), output=output)

    models = [f"model-{number}" for number in range(max(50, runs))]
    scenario = Scenario(latency=delay, creation=creation, runs=script)
    kaggle = SimulatedKaggle(scenario, models=models[:50], keep_history=False)
    kaggle.add_task(TASK)
    for model in models[:runs]:
        kaggle.add_run(TASK, model, ended, age=1000.0)
    with serve(kaggle) as server:
        yield server


@contextmanager
def many_tasks(
    *, delay: float, creation: float, run_seconds: tuple[float, float], models: int, lines: int = 20
) -> Iterator[SimulatedServer]:
    """A server with `models` models for the tasks that are pushed to it.

    The runs of a task take from the first to the second of `run_seconds`, spread evenly over the models. Their
    logs are live streams of `lines` lines that end with their run, and their outputs are zips of 20 to 200 KB.
    """
    first, last = run_seconds
    runs = count()

    def script(task: str, model: str, number: int) -> RunScript:
        seconds = first + (last - first) * int(model.removeprefix("model-")) / max(1, models - 1)
        log = tuple(
            (seconds * (line + 1) / lines, f"{task} on {model}: step {line + 1} of {lines} {'.' * 40}\n")
            for line in range(lines)
        )
        return RunScript(running=seconds, log=log, output=_output(task, SIZES[next(runs) % len(SIZES)]))

    scenario = Scenario(latency=delay, creation=creation, runs=script)
    names = [model_name(number) for number in range(models)]
    with serve(SimulatedKaggle(scenario, models=names, keep_history=False)) as server:
        yield server


@cache
def _output(task: str, size: int) -> Mapping[str, bytes]:
    """A run file, and `size` bytes that cannot be compressed."""
    run = {
        "taskVersion": {"name": task, "versionNumber": 1},
        "modelVersion": {"slug": "google/simulated"},
        "state": "BENCHMARK_TASK_RUN_STATE_COMPLETED",
        "startTime": "2030-01-02T03:04:05Z",
        "endTime": "2030-01-02T03:04:08Z",
        "results": [{"type": "AGGREGATED", "numericResult": {"value": 0.5, "confidenceInterval": 0.1}}],
    }
    return {
        f"{task}.run.json": json.dumps(run).encode(),
        f"{task}.task.json": json.dumps({"name": task}).encode(),
        "answers.bin": random.Random(size).randbytes(size),
    }
