"""What `fanbench tasks push` shows: a block of lines per task, in the order given, each as soon as it is known."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fanbench._util.concurrency import InOrder
from fanbench._util.text import one_line
from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.output import Fields, bold
from fanbench.cli.progress import Progress, Row, Verdict
from fanbench.cli.session import finish, split
from fanbench.errors import FanbenchError, WaitTimeout
from fanbench.operations.events import (
    CreationPolled,
    EarlierPending,
    Event,
    PollFailed,
    VersionSuperseded,
    describe_state,
)
from fanbench.operations.metadata import Edited
from fanbench.operations.push import DatasetsDetached, NotCompared, Pushed, PushPlan, Uploaded
from fanbench.operations.unanswered import CallUnanswered

__all__ = ["FIELDS", "PushView"]

FIELDS: Fields[Pushed] = {
    "task": lambda pushed: pushed.slug,
    "version": lambda pushed: pushed.task.slug.version_number or None,
    "state": lambda pushed: "COMPLETED" if pushed.created else pushed.task.creation_state.label,
    "new_version": lambda pushed: pushed.new_version,
    "created": lambda pushed: pushed.created,
    "unchanged": lambda pushed: pushed.unchanged,
    "url": lambda pushed: pushed.url,
    "output_url": lambda pushed: pushed.output_url,
    "datasets": lambda pushed: list(pushed.datasets),
    "unresolved_datasets": lambda pushed: list(pushed.unresolved_datasets),
    "page_changed": lambda pushed: list(pushed.page.changed) if isinstance(pushed.page, Edited) else [],
    "unknown_tags": lambda pushed: list(pushed.page.unknown_tags) if isinstance(pushed.page, Edited) else [],
}


class PushView:
    def __init__(
        self, settings: Settings, plans: Sequence[PushPlan], datasets: Sequence[str], *, waiting: bool
    ) -> None:
        self.progress = Progress(settings.output, what="pushes")
        self._settings = settings
        self._out = settings.output
        self._plans = plans
        self._datasets = datasets
        self._waiting = waiting
        self._index = {plan.slug: number for number, plan in enumerate(plans)}
        self._uploaded: set[str] = set()
        self._ended: set[str] = set()
        self._page_errors: set[str] = set()
        # These print in the order of the plans, once a task is uploaded and once it is created.
        self._show_uploads = InOrder[Any](self._show_upload)
        self._show_ends = InOrder[Any](self._show_end)
        for plan in plans:
            self._row(plan.slug, "Uploading")
            # The warnings about a file are shown once, with its first task.
            if next(other for other in plans if other.file is plan.file) is plan:
                pushed = [other.slug for other in plans if other.file is plan.file]
                for finding in plan.file.warnings(pushed):
                    text = finding.text(str(plan.file.path), level=False)
                    self._out.warn(text, *([finding.fix] if finding.fix else []))
            if plan.typed is not None:
                self._out.warn(
                    f"task name {plan.typed!r} was normalized to slug {plan.slug!r}.",
                    f"Use {plan.slug!r} in future commands.",
                )

    def _row(self, slug: str, state: str, end: Verdict = "") -> None:
        self.progress.show(slug, Row(slug, state, group=slug, end=end))

    # --- While it runs ---

    def report(self, event: Event) -> None:
        match event:
            case NotCompared() | EarlierPending() | CallUnanswered() | VersionSuperseded():
                self._out.note(str(event.text))
            case DatasetsDetached(_, datasets):
                self._out.warn(
                    event.text,
                    "Pushing without -d/--kaggle-dataset detaches them.",
                    f"To keep them, add: {' '.join(f'-d {dataset}' for dataset in datasets)}",
                )
            case CreationPolled(slug, task, changed):
                earlier = "" if slug in self._uploaded else "earlier version "
                self._row(slug, f"{earlier}{task.creation_state.label}")
                state = task.creation_state
                if self._settings.verbose or (changed and not (self.progress.shown and state.known)):
                    name = f"Task '{slug}'" if len(self._plans) > 1 else "Task"
                    self._out.note(f"   {name} status: {describe_state(state)}...")
            case Uploaded(pushed):
                self._row(pushed.slug, pushed.task.creation_state.label)
                self._uploaded.add(pushed.slug)
                self._show_uploads(self._index[pushed.slug], pushed)
            case PollFailed(slug, error):
                self._out.note(f"   The server did not answer about '{slug}', asking again: {error}")
            case _:
                pass

    def done(self, index: int, outcome: Pushed | FanbenchError) -> None:
        slug = self._plans[index].slug
        self._ended.add(slug)
        if isinstance(outcome, FanbenchError):
            self._row(slug, "Timed out" if isinstance(outcome, WaitTimeout) else "Failed", "bad")
        else:
            state = "Unchanged" if outcome.unchanged else "COMPLETED" if self._waiting else "Pushed"
            self._row(slug, state, "good")
        if slug in self._uploaded:
            self._show_ends(index, outcome)
        else:
            self._show_uploads(index, outcome)
            self._show_ends(index, None)

    def _show_upload(self, outcome: Pushed | FanbenchError) -> None:
        if isinstance(outcome, FanbenchError):
            if len(self._plans) > 1:  # the error of a single task is printed at the end
                print_error(outcome)
            return
        if outcome.unchanged:
            version = outcome.task.slug.version_number
            self._out.text(f"\nUnchanged: {outcome.slug} is version {version} on the server")
            self._out.text(f"   Task Details:  {outcome.url}")
            self._show_page(outcome)
            return
        self._out.text(f"\nPushed {'new version of ' if outcome.new_version else ''}{outcome.slug}")
        self._out.text(f"   Task Details:  {outcome.url}")
        if not self._waiting:
            self._out.text(f"   Model Output:  {outcome.output_url}")
        if not self._waiting:
            self._warn_of_creation(outcome)
        if self._datasets and outcome.datasets:
            self._out.text(f"Attached Kaggle dataset(s): {', '.join(outcome.datasets)}")
        if outcome.unresolved_datasets:
            self._out.warn(f"These Kaggle datasets were not found: {', '.join(outcome.unresolved_datasets)}")

    def _show_end(self, outcome: Pushed | FanbenchError | None) -> None:
        """Show what came after the upload; None if nothing did."""
        if isinstance(outcome, FanbenchError):
            if len(self._plans) > 1:
                print_error(outcome)
        elif outcome is not None and self._waiting:
            self._out.text(f"\nCompleted{f': {outcome.slug}' if len(self._plans) > 1 else ''}")
            self._out.text(f"   Model Output:  {outcome.output_url}")
            self._warn_of_creation(outcome)
            self._show_page(outcome)
        elif outcome is not None and self._plans[self._index[outcome.slug]].file.page is not None:
            self._out.note(
                f"   The page of {outcome.slug} is left as it is: what its file says is sent with --wait."
            )

    def _show_page(self, outcome: Pushed) -> None:
        match outcome.page:
            case Edited() as edited if edited.change.given:
                if edited.changed:
                    self._out.text(f"   Page:          {', '.join(edited.changed)} changed")
                if edited.unknown_tags:
                    tags = ", ".join(map(one_line, edited.unknown_tags))
                    self._out.warn(f"The server does not know these tags: {tags}")
                if edited.stored_otherwise:
                    stored = ", ".join(edited.stored_otherwise)
                    self._out.note(f"   The server has not stored this as it was sent: {stored}")
            case FanbenchError() as error if str(error) not in self._page_errors:
                self._page_errors.add(str(error))  # a server without the call says the same of each task
                self._out.warn(f"The page of {outcome.slug} was not changed: {error}")
            case _:
                pass

    def _warn_of_creation(self, outcome: Pushed) -> None:
        if outcome.task.creation_error_message:
            self._out.warn(outcome.task.creation_error_message)

    # --- At the end ---

    def add_notes(self, interrupt: KeyboardInterrupt) -> None:
        """Say of each push that has not ended whether the server has received it."""
        slugs = [plan.slug for plan in self._plans if plan.slug not in self._ended]
        for slug in slugs if not self._out.quiet else ():
            if slug in self._uploaded:
                state = f"{slug} has been pushed, and its creation continues; see"
            else:
                state = f"The server has not confirmed the push of {slug}; see whether it arrived"
            command = self._settings.fanbench_command(f"tasks status {slug}")
            interrupt.add_note(f"Interrupted. {state}: {bold(command)}")

    def end(self, outcomes: Sequence[Pushed | FanbenchError]) -> None:
        pushed, failures = split(outcomes)
        self._out.items(pushed, FIELDS)
        if pushed:
            note, command = self._out.note, self._settings.fanbench_command
            slugs, creating = ([one.slug for one in pushed], [one.slug for one in pushed if not one.created])
            note("\nNext steps:" if creating else "\nNext step:")
            if creating:
                note("   Check creation status:")
                for slug in creating:
                    note(f"   $ {bold(command(f'tasks status {slug}'))}")
                note()
            note("   Select models to run (or use -m to skip the menu):")
            note(f"   $ {bold(command('tasks run ' + ' '.join(slugs)))}")
        finish(failures, len(outcomes), "pushes")
