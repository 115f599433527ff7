"""`fanbench tasks run`."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, Verb, model_option, pass_settings, wait_options
from fanbench.cli.exits import say_error
from fanbench.cli.output import bold, red
from fanbench.cli.prompts import is_terminal, pick_models
from fanbench.cli.session import call, finish
from fanbench.cli.views.waiting import WaitView
from fanbench.errors import RunFailed, UsageError, WaitTimeout

if TYPE_CHECKING:
    from fanbench.client import Client
    from fanbench.operations import Launch, RunReport
    from fanbench.operations.events import Event
    from fanbench.wire.messages import BenchmarkModel, Run

__all__ = ["run"]

_SCHEDULING = "scheduling"


@click.command(cls=Verb)
@click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
@model_option("A model to run on; repeat it for several. Patterns such as 'gemini-*' go, too.")
@click.option("--all-models", is_flag=True, help="Run on every model that the server has.")
@wait_options("the end of the runs")
@click.option("--logs/--no-logs", default=None, help="Show log lines while waiting (default: on a terminal).")
@pass_settings
def run(
    settings: Settings,
    task_names: tuple[str, ...],
    models: tuple[str, ...],
    all_models: bool,
    wait: float | None,
    poll_interval: float,
    logs: bool | None,
) -> None:
    """Run tasks on models.

    Without -m you pick models from a list. With --wait, the log lines of all runs are shown as they are
    written, and errored runs end the command with exit code 1.

    \b
    Examples:
      fanbench tasks run my-task
      fanbench tasks run my-task -m gemini-2.5-pro -m anthropic/claude-haiku-4-5 --wait
      fanbench tasks run first-task second-task -m 'gemini-*' --wait 600
    """
    from fanbench import operations

    if models and all_models:
        raise UsageError("-m and --all-models exclude each other.")
    chosen, available = _chosen(settings, task_names, models, all_models)
    view = _View(settings, task_names, waiting=wait is not None)
    try:
        report = call(
            settings,
            lambda client: view.display.around(
                operations.run_tasks(
                    client,
                    task_names,
                    chosen,
                    available=available,
                    until="scheduled" if wait is None else "ended",
                    timeout=wait or None,
                    poll_interval=poll_interval,
                    logs=is_terminal() if logs is None else logs,
                    report=view.report,
                )
            ),
        )
    except WaitTimeout:
        view.give_up()
        raise
    except KeyboardInterrupt as interrupt:
        view.interrupted(interrupt)
        raise
    view.end(report)


def _chosen(
    settings: Settings, task_names: Sequence[str], models: Sequence[str], all_models: bool
) -> tuple[list[str], Sequence[BenchmarkModel] | None]:
    """The models to run on; if the server had to be asked for its list, that as well."""
    if models:
        return list(models), None
    available = call(settings, lambda client: _models_for(client, task_names))
    if all_models:
        return ["*"], available
    picked = pick_models(available)
    settings.output.note(f"Selected models: {', '.join(picked)}")
    return picked, available


async def _models_for(client: Client, task_names: Sequence[str]) -> list[BenchmarkModel]:
    """The models, once it is sure that there is something to run: nobody should pick in vain."""
    from fanbench import operations
    from fanbench.wire.slugs import slugify_task

    if len(task_names) == 1:
        await operations.ready_task(client, slugify_task(task_names[0]))
    return await client.list_models()


class _View:
    def __init__(self, settings: Settings, task_names: Sequence[str], waiting: bool) -> None:
        from fanbench.cli.progress import Display, Row

        self._settings = settings
        self._out = settings.output
        self._waiting = waiting
        self.display = Display(settings.output, what="runs")
        self.display.show(_SCHEDULING, Row("Scheduling"))
        self._watching = WaitView(settings, several_tasks=len(task_names) > 1, display=self.display)
        self._said_waiting = False
        self._several = len(task_names) > 1
        self._planned: list[tuple[str, str]] = []
        self._launches: list[Launch] = []
        self._runs: dict[int, Run] = {}
        self._slugs: dict[int, str] = {}

    def report(self, event: Event) -> None:
        from fanbench.operations.events import RunChanged, TaskFailed
        from fanbench.operations.run import Launched

        match event:
            case Launched(launch):
                self._launches.append(launch)
                self._out.text(event.text)
                self._show(launch)
                self._plan(launch)
            case TaskFailed(_, error) if self._several:  # of one alone, it is what the command ends with
                say_error(error)
            case TaskFailed():
                pass
            case _:
                self._say_waiting()
                self._watching.report(event)
        if isinstance(event, RunChanged):
            self._slugs[event.run.id] = event.slug
            self._runs[event.run.id] = event.run

    def _say_waiting(self) -> None:
        """Once, when all tasks have been scheduled."""
        if not self._said_waiting:
            self._said_waiting = True
            self.display.remove(_SCHEDULING)
            self._out.note("Waiting for run(s) to complete...")

    def _plan(self, launch: Launch) -> None:
        self._planned += [(launch.slug, row.model) for row in launch.rows]
        if self._waiting:
            self._watching.plan(launch)

    def _show(self, launch: Launch) -> None:
        for row in launch.rows:
            self._out.text(f"  {row.model}: {row.state}")
        if self._waiting and launch.watch.ids:
            ids = ", ".join(str(run_id) for run_id in sorted(launch.watch.ids))
            self._out.note(f"Skipped for a run that is in flight: that one is waited for, too (Run {ids}).")

    def give_up(self) -> None:
        """The time is over: for a program, all rows as they are now."""
        self._out.rows(_records(self._launches, self._runs.values(), self._slugs), _FIELDS)

    def interrupted(self, interrupt: KeyboardInterrupt) -> None:
        for launch in self._launches if not self._out.quiet else ():
            command = self._settings.command(f"tasks status {launch.slug}")
            interrupt.add_note(f"Interrupted. What was scheduled goes on; see: {bold(command)}")

    def end(self, report: RunReport) -> None:
        self._out.rows(_records(report.launches, report.runs, self._slugs), _FIELDS)
        if self._waiting:
            self._show_ended(sorted(report.runs, key=self._place))
        elif report.launches:
            self._out.note("\nNext steps:\n   Check run status:")
            for launch in report.launches:
                self._out.note(f"   $ {bold(self._settings.command(f'tasks status {launch.slug}'))}")
        total = len(report.launches) + len(report.failures)
        finish([failure.error for failure in report.failures], total, "tasks")

    def _place(self, run: Run) -> int:
        """Of a run in the plan. Those of the same place stay as the server lists them."""
        from fanbench.operations.lookup import model_of

        key = (self._slugs.get(run.id, ""), model_of(run))
        return self._planned.index(key) if key in self._planned else len(self._planned)

    def _show_ended(self, runs: Sequence[Run]) -> None:
        from fanbench.operations.lookup import model_of

        if runs:
            self._out.text("All runs completed:")
        several = len({self._slugs.get(run.id) for run in runs}) > 1
        for run in runs:
            task = f"{self._slugs.get(run.id)} " if several else ""
            self._out.text(f"  {task}{model_of(run)}: {run.state.label}")
        _refuse_errored(runs, several_tasks=several)


def _refuse_errored(runs: Sequence[Run], *, several_tasks: bool) -> None:
    from fanbench.operations.lookup import model_of
    from fanbench.wire.messages import RunState

    errored = [run for run in runs if run.state == RunState.ERRORED]
    if errored:
        tasks = [f"{run.task_slug.task_slug} " if several_tasks else "" for run in errored]
        details = [
            f"  {red(f'[{task}{model_of(run)}]')}\n"
            + textwrap.indent(run.error_message.strip() or "No error message", "    ")
            for task, run in zip(tasks, errored, strict=True)
        ]
        raise RunFailed("\n".join([f"{len(errored)} run(s) failed. Details below:", *details]))


_FIELDS = ("task", "model", "scheduled", "reason", "run_id", "state", "error")


def _records(
    launches: Iterable[Launch], waited_for: Iterable[Run], slugs: dict[int, str]
) -> list[dict[str, Any]]:
    """A row a model, with the run that was waited for, if one was."""
    from fanbench.operations.lookup import model_of

    runs = {(slugs.get(run.id), model_of(run)): run for run in waited_for}
    rows = []
    for launch in launches:
        for row in launch.rows:
            run = runs.get((launch.slug, row.model))
            rows.append(
                {
                    "task": launch.slug,
                    "model": row.model,
                    "scheduled": row.scheduled,
                    "reason": None if row.scheduled else row.reason,
                    "run_id": run.id if run else None,
                    "state": run.state.label if run else None,
                    "error": (run.error_message or None) if run else None,
                }
            )
    return rows
