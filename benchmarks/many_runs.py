"""Measure `log` and `download` of many runs on a slow server, for fanbench and `kaggle`, against the lower bound.

    python benchmarks/many_runs.py [--runs 50] [--size 200000] [--delay 0.1] [--times 3] [--sweep]

The programs run alternately. The report has medians, and minima for a machine that is not idle. The lower bound counts
round trips: the time of `--help` (the startup), one round trip for the task and its runs (two concurrent calls), then
as many round trips for the logs or outputs as the concurrency requires. `--sweep` measures `download` with several
values of `--concurrency`, also with 5 MB each at 20 ms, which is how the default was chosen.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from commands import Spent, both, ours
from servers import TASK, one_task

DEFAULT = 16
STREAMS = 64
SWEEP = (1, 4, 8, 16, 32, 64)
ROUND = 1


def limit(start: float, delay: float, runs: int, at_once: int) -> float:
    return start + delay * (ROUND + math.ceil(runs / at_once))


def fresh(run: Callable[..., Spent], url: str, top: str, verb: str, *options: str) -> Spent:
    """Measure one command in an empty folder."""
    folder = Path(tempfile.mkdtemp(dir=top))
    try:
        return run(url, folder, "tasks", verb, TASK, *options)
    finally:
        shutil.rmtree(folder)


def medians(spent: list[Spent]) -> dict[str, float]:
    return {
        "seconds": round(statistics.median(each.seconds for each in spent), 2),
        "quickest": round(min(each.seconds for each in spent), 2),
        "CPU seconds": round(statistics.median(each.cpu for each in spent), 2),
        "MB": round(statistics.median(each.memory for each in spent)),
    }


def compare(words: argparse.Namespace, top: str) -> dict[str, Any]:
    report: dict[str, Any] = {}
    with one_task(delay=words.delay, runs=words.runs, size=words.size) as server:
        start = statistics.median(fresh(ours, server.url, top, "log", "--help").seconds for _ in range(5))
        report["start of the program, seconds"] = round(start, 2)
        for verb, at_once in (("log", STREAMS), ("download", DEFAULT)):
            taken: dict[str, list[Spent]] = {who: [] for who in both}
            for _ in range(words.times):
                for who, run in both.items():
                    taken[who].append(fresh(run, server.url, top, verb))
            report[verb] = {who: medians(spent) for who, spent in taken.items()}
            report[verb]["least possible, seconds"] = round(limit(start, words.delay, words.runs, at_once), 2)
    return report


def sweep(words: argparse.Namespace, top: str, size: int, delay: float) -> dict[str, Any]:
    report: dict[str, Any] = {}
    with one_task(delay=delay, runs=words.runs, size=size) as server:
        for at_once in SWEEP:
            options = ("--concurrency", str(at_once))
            taken = [fresh(ours, server.url, top, "download", *options) for _ in range(words.times)]
            report[str(at_once)] = medians(taken)
    return report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--size", type=int, default=200_000)
    parser.add_argument("--delay", type=float, default=0.1)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--sweep", action="store_true")
    words = parser.parse_args()
    report: dict[str, Any] = {"cores": os.cpu_count(), **vars(words)}
    with tempfile.TemporaryDirectory() as top:
        report |= compare(words, top)
        if words.sweep:
            report["download by --concurrency"] = sweep(words, top, words.size, words.delay)
            report["the same, 5 MB at 20 ms"] = sweep(words, top, 5_000_000, 0.02)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
