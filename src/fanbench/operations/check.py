"""`check --run`: runs task files as `python FILE` would, on fresh Model Proxy credentials.

A file passes if it ends well and leaves a run file of each task that it runs itself, none of them errored. Helpers
(`store_task=False` or `store_run=False`), and tasks that only other tasks run, may leave some or none.
The models' answers do not matter: a wrong answer is a result.
"""

from __future__ import annotations

import codecs
import importlib.util
import os
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Literal

import anyio
import anyio.to_thread

from fanbench._util.concurrency import Done, settle, unwrap_single_error
from fanbench._util.files import async_temporary_folder, output_errors
from fanbench._util.install import install_command
from fanbench.errors import FanbenchError, TaskFileError, UsageError
from fanbench.local.aliases import ALIASES_VARIABLE
from fanbench.local.environments import Environments
from fanbench.local.executor import Executor
from fanbench.local.executor.environment import add_packages, no_proxy
from fanbench.local.executor.forkserver_executor import ForkserverExecutor
from fanbench.local.executor.job import Job
from fanbench.local.executor.supervise import RunEnd, supervise
from fanbench.local.folder import DataFolder
from fanbench.local.settings import default_data_folder
from fanbench.local.verdicts import reason_not_stored
from fanbench.operations.api import Api
from fanbench.operations.credentials import ProxyTokens, token_variables
from fanbench.operations.environment import model_variables
from fanbench.operations.events import Emit, Event, ignore_events
from fanbench.operations.models import proxy_names, resolve_model
from fanbench.tasks import TaskFile, notebook_of, read_script_metadata
from fanbench.tasks.source import parse_python
from fanbench.wire.log_lines import Lines
from fanbench.wire.messages import BenchmarkModel, LogEntry, ModelProxyToken
from fanbench.wire.slugs import normalize_model

if TYPE_CHECKING:
    from fanbench.results import Problem, RunResult

__all__ = [
    "TIMEOUT",
    "Trial",
    "TrialBegan",
    "TrialLine",
    "TrialNote",
    "TrialOutcome",
    "proxy_model",
    "try_files",
]

#: Seconds that a file may take.
TIMEOUT = 600.0

#: Bytes of a file's output that are kept on disk, and lines that are kept in memory.
LOG_LIMIT = 64 << 20
TAIL = 40

_LOG = "output.log"
_ELSEWHERE = "Name another folder with -o DIR."

TrialOutcome = Literal["recorded", "errored", "nothing", "failed", "timed out"]

# Variables that would lead the SDK away from what the run is to use.
_NOT_OURS = frozenset({"LLM_DEFAULT_JUDGE", ALIASES_VARIABLE})

# How the SDK's two clients report that the proxy refused their token.
_REFUSED = re.compile(r"AuthenticationError|Error code: 401|401 UNAUTHENTICATED")


@dataclass(frozen=True, slots=True)
class Trial:
    """How one file ran. `seconds` is wall time, `exit_code` negative for a signal.

    `missing` holds the slugs of the tasks that should have recorded something and did not, `tail` the last lines of
    the file's output. `not_stored` is the reason that the SDK gave for not writing a run file, if the file failed
    for lack of it.
    `folder` has its files and its output.log, if they were to be kept.
    """

    path: Path
    model: str
    outcome: TrialOutcome
    seconds: float
    exit_code: int
    results: tuple[RunResult, ...] = ()
    problems: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()
    not_stored: str | None = None
    tail: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def ok(self) -> bool:
        return self.outcome == "recorded"

    @property
    def refused(self) -> bool:
        """Whether it failed because the Model Proxy did not accept the token."""
        errors = [row.error or "" for row in self.results]
        return not self.ok and any(_REFUSED.search(text) for text in (*errors, *self.tail))


class TrialBegan(Event, frozen=True):
    """A file begins to run."""

    path: Path
    model: str


class TrialNote(Event, frozen=True):
    """What is done for a file before it can run, such as the installation of its packages."""

    template: ClassVar[str | None] = "{path}: {text}"

    path: Path
    text: str


class TrialLine(Event, frozen=True):
    """A line of a file's output, from stdout or stderr."""

    template: ClassVar[str | None] = "{path} | {line}"

    path: Path
    line: str


