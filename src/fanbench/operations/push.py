"""`push`: task files become tasks on the server, several at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import anyio.to_thread
from msgspec import structs

from fanbench._util.concurrency import Done, settle
from fanbench._util.polling import POLL_INTERVAL, Deadline
from fanbench._util.text import duration
from fanbench.errors import FanbenchError, TaskFileError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.contents import has_content
from fanbench.operations.creation import ensure_created, wait_for_creation
from fanbench.operations.events import EarlierPending, Emit, Event, ignore_events
from fanbench.operations.lookup import task_if_any, username
from fanbench.operations.metadata import Edited, edit_page
from fanbench.operations.unanswered import CallUnanswered, confirmed_within, version_after
from fanbench.tasks import (
    TaskFile,
    choose_task,
    join_errors,
    notebook_of,
    raise_for_errors,
    read_task_file,
)
from fanbench.wire.messages import Task
from fanbench.wire.retry import CallOutcome, call_outcome
from fanbench.wire.slugs import full_task_url, slugify

__all__ = ["DatasetsDetached", "NotCompared", "PushPlan", "Pushed", "Uploaded", "plan_push", "push_tasks"]


@dataclass(frozen=True, slots=True)
class PushPlan:
    """One task of one file. `typed` is its name as the user wrote it, if that differs from the slug.

    `owner` is the owner that the user wrote, who must be the user: a push goes to one's own tasks.
    """

    file: TaskFile
    slug: str
    typed: str | None = None
    owner: str = ""


class DatasetsDetached(Event, frozen=True):
    """The earlier version had `datasets`, which this push does not name."""

    slug: str
    datasets: tuple[str, ...]

    @property
    def text(self) -> str:
        return (
            f"The previous version of '{self.slug}' had attached Kaggle datasets: {', '.join(self.datasets)}"
        )


class NotCompared(Event, frozen=True):
    """Nothing shows whether the newest version on the server has the content that is to be pushed."""

    slug: str
    version: int

    @property
    def text(self) -> str:
        return f"No run shows what is in version {self.version} of '{self.slug}', so it is pushed again."


@dataclass(frozen=True, slots=True)
class Pushed:
    """A version that the server has accepted. `created` is True if its creation was waited for.

    `page` is what became of the page of the task, which is changed if the task file says something about it and the
    version is known to have been created; an error is why it was not changed.

    `unchanged`: nothing was pushed, because the newest version on the server has the same content.
    """

    slug: str
    task: Task
    new_version: bool
    created: bool = False
    page: Edited | FanbenchError | None = None
    unchanged: bool = False

    @property
    def url(self) -> str:
        return full_task_url(self.task.url)

    @property
    def output_url(self) -> str:
        """The page on which the website compares the outputs of models. It belongs to the task, not the version."""
        head, _, version = self.url.rstrip("/").rpartition("/")
        return f"{head if version.isdigit() else self.url}?compare=true"

    @property
    def datasets(self) -> tuple[str, ...]:
        return tuple(self.task.options.dataset_data_sources) if self.task.options else ()

    @property
    def unresolved_datasets(self) -> tuple[str, ...]:
        return tuple(self.task.invalid_dataset_sources)


class Uploaded(Event, frozen=True):
    """The server has accepted the version, and is creating it."""

    pushed: Pushed

    @property
    def text(self) -> str:
        return f"Pushed {'new version of ' if self.pushed.new_version else ''}{self.pushed.slug}"


def plan_push(
    files: Sequence[Path],
    task: str | None = None,
    *,
    all_tasks: bool = False,
    allow_no_run: bool = False,
    datasets: Collection[str] = (),
) -> list[PushPlan]:
    """Read and check task files, without sending anything, and return what to push.

    That is `task` of the one file, or the task that each file defines (with `all_tasks`, all of them).
    `allow_no_run` accepts tasks that are never run. The findings take `datasets` (OWNER/SLUG) as attached.

    Raises:
        TaskFileError: A file cannot be read, or has an error with which a task to push would fail.
        UsageError: `task` is given with several files, it is not clear which task of a file to push, or two tasks
            have the same slug.

    If several files cannot be pushed, the error is that of the first, and its notes are those of the others.
    """
    if task is not None and len(files) > 1:
        raise UsageError(
            f"TASK ({task}) goes with one file, and {len(files)} are given.",
            hint="Leave TASK out: each file's task is named by its decorator.",
        )
    found: list[PushPlan] = []
    refused: dict[Path, FanbenchError] = {}
    for path in files:
        try:
            file = read_task_file(path, datasets=datasets)
            found += _plan_file(file, task, all_tasks=all_tasks, allow_no_run=allow_no_run)
        except (TaskFileError, UsageError) as error:
            refused[path] = error
    if refused:
        raise join_errors(refused)
    plans: dict[str, PushPlan] = {}
    for plan in found:
        other = plans.setdefault(plan.slug, plan)
        if other is not plan:
            raise UsageError(
                f"Task '{plan.slug}' is in {other.file.path} and in {plan.file.path}.",
                hint="Each push makes a new version: push only one of them, or rename one.",
            )
    return list(plans.values())


def _plan_file(file: TaskFile, task: str | None, *, all_tasks: bool, allow_no_run: bool) -> list[PushPlan]:
    raise_for_errors(file, (), allow_no_run=allow_no_run)
    if all_tasks and task is None and file.pushable:
        found = [PushPlan(file, definition.slug) for definition in file.pushable]
    else:
        slug = choose_task(file, task).slug
        owner, _, written = (task or slug).rpartition("/")
        found = [PushPlan(file, slug, task if written != slug else None, slugify(owner))]
    # Errors in the other tasks of the file do not matter to the server.
    raise_for_errors(file, [plan.slug for plan in found], allow_no_run=allow_no_run)
    return found


async def push_tasks(
    client: Api,
    plans: Sequence[PushPlan],
    *,
    datasets: Sequence[str] = (),
    if_changed: bool = False,
    wait: bool = False,
    timeout: float | None = None,
    poll_interval: float = POLL_INTERVAL,
    emit: Emit = ignore_events,
    done: Done[Pushed] | None = None,
) -> list[Pushed | FanbenchError]:
    """Push a new version of each task; with `wait`, return once the server has created them all.

    With `if_changed`, what certainly is the newest version on the server already is not pushed (see `has_content`).

    Returns one outcome per plan in the order given. An error stands for a task that failed and does not affect
    the others: UsageError if it is somebody else's; FanbenchError if an earlier version is still being created and
    `wait` is off, or if the server refused the push; RunFailed if the creation failed; StillRunning if `timeout` has
    passed. Times are in seconds; `timeout` covers all waiting. `done(index, outcome)` is called as each push ends.
    """

    async def push(plan: PushPlan) -> Pushed:
        deadline = Deadline(timeout)
        if plan.owner:
            await _refuse_foreign(client, plan)
        created = partial(
            wait_for_creation, client, plan.slug, deadline, poll_interval=poll_interval, emit=emit
        )
        earlier = await task_if_any(client, plan.slug)
        if earlier is not None and earlier.creation_state.pending:
            if not wait:
                raise FanbenchError(
                    f"Task '{plan.slug}' is still being created from an earlier push.",
                    hint="Push with --wait to wait for it first.",
                )
            emit(EarlierPending(plan.slug))
            earlier = await created(seen=earlier)  # how its creation ended does not matter
        # The first conversion imports jupytext, which takes a second.
        text = await anyio.to_thread.run_sync(notebook_of, plan.file)
        if if_changed and earlier is not None:
            same = await has_content(client, earlier, text, datasets)
            if same:
                page = await _edit_page(client, plan, earlier)
                return Pushed(plan.slug, earlier, new_version=False, created=True, page=page, unchanged=True)
            if same is None:
                emit(NotCompared(plan.slug, earlier.slug.version_number))
        if earlier and earlier.options and earlier.options.dataset_data_sources and not datasets:
            emit(DatasetsDetached(plan.slug, tuple(earlier.options.dataset_data_sources)))
        before = earlier.slug.version_number if earlier is not None else 0
        task = await _create(client, plan.slug, text, datasets, before, emit)
        if task.error:
            raise FanbenchError(f"Task '{plan.slug}' could not be pushed: {task.error}")
        pushed = Pushed(plan.slug, task, new_version=earlier is not None)
        emit(Uploaded(pushed))
        if not wait:
            return pushed
        ended = await created(seen=task, version=task.slug.version_number)
        ensure_created(plan.slug, ended)
        # Only the answer to the push lists the datasets that were not found.
        task = structs.replace(
            task,
            creation_state=ended.creation_state,
            creation_error_message=ended.creation_error_message,
        )
        return replace(pushed, task=task, created=True, page=await _edit_page(client, plan, ended))

    # With `wait` all begin at once, because the timeout is for all; waiting takes few calls.
    limit = len(plans) if wait else client.config.concurrency
    return await settle([partial(push, plan) for plan in plans], limit=limit, done=done)


async def _edit_page(client: Api, plan: PushPlan, task: Task) -> Edited | FanbenchError | None:
    """Make the page of a task that has been created say what its file says. The push has succeeded in any case."""
    if plan.file.page is None:
        return None
    try:
        version = task.slug.version_number
        return await edit_page(client, task, plan.file.page, slug=plan.slug, version=version)
    except FanbenchError as error:
        return error


async def _create(
    client: Api, slug: str, text: str, datasets: Sequence[str], before: int, emit: Emit
) -> Task:
    """Create a version after the version `before`. If the call gets no answer, look for the version."""
    try:
        return await client.create_task(slug, text, datasets=datasets)
    except FanbenchError as error:
        if call_outcome(error) is not CallOutcome.UNKNOWN:
            raise
        seconds = confirmed_within(client.config)
        emit(CallUnanswered(slug, "push", 0, seconds, str(error)))
        if (found := await version_after(client, slug, before, seconds)) is not None:
            return found
        error.hint = f"No new version of '{slug}' has appeared within {duration(seconds)}: push it again."
        raise


async def _refuse_foreign(client: Api, plan: PushPlan) -> None:
    """Refuse to push to `owner/task` of somebody else, because the push would go to the user's own `task`."""
    me = await username(client)
    if slugify(me) == plan.owner:
        return
    hint = f"Run `fanbench tasks push {plan.slug} -f {plan.file.path}` to push it as your own task."
    if not me:
        raise UsageError(f"The server does not say whether you are {plan.owner}.", hint=hint)
    raise UsageError(
        f"Task '{plan.owner}/{plan.slug}' belongs to {plan.owner}, and you are {me}: "
        "a push goes to one's own tasks only.",
        hint=hint,
    )
