"""What `fanbench tasks status` shows, once or until all runs have ended."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from types import TracebackType

import click

from fanbench._util.text import draw_table, error_line, result_text
from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.output import format_time, red
from fanbench.cli.progress import Display, render
from fanbench.cli.session import call, finish, split
from fanbench.cli.views.records import RUN_FIELDS, TASK_FIELDS, run_record, task_record
from fanbench.errors import FanbenchError
from fanbench.operations.batch import unique_slugs
from fanbench.operations.events import CreationPolled, Event, PollFailed, RunChanged
from fanbench.operations.lookup import model_of
from fanbench.operations.status import StatusSeen, TaskStatus, watch_tasks
from fanbench.wire.messages import Run, RunState
from fanbench.wire.slugs import full_task_url

__all__ = ["FIELDS", "show_changes", "show_results", "show_statuses"]

#: The fields of a task in JSON. In the other formats, its runs are the records.
FIELDS = (*TASK_FIELDS, "runs")


def show_statuses(settings: Settings, outcomes: Sequence[TaskStatus | FanbenchError]) -> None:
    out = settings.output
    found, errors = split(outcomes)
    for outcome in outcomes:
        if isinstance(outcome, FanbenchError):
            if len(outcomes) > 1:
                print_error(outcome)
            continue
        if outcome is not found[0]:
            out.text()
        for line in _lines(outcome):
            out.text(line)
        if out.for_people:
            nothing = f"Version {outcome.earlier + 1} has no runs yet" if outcome.earlier else "No runs yet"
            out.note(
                f"\nView logs: {settings.fanbench_command(f'tasks log {outcome.slug}')} [-m MODEL]"
                if outcome.runs
                else f"{nothing}. Start one with: {settings.fanbench_command(f'tasks run {outcome.slug}')}"
            )
        if outcome.earlier:
            command = settings.fanbench_command(f"tasks status {outcome.slug} --version {outcome.earlier}")
            out.note(f"Version {outcome.earlier} has runs: {command}")
    runs = [(one, [run_record(one.slug, run) for run in one.runs]) for one in found]
    if out.format.nested:
        records = [{**task_record(one.task), "runs": own} for one, own in runs]
        out.records(records, FIELDS, single=len(outcomes) == 1)
    else:
        out.records([record for _, own in runs for record in own], RUN_FIELDS)
    finish(errors, len(outcomes), "tasks")


def show_results(settings: Settings, outcomes: Sequence[TaskStatus | FanbenchError]) -> None:
    """Show the results of all runs in one table, or a record per run."""
    from fanbench.results.display import MISSING
    from fanbench.results.table import cross_table

    out, (found, errors) = settings.output, split(outcomes)
    for error in errors if len(outcomes) > 1 else ():
        print_error(error)
    runs = [(one.slug, run) for one in found for run in one.runs]
    cells: dict[tuple[str, str], list[Run]] = {}
    for slug, run in runs:
        cells.setdefault((slug, model_of(run)), []).append(run)

    def text(task: str, model: str) -> str:
        of_cell = cells.get((task, model), ())
        return ", ".join(result_text(run.value) or run.state.label.lower() for run in of_cell) or MISSING

    slugs, models = [one.slug for one in found], sorted({model for _, model in cells})
    if cells:
        out.tables([cross_table({slug: slug for slug in slugs}, {model: model for model in models}, text)])
    elif out.for_people:
        out.note("No runs yet.")
    if not any(run.value is not None for _, run in runs):
        for slug in dict.fromkeys(slug for slug, run in runs if run.state == RunState.COMPLETED):
            command = settings.fanbench_command(f"tasks download {slug}")
            out.note(f"The server reports no results for {slug}. To download its outputs: {command}")
    out.records([run_record(slug, run) for slug, run in runs], RUN_FIELDS)
    finish(errors, len(outcomes), "tasks")


def _lines(found: TaskStatus) -> Iterator[str]:
    task = found.task
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
    if task.tags:
        yield f"Tags:     {', '.join(task.tags)}"
    yield ""
    if found.runs:
        # Kaggle sends results since kagglesdk 0.1.38.
        scored = any(run.value is not None for run in found.runs)
        rows = [
            [
                model_of(run),
                run.state.label.title(),
                *([result_text(run.value)] if scored else []),
                format_time(run.start_time),
                format_time(run.end_time),
            ]
            for run in found.runs
        ]
        header = ["Model", "Status", *(["Result"] if scored else []), "Started", "Ended"]
        yield from draw_table(header, rows, (20, 15, 6, 19, 19) if scored else (20, 15, 19, 19))
    # Runs that ended with the same error share a line.
    errors: dict[str, list[str]] = {}
    for run in found.errored:
        if run.error_message:
            errors.setdefault(error_line(run.error_message), []).append(model_of(run))
    if errors:
        yield f"\n{red('Errors:', strong=True)}"
    for error, models in errors.items():
        yield red(f"  [{', '.join(models)}]", strong=True) + " " + red(error)


# --- Watching ------------------------------------------------------------------------------------------------


def show_changes(
    settings: Settings, task_names: Sequence[str], models: Sequence[str], poll_interval: float
) -> list[TaskStatus | FanbenchError]:
    display = _StatusDisplay(settings, unique_slugs(task_names))
    return call(
        settings,
        lambda client: watch_tasks(
            client, task_names, models, poll_interval=poll_interval, emit=display.report
        ),
        display,
    )


class _StatusDisplay(Display):
    """The tasks as they are now; where there is no terminal, a line per change on stderr."""

    def __init__(self, settings: Settings, slugs: Sequence[str]) -> None:
        super().__init__(shown=settings.output.for_people, stream=sys.stdout)
        self._out = settings.output
        # None until a task has been seen.
        self._texts: dict[str, str | None] = dict.fromkeys(slugs)
        self._problem: str | None = None

    def report(self, event: Event) -> None:
        match event:
            case StatusSeen(status):
                self._texts[status.slug] = "\n".join(_lines(status))
                self._problem = None
            case PollFailed() if self.shown:
                self._problem = event.text
            case CreationPolled() | RunChanged() | PollFailed() if not self.shown:
                self._out.note(f"  {event.text}")
            case _:
                pass

    def lines(self, size: tuple[int, int]) -> list[str]:
        from rich.text import Text

        text = "\n\n".join(filter(None, [*self._texts.values(), self._problem]))
        parts = [Text.from_ansi(text, no_wrap=True, overflow="ellipsis")]
        lines = render(parts, size[0], color=self.color)
        room = max(1, size[1] - 1)
        return lines if len(lines) <= room else [*lines[: room - 1], "…"]

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        if self.shown and kind is not None and not issubclass(kind, Exception):
            # An interrupt leaves everything as it was last seen, also what did not fit the screen.
            click.echo("\n\n".join(filter(None, self._texts.values())), nl=False)