async def try_files(
    client: Api,
    files: Sequence[TaskFile],
    *,
    model: str | None = None,
    judge: str | None = None,
    output: Path | None = None,
    timeout: float = TIMEOUT,
    limit: int | None = None,
    allow_no_run: bool = False,
    datasets: Mapping[str, Path] | None = None,
    data: Path | None = None,
    emit: Emit = ignore_events,
    done: Done[Trial] | None = None,
) -> list[Trial | FanbenchError]:
    """Run each file in a process and an empty folder of its own. One outcome per file, in the order given.

    `limit` files run at the same time; the default is one per core. `model`, in any spelling, is the default
    model, and the judge unless `judge` names another one; without them, the server's defaults apply. The folders
    are kept below `output` if that is given, and deleted otherwise. `timeout` is in seconds per file. With
    `allow_no_run` a task may record nothing as long as another one of its file records something. `datasets` maps
    OWNER/SLUG to the folder that the files find below `/kaggle/input`. The dependencies in the files' inline metadata
    (PEP 723) are installed below `data`, by default the data folder of the local server.

    Raises:
        UsageError: The SDK is not installed, or the model does not exist. Nothing was run.
        LocalServerError: Processes cannot be started on this machine.
        FanbenchError: The server has no models.
    """
    for package in ("kaggle_benchmarks", "IPython"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"The SDK is not installed here: the package {package} is missing.",
                hint=f"Run `{install_command()}`.",
            )
    with unwrap_single_error():
        async with ForkserverExecutor.open("process", log=None) as executor:
            executor.warm_up(lambda _error: None)  # the first run reports it
            available = await client.list_models()
            chosen, judging = proxy_model(model, available), proxy_model(judge, available)
            named = {"LLM_DEFAULT": chosen, "LLM_DEFAULT_EVAL": judging}
            defaults = {name: value for name, value in named.items() if value}
            runner = _Runner(
                executor=executor,
                variables=model_variables(proxy_names(available), defaults) | _alias_variable(available),
                tokens=ProxyTokens(client),
                timeout=timeout,
                output=output,
                allow_no_run=allow_no_run,
                environments=Environments(DataFolder(data or default_data_folder()).environments),
                datasets={name: str(folder.resolve()) for name, folder in (datasets or {}).items()},
                emit=emit,
            )
            jobs = [partial(runner.run, file) for file in files]
            return await settle(jobs, limit=limit or os.cpu_count() or 1, done=done)
    raise AssertionError("unreachable")


def proxy_model(asked: str | None, available: Sequence[BenchmarkModel]) -> str | None:
    """The Model Proxy's name for the model that the user asked for; None if they asked for none.

    Raises:
        UnknownModel: The model does not exist.
        UsageError: It is not served, or the pattern matches several.
    """
    if asked is None:
        return None
    slug = resolve_model(asked, available)
    served = set(proxy_names(available))
    for version in (model.version for model in available if model.version):
        name = version.model_proxy_slug or version.slug
        if normalize_model(version.slug) == slug and name in served:
            return name
    raise UsageError(
        f"The Model Proxy does not serve {asked}.", hint="Run `fanbench tasks models` to list the models."
    )


def _alias_variable(available: Sequence[BenchmarkModel]) -> dict[str, str]:
    """The aliases of the models, for a local server: other servers have none."""
    found = [
        model.version.aliases for model in available if model.version and model.version.aliases is not None
    ]
    return {ALIASES_VARIABLE: ",".join(chain.from_iterable(found))} if found else {}


