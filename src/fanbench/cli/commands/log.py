"""`fanbench tasks log`, also `logs`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, Verb, model_option, pass_settings
from fanbench.cli.exits import say_error
from fanbench.cli.session import call, finish
from fanbench.cli.views.waiting import Prefixes
from fanbench.errors import FanbenchError

if TYPE_CHECKING:
    from fanbench.operations import LogReport
    from fanbench.operations.events import Event, LogEnded
    from fanbench.wire.messages import Run

__all__ = ["FIELDS", "log"]


@click.command(cls=Verb)
@click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
@model_option("Only the runs of this model; repeat it for several.")
@click.option(
    "--interleave/--no-interleave",
    default=None,
    help="Show all live logs together, each line behind its model (default on a terminal with several live runs).",
)
@click.option("--follow", is_flag=True, help="Wait for queued runs, too.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep each complete log, too: DIR/TASK/VERSION/MODEL/RUN/run.log.",
)
@pass_settings
def log(
    settings: Settings,
    task_names: tuple[str, ...],
    models: tuple[str, ...],
    interleave: bool | None,
    follow: bool,
    output: Path | None,
) -> None:
    """Show the logs of tasks' runs, live where a run has not ended.

    All logs are read at the same time, whichever is on the screen. A stream that breaks is taken up again,
    with no line lost or doubled. A run that is still queued has no log yet; with --follow it is waited for.

    \b
    Examples:
      fanbench tasks log my-task
      fanbench tasks log my-task -m gemini-2.5-pro
      fanbench tasks log my-task --follow --interleave
      fanbench tasks log first-task second-task -q -o logs > /dev/null
    """
    import sys

    from fanbench import operations

    out = settings.output
    together = interleave if interleave is not None or (out.plain and sys.stdout.isatty()) else False
    view = _View(settings, several_tasks=len(set(task_names)) > 1)
    outcomes = call(
        settings,
        lambda client: view.display.around(
            operations.show_logs(
                client,
                task_names,
                models,
                interleave=together,
                follow=follow,
                output=output,
                report=view.report,
            )
        ),
    )
    view.end(outcomes, models, output)


class _View:
    def __init__(self, settings: Settings, *, several_tasks: bool) -> None:
        from fanbench.cli.progress import Display
        from fanbench.cli.views.waiting import LogRows

        self.display = Display(settings.output, what="logs")
        self._rows = LogRows(self.display, several_tasks=several_tasks)
        self._settings = settings
        self._out = settings.output
        self._several_tasks = several_tasks
        self._prefixes = Prefixes(several_tasks=several_tasks)
        self._together = True
        self._open_line = False
        self._texts: dict[int, list[str]] = {}

    def report(self, event: Event) -> None:
        from fanbench.operations.events import LogBegan, LogEnded, LogLine, LogText, PollFailed, TaskFailed
        from fanbench.operations.task_logs import LogsBegan

        self._rows.report(event)
        match event:
            case LogsBegan(_, runs):
                self._prefixes.add(*runs)
            case LogBegan(run):
                self._begin(run)
            case LogText(run, text):
                self._open_line = not text.endswith("\n")
                self._keep_or_show(run, text)
            case LogLine(run, line) if self._out.plain:
                self._out.text(self._prefixes.line(run, line))
            case LogLine(run, line):
                self._keep_or_show(run, f"{line}\n")
            case LogEnded():
                self._end(event)
            case PollFailed():
                self._out.note(event.text)
            case TaskFailed(_, error) if self._several_tasks:
                say_error(error)
            case _:
                pass

    def _keep_or_show(self, run: Run, text: str) -> None:
        if self._out.plain:
            self._out.text(text, end=False)
        else:
            self._texts.setdefault(run.id, []).append(text)

    def _begin(self, run: Run) -> None:
        from fanbench.operations.lookup import model_of

        self._together = self._open_line = False
        task = f"{run.task_slug.task_slug} " if self._several_tasks else ""
        self._out.text(f"\n═══ Logs for {task}{model_of(run)} (Run {run.id}) [{run.state.label}] ═══")

    def _end(self, event: LogEnded) -> None:
        if self._open_line:
            self._out.text()
        if self._together and event.error is not None:
            self._out.note(self._prefixes.line(event.run, _no_log(event.error)))
        elif event.error is not None:
            self._out.note(f"  {event.text}")
        if not self._together:
            self._out.text(f"═══ ({event.lines} lines) ═══")

    def end(
        self, outcomes: Sequence[LogReport | FanbenchError], models: Sequence[str], output: Path | None
    ) -> None:
        reports = [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]
        for report in reports:
            if not report.logs:
                self._say_no_runs(report.slug, models)
        self._out.rows([row for report in reports for row in self._records(report)], FIELDS)
        self._say_summary(reports, output)
        errors = [outcome for outcome in outcomes if isinstance(outcome, FanbenchError)]
        finish(errors, len(outcomes), "tasks")
        failed = [log.error for report in reports for log in report.failed if log.error]
        finish(failed, sum(len(report.logs) for report in reports), "logs")

    def _say_no_runs(self, slug: str, models: Sequence[str]) -> None:
        of = f" for model(s) {', '.join(models)}" if models else ""
        start = self._settings.command(f"tasks run {slug}")
        self._out.note(f"No runs found for task '{slug}'{of}. Start one with: {start}")

    def _say_summary(self, reports: Sequence[LogReport], output: Path | None) -> None:
        from fanbench.operations.lookup import model_of

        logs = [log for report in reports for log in report.logs]
        if not logs:
            return
        models = len({model_of(log.run) for log in logs})
        self._out.note(f"\nShowed logs for {len(logs)} run(s) across {models} model(s).")
        if output is not None:
            kept = sum(log.path is not None for log in logs)
            self._out.note(f"Kept {kept} complete log(s) in {output}/")

    def _records(self, report: LogReport) -> list[dict[str, Any]]:
        from fanbench.operations.lookup import model_of

        return [
            {
                "task": report.slug,
                "run_id": log.run.id,
                "model": model_of(log.run),
                "state": log.run.state.label,
                "lines": log.lines,
                "text": "".join(self._texts.get(log.run.id, [])),
                "path": str(log.path) if log.path else None,
                "error": str(log.error) if log.error else None,
            }
            for log in report.logs
        ]


def _no_log(error: Exception) -> str:
    status = getattr(error, "status", None)
    return f"(No logs available — server returned {status})" if status else f"(No logs available — {error})"


FIELDS = ("task", "run_id", "model", "state", "lines", "text", "path", "error")
