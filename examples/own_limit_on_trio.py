"""Use trio, and limit the number of concurrent runs to two, whatever the number of models.

pip install -e '.[local]' trio && fanbench models add smollm2 gemma3
python examples/own_limit_on_trio.py
"""

from pathlib import Path

import trio

from fanbench import Client
from fanbench.operations.models import model_slug

TASK = Path(__file__).parent / "tasks/arithmetic.py"


async def run_on(client: Client, task: str, model: str, limiter: trio.CapacityLimiter) -> None:
    async with limiter:
        report = await client.run(task, model, wait=True)
    for run in report.runs:
        print(f"{model}: {run.state.label}")


async def main() -> None:
    # `concurrency` limits calls to the server; the number of concurrent runs is up to the program.
    async with Client.local(concurrency=4) as client:
        pushed = await client.push(TASK, wait=True)
        limiter = trio.CapacityLimiter(2)
        async with trio.open_nursery() as nursery:
            for model in await client.list_models():
                nursery.start_soon(run_on, client, pushed.slug, model_slug(model), limiter)
        status = await client.status(pushed.slug)
        print(f"{len(status.runs)} runs, {len(status.errored)} of them errored")


trio.run(main)
