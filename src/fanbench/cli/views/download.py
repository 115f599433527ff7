"""What `fanbench tasks download` shows: a table per task that grows by a row per run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.output import format_size
from fanbench.cli.progress import Progress, Row, Verdict
from fanbench.cli.session import finish, split
from fanbench.cli.views.names import run_name
from fanbench.errors import FanbenchError, RunFailed
from fanbench.operations.download import DownloadReport, DownloadRow, DownloadsBegan, RowDone
from fanbench.operations.events import Downloading, Event, TaskFailed
from fanbench.operations.lookup import model_of

__all__ = ["FIELDS", "DownloadView"]

FIELDS = ("task", "run_id", "model", "path", "size", "outcome", "error")


class DownloadView:
    """On the progress display, downloads in progress are bars; all are counted."""

    def __init__(self, settings: Settings, *, several_tasks: bool) -> None:
        self.progress = Progress(settings.output, what="runs")
        self._settings = settings
        self._out = settings.output
        self._several_tasks = several_tasks
        self._received: dict[int, int] = {}
        # The widths of the columns: known before the first row, and wide enough for every run.
        self._widths: tuple[int, ...] = ()

    # --- While it runs ---

    def report(self, event: Event) -> None:
        match event:
            case DownloadsBegan(_, folder, runs):
                gap = "\n" if self._widths else ""
                self._out.note(f"{gap}{event.text}\nTarget directory:  {folder}/\n")
                models = [model_of(run) for run in runs]
                files = [f"{model}/{run.id}/" for model, run in zip(models, runs, strict=True)]
                self._widths = (max(20, *map(len, models)), max(40, *map(len, files)), 10, 10)
                self._out.table(("Model", "File", "Size", "Progress"), [], self._widths)
            case RowDone(row):
                cells = (row.model, f"{row.model}/{row.run.id}/", format_size(row.size), row.outcome)
                self._out.rows([cells], self._widths)
                if row.error is not None:
                    self._out.note(f"  {row.error}")
            case Downloading() if self.progress.shown:
                self._show_progress(event)
            case TaskFailed(_, error) if self._several_tasks:
                print_error(error)
            case _:
                pass

    def _show_progress(self, event: Downloading) -> None:
        if event.received is not None:
            self._received[event.run.id] = event.received
        name = run_name(event.slug, event.run, several_tasks=self._several_tasks)
        if event.outcome is not None:
            end: Verdict = "good" if event.outcome in ("Done", "Cached") else "bad"
            row = Row(name, event.outcome, group=event.slug, end=end, hidden=True)
        elif event.received is None:
            row = Row(name, "waiting", group=event.slug, hidden=True)
        else:
            of = f" of {format_size(event.total)}" if event.total is not None else ""
            share = event.received / event.total if event.total else 0.0
            row = Row(name, "downloading", event.slug, f"{format_size(event.received)}{of}", share)
        self.progress.show(event.run.id, row)
        self.progress.summary = format_size(sum(self._received.values()))

    # --- At the end ---

    def end(self, outcomes: Sequence[DownloadReport | FanbenchError]) -> None:
        reports, errors = split(outcomes)
        for report in reports:
            if not report.rows:
                self._show_nothing(report)
        self._out.records([_record(report, row) for report in reports for row in report.rows], FIELDS)
        rows = [row for report in reports for row in report.rows]
        if reports:
            ends = [row.outcome for row in rows]
            counts = (
                (ends.count("Done"), "downloaded"),
                (ends.count("Cached"), "cached"),
                (sum(row.error is not None for row in rows), "failed"),
            )
            summary = ", ".join(f"{number} run(s) {word}" for number, word in counts if number)
            self._out.text(f"\nDone: {summary or '0 runs downloaded'}.")
        if lacking := sum(row.lacks_source for row in rows):
            self._out.note(
                f"\nTip: {lacking} cached run(s) lack source notebooks. Run again with -f -s to fetch them."
            )
        finish(errors, len(outcomes), "tasks")
        if failed := [(report.slug, row) for report in reports for row in report.failed]:
            lines = [f"{len(failed)} of {len(rows)} run(s) could not be downloaded:"]
            for slug, row in failed:
                name = run_name(slug, row.run, several_tasks=self._several_tasks)
                lines.append(f"  {name} (Run {row.run.id}): {row.error}")
            raise RunFailed(
                "\n".join(lines),
                hint="Run the command again to download the rest; what is there is kept.",
            )

    def _show_nothing(self, report: DownloadReport) -> None:
        """Say why there is nothing to download of a task, and what to do."""
        if report.pending:
            status = self._settings.fanbench_command(f"tasks status {report.slug}")
            self._out.note(f"No downloadable runs yet — {report.pending} run(s) still in progress.")
            self._out.note(f"Check their status with: {status}")
        else:
            run = self._settings.fanbench_command(f"tasks run {report.slug}")
            self._out.note(f"No runs found for task '{report.slug}'.")
            self._out.note(f"Start one with: {run}")


def _record(report: DownloadReport, row: DownloadRow) -> dict[str, Any]:
    return {
        "task": report.slug,
        "run_id": row.run.id,
        "model": row.model,
        "path": str(row.path),
        "size": row.size,
        "outcome": row.outcome,
        "error": str(row.error) if row.error else None,
    }
