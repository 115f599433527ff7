"""Handle the errors that fanbench raises. All of them are FanbenchErrors, most with a hint for the user.

pip install -e '.[local]' && fanbench models add smollm2
python examples/handling_errors.py
"""

import tempfile
from pathlib import Path

import anyio

from fanbench import Client, FanbenchError, NotFound, StillRunning, TaskFileError, UnknownModel

ARITHMETIC = Path(__file__).parent / "tasks/arithmetic.py"

# One task that is never run, and one that fails after two seconds.
SILENT = "import kaggle_benchmarks as kbench\n@kbench.task(name='Silent')\ndef silent(llm): ...\n"
FAILING = """\
import time
import kaggle_benchmarks as kbench
@kbench.task(name='Failing')
def failing(llm) -> bool:
    time.sleep(2)
    raise ValueError('this task always fails')
failing.run(kbench.llm)
"""


async def check_before_push(client: Client, folder: Path) -> None:
    (folder / "silent.py").write_text(SILENT)
    try:
        await client.push(folder / "silent.py")
    except TaskFileError as error:
        print(f"line {error.line}: {error.message} {error.hint}")


async def use_unknown_names(client: Client, task: str) -> None:
    try:
        await client.status("no-such-task")
    except NotFound as error:
        print(f"HTTP {error.status}: {error.message}")
    try:
        await client.run(task, "no-such-model*")
    except UnknownModel as error:
        print(error, error.hint)


async def wait_for_failing_runs(client: Client, folder: Path) -> None:
    (folder / "failing.py").write_text(FAILING)
    # Pushing several files returns one outcome per file: the others are pushed even if one fails.
    for outcome in await client.push([ARITHMETIC, folder / "failing.py"], wait=True):
        print(outcome if isinstance(outcome, FanbenchError) else f"{outcome.slug}: pushed")
    report = await client.run("failing", "*")
    try:
        await client.wait(*report.runs, timeout=0.5)
    except StillRunning as error:
        print(f"{len(error.runs)} still running")
    # An errored run is a result and does not raise.
    for run in await client.wait(*report.runs):
        print(f"{run.state.label}: {run.error_message.splitlines()[-1]}")


async def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        async with Client.local() as client:
            await check_before_push(client, Path(name))
            pushed = await client.push(ARITHMETIC, wait=True)
            await use_unknown_names(client, pushed.slug)
            await wait_for_failing_runs(client, Path(name))


anyio.run(main)
