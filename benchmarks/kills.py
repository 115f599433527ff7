"""Kill sweeps of 40 runs, or stop the local server under them, at random instants: everything is there, once.

    python benchmarks/kills.py [--kills 200] [--stops 50] [--seed N] [--at-once 2]

`fanbench sweep` with 2 tasks on 20 models is killed (SIGKILL) up to five times, 0.5 to 6 s after its start, and called
again until it has ended; then the next sweep begins, on a new simulated Kaggle with faults, which `soak.py` describes.
For the stops, the sweep is on a local server, which `fanbench stop` ends at random instants and the sweep starts again.
Afterwards every planned run must be on the server once, and here once with its output, byte for byte.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from local_runs import server as local_server
from soak import runs_on, scenario_of, sweep_with_kills, verify, write_tasks

from fanbench.local.address import find_server
from fanbench.local.launcher import ensure_server
from fanbench.testing import SimulatedKaggle, serve

TASKS, MODELS = 2, 20
KILLS_A_SWEEP = 5
#: A client starts its local server four times, and then takes it for broken.
STOPS_A_SWEEP = 4
#: So that a run is likely to be under way when its server is stopped.
SLEEP = "__import__('time').sleep(1.5)"


def killed_sweep(seed: int) -> int:
    """Sweep once, and return how often the sweep was killed."""
    names, models = names_of(seed)
    kaggle = SimulatedKaggle(scenario_of(seed), models=models, keep_history=False)
    with tempfile.TemporaryDirectory(prefix="kills-") as top, serve(kaggle) as server:
        files = write_tasks(Path(top, "tasks"), names)
        words = [*files, "--all-models", "--endpoint", server.url, "--token", "any"]
        kills = sweep_with_kills(random.Random(seed), Path(top), words, most=KILLS_A_SWEEP)
        runs = Counter(f"{run.task}/{run.model}" for run in kaggle.runs.values())
        verify(Path(top, "out"), runs, wanted(names, models), answers=True)
    return kills


def stopped_sweep(seed: int) -> int:
    """Sweep once on a local server, and return how often the server was stopped."""
    dice = random.Random(seed)
    names, models = names_of(seed)
    with tempfile.TemporaryDirectory(prefix="stops-") as top:
        folder, data = Path(top), Path(top, "data")
        files = write_tasks(folder / "tasks", names)
        for file in map(Path, files):
            file.write_text(file.read_text().replace('return "4"', f'{SLEEP}\n    return "4"'))
        with local_server(data, MODELS, "--stop-timeout", "0.5", "--workers", "3"):
            pass  # those that the sweep starts have the same models and options
        environment = {"PATH": os.environ["PATH"], "HOME": top, "NO_PROXY": "127.0.0.1"}
        fanbench = [sys.executable, "-m", "fanbench"]
        chosen = ["--all-models", "-o", str(folder / "out"), "-y", "--local", "--data", str(data)]
        with tempfile.TemporaryFile() as output:
            sweep = subprocess.Popen(
                [*fanbench, "sweep", *files, *chosen],
                cwd=top,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            stops = 0
            while sweep.poll() is None:
                if stops == STOPS_A_SWEEP or find_server(data) is not None:
                    with suppress(subprocess.TimeoutExpired):
                        sweep.wait(dice.uniform(0.5, 12.0))
                if sweep.returncode is None and stops < STOPS_A_SWEEP and find_server(data) is not None:
                    stop = [*fanbench, "stop", "--data", str(data)]
                    subprocess.run(stop, env=environment, capture_output=True, check=True)
                    stops += 1
                else:
                    time.sleep(0.1)  # the server is starting
            output.seek(0)
            if sweep.returncode:
                raise SystemExit(f"the sweep ended with {sweep.returncode}:\n{output.read().decode()}")
        found = asyncio.run(runs_on(asyncio.run(ensure_server(data)), names))
        subprocess.run([*fanbench, "stop", "--data", str(data)], env=environment, capture_output=True)
        verify(folder / "out", found, wanted(names, models), answers=False)
    return stops


def names_of(seed: int) -> tuple[list[str], list[str]]:
    return [f"soak-{seed}-{number}" for number in range(TASKS)], [f"m{number}" for number in range(MODELS)]


def wanted(tasks: list[str], models: list[str]) -> dict[str, int]:
    return {f"{task}/{model}": 1 for task in tasks for model in models}


def until(number: int, sweep: Callable[[int], int], seed: int, at_once: int) -> dict[str, int]:
    """Sweep until there were so many kills or stops."""
    sweeps = hits = 0
    with ThreadPoolExecutor(at_once) as pool:
        while hits < number:
            hits += sum(pool.map(sweep, range(seed + sweeps, seed + sweeps + at_once)))
            sweeps += at_once
            print(f"\r{hits} of {number}", end="", file=sys.stderr, flush=True)
    return {"sweeps": sweeps, "runs, each made once": sweeps * TASKS * MODELS, "times": hits}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--stops", type=int, default=50)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--at-once", type=int, default=2)
    words = parser.parse_args()
    report = {
        "seed": words.seed,
        "kills of the sweep": until(words.kills, killed_sweep, words.seed, words.at_once),
        "stops of the server": until(words.stops, stopped_sweep, words.seed, words.at_once),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
