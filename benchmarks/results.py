"""Measure how fast results are read, scored and ranked, and with how much memory.

    python benchmarks/results.py [--models 100] [--tasks 50] [--items 100] [--repeats 3] [--times 1 2 4]
    python benchmarks/results.py --files 2000 --size 130000 --times

Each run of a task on a model has as many sub-runs as there are items, and one in a hundred errors. The first time, all
run files are read; again, what was kept of them. `--times` multiplies the number of tasks. The ratio is that of the CPU
time for an item to the same with the first number of tasks: 1 is linear. Next to that, many run files are read that
have one item and many bytes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from commands import ours

DAY = 86400
STATE = "BENCHMARK_TASK_RUN_STATE_"
RANK = """
import time
from fanbench import read_results
from fanbench.results.ranking import rank_models
scores = read_results("runs").scores()
begin = time.process_time()
rank_models(scores)
print(time.process_time() - begin)
"""


def write_runs(folder: Path, words: argparse.Namespace, tasks: int) -> None:
    """Write the runs of `tasks` tasks, in the layout of downloads. A hundredth of the items errors."""
    seeded = random.Random(1)
    for task in range(tasks):
        for model in range(words.models):
            for repeat in range(1, words.repeats + 1):
                chance = 0.3 + 0.4 * model / words.models
                passed = [
                    None if seeded.random() < 0.01 else seeded.random() < chance for _ in range(words.items)
                ]
                text = json.dumps(run_with_parts(f"task {task}", model, passed))
                write(folder / f"task-{task}/1/model-{model}/{repeat}/a.run.json", text)


def write_files(folder: Path, words: argparse.Namespace) -> None:
    """Write `files` runs of one item, each of `size` bytes."""
    texts = {"USER": "What is 1 + 1?", "ASSISTANT": "x" * words.size}
    said = [{"role": f"CONTENT_ROLE_{role}", "parts": [{"text": text}]} for role, text in texts.items()]
    for number in range(words.files):
        task, model = divmod(number, words.models)
        text = json.dumps(run(f"task {task}", model, True, said))
        write(folder / f"task-{task}/1/model-{model}/1/a.run.json", text)


def run_with_parts(task: str, model: int, passed: Sequence[bool | None]) -> dict[str, Any]:
    """A run whose value is the mean of its sub-runs; None is one that errored."""
    parts = []
    for number, right in enumerate(passed):
        said = [{"role": "CONTENT_ROLE_USER", "parts": [{"text": f"What is {number} + {number}?"}]}]
        parts.append({**run("part", model, bool(right), said), "pyRunId": f"p{number}"})
        if right is None:
            parts[-1] |= {"state": f"{STATE}ERRORED", "errorMessage": "ValueError: no"}
    known = [right for right in passed if right is not None]
    value = {"numericResult": {"value": sum(known) / max(1, len(known))}}
    return {**run(task, model, False, []), "results": [{"type": "AGGREGATED", **value}], "subruns": parts}


def run(task: str, model: int, passed: bool, said: Sequence[dict[str, Any]]) -> dict[str, Any]:
    metrics = {"inputTokens": "10", "outputTokens": "5"}
    return {
        "taskVersion": {"name": task, "versionNumber": 1},
        "modelVersion": {"slug": f"owner/model-{model}"},
        "state": f"{STATE}COMPLETED",
        "startTime": "2026-01-01T00:00:00Z",
        "endTime": "2026-01-01T00:00:02Z",
        "conversations": [{"id": "c", "requests": [{"contents": said, "metrics": metrics}]}],
        "results": [{"type": "AGGREGATED", "booleanResult": passed}],
    }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(text)
    # What was written just now is not kept.
    os.utime(path, (path.stat().st_mtime - DAY,) * 2)


def many_items(words: argparse.Namespace, top: Path) -> Iterator[dict[str, Any]]:
    """Yield what each number of tasks took."""
    for times in words.times:
        tasks, folder = words.tasks * times, top / f"times-{times}"
        write_runs(folder / "runs", words, tasks)
        row: dict[str, Any] = {"items": words.models * tasks * words.items * words.repeats}
        row["leaderboard, first time"] = command(folder, "leaderboard")
        for verb in ("leaderboard", "results"):
            row[f"{verb}, again"] = command(folder, verb)
        row["ranks of all pairs"] = {"cpu": round(seconds_to_rank(folder), 2)}
        yield row


def many_files(words: argparse.Namespace, top: Path) -> dict[str, Any]:
    write_files(top / "files/runs", words)
    return {f"results, {when}": command(top / "files", "results") for when in ("first time", "again")}


def seconds_to_rank(folder: Path) -> float:
    """The CPU seconds of `rank_models` for scores that were read, in a process of its own."""
    ended = subprocess.run([sys.executable, "-c", RANK], cwd=folder, check=True, capture_output=True)
    return float(ended.stdout)


def command(folder: Path, verb: str) -> dict[str, float]:
    spent = ours("http://127.0.0.1:9", folder, verb, "runs", "--format", "json")
    return {name: round(value, 2) for name, value in spent._asdict().items()}


def add_ratios(rows: Sequence[dict[str, Any]]) -> None:
    """Add the CPU time of an item, relative to that with the first number of items."""
    for row in rows:
        for name, first in rows[0].items():
            if isinstance(first, dict):
                more = row["items"] / rows[0]["items"]
                row[name]["ratio"] = round(row[name]["cpu"] / first["cpu"] / more, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name, default in (("models", 100), ("tasks", 50), ("items", 100), ("repeats", 3)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--times", type=int, nargs="*", default=[1, 2, 4])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--size", type=int, default=130_000)
    parser.add_argument(
        "--folder", type=Path, help="where the runs are written (default: the temporary folder)"
    )
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=words.folder) as top:
        report: dict[str, Any] = {"many files": many_files(words, Path(top))}
        report["many items"] = list(many_items(words, Path(top)))
    add_ratios(report["many items"])
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
