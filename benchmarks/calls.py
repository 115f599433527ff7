"""Count the API calls of each command, for fanbench and `kaggle`, on the same simulated Kaggle.

    python benchmarks/calls.py [--speed 1]

The scenario is `push --wait` with a creation of 12 seconds and `run --wait` of four models whose runs take 20, 25, 30
and 40 seconds, followed by `status`, `log`, `download`, `list` and `models`. It runs in real time (about three minutes,
mostly asleep), because both programs poll by the clock. `--speed 4` divides the server's times by four, for a quick
look rather than a measurement. The report also has the delay between the end of what a command waited for and the end
of the command.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from commands import Spent, both
from servers import TASK, counts, one_task

CREATION = 12.0
RUNS = (20.0, 25.0, 30.0, 40.0)
MODELS = [word for number in range(len(RUNS)) for word in ("-m", f"model-{number}")]
SOURCE = f"""
# %%
import kaggle_benchmarks as kbench

# %%
@kbench.task(name="{TASK}")
def measured(llm) -> None:
    llm.prompt("What is 2 + 2?")

# %%
measured.run(kbench.llm)
"""
COMMANDS: dict[str, tuple[list[str], float]] = {
    "push --wait": (["tasks", "push", TASK, "-f", "task.py", "--wait"], CREATION),
    "run --wait": (["tasks", "run", TASK, *MODELS, "--wait"], max(RUNS)),
    "status": (["tasks", "status", TASK], 0),
    "log": (["tasks", "log", TASK], 0),
    "download": (["tasks", "download", TASK], 0),
    "list": (["tasks", "list"], 0),
    "models": (["tasks", "models"], 0),
}


def record(spent: Spent, calls: dict[str, int], least: float) -> dict[str, Any]:
    found: dict[str, Any] = {"calls": sum(calls.values()), "by method": calls}
    if least:
        found["seconds late"] = round(spent.seconds - least, 1)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--speed", type=float, default=1.0)
    speed = parser.parse_args().speed
    report: dict[str, dict[str, Any]] = {name: {} for name in COMMANDS}
    for who, run in both.items():
        run_seconds = tuple(seconds / speed for seconds in RUNS)
        with (
            tempfile.TemporaryDirectory() as folder,
            one_task(creation=CREATION / speed, run_seconds=run_seconds) as server,
        ):
            Path(folder, "task.py").write_text(SOURCE)
            for name, (words, least) in COMMANDS.items():
                spent = run(server.url, Path(folder), *words)
                report[name][who] = record(spent, counts(server), least / speed)
    print(json.dumps({"speed": speed, "commands": report}, indent=2))


if __name__ == "__main__":
    main()
