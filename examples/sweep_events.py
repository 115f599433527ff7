"""Run every task on every model of the local server and print events as they happen.

If it is killed, running it again resumes the sweep.

pip install -e '.[local]' && fanbench models add smollm2 gemma3
python examples/sweep_events.py
"""

from __future__ import annotations

from pathlib import Path

import anyio

import fanbench
from fanbench.sweeps.events import OutputSaved, TaskReady

TASKS = Path(__file__).parent / "tasks"


async def main() -> None:
    async with fanbench.Client.local() as client:
        plan = await fanbench.plan_sweep(client, TASKS / "*.py", "*", output="sweep-results")
        async with fanbench.Sweep(client, plan) as sweep:
            async for event in sweep:
                if isinstance(event, TaskReady | OutputSaved):
                    print(event.text)
            report = await sweep.report()
    print(report.table().plain())
    print(f"{len(report.of(fanbench.RunStatus.COMPLETED))} of {len(report.rows)} runs completed")


if __name__ == "__main__":
    anyio.run(main)
