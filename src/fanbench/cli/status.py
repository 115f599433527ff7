"""`fanbench tasks status`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from fanbench.cli.options import Settings, Verb, model_option, pass_settings
from fanbench.cli.records import RUN_FIELDS, run_record, task_record
from fanbench.cli.render import Output, format_time, red, table
from fanbench.cli.session import call

if TYPE_CHECKING:
    from fanbench.api.messages import Run, Task
    from fanbench.verbs import TaskStatus

__all__ = ["status"]


@click.command(cls=Verb)
@click.argument("task")
@model_option("Only the runs of this model; repeat it for several.")
@pass_settings
def status(settings: Settings, task: str, models: tuple[str, ...]) -> None:
    """Show a task's state and its runs, with the last line of each error.

    \b
    Examples:
      fanbench tasks status my-task
      fanbench tasks status owner/their-task -m gemini-2.5-pro
      fanbench tasks status my-task --format json
    """
    from fanbench import verbs

    found = call(settings, lambda client: verbs.task_status(client, task, models))
    out = settings.output
    if not out.plain:
        _show_records(out, found)
        return
    _show_task(out, found.task)
    if not found.runs:
        out.note(f"No runs yet. Start one with: {settings.command(f'tasks run {found.slug}')}")
        return
    _show_runs(out, found)
    out.note(f"\nView logs: {settings.command(f'tasks log {found.slug}')} [-m MODEL]")


def _show_records(out: Output, found: TaskStatus) -> None:
    """The whole as one object in JSON; line by line and in tables, the runs."""
    runs = [run_record(found.slug, run) for run in found.runs]
    if out.format == "json":
        out.record({**task_record(found.task), "runs": runs})
    else:
        out.rows(runs, RUN_FIELDS)


def _show_task(out: Output, task: Task) -> None:
    from fanbench.api.names import full_task_url
    from fanbench.verbs._tasks import creation_error, title_word

    out.text(f"Task:     {task.slug.task_slug}")
    out.text(f"Version:  {task.slug.version_number or 'unset'}")
    out.text(f"Status:   {title_word(task.creation_state)}")
    if error := creation_error(task):
        out.text(f"Error:    {error}")
    out.text(f"Created:  {format_time(task.create_time)}")
    out.text(f"Public:   {task.is_public}")
    if task.url:
        out.text(f"Task URL: {full_task_url(task.url)}")
    if task.options and task.options.dataset_data_sources:
        out.text(f"Datasets: {', '.join(task.options.dataset_data_sources)}")
    out.text()


def _show_runs(out: Output, found: TaskStatus) -> None:
    for line in table(("Model", "Status", "Started", "Ended"), _rows(found.runs), (20, 15, 19, 19)):
        out.text(line)
    if errored := [run for run in found.errored if run.error_message]:
        out.text(f"\n{red('Errors:', strong=True)}")
        for run in errored:
            out.text(_error_line(run))


def _rows(runs: Sequence[Run]) -> list[tuple[str, str, str, str]]:
    from fanbench.verbs._tasks import model_of, title_word

    return [
        (model_of(run), title_word(run.state), format_time(run.start_time), format_time(run.end_time))
        for run in runs
    ]


def _error_line(run: Run) -> str:
    from fanbench.verbs._tasks import model_of
    from fanbench.verbs.status import last_line

    return f"{red(f'  [{model_of(run)}]', strong=True)} {red(last_line(run.error_message))}"
