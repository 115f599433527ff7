"""`fanbench check FILE…`: what a push would refuse, and what it would let through to fail in silence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench._errors import TaskFileError
from fanbench.cli.options import Settings, Verb, pass_settings

if TYPE_CHECKING:
    from fanbench.cli.render import Output
    from fanbench.tasks import Finding, TaskDefinition

__all__ = ["check"]

FIELDS = ("file", "line", "column", "level", "rule", "message", "fix")


@click.command(cls=Verb)
@click.argument("files", nargs=-1, required=True, metavar="FILE…", type=click.Path(path_type=Path))
@click.option("--allow-no-run", is_flag=True, help="Let tasks pass that nothing runs.")
@pass_settings
def check(settings: Settings, files: tuple[Path, ...], allow_no_run: bool) -> None:
    """Say what is wrong with task files, without running them. Exit 1 if a push would refuse one.

    Every finding stands on a line of its own, FILE:LINE:COLUMN: error|warning: MESSAGE, with what to write
    instead below it.

    \b
    Examples:
      fanbench check my_task.py
      fanbench check tasks/*.py --format jsonl
    """
    output = settings.output
    checked = [(path, *_check(path, allow_no_run=allow_no_run)) for path in files]
    for path, tasks, findings in checked:
        _show(output, path, tasks, findings)
    output.rows([_record(path, finding) for path, _, found in checked for finding in found], FIELDS)
    if any(finding.level == "error" for _, _, found in checked for finding in found):
        raise click.exceptions.Exit(1)


def _check(path: Path, *, allow_no_run: bool) -> tuple[Sequence[TaskDefinition], Sequence[Finding]]:
    from fanbench.tasks import Finding, read_task_file

    try:
        file = read_task_file(path)
    except TaskFileError as error:
        return (), (Finding("error", error.message, error.line, error.column, error.hint, "unreadable"),)
    errors = file.errors(allow_no_run=allow_no_run)
    findings = [finding for finding in file.findings if finding.level == "warning" or finding in errors]
    return file.pushable, findings


def _show(output: Output, path: Path, tasks: Sequence[TaskDefinition], findings: Sequence[Finding]) -> None:
    for finding in findings:
        output.text(finding.text(str(path)))
        if finding.fix:
            output.text(f"  → {finding.fix}")
    if not any(finding.level == "error" for finding in findings):
        output.text(f"{path}: ok, tasks: {', '.join(task.slug for task in tasks)}")


def _record(path: Path, finding: Finding) -> dict[str, object]:
    return {"file": str(path)} | {field: getattr(finding, field) for field in FIELDS[1:]}
