"""Runs task files as `python FILE` and through the local server, and compares what they record.

Notebooks, and files that need IPython, are executed by Jupyter instead of `python FILE`.

`python -m tests.e2e.both_ways [FILE…]` prints a row for each file. Without FILE, these are the task files of the
SDK's source distribution, in the installed version. It exits with 1 if a file differs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import jupytext

from fanbench import Client, FanbenchError
from fanbench.operations.environment import fetch_environment
from fanbench.tasks import TaskFile, read_task_file
from tests.e2e.answering_model import answering_model
from tests.e2e.sdk_files import sdk_task_files
from tests.local.server_process import run_server

__all__ = ["Compared", "Side", "compare"]

MODEL = "test/answering"
#: Seconds that a run may take, on either side.
SECONDS = 300

_CHOICE = re.compile(r"%choose (\w+)|[\"']choose[\"'], *[\"'](\w+)")
_NEEDS_IPYTHON = re.compile(r"^\s*(# ?)?[%!]\w|\bget_ipython\b|^\s*display\(", re.MULTILINE)
_HARD_CODED = re.compile(
    r"[\"']((?:google|anthropic|openai|deepseek-ai|qwen|xai|meta|mistralai|zai)/[\w.@-]+)\\?[\"']"
)


@dataclass(frozen=True)
class Side:
    """What one way of running a file leaves: its run files as comparable texts, and the error that ended it."""

    error: str
    records: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{len(self.records)} run files" + (f", {self.error[:100]}" if self.error else "")


@dataclass(frozen=True)
class Compared:
    """A file, what `check` says of it, and both ways of running it."""

    path: Path
    check: str
    alone: Side
    served: Side

    @property
    def verdict(self) -> str:
        """The verdict is "same", "differ", or "both fail" if neither has a result.

        After a failed creation no run is scheduled, so there is nothing to download of what `python FILE` has
        recorded before the same error.
        """
        if not self.served.records and (self.alone.error or not self.alone.records):
            return "both fail"
        alike = self.alone.records == self.served.records
        if _CHOICE.search(self.path.read_text(encoding="utf-8")):  # it has no effect outside /kaggle/working
            alike = set(self.served.records) <= set(self.alone.records)
        alike &= not (self.alone.error or self.served.error)
        return "same" if alike else "differ"

    def __str__(self) -> str:
        row = f"{self.path.name:44} {self.check:15} {self.verdict:9} python: {self.alone} | fanbench: {self.served}"
        if self.verdict != "differ":
            return row
        sides = [("-", set(self.alone.records) - set(self.served.records))]
        sides += [("+", set(self.served.records) - set(self.alone.records))]
        more = [f"    {sign} {record}" for sign, records in sides for record in sorted(records)]
        return "\n".join([row, *more])


async def compare(
    paths: Sequence[Path], folder: Path, done: Callable[[Compared], object] = lambda _: None
) -> list[Compared]:
    """Run each file both ways, two files at a time. What they leave is kept below `folder`."""
    limit = anyio.CapacityLimiter(2)
    locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
    compared: dict[Path, Compared] = {}

    async def compare_one(path: Path, client: Client, variables: dict[str, str]) -> None:
        async with limit:
            alone = await anyio.to_thread.run_sync(_run_alone, path, folder / "alone" / path.stem, variables)
            compared[path] = await _serve(path, alone, folder / "served" / path.stem, client, locks)
            done(compared[path])

    with answering_model() as url:
        models = _models(paths, url)
        with run_server(folder / "server" / "data", "--run-timeout", str(SECONDS), models=models) as server:
            async with server.client() as client, anyio.create_task_group() as tasks:
                wanted = {"LLM_DEFAULT": MODEL, "LLM_DEFAULT_EVAL": MODEL}
                variables = (await fetch_environment(client, wanted, all_models=True)).variables
                for path in paths:
                    tasks.start_soon(compare_one, path, client, variables)
    return [compared[path] for path in paths]


def _models(paths: Sequence[Path], url: str) -> str:
    """models.toml with the answering model, also under all names that the files contain."""
    named = {name for path in paths for name in _HARD_CODED.findall(path.read_text(encoding="utf-8"))}
    tables = [
        f'[[model]]\nslug = "{slug}"\nkind = "upstream"\nurl = "{url}"\n' for slug in [MODEL, *sorted(named)]
    ]
    return "\n".join([f'default = "{MODEL}"\n', *tables])


def _run_alone(path: Path, folder: Path, variables: dict[str, str]) -> Side:
    """`python FILE` in a folder of its own, with the variables that Kaggle gives to a notebook."""
    folder.mkdir(parents=True)
    command = [sys.executable, *_program(path, folder)]
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME") if name in os.environ}
    # `!pip` installs into the environment of the interpreter, as after its activation.
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept["PATH"]])
    modes = {"BENCHMARK_MODE": "RUN", "KAGGLE_KERNEL_RUN_TYPE": "batch", "NO_PROXY": "127.0.0.1,localhost"}
    log = folder / "output.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**kept, **modes, **variables},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    text = re.sub(
        r"\x1b\[[\d;]*m|^\[IPKernelApp\].*", "", log.read_text(errors="replace"), flags=re.MULTILINE
    )
    last = text.strip().rpartition("\n")[2]
    return Side(last or f"exit code {code}" if code else "", _records(folder))


def _program(path: Path, folder: Path) -> list[str]:
    """Copy the file to the folder; return what Python is to run there."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".py" and not _NEEDS_IPYTHON.search(source):
        (folder / path.name).write_text(source, encoding="utf-8")
        return [path.name]
    notebook = jupytext.reads(source, fmt="py:percent" if path.suffix == ".py" else "ipynb")
    jupytext.write(notebook, folder / "notebook.ipynb")
    return ["-m", "nbconvert", "--to", "notebook", "--execute", "--output", "executed", "notebook.ipynb"]


