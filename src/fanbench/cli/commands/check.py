"""`fanbench check FILE…`: what a push would refuse, and what it would let through to fail in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.errors import TaskFileError, UsageError

if TYPE_CHECKING:
    from fanbench.cli.output import Output
    from fanbench.tasks import Finding, TaskFile

__all__ = ["Checked", "check", "show_findings"]

FIELDS = ("file", "line", "column", "level", "rule", "message", "fix")

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(cls=Verb)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--allow-no-run", is_flag=True, help="Let tasks pass that nothing runs.")
@click.option("--run", "run_", is_flag=True, help="Run the files too, with the real SDK, on one model.")
@click.option("-m", "--model", metavar="MODEL", help="With --run: the model (default: the server's).")
@click.option(
    "-o", "--output", type=_FOLDER, metavar="DIR", help="With --run: keep what the files leave below DIR."
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True, max=1e9),
    metavar="SECONDS",
    help="With --run: the most that a file may take (default: 600).",
)
@pass_settings
def check(
    settings: Settings,
    files: tuple[Path, ...],
    allow_no_run: bool,
    run_: bool,
    model: str | None,
    output: Path | None,
    timeout: float | None,
) -> None:
    """Say what is wrong with task files. Exit 1 if a push would refuse one.

    Every finding stands on a line of its own, FILE:LINE:COLUMN: error|warning: MESSAGE, with what to write
    instead below it. Nothing is run.

    With --run, each file without an error is then run as `python FILE` would, several at a time, in an empty
    folder, on fresh Model Proxy credentials of the server; a .env file does not count. A file must end well
    and leave a *.run.json of each of its tasks. The output of one that does not is shown; with -v, every
    line of all as it comes.

    \b
    Examples:
      fanbench check my_task.py
      fanbench check tasks/*.py --format jsonl
      fanbench check my_task.py --run --local
      fanbench check tasks/*.py --run -m gemini-2.5-flash --timeout 120 -o trials
    """
    if timeout is not None and not timeout > 0:  # NaN passes the range
        raise UsageError("--timeout must be more than 0 seconds.")
    if not run_ and (model or output or timeout):
        raise UsageError("-m, -o and --timeout are for a run of the files.", hint="Add --run.")
    checked = [_check(path, allow_no_run=allow_no_run) for path in files]
    if run_:
        from fanbench.cli.views.check_run import Wishes, try_checked

        good = try_checked(settings, checked, Wishes(model, output, timeout, allow_no_run))
    else:
        good = _show(settings.output, checked)
    if not good:
        raise click.exceptions.Exit(1)


@dataclass(frozen=True, slots=True)
class Checked:
    """A file and what there is to say about it; `file` is `None` where it cannot be read."""

    path: Path
    file: TaskFile | None
    findings: Sequence[Finding]

    @property
    def refused(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)


def _check(path: Path, *, allow_no_run: bool) -> Checked:
    from fanbench.tasks import Finding, read_task_file

    try:
        file = read_task_file(path)
    except TaskFileError as error:
        finding = Finding("error", error.message, error.line, error.column, error.hint, "unreadable")
        return Checked(path, None, (finding,))
    errors = file.errors(allow_no_run=allow_no_run)
    findings = [finding for finding in file.findings if finding.level == "warning" or finding in errors]
    return Checked(path, file, findings)


def _show(output: Output, checked: Sequence[Checked]) -> bool:
    """Whether a push would take all."""
    for item in checked:
        show_findings(output, item)
        if item.file and not item.refused:
            output.text(f"{item.path}: ok, tasks: {', '.join(task.slug for task in item.file.pushable)}")
    output.rows([_record(item.path, finding) for item in checked for finding in item.findings], FIELDS)
    return not any(item.refused for item in checked)


def show_findings(output: Output, checked: Checked) -> None:
    for finding in checked.findings:
        output.text(finding.text(str(checked.path)))
        if finding.fix:
            output.text(f"  → {finding.fix}")


def _record(path: Path, finding: Finding) -> dict[str, object]:
    return {"file": str(path)} | {field: getattr(finding, field) for field in FIELDS[1:]}
