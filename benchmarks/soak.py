"""Sweep for a long time under random faults and kills, and say whether anything grows.

    make soak                               an hour
    SOAK_MINUTES=10 make soak               or another time
    python benchmarks/soak.py --minutes 10 [--seed N] [--keep FOLDER]

Three processes live as long as the soak: a simulated Kaggle with faults, a program that sweeps on it again and again in
one event loop, and a local server. In each round

1. the program sweeps on the simulated Kaggle;
2. `fanbench sweep` does the same in a process of its own, is killed at random instants, and is called again until it
   has ended;
3. `fanbench sweep` sweeps on the local server, and is killed in the same way.

Both servers do to a fifth of their answers what `faults.toml` says. After each round every planned run must have
exactly one run on the server, and its output here, byte for byte. Between rounds, when nothing is in progress, memory
(RSS), descriptors, threads, asyncio tasks and Python's objects are counted. The first quarter of the counts, when
caches fill, is left out. The growth of a figure is that of the line of least squares through the others, from the first
to the last. `ROOM` is how much it may be; the exit code is 1 if it is more.

All processes have one arena of malloc. By default glibc gives threads arenas of their own, and keeps in each what was
freed there: the memory of a program whose worker threads come and go then grows for a long time, and none of it leaks.

Needs /proc, so Linux.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from local_runs import server as local_server

from fanbench import Client, Config, resolve_config
from fanbench.config import Anonymous
from fanbench.faults.files import read_faults
from fanbench.local.address import LocalServer
from fanbench.sweeps.sweep import sweep
from fanbench.testing import RunScript, Scenario, SimulatedKaggle, serve

TASKS, MODELS, REPEATS = 2, 3, 2
LOCAL_TASKS, LOCAL_MODELS = 2, 2
CONFIRM_WITHIN = 3.0
"""Seconds for which the effect of a call without an answer is looked for: lists of these servers are not behind."""
FAULTS = Path(__file__).with_name("faults.toml")

WARM_UP = 0.25
ROOM = {"MB": (8.0, 0.10), "objects": (500.0, 0.01), "threads": (3.0, 0.0)}
"""How much a figure may grow: absolute, or relative to its median. Idle threads of a pool come and go."""
ROOM_OF_OTHERS = (1.0, 0.0)

TASK = """\
# %%
import kaggle_benchmarks as kbench

@kbench.task(name="{name}")
def measured(llm) -> bool:
    return "4" in llm.prompt("What is 2 + 2? ({name})")

