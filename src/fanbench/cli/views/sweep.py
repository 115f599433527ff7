"""What `fanbench sweep` asks, does and shows, from the plan to the report."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import anyio.to_thread
import click
from msgspec import structs

from fanbench._util.text import many
from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.output import Fields, bold
from fanbench.cli.progress import spinner
from fanbench.cli.prompts import confirm, is_terminal
from fanbench.cli.session import call
from fanbench.cli.views.sweep_report import (
    failure,
    resume_command,
    show_report,
    stage_failure,
    stage_results,
)
from fanbench.cli.views.sweep_session import Prepared, SweepOutcome, SweepSession, prepare
from fanbench.client import Client
from fanbench.errors import OutputError
from fanbench.sweeps.decide import Stage
from fanbench.sweeps.events import CancelEnded
from fanbench.sweeps.folder import refuse_locked, set_aside
from fanbench.sweeps.preview import Preview, TaskPreview
from fanbench.sweeps.report import FIELDS, write_summary
from fanbench.sweeps.spec import DEFAULT_OUTPUT, SweepSpec
from fanbench.sweeps.sweep import Sweep

__all__ = ["FIELDS", "PLAN_FIELDS", "SweepView", "question"]

PLAN_FIELDS: Fields[TaskPreview] = {
    "task": lambda task: task.task,
    "file": lambda task: task.file,
    "datasets": lambda task: list(task.datasets),
    "version": lambda task: task.version,
    "push": lambda task: task.push.value,
    "pushed": lambda task: task.pushed,
    "fails": lambda task: task.fails,
    "adopt": lambda task: task.counts.adopt,
    "schedule": lambda task: task.counts.schedule,
    "again": lambda task: task.counts.again,
    "find": lambda task: task.counts.find,
    "watch": lambda task: task.counts.watch,
    "collect": lambda task: task.counts.collect,
    "done": lambda task: task.counts.done,
    "blocked": lambda task: task.counts.blocked,
    "calls": lambda task: task.calls,
    "items": lambda task: task.items,
}


@dataclass(frozen=True, slots=True)
class SweepView:
    """One invocation of `fanbench sweep`.

    `quotas`: show what is left of them with the plan. `shows_page`: serve the page while the sweep runs.
    """

    settings: Settings
    spec: SweepSpec
    step: bool
    fresh: bool
    quotas: bool
    shows_page: bool = False

    def run(self, *, yes: bool, dry_run: bool) -> None:
        """Plan, ask, run and report. The question is outside the event loop, so that Ctrl-C ends it at once."""
        out = self.settings.output
        if dry_run:
            # The plan is the result: it goes to stdout, as one record per task for programs.
            planned = call(self.settings, partial(self._prepare, power=True)).preview
            out.text("\n".join(planned.lines()))
            if not out.for_people:
                for warning in planned.warnings:
                    out.warn(warning)
            out.items(planned.tasks, PLAN_FIELDS)
            return
        # Nobody should read a plan, or wait for it, that cannot be carried out.
        refuse_locked(self.spec.output or DEFAULT_OUTPUT)
        if yes:

            async def prepare_and_follow(client: Client) -> tuple[Prepared, SweepOutcome]:
                prepared = await self._prepare(client)
                out.note("\n".join(prepared.preview.lines()))
                return prepared, await self._follow(client, prepared)

            self._end(*call(self.settings, prepare_and_follow))
        else:
            prepared = call(self.settings, self._prepare)
            lines = "\n".join(prepared.preview.lines())
            if prepared.preview.nothing_to_do:
                out.note(lines)
                agreed = True
            else:
                click.echo(lines, err=True)  # also with -q: the question is about it
                asked = question(prepared.preview.stage, prepared.preview) if self.step else "Continue?"
                agreed = confirm(asked, yes=False)
            if agreed:
                self._end(prepared, call(self.settings, lambda client: self._follow(client, prepared)))
            else:
                out.note("Nothing was changed.")

    async def _prepare(self, client: Client, *, power: bool = False) -> Prepared:
        with spinner(self.settings.output, "Planning"):
            return await prepare(client, self.spec, fresh=self.fresh, quotas=self.quotas, power=power)

    async def _follow(self, client: Client, prepared: Prepared) -> SweepOutcome:
        if self.fresh:
            aside = await anyio.to_thread.run_sync(set_aside, prepared.plan.output)
            if aside is not None:
                self.settings.output.note(f"Moved the contents of {prepared.plan.output} to {aside}.")
        until = prepared.preview.stage if self.step else "collect"
        session = SweepSession(self.settings, prepared.plan, until)
        if not self.shows_page:
            return await session.follow(client)
        from fanbench.cli.views.view import page_beside

        async with page_beside(self.settings, prepared.plan.output):
            return await session.follow(client)

    def _end(self, prepared: Prepared, outcome: SweepOutcome) -> None:
        """Write the summaries, show the report, and raise what the command ends with.

        The summaries come first, because stdout may be closed. If they cannot be written, the tables are still
        shown.
        """
        report = outcome.report
        if report is None:
            if outcome.left and is_terminal():
                self._offer_to_cancel(prepared)
            raise click.exceptions.Exit(outcome.code)
        unwritten: OutputError | None = None
        try:
            write_summary(report)
        except OutputError as error:
            unwritten = error
        if self.step and prepared.preview.stage != "collect":
            for line in stage_results(prepared.preview.stage, outcome.state):
                self.settings.output.text(line)
            self.settings.output.note(
                f"\nNext: {bold(resume_command(self.settings, prepared.plan.output, ' --step'))}"
            )
            ends_with = stage_failure(outcome.state)
        else:
            show_report(self.settings, report, written=unwritten is None)
            ends_with = failure(self.settings, report)
        if unwritten is not None:
            print_error(unwritten)
        if outcome.code:
            if not report.ok:
                command = resume_command(self.settings, report.output)
                self.settings.output.note(f"\nInterrupted. To resume: {bold(command)}")
            raise click.exceptions.Exit(outcome.code)
        if unwritten is not None or ends_with is not None:
            raise ends_with or click.exceptions.Exit(1)

    def _offer_to_cancel(self, prepared: Prepared) -> None:
        """Ask whether to cancel the runs that are left on the server. Ctrl-C ends the question, and the work."""
        if not confirm(
            "Cancel the runs of this sweep that are still on the server?", yes=False, default=False
        ):
            return

        async def cancel(client: Client) -> None:
            async with Sweep(client, prepared.plan) as sweep:
                sweep.cancel()
                async for event in sweep:
                    if isinstance(event, CancelEnded):
                        self.settings.output.note(structs.replace(event, followed=False).text)
                        return

        call(self.settings, cancel)


def question(stage: Stage, preview: Preview) -> str:
    """What `--step` asks before a stage."""
    counts = preview.counts
    match stage:
        case "push":
            return f"Stage 1 of 3: push {many(preview.pushes, 'task')}, and wait for the creation?"
        case "schedule":
            adopted = f", and take over {counts.adopt:,} of the server" if counts.adopt else ""
            return f"Stage 2 of 3: schedule {many(counts.schedule + counts.find, 'run')}{adopted}?"
        case _:
            left = counts.planned - counts.done - counts.blocked
            return f"Stage 3 of 3: follow {many(left, 'run')} to the end, and download the results?"
