"""`fanbench tasks status`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, Verb, model_option, pass_settings
from fanbench.cli.exits import say_error
from fanbench.cli.output import Output, format_time, red, table
from fanbench.cli.session import call, finish
from fanbench.cli.views.records import RUN_FIELDS, TASK_FIELDS, run_record, task_record
from fanbench.errors import FanbenchError

if TYPE_CHECKING:
    from fanbench.operations import TaskStatus
    from fanbench.operations.events import Event, Report
    from fanbench.wire.messages import Run, Task

    Outcomes = Sequence[TaskStatus | FanbenchError]

__all__ = ["FIELDS", "status"]

#: In JSON, of a task; elsewhere its runs are the rows.
FIELDS = (*TASK_FIELDS, "runs")


def _positive(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not value > 0:
        raise click.BadParameter("it must be more than 0 seconds.", ctx, param)
    return value


@click.command(cls=Verb)
@click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
@model_option("Only the runs of this model; repeat it for several.")
@click.option("--watch", is_flag=True, help="Keep it up to date until all runs have ended.")
@click.option(
    "--poll-interval",
    type=float,
    default=10.0,
    metavar="SECONDS",
    callback=_positive,
    help="With --watch: the longest pause between two looks (default: 10; they begin at 1).",
)
@pass_settings
def status(
    settings: Settings,
    task_names: tuple[str, ...],
    models: tuple[str, ...],
    watch: bool,
    poll_interval: float,
) -> None:
    """Show the state of tasks and of their runs, with the last line of each error.

    With --watch it stays on the screen and changes with them, and ends when every run has ended. Elsewhere
    than on a terminal each change is a line on stderr, and the last state is printed at the end.

    \b
    Examples:
      fanbench tasks status my-task
      fanbench tasks status first-task second-task --watch
      fanbench tasks status owner/their-task -m gemini-2.5-pro
      fanbench tasks status my-task --format json
    """
    from fanbench import operations

    if watch:
        outcomes = _watched(settings, task_names, models, poll_interval)
    else:
        outcomes = call(settings, lambda client: operations.task_statuses(client, task_names, models))
    _show(settings, outcomes)


def _show(settings: Settings, outcomes: Outcomes) -> None:
    out, shown = settings.output, False
    for outcome in outcomes:
        if not isinstance(outcome, FanbenchError):
            if shown:
                out.text()
            _show_task(settings, outcome)
            shown = True
        elif len(outcomes) > 1:
            say_error(outcome)
    _show_records(out, outcomes)
    finish([outcome for outcome in outcomes if isinstance(outcome, FanbenchError)], len(outcomes), "tasks")


def _show_records(out: Output, outcomes: Outcomes) -> None:
    """In JSON the tasks with their runs; line by line and in tables, the runs."""
    found = [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]
    if out.format == "json":
        out.one_or_rows([_record(one) for one in found], FIELDS, one=len(outcomes) == 1)
    else:
        out.rows([run_record(one.slug, run) for one in found for run in one.runs], RUN_FIELDS)


def _record(found: TaskStatus) -> dict[str, Any]:
    return {**task_record(found.task), "runs": [run_record(found.slug, run) for run in found.runs]}


def _show_task(settings: Settings, found: TaskStatus) -> None:
    out = settings.output
    for line in _lines(found):
        out.text(line)
    if not out.plain:
        return
    if found.runs:
        out.note(f"\nView logs: {settings.command(f'tasks log {found.slug}')} [-m MODEL]")
    else:
        out.note(f"No runs yet. Start one with: {settings.command(f'tasks run {found.slug}')}")


# --- What is shown of a task -----------------------------------------------------------------------------------


def _lines(found: TaskStatus) -> Iterator[str]:
    yield from _task_lines(found.task)
    yield ""
    if found.runs:
        yield from _run_lines(found)


def _task_lines(task: Task) -> Iterator[str]:

    from fanbench.wire.slugs import full_task_url

    yield f"Task:     {task.slug.task_slug}"
    yield f"Version:  {task.slug.version_number or 'unset'}"
    yield f"Status:   {task.creation_state.label.title()}"
    if error := task.failure:
        yield f"Error:    {error}"
    yield f"Created:  {format_time(task.create_time)}"
    yield f"Public:   {task.is_public}"
    if task.url:
        yield f"Task URL: {full_task_url(task.url)}"
    if task.options and task.options.dataset_data_sources:
        yield f"Datasets: {', '.join(task.options.dataset_data_sources)}"


def _run_lines(found: TaskStatus) -> Iterator[str]:
    yield from table(("Model", "Status", "Started", "Ended"), _rows(found.runs), (20, 15, 19, 19))
    if errored := [run for run in found.errored if run.error_message]:
        yield f"\n{red('Errors:', strong=True)}"
        yield from map(_error_line, errored)


def _rows(runs: Sequence[Run]) -> list[tuple[str, str, str, str]]:
    from fanbench.operations.lookup import model_of

    return [
        (model_of(run), run.state.label.title(), format_time(run.start_time), format_time(run.end_time))
        for run in runs
    ]


def _error_line(run: Run) -> str:
    from fanbench._util.text import last_line
    from fanbench.operations.lookup import model_of

    return f"{red(f'  [{model_of(run)}]', strong=True)} {red(last_line(run.error_message))}"


# --- Watching ------------------------------------------------------------------------------------------------


def _watched(
    settings: Settings, task_names: Sequence[str], models: Sequence[str], poll_interval: float
) -> Outcomes:
    from fanbench import operations
    from fanbench.operations.batch import unique_slugs

    with ExitStack() as screen:
        live = settings.output.plain and sys.stdout.isatty()
        report = (
            _redraw(settings, unique_slugs(task_names), screen) if live else _ChangeLines(settings).report
        )
        return call(
            settings,
            lambda client: operations.watch_tasks(
                client, task_names, models, poll_interval=poll_interval, report=report
            ),
        )


def _redraw(settings: Settings, slugs: Sequence[str], screen: ExitStack) -> Report:
    """A report that keeps the tasks on the screen as they are now, until `screen` is closed.

    An interrupt leaves them there, as they were last.
    """
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from fanbench.operations.events import PollFailed
    from fanbench.operations.status import StatusSeen

    seen: dict[str, str] = {}

    def text(*more: str) -> str:
        return "\n\n".join([*(seen[slug] for slug in slugs if slug in seen), *more])

    @screen.push
    def keep(kind: type[BaseException] | None, *_: object) -> None:
        if kind is KeyboardInterrupt:
            settings.output.text(text(), end=False)

    console = Console(no_color=settings.no_color or None, highlight=False)
    live = screen.enter_context(Live(console=console, auto_refresh=False, transient=True))

    def draw(*trouble: str) -> None:
        live.update(Text.from_ansi(text(*trouble), no_wrap=True, overflow="ellipsis"), refresh=True)

    def report(event: Event) -> None:
        match event:
            case StatusSeen(status):
                seen[status.slug] = "\n".join(_lines(status))
                draw()
            case PollFailed():
                draw(event.text)
            case _:
                pass

    return report


class _ChangeLines:
    """A line a change, for pipes and files."""

    def __init__(self, settings: Settings) -> None:
        self._out = settings.output

    def report(self, event: Event) -> None:
        from fanbench.operations.events import CreationPolled, PollFailed, RunChanged

        match event:
            case CreationPolled() | RunChanged() | PollFailed():
                self._out.note(f"  {event.text}")
            case _:
                pass
