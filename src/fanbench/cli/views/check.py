"""What `fanbench check` shows: one line per finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fanbench.cli.output import Output
from fanbench.cli.progress import Progress, Row
from fanbench.errors import TaskFileError
from fanbench.tasks import Finding, TaskFile, read_task_file

__all__ = ["FIELDS", "CheckedFile", "check_files", "print_findings", "show_findings"]

FIELDS = ("file", "cell", "line", "column", "level", "rule", "task", "message", "fix")


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """A file and its findings; `file` is None if it cannot be read."""

    path: Path
    file: TaskFile | None
    findings: Sequence[Finding]

    @property
    def refused(self) -> bool:
        return any(finding.level == "error" for finding in self.findings)


def check_files(
    out: Output, paths: Sequence[Path], *, allow_no_run: bool, datasets: Sequence[str]
) -> list[CheckedFile]:
    """Check the files as a push with these datasets would. A terminal shows the file that takes long."""
    checked = []
    with Progress(out) as progress:
        for path in paths:
            progress.show("", Row(f"Checking {path}"))
            checked.append(_check_file(path, allow_no_run=allow_no_run, datasets=datasets))
    return checked


def _check_file(path: Path, *, allow_no_run: bool, datasets: Sequence[str]) -> CheckedFile:
    try:
        file = read_task_file(path, with_imports=True, datasets=datasets)
    except TaskFileError as error:
        finding = Finding(
            "error", error.message, error.line, error.column, error.hint, "unreadable", cell=error.cell
        )
        return CheckedFile(path, None, (finding,))
    errors = file.errors(allow_no_run=allow_no_run)
    findings = [finding for finding in file.findings if finding.level == "warning" or finding in errors]
    return CheckedFile(path, file, findings)


def show_findings(out: Output, checked: Sequence[CheckedFile]) -> bool:
    """Show all findings, and return whether a push would accept every file."""
    for item in checked:
        print_findings(out, item)
        if item.file and not item.refused:
            helpers = ", ".join(task.slug for task in item.file.helpers)
            tasks = ", ".join(task.slug for task in item.file.pushable) or "none"
            out.text(f"{item.path}: ok, tasks: {tasks}" + (f"; helpers: {helpers}" if helpers else ""))
    records = [
        {"file": str(item.path)} | {field: getattr(finding, field) for field in FIELDS[1:]}
        for item in checked
        for finding in item.findings
    ]
    out.records(records, FIELDS)
    return not any(item.refused for item in checked)


def print_findings(out: Output, checked: CheckedFile) -> None:
    for finding in checked.findings:
        out.text(finding.text(str(checked.path)))
        if finding.fix:
            out.text(f"  → {finding.fix}")
