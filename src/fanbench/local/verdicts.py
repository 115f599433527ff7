"""Derives the state of a run, or of a creation, from what its process left behind.

The exit code alone is not enough: in batch mode the SDK writes a task's exception to its run file and the notebook
continues; a failed assertion is a completed run; a task that is never run leaves no file.
"""

from __future__ import annotations

import json
import math
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from fanbench._util.text import error_line, last_line, without_surrogates
from fanbench.local.carriers.job import Outcome, RunFile
from fanbench.local.executor.job import CANNOT_WRITE, Exit, NotebookOutcome
from fanbench.local.executor.mounts import NO_KAGGLE_FOLDER
from fanbench.local.leftovers import read_regular, regular_files
from fanbench.local.logs import last_lines
from fanbench.wire.messages import CreationState, RunState
from fanbench.wire.slugs import normalize_model, slugify

NO_RUN_FILE = (
    "The notebook ran to its end and left no .run.json, so nothing is recorded. "
    "Does it call .run(kbench.llm) or .evaluate(...) on its task?"
)

# What the SDK logs if it cannot write a run file, for example of a NaN. The notebook continues.
_NOT_STORED = re.compile(r"Failed to store run (?:Run #\d+|\S+): (.+)")


def reason_not_stored(line: str) -> str | None:
    """Why the SDK could not write a run file, if `line` of its output says so."""
    found = _NOT_STORED.search(line)
    return found[1].rstrip(".") if found else None


def read_outcome(path: Path) -> NotebookOutcome | None:
    """What the run's process reported about its notebook; None if it died before it could."""
    try:
        return msgspec.json.decode(read_regular(path), type=NotebookOutcome)
    except (OSError, ValueError, RecursionError):
        return None


def failure_of(outcome: NotebookOutcome | None, exit_: Exit, time_limit: float | None) -> str | None:
    """Why a run failed, with what to do about it; None if its notebook reached its end.

    `time_limit` is in seconds, and given only if the run was stopped because of it.
    """
    if time_limit is not None:
        return f"Timed out: the run was stopped after {time_limit:g} s (the server's --run-timeout)."
    if outcome is not None:
        return outcome.error
    if exit_.code == CANNOT_WRITE:
        return "The outcome of the run could not be written: there may be no room for its files."
    cause = f"ended with exit code {exit_.code}"
    if exit_.code < 0:
        try:
            cause = f"was killed by {signal.Signals(-exit_.code).name}"
        except ValueError:  # real-time signals have no name
            cause = f"was killed by signal {-exit_.code}"
    return f"The run's process {cause} before the notebook came to its end."


def read_run_files(working: Path) -> list[RunFile]:
    """The run files in the folder, oldest first, without damaged ones."""
    found = []
    paths = [path for path in regular_files(working) if path.parent == working and path.match("*.run.json")]
    for path in sorted(paths, key=lambda path: path.lstat().st_mtime_ns):
        try:
            content = json.loads(read_regular(path))
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(content, dict):
            found.append(_run_file(content))
    return found


def _run_file(content: dict[str, Any]) -> RunFile:
    task, model = content.get("taskVersion"), content.get("modelVersion")
    return RunFile(
        task=slugify(str((task.get("name") if isinstance(task, dict) else None) or "")),
        state=str(content.get("state") or ""),
        error=without_surrogates(str(content.get("errorMessage") or "")),
        model=str((model.get("slug") if isinstance(model, dict) else None) or ""),
        result=_result(content.get("results")),
        merged=any(_is_stub(part, task) for part in _dicts(content.get("subruns"))),
    )


def _result(results: Any) -> bool | float | None:
    """The only result of a run file, or the aggregated one of several."""
    found = _dicts(results)
    aggregated = [each for each in found if each.get("type") == "AGGREGATED"]
    if not (chosen := aggregated or found * (len(found) == 1)):
        return None
    result = chosen[0]
    if isinstance(numeric := result.get("numericResult"), dict):
        value = numeric.get("value", 0.0)  # the default value may be left out, as a false below
        return float(value) if isinstance(value, int | float) and _is_finite(value) else None
    return None if "dictResult" in result else bool(result.get("booleanResult"))


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number that no float holds
        return False


def _is_stub(part: dict[str, Any], task: Any) -> bool:
    """Whether a sub-run is all that is left of a run file of the same task that was merged."""
    own, other = (
        each.get("name") if isinstance(each, dict) else None for each in (task, part.get("taskVersion"))
    )
    return own == other and not part.get("startTime") and not part.get("conversations")


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


def result_of_run(slug: str, model: str, files: Sequence[RunFile]) -> bool | float | None:
    """The result of a completed run of task `slug` on `model`: of rows, the mean, or the share that passed.

    None if the task returned neither a boolean nor a number. It is what clients find in the output.
    """
    mine = [file for file in files if file.task == slug] or files
    mine = [file for file in mine if normalize_model(file.model) == model] or mine
    mine = [file for file in mine if file.merged][:1] or mine
    if len(mine) == 1:
        return mine[0].result
    values = [
        file.result for file in mine if file.result is not None and file.state != RunState.ERRORED.value
    ]
    # Among numbers, a boolean is none: an assertion failed.
    numbers = [value for value in values if not isinstance(value, bool)] or values
    return math.fsum(value / len(numbers) for value in numbers) if numbers else None


