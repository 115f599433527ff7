"""Measure what a run costs the server's own process, and compute which part of the server limits a large cluster.

    python -m benchmarks.scaling [--times 3] [--runs 640] [--nodes 1000] [--per-node 8] [--seconds 60]
                                 [--requests 20] [--log-pieces 60] [--output-mb 0.2]

The scheduler, its state and its logs are real, and the carrier ends each run at once, so the CPU time is that of the
one Python process that schedules. The databases take turns. The costs of a request to a model and of a job in Ray are
those of `proxy.py` and `cluster.py`, or those of `--proxy-ms`, `--slot-ms`, `--ray-ms` and `--driver-ms`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import anyio
import structlog
from tests.local.server_process import TASK
from tests.postgres import find_programs, run_postgres

from fanbench.errors import LocalServerError
from fanbench.local.carriers import Started
from fanbench.local.carriers.job import NotebookJob, Outcome, RunFile
from fanbench.local.executor import Protection
from fanbench.local.executor.supervise import Append
from fanbench.local.folder import DataFolder, open_data_folder
from fanbench.local.models.catalog import Catalog, write_catalog
from fanbench.local.models.pool import ModelPool
from fanbench.local.models.scripted import Scripted
from fanbench.local.outputs import Outputs
from fanbench.local.scheduler import Scheduler, Work
from fanbench.local.settings import ServerSettings
from fanbench.local.state.store import Store
from fanbench.local.state.tables import RunRow, VersionRow
from fanbench.tasks import to_notebook
from fanbench.wire.messages import CreationState

AT_ONCE = 64
MANY_PIECES = 1000
_LINE = b"a line of a log, as long as many of them are, more or less\n"


@dataclass
class InstantCarrier:
    """Ends each run at once, after so many pieces of its log."""

    log_pieces: int

    def warm_up(
        self, on_failure: Callable[[LocalServerError], None], on_obstacle: Callable[[Protection, str], None]
    ) -> None:
        pass

    async def run(self, job: NotebookJob, started: Started, append: Append) -> Outcome:
        await started()
        for _ in range(self.log_pieces):
            append("stdout", _LINE)
        return Outcome(run_files=[RunFile(task="two-plus-two", state="COMPLETED", error="", model="m")])


async def milliseconds_a_run(place: Path | str | None, runs: int, log_pieces: int) -> float:
    """The CPU time that a run costs the process. Its state is in `place`, or in SQLite."""
    with tempfile.TemporaryDirectory() as root, open_data_folder(Path(root)) as folder:
        models = [Scripted(slug=f"m{number}") for number in range(AT_ONCE)]
        write_catalog(folder.models_file, Catalog(model=[*models]))
        async with Store.open(place or folder.database) as store, ModelPool.open(folder, 600, {}, "") as pool:
            versions = [await _add_version(folder, store) for _ in range(-(-runs // AT_ONCE))]
            scheduler = Scheduler(
                ServerSettings(data=folder.root, workers=AT_ONCE),
                folder,
                store,
                pool,
                InstantCarrier(log_pieces),
                Outputs(folder),
                "http://127.0.0.1:9/models",
            )
            async with scheduler.running():
                begun = time.process_time()
                for number in range(runs):
                    row = await store.add_run(versions[number // AT_ONCE], f"m{number % AT_ONCE}")
                    assert isinstance(row, RunRow)
                    scheduler.submit(Work("run", row.id))
                while scheduler.busy:
                    await anyio.sleep(0.01)
                return 1000 * (time.process_time() - begun) / runs


async def _add_version(folder: DataFolder, store: Store) -> int:
    version = await store.add_version("two-plus-two", [])
    await store.update(VersionRow, version.id, state=CreationState.COMPLETED)
    notebook = anyio.Path(folder.notebook(version.id))
    await notebook.parent.mkdir(parents=True)
    await notebook.write_text(to_notebook(TASK))
    return version.id


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Milliseconds of CPU time."""

    run: float
    """Of the server for one run, with its writes to the database and no log."""
    log_piece: float
    slot: float
    """Of the server for one request to a model that a process of the Model Proxy answers."""
    request: float
    """Of that process."""
    ray: float
    """Of the server for one job in Ray."""
    driver: float
    """Of the process that uses Ray for it."""


def model(costs: Costs, options: argparse.Namespace) -> dict[str, object]:
    """What a cluster of this size needs, and how many runs at a time one process of the server can carry."""
    runs_a_second = options.nodes * options.per_node / options.seconds
    of_server = costs.run + costs.ray + options.log_pieces * costs.log_piece + options.requests * costs.slot
    return {
        "runs at a time": options.nodes * options.per_node,
        "runs a second": round(runs_a_second, 1),
        "CPU time of the server for one run, ms": round(of_server, 1),
        "processors that the server needs": round(runs_a_second * of_server / 1000, 2),
        "the most runs at a time for one processor": round(1000 / of_server * options.seconds),
        "processors that the process for Ray needs": round(runs_a_second * costs.driver / 1000, 2),
        "requests to models a second": round(runs_a_second * options.requests),
        "processors that the Model Proxy's processes need": round(
            runs_a_second * options.requests * costs.request / 1000, 1
        ),
        "log pieces a second": round(runs_a_second * options.log_pieces),
        "output MB a second": round(runs_a_second * options.output_mb, 1),
    }


def _read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--runs", type=int, default=640)
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--per-node", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long a run takes")
    parser.add_argument(
        "--requests", type=float, default=20.0, help="how many requests to models a run makes"
    )
    parser.add_argument("--log-pieces", type=float, default=60.0, help="in how many pieces its log comes")
    parser.add_argument("--output-mb", type=float, default=0.2, help="the size of both zips of its output")
    parser.add_argument("--proxy-ms", type=float, default=3.2, help="see proxy.py")
    parser.add_argument("--slot-ms", type=float, default=0.3, help="see proxy.py")
    parser.add_argument("--ray-ms", type=float, default=0.7, help="see cluster.py")
    parser.add_argument("--driver-ms", type=float, default=6.4, help="see cluster.py")
    return parser.parse_args()


def main() -> None:
    options = _read_options()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    measured: defaultdict[tuple[str, int], list[float]] = defaultdict(list)
    with ExitStack() as stack:
        programs = find_programs()
        postgres = stack.enter_context(run_postgres(programs, durable=True)) if programs else None
        for _ in range(options.times):
            for pieces in (0, MANY_PIECES):
                places = {"SQLite": None, "PostgreSQL": postgres.create_database() if postgres else None}
                for name, place in places.items():
                    if place or name == "SQLite":
                        measured[name, pieces].append(
                            anyio.run(milliseconds_a_run, place, options.runs, pieces)
                        )
    for name in dict.fromkeys(name for name, _ in measured):
        bare, full = (statistics.median(measured[name, pieces]) for pieces in (0, MANY_PIECES))
        costs = Costs(
            run=bare,
            log_piece=(full - bare) / MANY_PIECES,
            slot=options.slot_ms,
            request=options.proxy_ms,
            ray=options.ray_ms,
            driver=options.driver_ms,
        )
        shown = {each: round(value, 3) for each, value in asdict(costs).items()}
        print(json.dumps({"state": name, "milliseconds": shown, "cluster": model(costs, options)}, indent=2))


if __name__ == "__main__":
    main()