# %%
measured.run(kbench.llm)
"""


# --- The simulated Kaggle, in a process of its own ----------------------------------------------------------


def answers_of(task: str, model: str) -> bytes:
    return _random_bytes(f"{task.rpartition('-')[2]} {model}")


@cache
def _random_bytes(seed: str) -> bytes:
    """The same few in each round, so that this cache does not grow."""
    return random.Random(seed).randbytes(20_000)


def script(seed: int) -> Any:
    def course(task: str, model: str, number: int) -> RunScript:
        dice = random.Random(f"{seed} {task} {model} {number}")
        seconds = dice.uniform(0.1, 1.0)
        run = {
            "taskVersion": {"name": task},
            "modelVersion": {"slug": model},
            "results": [{"booleanResult": True}],
        }
        return RunScript(
            running=seconds,
            log=tuple((seconds * line / 10, f"{task} {model} line {line}\n") for line in range(10)),
            output={f"{task}.run.json": json.dumps(run).encode(), "answers.bin": answers_of(task, model)},
        )

    return course


def scenario_of(seed: int, *, one_run_per_model: bool = True) -> Scenario:
    return Scenario(
        latency=0.0,
        creation=0.2,
        runs=script(seed),
        faults=read_faults(FAULTS).faults,
        seed=seed,
        one_run_per_model=one_run_per_model,
    )


def simulate() -> None:
    """For each line on stdin, a seed, serve a new Kaggle until the next line, then print what its runs were."""
    for line in sys.stdin:
        scenario = scenario_of(int(line), one_run_per_model=False)
        kaggle = SimulatedKaggle(scenario, models=[f"m{n}" for n in range(MODELS)], keep_history=False)
        with serve(kaggle) as server:
            print(json.dumps({"url": server.url}), flush=True)
            sys.stdin.readline()
            runs = Counter(f"{run.task}/{run.model}" for run in kaggle.runs.values())
        print(json.dumps({"runs": runs}), flush=True)


# --- The program that sweeps again and again ----------------------------------------------------------------


def program() -> None:
    """For each line on stdin, the arguments of a sweep, sweep and print the numbers of its runs and of our tasks."""

    async def main() -> None:
        while line := await asyncio.to_thread(sys.stdin.readline):
            asked = json.loads(line)
            config = Config(asked["url"], Anonymous())
            async with Client(config) as client:
                report = await sweep(
                    asked["files"],
                    asked["models"],
                    client=client,
                    output=asked["output"],
                    repeats=REPEATS,
                    confirm_within=CONFIRM_WITHIN,
                )
            await asyncio.sleep(0.1)
            gc.collect()
            print(
                json.dumps(
                    {"ok": report.ok, "tasks": len(asyncio.all_tasks())} | {"objects": len(gc.get_objects())}
                ),
                flush=True,
            )

    asyncio.run(main())


# --- The soak -----------------------------------------------------------------------------------------------


class Child:
    """One of the two processes above, which answers a line with a line."""

    def __init__(self, role: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, "--role", role],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid

    def ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(
            self._process.stdout.readline() or '{"error": "the process died"}'
        )
        if "error" in answer:
            raise SystemExit(f"process {self.pid}: {answer['error']}")
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def write_tasks(folder: Path, names: list[str]) -> list[str]:
    folder.mkdir(parents=True)
    for name in names:
        (folder / f"{name}.py").write_text(TASK.format(name=name))
    return [str(folder / f"{name}.py") for name in names]


def sweep_with_kills(dice: random.Random, folder: Path, words: list[str], most: int = 2) -> int:
    """Call `fanbench sweep` until it ends by itself, and return how often it was killed: up to `most` times."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, "-m", "fanbench", "sweep", *words, "-o", str(folder / "out"), "-y"]
    command += ["--confirm-within", str(CONFIRM_WITHIN)]
    for kills in range(100):
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen(
                command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
            try:
                code = process.wait(dice.uniform(0.5, 6.0) if kills < most else 300.0)
            except subprocess.TimeoutExpired:
                continue
            finally:
                process.kill()
                process.wait()
            if code:
                output.seek(0)
                raise SystemExit(f"{' '.join(command)} ended with {code}:\n{output.read().decode()}")
            return kills
    raise SystemExit("a sweep did not end")


def verify(out: Path, runs: dict[str, int], wanted: dict[str, int], *, answers: bool) -> None:
    """Each planned run is once on the server and once here, with its whole output."""
    if runs != wanted:
        raise SystemExit(f"runs on the server: {runs}, wanted: {wanted}")
    saved = Counter(f"{path.parts[-5]}/{path.parts[-3]}" for path in out.glob("*/*/*/*/*.run.json"))
    if saved != wanted:
        raise SystemExit(f"outputs in {out}: {saved}, wanted: {wanted}")
    for path in out.glob("*/*/*/*/answers.bin") if answers else ():
        if path.read_bytes() != answers_of(path.parts[-5], path.parts[-3]):
            raise SystemExit(f"{path} is not what the server has")


async def runs_on(server: LocalServer, tasks: list[str]) -> dict[str, int]:
    async with Client(resolve_config(endpoint=server.url, token=server.token, env={})) as client:
        runs = [(task, run) for task in tasks async for run in client.list_runs(task)]
    return Counter(f"{task}/{run.model_version_slug}" for task, run in runs)


def count(pid: int) -> dict[str, float]:
    """The memory of a process in MB, and the numbers of its descriptors and threads."""
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {
        "MB": int(status["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
        "threads": int(status["Threads"]),
    }


class Soak:
    def __init__(self, folder: Path, seed: int, local: LocalServer) -> None:
        self._folder = folder
        self._dice = random.Random(seed)
        self._local = local
        self._kaggle, self._program = Child("simulate"), Child("program")
        self._began = time.monotonic()
        self.samples: dict[str, list[tuple[float, float]]] = {}
        self.rounds = self.runs = self.kills = 0

    def round(self) -> None:
        top = self._folder / str(self.rounds)
        names = [f"soak-{self.rounds}-{number}" for number in range(TASKS)]
        files = write_tasks(top / "tasks", names)
        models = [f"m{number}" for number in range(MODELS)]
        wanted = {f"{task}/{model}": REPEATS for task in names for model in models}

        url = self._kaggle.ask(str(self._dice.randrange(1 << 30)))["url"]
        asked = {"url": url, "files": files, "models": models, "output": str(top / "out")}
        answer = self._program.ask(json.dumps(asked))
        if not answer["ok"]:
            raise SystemExit(f"the sweep in {top} did not complete")
        verify(top / "out", self._kaggle.ask("")["runs"], wanted, answers=True)

        (killed := top / "killed").mkdir()
        url = self._kaggle.ask(str(self._dice.randrange(1 << 30)))["url"]
        chosen = [word for model in models for word in ("-m", model)]
        at = ["--endpoint", url, "--token", "any"]
        self.kills += sweep_with_kills(self._dice, killed, [*files, *chosen, "--repeats", str(REPEATS), *at])
        verify(killed / "out", self._kaggle.ask("")["runs"], wanted, answers=True)

        (local := top / "local").mkdir()
        chosen = [word for model in models[:LOCAL_MODELS] for word in ("-m", model)]
        at = ["--endpoint", self._local.url, "--token", self._local.token]
        self.kills += sweep_with_kills(self._dice, local, [*files[:LOCAL_TASKS], *chosen, *at])
        wanted_here = {
            f"{task}/{model}": 1 for task in names[:LOCAL_TASKS] for model in models[:LOCAL_MODELS]
        }
        found = asyncio.run(runs_on(self._local, names[:LOCAL_TASKS]))
        verify(local / "out", found, wanted_here, answers=False)

        self.runs += 2 * sum(wanted.values()) + sum(wanted_here.values())
        self.rounds += 1
        self._sample(
            "the program that sweeps",
            count(self._program.pid) | {name: answer[name] for name in ("tasks", "objects")},
        )
        self._sample("the simulated Kaggle", count(self._kaggle.pid))
        self._sample("the local server", count(self._local.pid))

    def _sample(self, process: str, figures: dict[str, float]) -> None:
        for name, value in figures.items():
            self.samples.setdefault(f"{process}: {name}", []).append((time.monotonic() - self._began, value))

    def end(self) -> None:
        self._kaggle.end()
        self._program.end()


def growth(samples: list[tuple[float, float]]) -> tuple[float, float, float]:
    """The median of the figures after the warm-up, how much they grew, and by how much an hour."""
    kept = samples[int(len(samples) * WARM_UP) :]
    times, values = zip(*kept, strict=True)
    if len(kept) < 3:
        return statistics.median(values), values[-1] - values[0], 0.0
    slope = statistics.linear_regression(times, values).slope
    return statistics.median(values), slope * (times[-1] - times[0]), slope * 3600


def report(soak: Soak, seconds: float) -> bool:
    """Print the figures, and return whether all of them are flat."""
    print(
        f"\n{soak.rounds} rounds, {soak.runs} runs, {soak.kills} kills in {seconds / 60:.1f} min: each run once\n"
    )
    print(f"{'':42}{'first':>9}{'median':>9}{'last':>9}{'growth':>9}{'an hour':>9}")
    flat = True
    for name, samples in soak.samples.items():
        median, grown, hourly = growth(samples)
        room, share = ROOM.get(name.rpartition(": ")[2], ROOM_OF_OTHERS)
        here = grown <= max(room, share * median)
        flat &= here
        figures = "".join(f"{value:9.1f}" for value in (samples[0][1], median, samples[-1][1], grown, hourly))
        print(f"{name:42}{figures}  {'flat' if here else 'GROWS'}")
        if not here:
            print(f"    after each round: {' '.join(f'{value:g}' for _, value in samples)}")
    return flat


@contextmanager
def kept_or_temporary(folder: Path | None) -> Iterator[Path]:
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="soak-", ignore_cleanup_errors=True) as top:
            yield Path(top)
    else:
        folder.mkdir(parents=True)
        yield folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=float(os.environ.get("SOAK_MINUTES", "60")))
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--keep", type=Path, help="an empty folder for everything, which is not deleted")
    parser.add_argument("--role", choices=["simulate", "program"], help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.role:
        {"simulate": simulate, "program": program}[words.role]()
        return
    os.environ["MALLOC_ARENA_MAX"] = "1"
    print(f"seed {words.seed}", flush=True)
    began = time.monotonic()
    with (
        kept_or_temporary(words.keep) as folder,
        local_server(folder / "data", LOCAL_MODELS, "--faults", str(FAULTS)) as local,
    ):
        soak = Soak(folder, words.seed, local)
        try:
            while time.monotonic() - began < words.minutes * 60:
                soak.round()
                print(f"\r{time.monotonic() - began:.0f} s, {soak.runs} runs", end="", flush=True)
        finally:
            soak.end()
    if not report(soak, time.monotonic() - began):
        sys.exit(1)


if __name__ == "__main__":
    main()