def judge_run(slug: str, outcome: Outcome, log: Path) -> tuple[RunState, str]:
    """The state of a run of task `slug`, and its error. The output of the notebook is in `log`."""
    if outcome.failure is not None:
        return RunState.ERRORED, _explain(outcome.failure, log)
    files = outcome.run_files
    if discarded := _explain_choice(slug, outcome):
        return RunState.ERRORED, discarded
    if not files:
        return RunState.ERRORED, _explain_not_stored(log) or NO_RUN_FILE
    mine = [file for file in files if file.task == slug]
    if not mine and (not_stored := _explain_not_stored(log)):
        return RunState.ERRORED, f"{_lacking(slug, files)} {not_stored}"
    # A task that is called otherwise when it runs has no run file of its own, so all of them count.
    mine = mine or files
    # Some rows of an .evaluate(on_failure="continue") may error, and the whole is still a result.
    if all(file.state == RunState.ERRORED.value for file in mine):
        message = mine[-1].error or "The task raised an error."
        return RunState.ERRORED, _explain(message, log)
    return RunState.COMPLETED, ""


def judge_creation(slug: str, outcome: Outcome, log: Path) -> tuple[CreationState, str]:
    """The state of a version of task `slug` whose notebook was run to validate it, and its error.

    The output of the notebook is in `log`.
    """
    if outcome.failure is not None:
        return CreationState.ERRORED, _explain(outcome.failure, log)
    files = outcome.run_files
    if discarded := _explain_choice(slug, outcome):
        state = CreationState.VALIDATION_FAILED if files else CreationState.KERNEL_WITHOUT_RUN
        return state, discarded
    if not files:
        # Clients cannot read the log of a creation, and its last lines may contain the reason. Ours comes last.
        last = "".join(f"  | {line}\n" for line in last_lines(log, 5).splitlines())
        error = _explain_not_stored(log) or NO_RUN_FILE
        error = f"The notebook said last:\n{last}{error}" if last else error
        return CreationState.KERNEL_WITHOUT_RUN, error
    mine = [file for file in files if file.task == slug]
    if not mine:
        not_stored = _explain_not_stored(log) or "Does it call .run(kbench.llm) or .evaluate(...) on it?"
        return CreationState.VALIDATION_FAILED, f"{_lacking(slug, files)} {not_stored}"
    if not any(file.model for file in mine):
        error = "The task was run without a model: pass one, as in .run(kbench.llm)."
        return CreationState.NO_MODEL_SPECIFIED, error
    if all(file.state == RunState.ERRORED.value for file in mine):
        message = mine[-1].error or "an error"
        explained = _explain(message, log)
        last = error_line(message) if explained == message else last_line(explained)
        return CreationState.COMPLETED, f"The task raised in its trial run: {last}"
    return CreationState.COMPLETED, ""


def _explain_choice(slug: str, outcome: Outcome) -> str | None:
    """Why the run of task `slug` is not among the run files, if it was removed by `%choose`."""
    files, choice = outcome.run_files, outcome.choice
    if choice is None or any(file.task == slug for file in files):
        return None
    if choice.kept is None and not files and choice.removed:
        removed = ", ".join(choice.removed)
        return (
            f"No task that is called {choice.word} has run, so the line `%choose {choice.word}` removed all runs "
            f"({removed}). Name the task to keep, or remove the line."
        )
    if choice.kept is not None and slug in map(slugify, choice.removed):
        return (
            f"The notebook keeps only the run of {slugify(choice.kept)}, because of the line "
            f"`%choose {choice.word}`, so the run of {slug} was discarded. "
            f"Push {slugify(choice.kept)} instead, or remove the line."
        )
    return None


def _lacking(slug: str, files: Sequence[RunFile]) -> str:
    found = ", ".join(sorted({file.task for file in files}))
    return f"The notebook left run files of {found}, but none of the task {slug}."


def _explain_not_stored(log: Path) -> str | None:
    """Why the SDK could not write a run file, and what it can; None if the log does not say so."""
    for line in last_lines(log, 1000).splitlines():
        if reason := reason_not_stored(line):
            return (
                f"The SDK could not write a run file: {reason}. "
                "Return a bool, a finite number, a dict, or a tuple of two numbers."
            )
    return None


def _explain(failure: str, log: Path) -> str:
    """Explain a failure in its last line, which is the one that lists show."""
    last = last_line(failure)
    if "MemoryError" in last:
        return f"{failure.rstrip()}\nMemoryError: the run reached the server's limit (--run-memory)."
    if missing := re.fullmatch(r"ModuleNotFoundError: No module named '([\w.]+)'", last):
        remedy = (
            "name its package in a `# /// script` block, or in the file of `fanbench serve --requirements`"
        )
        return f"{failure.rstrip()}\nThe module {missing[1]} is not installed here: {remedy}."
    if "No such file or directory: '/kaggle/" in last:
        notes = [line for line in last_lines(log, 1000).splitlines() if NO_KAGGLE_FOLDER in line]
        if notes:
            return f"{failure.rstrip()} ({notes[0].removeprefix('[fanbench] ').removesuffix('.')})"
        if "'/kaggle/input/" in last:
            return f"{failure.rstrip()} (only datasets that the push attached with -d are in /kaggle/input)"
    return failure
