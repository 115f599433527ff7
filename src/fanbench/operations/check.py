"""`check --run`: task files run as `python FILE` would run them, on fresh Model Proxy credentials.

A file is fine when it ends well and leaves a run file of each task that a push could take, none of them
errored. What the model answers is no matter: a wrong answer is a result.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from fanbench._util.concurrency import Done, settle
from fanbench.errors import FanbenchError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.credentials import ProxyTokens, token_variables
from fanbench.operations.environment import model_variables
from fanbench.operations.events import Event, Report, ignore_events
from fanbench.operations.models import proxy_names
from fanbench.operations.process import Ended, run_to_end
from fanbench.operations.run import resolve_models
from fanbench.operations.scratch import Workplace, workplace
from fanbench.tasks import TaskFile, to_notebook
from fanbench.tasks.source import parse_python
from fanbench.wire.messages import BenchmarkModel, ModelProxyToken
from fanbench.wire.slugs import normalize_model

if TYPE_CHECKING:
    from fanbench.results import Problem, RunResult

__all__ = ["TIMEOUT", "Trial", "TrialBegan", "TrialLine", "TrialOutcome", "proxy_model", "try_files"]

#: Seconds that a file may take.
TIMEOUT = 600.0

TrialOutcome = Literal["recorded", "errored", "nothing", "failed", "timed out"]

_SCRIPT = Path(__file__).with_name("task_process.py")

# How the two clients in the SDK say that the proxy refused their token.
_REFUSED = re.compile(r"AuthenticationError|Error code: 401|401 UNAUTHENTICATED")


@dataclass(frozen=True, slots=True)
class Trial:
    """How one file ran. `seconds` is wall time, `exit_code` negative for a signal.

    `missing` are the slugs of the file's tasks that recorded nothing, `tail` the last lines of what it said.
    `folder` has its files and its output.log, where they were to be kept.
    """

    path: Path
    model: str
    outcome: TrialOutcome
    seconds: float
    exit_code: int
    results: tuple[RunResult, ...] = ()
    problems: tuple[Problem, ...] = ()
    missing: tuple[str, ...] = ()
    tail: tuple[str, ...] = ()
    folder: Path | None = None

    @property
    def ok(self) -> bool:
        return self.outcome == "recorded"

    @property
    def refused(self) -> bool:
        """Whether it failed because the Model Proxy did not take the token."""
        errors = [row.error or "" for row in self.results]
        return not self.ok and any(_REFUSED.search(text) for text in (*errors, *self.tail))


class TrialBegan(Event, frozen=True):
    """A file begins to run."""

    path: Path
    model: str


class TrialLine(Event, frozen=True):
    """A file said a line, to stdout or stderr."""

    path: Path
    line: str

    @property
    def text(self) -> str:
        return f"{self.path} | {self.line}"


async def try_files(
    client: Api,
    files: Sequence[TaskFile],
    *,
    model: str | None = None,
    output: Path | None = None,
    timeout: float = TIMEOUT,
    limit: int | None = None,
    allow_no_run: bool = False,
    report: Report = ignore_events,
    done: Done[Trial] | None = None,
) -> list[Trial | FanbenchError]:
    """Runs each file in a process and an empty folder of its own, `limit` at a time (default: one a core).

    `model`, in any spelling, is the default model and the judge; without it, the server's. Files go with
    what they left into folders of their own below `output`, else they are deleted. `timeout` is in seconds,
    for each. With `allow_no_run` a task that records nothing is no failure as long as another one does.

    Raises:
        UsageError: the SDK is not installed here, or there is no such model: nothing was run.
        FanbenchError: the server gives no token, or has no models.
    """
    ensure_sdk()
    available = await client.list_models()
    chosen = proxy_model(model, available)
    variables = model_variables(proxy_names(available), {"LLM_DEFAULT": chosen} if chosen else {})
    rules = _Rules(variables, timeout, output, allow_no_run)
    tokens = ProxyTokens(client)
    jobs = [partial(_Attempts(file, rules, tokens, report).run) for file in files]
    return await settle(jobs, limit=limit or os.cpu_count() or 1, done=done)


def ensure_sdk() -> None:
    """Raises UsageError, naming the extra, where the SDK is not installed."""
    for package in ("kaggle_benchmarks", "IPython"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"The SDK is not installed here: there is no package {package}.",
                hint="pip install 'fanbench[local]' brings it",
            )


def proxy_model(asked: str | None, available: Sequence[BenchmarkModel]) -> str | None:
    """The name by which the Model Proxy knows the model that a user `asked` for; `None` for no wish.

    Raises:
        UsageError: there is none, it is not served, or a pattern means several.
    """
    if asked is None:
        return None
    slugs = resolve_models([asked], available)
    if len(slugs) > 1:
        raise UsageError(f"{asked} means {len(slugs)} models.", hint="A file runs on one: name it in full.")
    served = set(proxy_names(available))
    for version in (model.version for model in available if model.version):
        name = version.model_proxy_slug or version.slug
        if normalize_model(version.slug) == slugs[0] and name in served:
            return name
    raise UsageError(f"The Model Proxy does not serve {asked}.", hint="See: fanbench tasks models")


# --- One file -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Rules:
    """What all files of one call share."""

    variables: Mapping[str, str]
    timeout: float
    output: Path | None
    allow_no_run: bool

    @property
    def model(self) -> str:
        return self.variables["LLM_DEFAULT"]


class _Attempts:
    """Runs one file; a second time where the token was refused that it had."""

    def __init__(self, file: TaskFile, rules: _Rules, tokens: ProxyTokens, report: Report) -> None:
        self._file = file
        self._rules = rules
        self._tokens = tokens
        self._report = report

    async def run(self) -> Trial:
        token = await self._tokens.get(lasting=self._rules.timeout)
        self._report(TrialBegan(self._file.path, self._rules.model))
        async with workplace(self._rules.output) as place:
            trial = await self._attempt(place, token)
            if trial.refused:
                await anyio.to_thread.run_sync(place.clear)
                trial = await self._attempt(place, await self._tokens.replace(token))
            return await anyio.to_thread.run_sync(_kept, trial, place)

    async def _attempt(self, place: Workplace, token: ModelProxyToken) -> Trial:
        begun = anyio.current_time()
        ended = await run_to_end(
            await anyio.to_thread.run_sync(self._command, place),
            folder=place.working,
            environment=_environment(self._rules.variables, token),
            log=place.log,
            timeout=self._rules.timeout,
            say=lambda line: self._report(TrialLine(self._file.path, line)),
        )
        seconds = anyio.current_time() - begun
        return await anyio.to_thread.run_sync(self._judged, place, ended, seconds)

    def _command(self, place: Workplace) -> partial[list[str]]:
        notebook = []
        if has_magics(self._file.source):
            place.notebook.write_text(to_notebook(self._file.source), encoding="utf-8")
            notebook = [str(place.notebook)]
        return partial(_command, os.path.abspath(self._file.path), notebook)

    def _judged(self, place: Workplace, ended: Ended, seconds: float) -> Trial:
        from fanbench.results import read_results

        found = read_results([place.working])
        recorded = {row.task for row in found.runs}
        missing = tuple(task.slug for task in self._file.pushable if task.slug not in recorded)
        trial = Trial(
            self._file.path,
            self._rules.model,
            "recorded",
            seconds,
            ended.code,
            found.runs,
            found.problems,
            missing,
            ended.tail,
        )
        return replace(
            trial, outcome=_outcome(trial, timed_out=ended.timed_out, lenient=self._rules.allow_no_run)
        )


def _outcome(trial: Trial, *, timed_out: bool, lenient: bool) -> TrialOutcome:
    if timed_out:
        return "timed out"
    if any(row.errored for row in trial.results):
        return "errored"
    if trial.exit_code or trial.problems:
        return "failed"
    return "nothing" if not trial.results or (trial.missing and not lenient) else "recorded"


def _kept(trial: Trial, place: Workplace) -> Trial:
    """The trial with its files in their final place."""
    folder = place.keep(trial.path.stem)
    if folder is None:
        return trial
    results = tuple(
        replace(row, path=folder / row.path.relative_to(place.working))
        if row.path.is_relative_to(place.working)
        else row
        for row in trial.results
    )
    return replace(trial, folder=folder, results=results)


def _command(file: str, notebook: Sequence[str], lifeline: int) -> list[str]:
    return [sys.executable, "-P", str(_SCRIPT), str(lifeline), file, *notebook]


def _environment(variables: Mapping[str, str], token: ModelProxyToken) -> dict[str, str]:
    """Ours, as `python FILE` would have it, and the proxy's variables instead of any that are there."""
    passed = {name: value for name, value in os.environ.items() if name != "LLM_DEFAULT_JUDGE"}
    fixed = {
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        # Or an HTTP proxy of this machine would be asked for a Model Proxy that is on it, too.
        "NO_PROXY": ",".join(filter(None, ["127.0.0.1,localhost", passed.get("NO_PROXY", "")])),
    }
    return passed | dict(variables) | token_variables(token) | fixed


def has_magics(source: str) -> bool:
    """Whether it takes IPython to run `source`, which can be read: so Python alone cannot."""
    try:
        parse_python(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return True
    return False
