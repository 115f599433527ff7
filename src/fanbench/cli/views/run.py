"""What `fanbench tasks run` shows: what is scheduled, the progress of the runs, and how they ended."""

from __future__ import annotations

import textwrap
from collections.abc import Hashable, Sequence

from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.output import bold, red
from fanbench.cli.progress import Progress, Row, Verdict
from fanbench.cli.prompts import pick_models
from fanbench.cli.session import call, finish
from fanbench.cli.views.names import Prefixes
from fanbench.client import Client
from fanbench.errors import RunFailed
from fanbench.operations.events import Event, LogLine, Polled, PollFailed, RunChanged, RunEnding, TaskFailed
from fanbench.operations.lookup import model_of
from fanbench.operations.queue import NotEnqueued, QueueRead
from fanbench.operations.run import Launch, Launched, ModelsUnlisted, RunReport, ready_task
from fanbench.operations.unanswered import CallUnanswered
from fanbench.wire.messages import BenchmarkModel, Run, RunState
from fanbench.wire.slugs import slugify_task

__all__ = ["FIELDS", "RunView", "choose_models"]

FIELDS = ("task", "model", "scheduled", "reason", "run_id", "state", "error")
_SCHEDULING = "scheduling"


def choose_models(
    settings: Settings, task_names: Sequence[str], models: Sequence[str], *, all_models: bool, ask: bool
) -> tuple[list[str], list[BenchmarkModel] | None]:
    """The models to run on; if the server was asked for its list of models, that as well.

    Without any, people choose some if `ask` is set.
    """

    async def list_models(client: Client) -> list[BenchmarkModel]:
        # Nobody should choose models for a task that does not exist.
        if len(task_names) == 1:
            await ready_task(client, slugify_task(task_names[0]))
        return await client.list_models()

    if models or not (all_models or ask):
        return list(models), None
    available = call(settings, list_models)
    if all_models:
        return ["*"], available
    picked = pick_models(available)
    settings.output.note(f"Selected models: {', '.join(picked)}")
    return picked, available


