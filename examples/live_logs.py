"""Run a task on every model of the local server and print the logs of all runs, live.

pip install -e '.[local]' && fanbench models add smollm2 gemma3
python examples/live_logs.py
"""

from contextlib import aclosing
from pathlib import Path

import anyio

from fanbench import Client, Run

TASK = Path(__file__).parent / "tasks/capital_cities.py"


async def show(client: Client, run: Run) -> None:
    """Print one run's log. `lines` waits for a queued run and reconnects without losing or repeating lines."""
    async with aclosing(client.lines(run)) as lines:
        async for line in lines:
            print(f"{run.model_version_slug} | {line}")


async def main() -> None:
    async with Client.local() as client:
        pushed = await client.push(TASK, wait=True)
        report = await client.run(pushed.slug, "*")
        async with anyio.create_task_group() as group:
            for run in report.runs:
                group.start_soon(show, client, run)
        for run in await client.wait(*report.runs):
            print(f"{run.model_version_slug}: {run.state.label}")


anyio.run(main)
