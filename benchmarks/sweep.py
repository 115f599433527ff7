"""Measure `fanbench sweep` on a slow server, against the lower bound and against the vendor's commands in a loop.

    python benchmarks/sweep.py [--times 3] [--vendor loop brisk parallel]

4 tasks × 16 models: every response takes 100 ms, a creation 2 s, and a run 2 to 6 s; outputs are 20 to 200 KB, and logs
are live streams that end with their run. The lower bound is the creation, the longest run, and nine responses in
sequence: the task is looked up, created and found ready; its runs are listed, scheduled, found and seen to end; their
log and output are fetched. Times are from the start of the program to its exit. The vendor's four commands (push, run,
log, download, with --wait where possible) process the tasks one by one (`loop`), with `--poll-interval 1` (`brisk`), or
so with all tasks at once (`parallel`).
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from commands import ours, vendors
from servers import counts, many_tasks, model_name

DELAY = 0.1
CREATION = 2.0
RUN_SECONDS = (2.0, 6.0)
ANSWERS = 9
LIMIT = CREATION + RUN_SECONDS[1] + ANSWERS * DELAY
BRISK = ("--poll-interval", "1")
SOURCE = """
# %%
import kaggle_benchmarks as kbench

# %%
@kbench.task(name="{name}")
def measured(llm) -> None:
    llm.prompt("What is 2 + 2?")

# %%
measured.run(kbench.llm)
"""


def write_tasks(folder: Path, count: int) -> list[str]:
    """Write the task files and return the names of the tasks."""
    names = [f"task-{number}" for number in range(count)]
    for name in names:
        (folder / f"{name}.py").write_text(SOURCE.format(name=name))
    return names


def sweep(url: str, folder: Path, tasks: Sequence[str], models: Sequence[str]) -> dict[str, Any]:
    files = [f"{task}.py" for task in tasks]
    chosen = [word for model in models for word in ("-m", model)]
    spent = ours(url, folder, "sweep", *files, *chosen, "-o", "results", "-y")
    check(folder / "results", len(tasks) * len(models))
    return {"seconds": round(spent.seconds, 2), "CPU seconds": round(spent.cpu, 2), "MB": round(spent.memory)}


def loop(
    url: str,
    folder: Path,
    tasks: Sequence[str],
    models: Sequence[str],
    *,
    at_once: int = 1,
    pace: Sequence[str] = (),
) -> dict[str, Any]:
    chosen = [word for model in models for word in ("-m", model)]

    def one(task: str) -> float:
        run = partial(vendors, url, folder)
        commands = [
            ["push", task, "-f", f"{task}.py", "--wait", *pace],
            ["run", task, *chosen, "--wait", *pace],
            ["log", task],
            ["download", task, "-o", "results"],
        ]
        return sum(run("tasks", *words).cpu for words in commands)

    started = time.perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        cpu = sum(pool.map(one, tasks))
    seconds = time.perf_counter() - started
    check(folder / "results", len(tasks) * len(models))
    return {"seconds": round(seconds, 2), "CPU seconds": round(cpu, 2)}


def check(results: Path, runs: int) -> None:
    found = len(list(results.rglob("answers.bin")))
    assert found == runs, f"{found} of {runs} outputs in {results}"


VENDOR = {
    "loop": loop,
    "brisk": partial(loop, pace=BRISK),
    "parallel": partial(loop, pace=BRISK, at_once=4),
}


def measure(run: Any, words: argparse.Namespace) -> dict[str, Any]:
    """Measure `run` with a new server and in an empty folder."""
    models = [model_name(number) for number in range(words.models)]
    with (
        tempfile.TemporaryDirectory() as top,
        many_tasks(delay=DELAY, creation=CREATION, run_seconds=RUN_SECONDS, models=words.models) as server,
    ):
        tasks = write_tasks(Path(top), words.tasks)
        taken: dict[str, Any] = run(server.url, Path(top), tasks, models)
        calls = counts(server)
    return taken | {"calls": sum(calls.values()), "by method": dict(sorted(calls.items()))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=4)
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--vendor", nargs="*", choices=list(VENDOR), default=list(VENDOR))
    words = parser.parse_args()
    mine = [measure(sweep, words) for _ in range(words.times)]
    seconds = [each["seconds"] for each in mine]
    report = {
        "least possible, seconds": round(LIMIT, 2),
        "fanbench sweep": mine,
        "ratio to the least possible, median": round(statistics.median(seconds) / LIMIT, 3),
        "best": round(min(seconds) / LIMIT, 3),
        "the vendor's CLI": {name: measure(VENDOR[name], words) for name in words.vendor},
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
