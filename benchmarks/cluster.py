"""Measure what Ray costs: runs per minute and CPU time per run, compared with the same runs without it.

    python -m benchmarks.cluster [--times 3] [--runs 40] [--workers 2] [--queued 2000]

Both carriers are open all the time and take turns. Ray is one of the server's own, on this machine. A run is a notebook
that prints a line. The CPU time is that of this process and of all processes of the carrier, during its turn. The queue
is measured with jobs that a worker refuses at once, so that only the queue and the messages take time.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import anyio

from fanbench.errors import LocalServerError
from fanbench.local.carriers import Carrier
from fanbench.local.carriers.job import NotebookJob
from fanbench.local.carriers.local import LocalCarrier
from fanbench.local.carriers.ray.carrier import Cluster, RayCarrier
from fanbench.local.environments import Environments
from fanbench.local.executor.environment import model_variables
from fanbench.local.executor.lifetime import children, descendants
from fanbench.tasks import to_notebook

_TICKS = os.sysconf("SC_CLK_TCK")


def _job(name: str, *datasets: str) -> NotebookJob:
    variables = model_variables(
        proxy_url="http://127.0.0.1:9/models", proxy_key="key", model="m", judge="m", available=["m"]
    )
    return NotebookJob(
        name=name,
        notebook=to_notebook("print(1)"),
        variables=variables,
        datasets=[*datasets],
        time_limit=600.0,
    )


def _cpu_seconds(root: int) -> float:
    """The CPU time of a process, of those below it, and of those that they have waited for."""
    ticks = 0
    for pid in (root, *descendants(root)):
        with suppress(OSError):
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
    return ticks / _TICKS


async def _carry_out(carrier: Carrier, jobs: list[NotebookJob], at_once: int) -> float:
    """The seconds that all jobs take."""
    limiter = anyio.Semaphore(at_once)

    async def started() -> None:
        pass

    async def one(job: NotebookJob) -> None:
        async with limiter:
            with suppress(LocalServerError):
                await carrier.run(job, started, lambda _stream, _data: None)

    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(one, job)
    return time.perf_counter() - begun


async def measure(times: int, runs: int, workers: int, queued: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "ray").mkdir()
        ours = os.getpid()
        cluster = Cluster(cpus=workers, folder=root / "ray", datasets=root / "datasets")
        begun = time.perf_counter()
        async with (
            RayCarrier.open(cluster, lambda name: root / f"{name}.zip", print) as ray,
            LocalCarrier.open(
                root / "local",
                Environments(root / "environments"),
                root / "datasets",
                "fork",
                root / "worker.log",
            ) as local,
        ):
            print(f"Ray was ready after {time.perf_counter() - begun:.1f} s.")
            (driver,) = children(ours)
            carriers: dict[str, Carrier] = {"local": local, "ray": ray}
            found: dict[str, list[tuple[float, float]]] = defaultdict(list)
            for turn in range(times + 1):
                for name, carrier in carriers.items():
                    below = [driver] if name == "ray" else [pid for pid in children(ours) if pid != driver]
                    idle = time.process_time() + sum(map(_cpu_seconds, below))
                    jobs = [_job(f"runs/{turn}-{name}-{number}") for number in range(runs)]
                    seconds = await _carry_out(carrier, jobs, workers)
                    below = below or [pid for pid in children(ours) if pid != driver]
                    used = time.process_time() + sum(map(_cpu_seconds, below)) - idle
                    if turn:  # the first one starts processes
                        found[name].append((60 * runs / seconds, used / runs))
            for name, measured in found.items():
                rate, used = (statistics.median(values) for values in zip(*measured, strict=True))
                print(f"{name:6} {rate:6.0f} runs per minute, {used:.2f} s of CPU time per run")
            await _measure_queue(ray, driver, queued)


async def _measure_queue(ray: Carrier, driver: int, queued: int) -> None:
    jobs = [_job(f"runs/queued-{number}", "nobody/nothing") for number in range(queued)]
    server_before, driver_before = time.process_time(), _cpu_seconds(driver)
    seconds = await _carry_out(ray, jobs, queued)
    of_server = 1000 * (time.process_time() - server_before) / queued
    of_driver = 1000 * (_cpu_seconds(driver) - driver_before) / queued
    print(f"{queued} queued jobs passed through Ray within {seconds:.1f} s.")
    print(
        f"Each took {of_server:.1f} ms of the server, and {of_driver:.1f} ms of the process that uses Ray for it."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--runs", type=int, default=40)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--queued", type=int, default=2000)
    anyio.run(lambda: measure(**vars(parser.parse_args())))


if __name__ == "__main__":
    main()
