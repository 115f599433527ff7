"""`push`: task files become tasks on the server, several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio.to_thread

from fanbench._util.concurrency import Done, settle
from fanbench._util.polling import POLL_INTERVAL, Deadline
from fanbench.errors import FanbenchError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.events import EarlierPending, Event, Report, ignore_events
from fanbench.operations.lookup import task_if_any
from fanbench.operations.watch import created_by, ensure_created
from fanbench.tasks import Finding, TaskFile, choose_task, raise_for_errors, read_task_file, to_notebook
from fanbench.wire.messages import Task
from fanbench.wire.slugs import full_task_url

__all__ = ["DatasetsDetached", "PushPlan", "Pushed", "Uploaded", "plan_push", "push_all", "push_task"]


@dataclass(frozen=True, slots=True)
class PushPlan:
    """One task of one file. `typed` is its name as the user wrote it, where that is not the slug."""

    file: TaskFile
    slug: str
    typed: str | None = None

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.file.findings if finding.level == "warning")


class DatasetsDetached(Event, frozen=True):
    """The earlier version had `datasets`, which this push does not name."""

    slug: str
    datasets: tuple[str, ...]

    @property
    def text(self) -> str:
        return (
            f"The previous version of '{self.slug}' had attached Kaggle datasets: {', '.join(self.datasets)}"
        )


@dataclass(frozen=True, slots=True)
class Pushed:
    """A version that the server has taken. `created` says whether its creation was waited for."""

    slug: str
    task: Task
    new_version: bool
    created: bool = False

    @property
    def url(self) -> str:
        return full_task_url(self.task.url)

    @property
    def output_url(self) -> str:
        """Where the website compares the outputs of the models: below the task, not its version."""
        head, _, version = self.url.rstrip("/").rpartition("/")
        return f"{head if version.isdigit() else self.url}?compare=true"

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(self.task.options.dataset_data_sources) if self.task.options else ()

    @property
    def unresolved_datasets(self) -> tuple[str, ...]:
        return tuple(self.task.invalid_dataset_sources)


class Uploaded(Event, frozen=True):
    """The server has the version; its creation goes on."""

    pushed: Pushed

    @property
    def text(self) -> str:
        return f"Pushed {'new version of ' if self.pushed.new_version else ''}{self.pushed.slug}"


# --- Before anything is sent --------------------------------------------------------------------------------


def plan_push(
    files: Sequence[Path], task: str | None = None, *, all_tasks: bool = False, allow_no_run: bool = False
) -> list[PushPlan]:
    """What to push: `task` of the one file, or the task that each file defines (all of them: `all_tasks`).

    Reads and checks every file, and sends nothing. `allow_no_run` lets a task pass that is never run.

    Raises:
        TaskFileError: a file cannot be read, or has an error that the server would stumble over.
        UsageError: `task` with several files, or two tasks with one slug.
    """
    if task is not None and len(files) > 1:
        raise UsageError(
            f"TASK ({task}) goes with one file, and {len(files)} are given.",
            hint="Leave TASK out: each file's task is named by its decorator.",
        )
    plans = [plan for path in files for plan in _plans_of(path, task, all_tasks, allow_no_run)]
    _refuse_doubles(plans)
    return plans


def _plans_of(path: Path, task: str | None, all_tasks: bool, allow_no_run: bool) -> list[PushPlan]:
    file = read_task_file(path)
    raise_for_errors(file, allow_no_run=allow_no_run)
    if all_tasks and task is None:
        return [PushPlan(file, definition.slug) for definition in file.pushable]
    slug = choose_task(file, task).slug
    return [PushPlan(file, slug, task if task not in (None, slug) else None)]


def _refuse_doubles(plans: Sequence[PushPlan]) -> None:
    first: dict[str, PushPlan] = {}
    for plan in plans:
        other = first.setdefault(plan.slug, plan)
        if other is not plan:
            raise UsageError(
                f"Task '{plan.slug}' is in {other.file.path} and in {plan.file.path}.",
                hint="Each push makes a version of its own: push one of them, or rename one.",
            )


# --- On the server ------------------------------------------------------------------------------------------


async def push_all(
    client: Api,
    plans: Sequence[PushPlan],
    *,
    datasets: Sequence[str] = (),
    wait: bool = False,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    report: Report = ignore_events,
    done: Done[Pushed] | None = None,
) -> list[Pushed | FanbenchError]:
    """Pushes all, each as `push_task` does; one that fails does not end the others.

    With `wait` all begin at once, as one time is for all: who waits makes few calls, and the client bounds those.
    """
    push = partial(
        push_task,
        client,
        datasets=datasets,
        wait=wait,
        timeout=timeout,
        poll_interval=poll_interval,
        report=report,
    )
    limit = len(plans) if wait else client.config.concurrency
    return await settle([partial(push, plan) for plan in plans], limit=limit, done=done)


async def push_task(
    client: Api,
    plan: PushPlan,
    *,
    datasets: Sequence[str] = (),
    wait: bool = False,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    report: Report = ignore_events,
) -> Pushed:
    """Makes a version of the task; with `wait`, returns once the server has created it.

    `timeout` is in seconds, for all that is waited for.

    Raises:
        FanbenchError: an earlier version is still being created, and `wait` is off.
        RunFailed: the server refused the version, or its creation failed.
        StillRunning: the time is over.
    """
    deadline = Deadline(timeout)
    earlier = await _settled_earlier(client, plan.slug, wait, deadline, poll_interval, report)
    if earlier and earlier.options and earlier.options.dataset_data_sources and not datasets:
        report(DatasetsDetached(plan.slug, tuple(earlier.options.dataset_data_sources)))
    # The first conversion imports jupytext, which takes a second.
    text = await anyio.to_thread.run_sync(to_notebook, plan.file.source)
    task = await client.create_task(plan.slug, text, datasets=datasets)
    if task.error:
        raise FanbenchError(f"Task '{plan.slug}' could not be pushed: {task.error}")
    pushed = Pushed(plan.slug, task, new_version=earlier is not None)
    report(Uploaded(pushed))
    return await _created(client, pushed, deadline, poll_interval, report) if wait else pushed


async def _settled_earlier(
    client: Api, slug: str, wait: bool, deadline: Deadline, poll_interval: float, report: Report
) -> Task | None:
    """The task's earlier version, if there is one, no longer being created. How that ended is no matter."""
    earlier = await task_if_any(client, slug)
    if earlier is None or not earlier.creation_state.pending:
        return earlier
    if not wait:
        raise FanbenchError(
            f"Task '{slug}' is still being created from an earlier push.",
            hint="Push with --wait to wait for it first.",
        )
    report(EarlierPending(slug))
    return await created_by(client, slug, deadline, seen=earlier, poll_interval=poll_interval, report=report)


async def _created(
    client: Api, pushed: Pushed, deadline: Deadline, poll_interval: float, report: Report
) -> Pushed:
    task = await created_by(
        client,
        pushed.slug,
        deadline,
        seen=pushed.task,
        version=pushed.task.slug.version_number,
        poll_interval=poll_interval,
        report=report,
    )
    ensure_created(pushed.slug, task)
    return Pushed(pushed.slug, pushed.task, pushed.new_version, created=True)
