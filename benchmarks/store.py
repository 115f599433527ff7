"""Measure the writes of the local server's state a second, in SQLite and in PostgreSQL.

    python -m benchmarks.store [--times 3] [--rows 2000] [--at-once 16]

The databases take turns. PostgreSQL is started on 127.0.0.1 for the benchmark, with its data in a temporary folder;
where it is not installed, SQLite is measured alone. PostgreSQL waits for the disk at each commit, and SQLite, as the
server sets it, only at its checkpoints.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
import structlog
from tests.postgres import find_programs, run_postgres

from fanbench.local.state.store import Store
from fanbench.local.state.tables import RunRow, UsageRow
from fanbench.wire.messages import RunState

Write = Callable[[int], Awaitable[object]]


async def measure(place: Path | str, rows: int, at_once: int) -> dict[str, float]:
    """The writes a second of each kind, by `at_once` tasks."""
    async with Store.open(place) as store:
        version = await store.add_version("t", [])
        before = await store.add_run(version.id, "m")
        assert isinstance(before, RunRow)

        async def add_run(number: int) -> None:
            await store.add_run(version.id, f"m{number}")

        async def update(number: int) -> None:
            await store.update(RunRow, before.id + 1 + number, state=RunState.COMPLETED)

        async def add_usage(number: int) -> None:
            await store.add_usage(UsageRow(token_id=number, model="m", input_tokens=100, output_tokens=100))

        kinds: dict[str, Write] = {"add_run": add_run, "update": update, "usage rows": add_usage}
        rates = {}
        for name, write in kinds.items():
            start = time.perf_counter()
            await _write_all(write, rows, at_once)
            if write is add_usage:
                await store.spent_nanodollars(version.created)  # they are all there
            rates[name] = rows / (time.perf_counter() - start)
        return rates


async def _write_all(write: Write, rows: int, at_once: int) -> None:
    numbers = iter(range(rows))

    async def work() -> None:
        for number in numbers:
            await write(number)

    async with anyio.create_task_group() as tasks:
        for _ in range(at_once):
            tasks.start_soon(work)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=16)
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    rates: defaultdict[str, list[dict[str, float]]] = defaultdict(list)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        programs = find_programs()
        postgres = stack.enter_context(run_postgres(programs, durable=True)) if programs else None
        for number in range(options.times):
            places: dict[str, Path | str] = {"SQLite": folder / f"{number}.sqlite"}
            if postgres is not None:
                places["PostgreSQL"] = postgres.create_database()
            for name, place in places.items():
                rates[name].append(anyio.run(measure, place, options.rows, options.at_once))
    report: dict[str, object] = {
        f"{name}, writes a second": {
            kind: round(statistics.median(one[kind] for one in each)) for kind in each[0]
        }
        for name, each in rates.items()
    }
    if postgres is None:
        report["PostgreSQL"] = "It is not installed here."
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
