"""Measure the CPU time and memory per run of a large `fanbench sweep`, with a fast server on a socket.

    python benchmarks/sweep_scale.py [--shapes 4x60 20x12 20x60] [--folder DIR] [--one-core]
    python benchmarks/sweep_scale.py --simulate 10000 100000 [--folder DIR]

Runs take 2 to 6 s and responses no time; outputs are 20 to 200 KB, and logs have 20 lines. The startup (imports, files,
the plan) is measured with `--dry-run` and reported separately. Much of the rest is spent in the operating system, on
files and fsync, so `--folder` selects the disk. `--one-core` pins the program to one core: on two, its threads contend
for Python's global lock, which can cost up to 50% more.

`--simulate` runs only the engine with its journal and files, in virtual time: tasks on 100 models each, on an in-memory
server (which is included in the figures) with 100 ms per response. Each size runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from commands import Spent, ours
from servers import counts, many_tasks, model_name
from sweep import check, write_tasks

if TYPE_CHECKING:
    from fanbench.sweeps.events import SweepEvent
    from fanbench.sweeps.plan import SweepPlan
    from fanbench.testing import Scenario, SimulatedKaggle

CREATION = 0.5
RUN_SECONDS = (2.0, 6.0)
MODELS = 100


def on_sockets(shapes: Sequence[str], folder: Path | None, *, one_core: bool) -> dict[str, Any]:
    """All results are kept until the end, because some disks create files slowly after many were deleted."""
    with tempfile.TemporaryDirectory(dir=folder) as top:
        return {shape: on_a_socket(shape, Path(top, shape), one_core=one_core) for shape in shapes}


def on_a_socket(shape: str, top: Path, *, one_core: bool) -> dict[str, Any]:
    top.mkdir()
    tasks, models = map(int, shape.split("x"))
    runs = tasks * models
    with (
        many_tasks(delay=0, creation=CREATION, run_seconds=RUN_SECONDS, models=models) as server,
        on_one_core() if one_core else nullcontext(),
    ):
        files = [f"{name}.py" for name in write_tasks(top, tasks)]
        chosen = [word for number in range(models) for word in ("-m", model_name(number))]
        words = ["sweep", *files, *chosen, "-o", "results"]
        start = ours(server.url, top, *words, "--dry-run")
        counts(server)
        spent = ours(server.url, top, *words, "-y")
        calls = counts(server)
        check(top / "results", runs)
    return record(runs, spent, calls) | {
        "CPU seconds of the start": round(start.cpu, 2),
        "CPU ms a run, without the start": round((spent.cpu - start.cpu) / runs * 1000, 2),
    }


@contextmanager
def on_one_core() -> Iterator[None]:
    """Pins the processes that are started in the block to one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def record(runs: int, spent: Spent, calls: Counter[str] | dict[str, int]) -> dict[str, Any]:
    return {
        "runs": runs,
        "seconds": round(spent.seconds, 1),
        "CPU seconds": round(spent.cpu, 2),
        "CPU ms a run": round(spent.cpu / runs * 1000, 2),
        "MB": round(spent.memory),
        "calls": sum(calls.values()),
        "calls a run": round(sum(calls.values()) / runs, 2),
        "by method": dict(sorted(calls.items())),
    }


# --- In virtual time ----------------------------------------------------------------------------------------


def simulated(runs: int, folder: Path | None) -> dict[str, Any]:
    """Run in a separate process, because peak memory is recorded per process."""
    words = ["--simulate-here", str(runs), *(["--folder", str(folder)] if folder else [])]
    found = subprocess.run(
        [sys.executable, __file__, *words], stdout=subprocess.PIPE, check=True, text=True
    ).stdout
    report: dict[str, Any] = json.loads(found)
    return report


def simulate_here(runs: int, folder: Path | None) -> dict[str, Any]:
    import anyio
    from trio.testing import MockClock

    from fanbench.sweeps.journal import Journal

    clock = MockClock(autojump_threshold=0)
    with tempfile.TemporaryDirectory(dir=folder) as top, Journal.open(Path(top)) as journal:
        simulation = partial(_sweep, runs, Path(top), journal)
        began, cpu = time.perf_counter(), time.process_time()
        virtual, calls, events = anyio.run(simulation, backend="trio", backend_options={"clock": clock})
        spent = Spent(time.perf_counter() - began, time.process_time() - cpu, _most_memory())
        check(Path(top), runs)
    return record(runs, spent, calls) | {"virtual seconds": round(virtual), "events": events}


def _most_memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _sweep(runs: int, folder: Path, journal: Any) -> tuple[float, Counter[str], int]:
    """Return the seconds on the virtual clock and the numbers of calls and events."""
    import anyio

    from fanbench.sweeps.context import SweepContext
    from fanbench.sweeps.engine import Engine
    from fanbench.sweeps.events import SweepEnded
    from fanbench.testing import RunScript, Scenario

    script = RunScript(output={"answers.bin": b"the output"})
    kaggle = lean_kaggle(Scenario(latency=0.1, page_size=100, runs=script))
    seen: Counter[type[SweepEvent]] = Counter()
    last: list[SweepEvent] = []

    def emit(event: SweepEvent) -> None:
        seen[type(event)] += 1
        last[:] = [event]

    began = anyio.current_time()
    context = SweepContext(kaggle, _plan(runs, folder), journal, emit, offload=inline, clock=kaggle.wall)
    await Engine(context).run()
    ended = last[0]
    assert isinstance(ended, SweepEnded), ended
    assert ended.completed == runs, ended
    return anyio.current_time() - began, kaggle.calls, sum(seen.values())


def lean_kaggle(scenario: Scenario) -> SimulatedKaggle:
    """A server whose outputs are written directly to their final places, as one small file each."""
    from fanbench.sweeps.artifacts import contents_of
    from fanbench.testing import SimulatedKaggle
    from fanbench.wire.downloads import Downloaded

    class Lean(SimulatedKaggle):
        async def download_output(self, run_id: int, target: Path, **_: Any) -> Any:
            await self.open_output(run_id)
            target.mkdir(parents=True)  # noqa: ASYNC240 (virtual time is paused meanwhile)
            (target / "answers.bin").write_bytes(b"the output")
            return Downloaded.of(target, contents_of(target))

    return Lean(scenario, keep_history=False)


async def inline(job: Callable[[], Any]) -> Any:
    """Run in the event loop what uses threads otherwise: they cannot be combined with a virtual clock."""
    from anyio.lowlevel import checkpoint

    await checkpoint()
    return job()


def _plan(runs: int, folder: Path) -> SweepPlan:
    from fanbench.sweeps.attempts import content_identity
    from fanbench.sweeps.plan import PlannedTask, SweepPlan

    models = min(MODELS, runs)
    slugs = [f"task-{number}" for number in range(runs // models)]
    tasks = (PlannedTask(slug, content_identity(slug, ()), None, notebook=slug) for slug in slugs)
    return SweepPlan(tuple(tasks), tuple(model_name(number) for number in range(models)), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--shapes", nargs="+", default=["4x60", "20x12", "20x60"])
    parser.add_argument("--simulate", nargs="+", type=int)
    parser.add_argument("--simulate-here", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--one-core", action="store_true")
    words = parser.parse_args()
    report: dict[str, Any]
    if words.simulate_here:
        report = simulate_here(words.simulate_here, words.folder)
    elif words.simulate:
        report = {str(runs): simulated(runs, words.folder) for runs in words.simulate}
    else:
        report = on_sockets(words.shapes, words.folder, one_core=words.one_core)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
