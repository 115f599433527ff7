"""Measure the local server: runs per minute by number of workers, and the time and memory of a single run.

    python benchmarks/local_runs.py [--runs 48] [--workers 1 2 4]

A scripted model answers without latency, so this measures everything but the model. The same file is also run with
`python task.py` for comparison. The limit is the CPU time that the SDK needs after its import.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio

from fanbench import Client, resolve_config
from fanbench.local.address import LocalServer, find_server
from fanbench.tasks import to_notebook
from fanbench.wire.messages import Run

TASK = """
# %%
import kaggle_benchmarks as kbench

# %%
@kbench.task(name="trivial")
def trivial(llm) -> None:
    kbench.assertions.assert_in("4", llm.prompt("What is 2 + 2?"), expectation="says four")

# %%
trivial.run(kbench.llm)
"""


@contextmanager
def server(data: Path, models: int, *options: str) -> Iterator[LocalServer]:
    data.mkdir(parents=True)
    entries = [f'[[model]]\nslug = "test/m{n}"\nkind = "scripted"\nreply = "4"\n' for n in range(models)]
    (data / "models.toml").write_text("\n".join(entries))
    command = [sys.executable, "-m", "fanbench", "serve", "--data", str(data), "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while (found := find_server(data)) is None:
            time.sleep(0.02)
        yield found
    finally:
        process.terminate()
        process.wait()


async def push(client: Client) -> None:
    await client.create_task("trivial", to_notebook(TASK))
    while (task := await client.get_task("trivial")).creation_state.pending:
        await anyio.sleep(0.05)
    assert task.creation_state.label == "COMPLETED", task.creation_error_message


async def finished(client: Client, count: int) -> list[Run]:
    while True:
        runs = [run async for run in client.list_runs("trivial")]
        if len(runs) >= count and all(run.state.terminal for run in runs):
            return runs
        await anyio.sleep(0.02)


async def measure(address: LocalServer, count: int) -> tuple[float, list[float]]:
    """Return the runs per minute of `count` concurrent runs, and the seconds of each of five single runs."""
    async with Client(resolve_config(endpoint=address.url, token=address.token)) as client:
        await push(client)
        start = time.perf_counter()
        await client.schedule_runs("trivial", [f"m{n}" for n in range(count)])
        runs = await finished(client, count)
        rate = 60 * count / (time.perf_counter() - start)
        assert all(run.state.label == "COMPLETED" for run in runs)
        single = []
        for number in range(5):
            start = time.perf_counter()
            await client.schedule_runs("trivial", [f"m{number}"])
            await finished(client, count + number + 1)
            single.append(time.perf_counter() - start)
    return rate, single


class Memory:
    """Samples the private memory of each process below the server, in MB."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.server = self.parent = self.worker = 0.0
        self._thread = threading.Thread(target=self._sample)

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._stop.wait(0.02):
            self.server = max(self.server, _field(self._pid, "Rss:"))
            for parent in _children(self._pid):
                self.parent = max(self.parent, _field(parent, "Rss:"))
                for worker in _children(parent):
                    own = _field(worker, "Private_Dirty:") + _field(worker, "Private_Clean:")
                    self.worker = max(self.worker, own)


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _field(pid: int, name: str) -> float:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(name)), 0.0)


def by_hand(folder: Path, address: LocalServer, key: str) -> float:
    """Return the seconds that `python task.py` takes."""
    (folder / "task.py").write_text(TASK)
    environment = os.environ | {
        "BENCHMARK_MODE": "RUN",
        "MODEL_PROXY_URL": f"{address.url}/models",
        "MODEL_PROXY_API_KEY": key,
        "LLM_DEFAULT": "test/m0",
        "LLM_DEFAULT_EVAL": "test/m0",
        "LLMS_AVAILABLE": "test/m0",
    }
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "task.py"], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return time.perf_counter() - start


async def proxy_key(address: LocalServer) -> str:
    async with Client(resolve_config(endpoint=address.url, token=address.token)) as client:
        return (await client.create_proxy_token()).token


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=48)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    arguments = parser.parse_args()
    report: dict[str, object] = {"cores": os.cpu_count(), "runs": arguments.runs}
    with tempfile.TemporaryDirectory() as top:
        for workers in arguments.workers:
            data = Path(top, f"fork-{workers}")
            with (
                server(data, arguments.runs, "--workers", str(workers)) as address,
                Memory(address.pid) as memory,
            ):
                rate, single = anyio.run(measure, address, arguments.runs)
            report[f"fork, {workers} workers"] = {
                "runs a minute": round(rate),
                "seconds of a run by itself": round(statistics.median(single), 3),
                "server MB": round(memory.server),
                "warm parent MB": round(memory.parent),
                "own MB of a worker, most": round(memory.worker),
            }
        few = max(4, arguments.runs // 8)
        with server(Path(top, "process"), few, "--workers", "2", "--isolation", "process") as address:
            rate, single = anyio.run(measure, address, few)
            hand = [by_hand(Path(top), address, anyio.run(proxy_key, address)) for _ in range(3)]
        report["process, 2 workers"] = {
            "runs a minute": round(rate),
            "seconds of a run by itself": round(statistics.median(single), 3),
        }
        report["python task.py, seconds"] = round(statistics.median(hand), 3)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
