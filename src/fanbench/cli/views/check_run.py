"""`fanbench check --run`: how the files ran, one line each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings
from fanbench.cli.commands.check import show_findings
from fanbench.cli.output import red
from fanbench.cli.session import call, until_sigterm

if TYPE_CHECKING:
    from fanbench.cli.commands.check import Checked
    from fanbench.cli.output import Output
    from fanbench.cli.progress import End
    from fanbench.client import Client
    from fanbench.errors import FanbenchError
    from fanbench.operations.check import Trial
    from fanbench.operations.events import Event
    from fanbench.results import RunResult

__all__ = ["FIELDS", "Wishes", "try_checked"]

#: One record for each task that a file recorded, or one for a file that recorded none.
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

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Wishes:
    model: str | None = None
    output: Path | None = None
    timeout: float | None = None
    allow_no_run: bool = False


def try_checked(settings: Settings, checked: Sequence[Checked], wishes: Wishes) -> bool:
    """Runs the files that have no error, and says how; whether all files were fine."""
    out = settings.output
    for item in checked:
        show_findings(out, item)
    trials = _try(settings, checked, wishes)
    records = [_refusal(item) for item in checked if item.refused]
    records += [record for item, outcome in trials for record in _records(item, outcome)]
    out.rows(records, FIELDS)
    return all(not isinstance(outcome, Exception) and outcome.ok for _, outcome in trials) and not any(
        item.refused for item in checked
    )


def _try(
    settings: Settings, checked: Sequence[Checked], wishes: Wishes
) -> list[tuple[Checked, Trial | FanbenchError]]:
    from fanbench._util.concurrency import InOrder
    from fanbench.operations.check import TIMEOUT, try_files

    good = [item for item in checked if item.file and not item.refused]
    if not good:
        return []
    view = _View(settings, good)
    in_order = InOrder(view.show)

    def done(index: int, outcome: Trial | FanbenchError) -> None:
        view.end(good[index], outcome)
        in_order(index, (good[index], outcome))

    async def run(client: Client) -> list[Trial | FanbenchError]:
        trials = partial(
            try_files,
            client,
            [item.file for item in good if item.file],
            model=wishes.model,
            output=wishes.output,
            timeout=wishes.timeout or TIMEOUT,
            limit=settings.concurrency,
            allow_no_run=wishes.allow_no_run,
            report=view.report,
            done=done,
        )
        return await view.display.around(until_sigterm(trials))

    return list(zip(good, call(settings, run), strict=True))


class _View:
    """Progress on stderr, one line a file on stdout, below it what a file that failed said last."""

    def __init__(self, settings: Settings, files: Sequence[Checked]) -> None:
        from fanbench.cli.progress import Display, Row

        self.display = Display(settings.output, what="files")
        self._out = settings.output
        self._live = settings.verbose
        self._width = max(len(str(item.path)) for item in files)
        for item in files:
            self.display.show(item.path, Row(str(item.path), "waiting", hidden=True))

    def report(self, event: Event) -> None:
        from fanbench.cli.progress import Row
        from fanbench.operations.check import TrialBegan, TrialLine

        match event:
            case TrialBegan(path, model) if self.display.shown:
                self.display.show(path, Row(str(path), "running", detail=model))
            case TrialBegan(path, model):
                self._out.note(f"{path}: running on {model}")
            case TrialLine(path, line) if self._live:
                click.echo(f"{click.style(f'{path!s:<{self._width}} |', fg='cyan')} {line}", err=True)
            case _:
                pass

    def end(self, item: Checked, outcome: Trial | FanbenchError) -> None:
        """From here on it is counted; its line comes when those before it have theirs."""
        from fanbench.cli.progress import Row

        state = "failed" if isinstance(outcome, Exception) else outcome.outcome
        end: End = "good" if state == "recorded" else "bad"
        self.display.show(item.path, Row(str(item.path), state, end=end, hidden=True))

    def show(self, ended: tuple[Checked, Trial | FanbenchError]) -> None:
        item, outcome = ended
        if isinstance(outcome, Exception):
            self._out.text(f"{item.path}: {red('error:')} {outcome}")
            if outcome.hint:
                self._out.text(f"  → {outcome.hint}")
            return
        self._out.text(f"{item.path}: {_line(outcome)}")
        if not outcome.ok:
            self._explain(outcome)
        if outcome.folder:
            self._out.note(f"  kept in {outcome.folder}")

    def _explain(self, trial: Trial) -> None:
        if fix := _FIXES.get(trial.outcome):
            self._out.text(f"  → {fix}")
        if not self._live:
            _show_tail(self._out, trial)


def _show_tail(out: Output, trial: Trial) -> None:
    for line in trial.tail[-_SHOWN:]:
        out.text(f"  | {line}")


_FIXES = {
    "nothing": "Call `.run(kbench.llm)` on the task where Python comes by when it runs the file.",
    "timed out": "--timeout SECONDS gives it more time.",
}


def _line(trial: Trial) -> str:
    what = "; ".join(_result(row) for row in trial.results)
    where = f"({trial.seconds:.1f} s, {trial.model})"
    if trial.ok:
        return f"recorded {what} {where}"
    return f"{red('error:')} {_reason(trial)}{f'; recorded {what}' if what else ''} {where}"


def _result(row: RunResult) -> str:
    """`red-fox: COMPLETED, 0.8 ± 0.1, assertions 3/4`; a pass has the share of its assertions already."""
    from fanbench.results.table import cell

    parts = [f"{row.task}: {row.state.label}"]
    if row.value is not None and not row.errored:
        parts.append(cell(row))
    if row.assertions_total and not isinstance(row.value, bool):
        parts.append(f"assertions {row.assertions_passed}/{row.assertions_total}")
    return ", ".join(parts)


def _reason(trial: Trial) -> str:
    match trial.outcome:
        case "timed out":
            return "it did not end in time"
        case "errored":
            errors = dict.fromkeys(row.error or "no reason given" for row in trial.results if row.errored)
            return f"it errored: {'; '.join(errors)}"
        case "nothing":
            tasks = f" of {', '.join(trial.missing)}" if trial.results else ""
            return f"it recorded nothing{tasks}: no *.run.json came out"
        case _:
            return _failure(trial)


def _failure(trial: Trial) -> str:
    if trial.exit_code < 0:
        return f"it was killed by signal {-trial.exit_code}"
    if trial.exit_code:
        last = next((line.strip() for line in reversed(trial.tail) if line.strip()), "")
        # Without a traceback, the last line is just something that the file said.
        reason = f": {last}" if any(line.startswith("Traceback (") for line in trial.tail) else ""
        return f"it ended with exit code {trial.exit_code}{reason}"
    return "; ".join(f"{problem.path.name}: {problem.what}" for problem in trial.problems)


# --- For programs -------------------------------------------------------------------------------------------


def _refusal(item: Checked) -> dict[str, Any]:
    errors = [finding.text(str(item.path)) for finding in item.findings if finding.level == "error"]
    return dict.fromkeys(FIELDS) | {"file": str(item.path), "outcome": "refused", "error": errors[0]}


def _records(item: Checked, outcome: Trial | FanbenchError) -> list[dict[str, Any]]:
    blank = dict.fromkeys(FIELDS) | {"file": str(item.path)}
    if isinstance(outcome, Exception):
        return [blank | {"outcome": "failed", "error": str(outcome)}]
    blank |= {
        "outcome": outcome.outcome,
        "model": outcome.model,
        "seconds": round(outcome.seconds, 3),
        "exit_code": outcome.exit_code,
        "error": None if outcome.ok else _reason(outcome),
        "folder": str(outcome.folder) if outcome.folder else None,
    }
    return [blank | _of_task(row) for row in outcome.results] or [blank]


def _of_task(row: RunResult) -> dict[str, Any]:
    from fanbench.results import to_record

    record = to_record(row)
    return {
        name: record[name] for name in ("task", "state", "value", "assertions_passed", "assertions_total")
    }
