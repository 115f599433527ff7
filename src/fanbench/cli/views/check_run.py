"""What `fanbench check --run` shows: one line per file, and below it the output of a file that failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from fanbench._util.concurrency import InOrder
from fanbench._util.text import error_line, many
from fanbench.cli.command import Settings
from fanbench.cli.output import red
from fanbench.cli.progress import Progress, Row, Verdict
from fanbench.cli.session import call, until_sigterm
from fanbench.cli.views.check import CheckedFile, print_findings
from fanbench.client import Client
from fanbench.errors import FanbenchError, TaskFileError, place_text
from fanbench.operations.check import TIMEOUT, Trial, TrialBegan, TrialLine, TrialNote, try_files
from fanbench.operations.events import Event
from fanbench.results import RunResult, to_record
from fanbench.results.table import cell

__all__ = ["FIELDS", "run_files"]

#: One record per task that a file recorded, or one for a file that recorded none.
FIELDS = (
    "file",
    "outcome",
    "task",
    "model",
    "state",
    "value",
    "assertions_passed",
    "assertions_total",
    "seconds",
    "exit_code",
    "error",
    "folder",
)
_TASK_FIELDS = ("task", "state", "value", "assertions_passed", "assertions_total")

# Of the output of a file that failed, this many last lines are shown.
_TAIL = 20

_FIXES = {
    "nothing": "Call `.run(kbench.llm)` on the task at the top level of the file.",
    "timed out": "Use --timeout SECONDS to allow more time.",
}
_NOT_STORED = "Return a bool, a finite number, a dict, or a tuple of two numbers."


def run_files(
    settings: Settings,
    checked: Sequence[CheckedFile],
    model: str | None,
    judge: str | None,
    output: Path | None,
    timeout: float | None,
    *,
    allow_no_run: bool,
    datasets: Mapping[str, Path],
) -> bool:
    """Run the files without errors, show how they ran, and return whether every file passed."""
    for item in checked:
        print_findings(settings.output, item)
    records: list[dict[str, Any]] = []
    for item in checked:
        if item.refused:
            error = next(each.text(str(item.path)) for each in item.findings if each.level == "error")
            refused = {"file": str(item.path), "outcome": "refused", "error": error}
            records.append(dict.fromkeys(FIELDS) | refused)
    passed = not records
    good = [item for item in checked if item.file and not item.refused]
    if good:
        view = _View(settings, good)

        async def run(client: Client) -> list[Trial | FanbenchError]:
            trials = partial(
                try_files,
                client,
                [item.file for item in good if item.file],
                model=model,
                judge=judge,
                output=output,
                timeout=timeout or TIMEOUT,
                limit=settings.concurrency,
                allow_no_run=allow_no_run,
                datasets=datasets,
                data=settings.data,
                emit=view.report,
                done=view.done,
            )
            return await until_sigterm(trials)

        try:
            outcomes = call(settings, run, view.progress)
        except KeyboardInterrupt as interrupt:
            view.add_note(interrupt)
            raise
        for item, outcome in zip(good, outcomes, strict=True):
            records += _records(item.path, outcome)
            passed = passed and not isinstance(outcome, Exception) and outcome.ok
    settings.output.records(records, FIELDS)
    return passed


class _View:
    def __init__(self, settings: Settings, files: Sequence[CheckedFile]) -> None:
        self.progress = Progress(settings.output, what="files")
        self._out = settings.output
        self._live = settings.verbose
        self._files = files
        self._ended = 0
        self._width = max(len(str(item.path)) for item in files)
        self._show_in_order = InOrder[tuple[Path, Trial | FanbenchError]](self._show)
        for item in files:
            self.progress.show(item.path, Row(str(item.path), "waiting", hidden=True))

    def report(self, event: Event) -> None:
        match event:
            case TrialBegan(path, model) if self.progress.shown:
                self.progress.show(path, Row(str(path), "running", detail=model))
            case TrialBegan(path, model):
                self._out.note(f"{path}: running on {model}")
            case TrialNote(path, text) if self.progress.shown:
                self.progress.show(path, Row(str(path), "preparing", detail=text))
            case TrialNote(path, text):
                self._out.note(f"{path}: {text}")
            case TrialLine(path, line) if self._live:
                click.echo(f"{click.style(f'{path!s:<{self._width}} |', fg='cyan')} {line}", err=True)
            case _:
                pass

    def add_note(self, interrupt: KeyboardInterrupt) -> None:
        """Say that the runs end with the command, and how many files it tried."""
        if not self._out.quiet:
            number = f"{self._ended} of {many(len(self._files), 'file')}"
            interrupt.add_note(f"Interrupted after {number}. What was running has been stopped.")

    def done(self, index: int, outcome: Trial | FanbenchError) -> None:
        """Count the file as ended; its line is printed after those of the files before it."""
        path = self._files[index].path
        self._ended += 1
        state = "failed" if isinstance(outcome, Exception) else outcome.outcome
        end: Verdict = "good" if state == "recorded" else "bad"
        self.progress.show(path, Row(str(path), state, end=end, hidden=True))
        self._show_in_order(index, (path, outcome))

    def _show(self, ended: tuple[Path, Trial | FanbenchError]) -> None:
        path, outcome = ended
        if isinstance(outcome, Exception):
            if isinstance(outcome, TaskFileError):
                place = place_text(str(path), outcome.cell, outcome.line, outcome.column)
                self._out.text(f"{place}: {red('error:')} {outcome.message}")
            else:
                self._out.text(f"{path}: {red('error:')} {outcome}")
            if outcome.hint:
                self._out.text(f"  → {outcome.hint}")
            return
        results = "; ".join(_result(row) for row in outcome.results)
        recorded = f"recorded {results}" if results or outcome.ok else ""
        if not outcome.ok:
            reason = f"{red('error:')} {_reason(outcome)}"
            recorded = f"{reason}; {recorded}" if recorded else reason
        self._out.text(f"{path}: {recorded} ({outcome.seconds:.1f} s, {outcome.model})")
        if not outcome.ok:
            if fix := _NOT_STORED if outcome.not_stored else _FIXES.get(outcome.outcome):
                self._out.text(f"  → {fix}")
            for line in () if self._live else outcome.tail[-_TAIL:]:
                self._out.text(f"  | {line}")
        if outcome.folder:
            self._out.note(f"  kept in {outcome.folder}")


def _result(row: RunResult) -> str:
    """`red-fox: COMPLETED, 0.8 ± 0.1, assertions 3/4`; a pass already includes its share of assertions."""
    parts = [f"{row.task}: {row.state.label}"]
    if row.value is not None and not row.errored:
        parts.append(cell(row))
    if row.assertions_total and not isinstance(row.value, bool):
        parts.append(f"assertions {row.assertions_passed}/{row.assertions_total}")
    return ", ".join(parts)


def _reason(trial: Trial) -> str:
    """Why a file failed."""
    match trial.outcome:
        case "timed out":
            return "it did not end in time"
        case "errored":
            errors = dict.fromkeys(row.error or "no reason given" for row in trial.results if row.errored)
            return f"it errored: {'; '.join(errors)}"
        case "nothing" | "failed" if trial.not_stored:
            tasks = f" for {', '.join(trial.missing)}" if trial.missing else ""
            return f"the SDK could not write a run file{tasks}: {trial.not_stored}"
        case "nothing":
            tasks = f" for {', '.join(trial.missing)}" if trial.results else ""
            return f"it recorded nothing{tasks}: it wrote no *.run.json"
        case _ if trial.exit_code < 0:
            return f"it was killed by signal {-trial.exit_code}"
        case _ if trial.exit_code:
            # Without a traceback, the last line is not about the failure. The beginning of a long one is cut off.
            traced = any(line.startswith(("Traceback (", '  File "')) for line in trial.tail)
            code = f"it ended with exit code {trial.exit_code}"
            return code + ": " + error_line("\n".join(trial.tail)) if traced else code
        case _:
            return "; ".join(f"{problem.path.name}: {problem.what}" for problem in trial.problems)


def _records(path: Path, outcome: Trial | FanbenchError) -> list[dict[str, Any]]:
    record = dict.fromkeys(FIELDS) | {"file": str(path)}
    if isinstance(outcome, Exception):
        return [record | {"outcome": "failed", "error": str(outcome)}]
    record |= {
        "outcome": outcome.outcome,
        "model": outcome.model,
        "seconds": round(outcome.seconds, 3),
        "exit_code": outcome.exit_code,
        "error": None if outcome.ok else _reason(outcome),
        "folder": str(outcome.folder) if outcome.folder else None,
    }
    tasks = [to_record(row) for row in outcome.results]
    return [record | {name: task[name] for name in _TASK_FIELDS} for task in tasks] or [record]
