"""`fanbench tasks log`, also `logs`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fanbench._errors import FanbenchError
from fanbench.cli.options import Settings, Verb, model_option, pass_settings
from fanbench.cli.session import call, finish
from fanbench.cli.watching import Prefixes

if TYPE_CHECKING:
    from fanbench.api.messages import Run
    from fanbench.verbs import LogReport
    from fanbench.verbs.events import Event

__all__ = ["log"]


@click.command(cls=Verb)
@click.argument("task")
@model_option("Only the runs of this model; repeat it for several.")
@click.option(
    "--interleave/--no-interleave",
    default=None,
    help="Show all live logs together, each line behind its model (default on a terminal with several live runs).",
)
@click.option("--follow", is_flag=True, help="Wait for queued runs, too.")
@pass_settings
def log(
    settings: Settings, task: str, models: tuple[str, ...], interleave: bool | None, follow: bool
) -> None:
    """Show the logs of a task's runs, live where a run has not ended.

    All logs are read at the same time, whichever is on the screen. A stream that breaks is taken up again.

    \b
    Examples:
      fanbench tasks log my-task
      fanbench tasks log my-task -m gemini-2.5-pro
      fanbench tasks log my-task --follow --interleave
    """
    import sys

    from fanbench import verbs

    out = settings.output
    together = interleave if interleave is not None or (out.plain and sys.stdout.isatty()) else False
    view = _View(settings)
    report = call(
        settings,
        lambda client: verbs.show_logs(
            client, task, models, interleave=together, follow=follow, report=view.report
        ),
    )
    view.end(report, models)


class _View:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._out = settings.output
        self._prefixes = Prefixes()
        self._together = True
        self._open_line = False
        self._texts: dict[int, list[str]] = {}

    def report(self, event: Event) -> None:
        from fanbench.verbs.events import LogBegan, LogEnded, LogLine, LogText, PollFailed
        from fanbench.verbs.log import LogsBegan

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
            case LogEnded(run, lines, error):
                self._end(run, lines, error)
            case PollFailed(_, error):
                self._out.note(f"The server did not answer, asking again: {error}")
            case _:
                pass

    def _keep_or_show(self, run: Run, text: str) -> None:
        if self._out.plain:
            self._out.text(text, end=False)
        else:
            self._texts.setdefault(run.id, []).append(text)

    def _begin(self, run: Run) -> None:
        from fanbench.verbs._tasks import model_of, state_word

        self._together = self._open_line = False
        self._out.text(f"\n═══ Logs for {model_of(run)} (Run {run.id}) [{state_word(run.state)}] ═══")

    def _end(self, run: Run, lines: int, error: Exception | None) -> None:
        from fanbench._errors import ApiError, NotFound

        if self._open_line:
            self._out.text()
        if self._together and error is not None:
            self._out.note(self._prefixes.line(run, _no_log(error)))
        elif isinstance(error, NotFound) or (isinstance(error, ApiError) and not lines):
            self._out.note(f"  {_no_log(error)}")
        elif error is not None:
            self._out.note(f"  (The log broke off — {error})")
        if not self._together:
            self._out.text(f"═══ ({lines} lines) ═══")

    def end(self, report: LogReport, models: Sequence[str]) -> None:
        if not report.logs:
            of = f" for model(s) {', '.join(models)}" if models else ""
            start = self._settings.command(f"tasks run {report.slug}")
            self._out.note(f"No runs found for task '{report.slug}'{of}. Start one with: {start}")
        self._out.rows(self._records(report), _FIELDS)
        if report.logs:
            self._out.note(f"\nShowed logs for {len(report.logs)} run(s) across {report.models} model(s).")
        failed = [log.error for log in report.failed if isinstance(log.error, FanbenchError)]
        finish(failed, len(report.logs), "logs")

    def _records(self, report: LogReport) -> list[dict[str, Any]]:
        from fanbench.verbs._tasks import model_of, state_word

        return [
            {
                "task": report.slug,
                "run_id": log.run.id,
                "model": model_of(log.run),
                "state": state_word(log.run.state),
                "lines": log.lines,
                "text": "".join(self._texts.get(log.run.id, [])),
                "error": str(log.error) if log.error else None,
            }
            for log in report.logs
        ]


def _no_log(error: Exception) -> str:
    status = getattr(error, "status", None)
    return f"(No logs available — server returned {status})" if status else f"(No logs available — {error})"


_FIELDS = ("task", "run_id", "model", "state", "lines", "text", "error")