class RunView:
    """Runs are rows on the progress display, in the order in which they were scheduled; elsewhere, each change of
    a run is a line on stderr."""

    def __init__(self, settings: Settings, *, several_tasks: bool, waiting: bool) -> None:
        self.progress = Progress(settings.output, what="runs")
        self.progress.show(_SCHEDULING, Row("Scheduling"))
        self._settings = settings
        self._out = settings.output
        self._several_tasks = several_tasks
        self._waiting = waiting
        self._prefixes = Prefixes(several_tasks=several_tasks)
        self._launches: list[Launch] = []
        self._runs: dict[int, tuple[str, Run]] = {}
        self._keys: dict[int, Hashable] = {}

    # --- While it runs ---

    def report(self, event: Event) -> None:
        match event:
            case ModelsUnlisted(choice):
                for warning in choice.warnings:
                    self._out.warn(warning)
                return
            case Launched(launch):
                self._out.text(str(event.text))
                self._show_launch(launch)
                return
            case NotEnqueued():
                self._out.note(event.text)
                return
            case QueueRead():
                return
            case TaskFailed(_, error):
                if self._several_tasks:  # the error of a single task is printed at the end
                    print_error(error)
                return
            case _:
                pass
        if self.progress.remove(_SCHEDULING):
            self._out.note("Waiting for run(s) to complete...")
        match event:
            case RunChanged(slug, run, _):
                self._runs[run.id] = (slug, run)
                self._prefixes.add(run)
                end: Verdict = (
                    "bad" if run.state == RunState.ERRORED else "good" if run.state.terminal else ""
                )
                self._show_row(self._key(slug, run), slug, model_of(run), run.state.label, end)
                if not (self.progress.shown and run.state.known):
                    text = event.text if self._several_tasks else event.text.removeprefix(f"{slug} ")
                    self._out.note(f"  {text}")
            case RunEnding(slug, run):
                self.progress.change(self._key(slug, run), "ENDING")
            case LogLine(run, line):
                self._out.note(self._prefixes.line(run, line))
            case PollFailed() | CallUnanswered():
                self._out.note(f"  {event.text}")
            case Polled() if self._settings.verbose:
                self._out.note(f"  {event.text}")
            case _:
                pass

    def _show_launch(self, launch: Launch) -> None:
        self._launches.append(launch)
        for row in launch.rows:
            self._out.text(f"  {row.model}: {row.state}")
        if not self._waiting:
            return
        for row in launch.rows:  # a model that was skipped may have an earlier run, which then gets the row
            key, state = (launch.slug, row.model), "Scheduled" if row.scheduled else "Skipped"
            end: Verdict = "" if row.scheduled else "good"
            self._show_row(key, launch.slug, row.model, state, end, hidden=not row.scheduled)
        if launch.selection.ids:
            ids = ", ".join(str(run_id) for run_id in sorted(launch.selection.ids))
            self._out.note(
                f"Some models were skipped for runs in flight; waiting for those as well (Run {ids})."
            )

    def _key(self, slug: str, run: Run) -> Hashable:
        """The row that was planned for the run, or one of its own if another run has that."""
        if run.id not in self._keys:
            planned = (slug, model_of(run))
            self._keys[run.id] = (*planned, run.id) if planned in self._keys.values() else planned
        return self._keys[run.id]

    def _show_row(
        self, key: Hashable, slug: str, model: str, state: str, end: Verdict, *, hidden: bool = False
    ) -> None:
        name = f"{slug} {model}" if self._several_tasks else model
        self.progress.show(key, Row(name, state, group=slug, end=end, hidden=hidden))

    # --- At the end ---

    def add_notes(self, interrupt: KeyboardInterrupt) -> None:
        for launch in self._launches if not self._out.quiet else ():
            command = self._settings.fanbench_command(f"tasks status {launch.slug}")
            interrupt.add_note(f"Interrupted. Scheduled runs continue; see: {bold(command)}")

    def print_records(self) -> None:
        """Print one record per model, with the run that was waited for, as far as it is known."""
        runs = {(slug, model_of(run)): run for slug, run in self._runs.values()}
        records = []
        for launch in self._launches:
            for row in launch.rows:
                run = runs.get((launch.slug, row.model))
                records.append(
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
        self._out.records(records, FIELDS)

    def show_report(self, report: RunReport) -> None:
        self._runs = {run.id: (self._slug(run), run) for run in report.runs}
        self.print_records()
        if self._waiting:
            planned = [(launch.slug, row.model) for launch in report.launches for row in launch.rows]
            places = {key: place for place, key in enumerate(planned)}
            self._show_ended(
                sorted(
                    report.runs,
                    key=lambda run: places.get((self._slug(run), model_of(run)), len(places)),
                )
            )
        elif report.launches:
            self._out.note("\nNext steps:\n   Check run status:")
            for launch in report.launches:
                self._out.note(f"   $ {bold(self._settings.fanbench_command(f'tasks status {launch.slug}'))}")
        total = len(report.launches) + len(report.failures)
        finish([failure.error for failure in report.failures], total, "tasks")

    def _slug(self, run: Run) -> str:
        return self._runs[run.id][0] if run.id in self._runs else ""

    def _show_ended(self, runs: Sequence[Run]) -> None:
        several = len({self._slug(run) for run in runs}) > 1
        if runs:
            self._out.text("All runs completed:")
        details = []
        for run in runs:
            name = f"{self._slug(run)} {model_of(run)}" if several else model_of(run)
            self._out.text(f"  {name}: {run.state.label}")
            if run.state == RunState.ERRORED:
                message = run.error_message.strip() or "No error message"
                details.append(f"  {red(f'[{name}]')}\n{textwrap.indent(message, '    ')}")
        if details:
            raise RunFailed("\n".join([f"{len(details)} run(s) failed. Details below:", *details]))
