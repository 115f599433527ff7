"""`fanbench tasks push`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, Verb, pass_settings, wait_options
from fanbench.cli.exits import say_error
from fanbench.cli.output import bold
from fanbench.cli.session import call, finish
from fanbench.errors import FanbenchError, UsageError, WaitTimeout

if TYPE_CHECKING:
    from fanbench.cli.progress import End
    from fanbench.operations import Pushed, PushPlan
    from fanbench.operations.events import Event

__all__ = ["push"]


@click.command(cls=Verb)
@click.argument("task", required=False)
@click.option(
    "-f",
    "--file",
    "files",
    multiple=True,
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The task file; repeat it for several.",
)
@wait_options("the end of the task's creation")
@click.option(
    "-d",
    "--kaggle-dataset",
    "datasets",
    multiple=True,
    metavar="OWNER/DATASET",
    help="Attach a Kaggle dataset; repeat it for several.",
)
@click.option("--all-tasks", is_flag=True, help="Push every task of each file.")
@click.option("--allow-no-run", is_flag=True, help="Let a task pass that nothing runs.")
@pass_settings
def push(
    settings: Settings,
    task: str | None,
    files: tuple[Path, ...],
    wait: float | None,
    poll_interval: float,
    datasets: tuple[str, ...],
    all_tasks: bool,
    allow_no_run: bool,
) -> None:
    """Check task files, and upload each as a new version of its task.

    TASK names the task in the file; it may be left out where the file defines only one. Nothing is sent
    if any file has an error.

    \b
    Examples:
      fanbench tasks push my-task -f task.py --wait
      fanbench tasks push -f sums.py -f cities.py --wait 600
      fanbench tasks push my-task -f task.py -d owner/first -d owner/second
    """
    from fanbench import operations

    _check_datasets(datasets)
    plans = operations.plan_push(files, task, all_tasks=all_tasks, allow_no_run=allow_no_run)
    view = _View(settings, plans, datasets, waiting=wait is not None)
    view.warn()
    outcomes = call(
        settings,
        lambda client: view.display.around(
            operations.push_tasks(
                client,
                plans,
                datasets=datasets,
                wait=wait is not None,
                timeout=wait or None,
                poll_interval=poll_interval,
                report=view.report,
                done=view.done,
            )
        ),
    )
    view.end(outcomes)


def _check_datasets(datasets: tuple[str, ...]) -> None:
    for dataset in datasets:
        owner, slash, name = dataset.partition("/")
        if not (owner and slash and name) or "/" in name:
            raise UsageError(f"'{dataset}' is not a dataset.", hint="Write -d OWNER/DATASET.")


class _View:
    """Blocks of output in the order of the plans, each as soon as it is its turn."""

    def __init__(
        self, settings: Settings, plans: list[PushPlan], datasets: tuple[str, ...], waiting: bool
    ) -> None:
        from fanbench._util.concurrency import InOrder
        from fanbench.cli.progress import Display

        self._settings = settings
        self._out = settings.output
        self._plans = plans
        self._datasets = datasets
        self._waiting = waiting
        self._index = {plan.slug: number for number, plan in enumerate(plans)}
        self._uploaded: set[str] = set()
        self.display = Display(settings.output, what="pushes")
        for plan in plans:
            self._row(plan.slug, "Uploading")
        self._begun = InOrder[Any](self._show)
        self._ended = InOrder[Any](self._show_end)

    def warn(self) -> None:
        for plan in self._plans:
            for finding in plan.warnings:
                self._out.warn(finding.text(str(plan.file.path)), *([finding.fix] if finding.fix else []))
            if plan.typed is not None:
                self._out.warn(
                    f"task name {plan.typed!r} was normalized to slug {plan.slug!r}.",
                    f"Use {plan.slug!r} in future commands.",
                )

    def report(self, event: Event) -> None:
        from fanbench.operations.events import CreationPolled, EarlierPending, PollFailed
        from fanbench.operations.push import DatasetsDetached, Uploaded

        self._show_progress(event)
        match event:
            case EarlierPending():
                self._out.note(event.text)
            case DatasetsDetached():
                self._out.warn(
                    event.text,
                    "Pushing without -d/--kaggle-dataset detaches them.",
                    f"To keep them, add: {' '.join(f'-d {dataset}' for dataset in event.datasets)}",
                )
            case CreationPolled(slug, task, changed) if self._says(changed):
                name = f"Task '{slug}'" if len(self._plans) > 1 else "Task"
                self._out.note(f"   {name} status: {task.creation_state.label}...")
            case Uploaded(pushed):
                self._uploaded.add(pushed.slug)
                self._begun(self._index[pushed.slug], pushed)
            case PollFailed(slug, error):
                self._out.note(f"   The server did not answer about '{slug}', asking again: {error}")
            case _:
                pass

    def _says(self, changed: bool) -> bool:
        """Whether a state gets a line: a new one that no row shows."""
        return self._settings.verbose or (changed and not self.display.shown)

    def _show_progress(self, event: Event) -> None:
        from fanbench.operations.events import CreationPolled
        from fanbench.operations.push import Uploaded

        match event:
            case CreationPolled(slug, task, _):
                earlier = "" if slug in self._uploaded else "earlier version "
                self._row(slug, f"{earlier}{task.creation_state.label}")
            case Uploaded(pushed):
                self._row(pushed.slug, pushed.task.creation_state.label)
            case _:
                pass

    def _row(self, slug: str, state: str, end: End = "") -> None:
        from fanbench.cli.progress import Row

        self.display.show(slug, Row(slug, state, group=slug, end=end))

    def done(self, index: int, outcome: Pushed | FanbenchError) -> None:
        slug = self._plans[index].slug
        uploaded = slug in self._uploaded
        self._row(slug, *_ended(outcome, waiting=self._waiting))
        if not uploaded:
            self._begun(index, outcome)
        self._ended(index, outcome if uploaded else None)

    def _show(self, outcome: Pushed | FanbenchError) -> None:
        if isinstance(outcome, FanbenchError):
            self._show_error(outcome)
        else:
            self._show_pushed(outcome)

    def _show_end(self, outcome: Pushed | FanbenchError | None) -> None:
        """What came after the upload; `None` where there was none."""
        if isinstance(outcome, FanbenchError):
            self._show_error(outcome)
        elif outcome is not None and self._waiting:
            self._show_created(outcome)

    def _show_error(self, error: FanbenchError) -> None:
        if len(self._plans) > 1:
            say_error(error)

    def _show_pushed(self, pushed: Pushed) -> None:
        self._out.text(f"\nPushed {'new version of ' if pushed.new_version else ''}{pushed.slug}")
        self._out.text(f"   Task Details:  {pushed.url}")
        if not self._waiting:
            self._out.text(f"   Model Output:  {pushed.output_url}")
        if pushed.task.creation_error_message:
            self._out.warn(pushed.task.creation_error_message)
        if self._datasets and pushed.datasets:
            self._out.text(f"Attached Kaggle dataset(s): {', '.join(pushed.datasets)}")
        if pushed.unresolved_datasets:
            self._out.warn(f"These Kaggle datasets were not found: {', '.join(pushed.unresolved_datasets)}")

    def _show_created(self, pushed: Pushed) -> None:
        self._out.text(f"\nCompleted{f': {pushed.slug}' if len(self._plans) > 1 else ''}")
        self._out.text(f"   Model Output:  {pushed.output_url}")

    def end(self, outcomes: list[Pushed | FanbenchError]) -> None:
        pushed = [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]
        self._out.rows([_record(one) for one in pushed], _FIELDS)
        if pushed:
            self._next_steps(pushed)
        failures = [outcome for outcome in outcomes if isinstance(outcome, FanbenchError)]
        finish(failures, len(outcomes), "pushes")

    def _next_steps(self, pushed: list[Pushed]) -> None:
        slugs = [one.slug for one in pushed]
        self._out.note("\nNext steps:" if not self._waiting else "\nNext step:")
        if not self._waiting:
            self._out.note("   Check creation status:")
            for slug in slugs:
                self._out.note(f"   $ {bold(self._settings.command(f'tasks status {slug}'))}")
            self._out.note()
        self._out.note("   Select models to run (or use -m to skip the menu):")
        self._out.note(f"   $ {bold(self._settings.command('tasks run ' + ' '.join(slugs)))}")


def _ended(outcome: Pushed | FanbenchError, *, waiting: bool) -> tuple[str, End]:
    if isinstance(outcome, FanbenchError):
        return ("Timed out" if isinstance(outcome, WaitTimeout) else "Failed"), "bad"
    return ("COMPLETED" if waiting else "Pushed"), "good"


_FIELDS = (
    "task",
    "version",
    "state",
    "new_version",
    "created",
    "url",
    "output_url",
    "datasets",
    "unresolved_datasets",
)


def _record(pushed: Pushed) -> dict[str, Any]:

    return {
        "task": pushed.slug,
        "version": pushed.task.slug.version_number or None,
        "state": "COMPLETED" if pushed.created else pushed.task.creation_state.label,
        "new_version": pushed.new_version,
        "created": pushed.created,
        "url": pushed.url,
        "output_url": pushed.output_url,
        "datasets": list(pushed.datasets),
        "unresolved_datasets": list(pushed.unresolved_datasets),
    }