async def _serve(
    path: Path, alone: Side, folder: Path, client: Client, locks: defaultdict[str, anyio.Lock]
) -> Compared:
    """Check the file, push its main task, run it and download the output."""
    try:
        file = read_task_file(path)
    except FanbenchError as error:
        return Compared(path, "not a task file", alone, Side(str(error)))
    levels = Counter(finding.level for finding in file.findings)
    check = ", ".join(f"{count} {level}s" for level, count in levels.items()) or "ok"
    slug = _main_task(file, alone)
    async with locks[slug]:  # files that use the same name for their tasks
        try:
            await client.push(path, task=slug or None, allow_no_run=True, wait=True, poll_interval=0.2)
            (run,) = (await client.run(slug, MODEL, wait=True, poll_interval=0.2)).runs
            await client.download_output(run.id, folder)
        except FanbenchError as error:
            return Compared(path, check, alone, Side(str(error).strip().rpartition("\n")[2]))
    # An error that the SDK records is the run's, and no error of the program.
    records = _records(folder)
    return Compared(path, check, alone, Side("" if records else run.error_message, records))


def _main_task(file: TaskFile, alone: Side) -> str:
    """The task that `%choose` names, otherwise the last one that records something, or the last one at all."""
    words = {word for words in _CHOICE.findall(file.source) for word in words}
    recorded = {json.loads(record)["task"] for record in alone.records}
    chosen = [task.slug for task in file.pushable if words & {task.name, task.function}]
    slugs = [task.slug for task in file.pushable if task.name in recorded]
    return next(iter([*chosen, *reversed(slugs), *(task.slug for task in reversed(file.pushable))]), "")


def _records(folder: Path) -> tuple[str, ...]:
    """The run files in a form without times and ids, sorted."""
    return tuple(sorted(_record(json.loads(path.read_text())) for path in folder.rglob("*.run.json")))


def _record(run: dict[str, Any]) -> str:
    last_line = run.get("errorMessage", "").strip().rpartition("\n")[2]
    kept = {
        "task": run["taskVersion"].get("name"),
        "model": run.get("modelVersion", {}).get("slug"),
        "state": run.get("state", "").rpartition("_")[2],
        "results": run.get("results"),
        "assertions": Counter(_assertions(run)),
        "requests": sum(len(each.get("requests", [])) for each in run.get("conversations", [])),
        "error": re.sub(r"/\S+|0x[0-9a-f]+|\d{5,}", "…", last_line),
    }
    return json.dumps(kept, sort_keys=True)


def _assertions(run: dict[str, Any]) -> list[str]:
    """The outcomes of a run's assertions, those of its sub-runs included."""
    own = [assertion.get("status", "").rpartition("_")[2] for assertion in run.get("assertions", [])]
    return own + [outcome for sub_run in run.get("subruns", []) for outcome in _assertions(sub_run)]


def main() -> None:
    paths = [Path(word).absolute() for word in sys.argv[1:]] or sdk_task_files(Path(sys.prefix) / "sdk-files")
    with tempfile.TemporaryDirectory(prefix="both-ways-") as folder:
        compared = anyio.run(partial(compare, paths, Path(folder), partial(print, flush=True)))
    print(
        *(f"{verdict}: {count}" for verdict, count in Counter(each.verdict for each in compared).items()),
        sep=", ",
    )
    sys.exit(any(each.verdict == "differ" for each in compared))


if __name__ == "__main__":
    main()