def has_magics(source: str) -> bool:
    """Whether `source` needs IPython because Python alone cannot parse it."""
    try:
        parse_python(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return False


# --- One file -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Runner:
    """Runs one file after another, on what all files of one call share."""

    executor: Executor
    variables: Mapping[str, str]
    tokens: ProxyTokens
    timeout: float
    output: Path | None
    allow_no_run: bool
    environments: Environments
    datasets: dict[str, str]
    emit: Emit

    async def run(self, file: TaskFile) -> Trial:
        """Run the file, a second time if its token was refused."""
        packages = await self._install_packages(file)
        token = await self.tokens.get(lasting=self.timeout)
        self.emit(TrialBegan(file.path, self.variables["LLM_DEFAULT"]))
        for last in (False, True):
            with output_errors(
                f"write to {self.output or 'the folder for temporary files'}", hint=_ELSEWHERE
            ):
                if self.output is not None:
                    await anyio.Path(self.output).mkdir(parents=True, exist_ok=True)
                # Readers of results skip folders that begin with a dot: those are in progress.
                async with async_temporary_folder(".fanbench-check-", self.output) as folder:
                    trial = await self._attempt(file, folder, token, packages)
                    if last or not trial.refused:
                        return await anyio.to_thread.run_sync(self._keep, trial, folder)
            token = await self.tokens.replace(token)
        raise AssertionError("unreachable")

    async def _install_packages(self, file: TaskFile) -> Path | None:
        """The folder with the packages that the file asks for; None if it asks for none."""
        try:
            metadata = read_script_metadata(file.source, str(file.path))
            if metadata is None:
                return None
            metadata.require_this_python(str(file.path))
        except TaskFileError as error:
            if error.line is not None:
                error.cell, error.line = file.cells.locate(error.line)
            raise
        return await self.environments.prepare(
            metadata.dependencies, lambda text: self.emit(TrialNote(file.path, text))
        )

    async def _attempt(
        self, file: TaskFile, folder: Path, token: ModelProxyToken, packages: Path | None
    ) -> Trial:
        # Our environment, as for `python FILE`, with the Model Proxy's variables in place of any others.
        environment = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        environment |= {
            **self.variables,
            **token_variables(token),
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8:backslashreplace",
            "NO_PROXY": no_proxy(environment),
        }
        job = Job(
            folder=str(folder),
            environment=add_packages(environment, packages),
            datasets=self.datasets,
            script=str(file.path.absolute()),
        )
        await anyio.Path(job.working).mkdir()
        if file.notebook is not None or has_magics(file.source):
            # The first conversion imports jupytext, which takes a second.
            notebook = await anyio.to_thread.run_sync(notebook_of, file)
            await anyio.Path(job.source).write_text(notebook, encoding="utf-8")
        begun = anyio.current_time()
        hint = "Name a folder that has room for it with -o DIR or TMPDIR=DIR."
        with (
            output_errors("keep the output of the file", hint=hint),
            (folder / _LOG).open("wb", buffering=0) as log,
            unwrap_single_error(),
        ):
            output = _Output(log, lambda line: self.emit(TrialLine(file.path, line)))
            ended = await supervise(self.executor, job, output.append, self.timeout, streams=["output"])
        seconds = anyio.current_time() - begun
        judge = partial(self._judge, file, job.working, seconds, ended, output)
        return await anyio.to_thread.run_sync(judge)

    def _judge(self, file: TaskFile, working: Path, seconds: float, ended: RunEnd, output: _Output) -> Trial:
        from fanbench.results import read_results

        found = read_results([working])
        recorded = _recorded_tasks(working)
        missing = tuple(task.slug for task in file.recording if task.slug not in recorded)
        outcome: TrialOutcome = "recorded"
        if ended.timed_out:
            outcome = "timed out"
        elif any(row.errored for row in found.runs):
            outcome = "errored"
        elif ended.exit.code or found.problems:
            outcome = "failed"
        elif not found.runs or (missing and not self.allow_no_run):
            outcome = "nothing"
        lacks_files = outcome in {"nothing", "failed"} and not ended.exit.code
        return Trial(
            path=file.path,
            model=self.variables["LLM_DEFAULT"],
            outcome=outcome,
            seconds=seconds,
            exit_code=ended.exit.code,
            results=found.runs,
            problems=found.problems,
            missing=missing,
            not_stored=output.not_stored if lacks_files else None,
            tail=tuple(output.tail),
        )

    def _keep(self, trial: Trial, folder: Path) -> Trial:
        """Move the files and the log to `output/NAME`, or `NAME-2` and so on; existing folders are not touched."""
        if self.output is None:
            return trial
        working, name = folder / "working", trial.path.stem
        with output_errors(f"keep the files in {self.output}", hint=_ELSEWHERE):
            (folder / _LOG).replace(working / _LOG)
            for number in count(1):
                target = self.output / (name if number == 1 else f"{name}-{number}")
                with suppress(FileExistsError):
                    target.mkdir()  # reserves the name; a rename may replace an empty folder
                    break
            working.rename(target)
        results = tuple(
            replace(row, path=target / row.path.relative_to(working))
            if row.path.is_relative_to(working)
            else row
            for row in trial.results
        )
        return replace(trial, folder=target, results=results)


def _recorded_tasks(working: Path) -> set[str]:
    """The slugs of all tasks with a run file, including those whose runs are part of another task's run."""
    from fanbench.results.run_file import NotARunFile, read_run_file

    tasks = set()
    for path in working.rglob("*.run.json"):
        with suppress(NotARunFile):
            tasks.add(read_run_file(path).task)
    return tasks


class _Output:
    """Writes a file's output to disk, up to a limit, and reports it line by line."""

    def __init__(self, log: BinaryIO, report_line: Callable[[str], None]) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL)
        self.not_stored: str | None = None
        self._log = log
        self._report_line = report_line
        self._room = LOG_LIMIT
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._lines = Lines()

    def append(self, _stream: str, data: bytes) -> None:
        lines = self._lines.feed(LogEntry(data=self._decoder.decode(data)))
        if not data:
            lines += self._lines.flush()
        self.tail.extend(lines)
        for line in lines:
            self.not_stored = self.not_stored or reason_not_stored(line)
            self._report_line(line)
        if self._room > 0:
            self._room -= len(data)
            self._log.write(data)
            if self._room <= 0:
                self._log.write(b"\n[the output continues, but is not kept]\n")
