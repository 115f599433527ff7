"""Changing what the pages of tasks say: descriptions, tags, provenance, citations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fanbench.errors import FanbenchError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.batch import each_task
from fanbench.operations.events import Emit, ignore_events
from fanbench.operations.lookup import existing_task, needs_call
from fanbench.wire.messages import Task
from fanbench.wire.metadata import Metadata

__all__ = ["Edited", "edit_page", "edit_tasks"]


@dataclass(frozen=True, slots=True)
class Edited:
    """What became of the page of a task.

    Attributes:
        slug: The slug of the task, with its owner if that was given.
        before: The task before.
        change: What was to be changed and differed. If there is nothing, no call was made.
        after: The task as the server has stored it, or else None.
        unknown_tags: The tags that the server does not know, and has left out.
    """

    slug: str
    before: Task
    change: Metadata
    after: Task | None = None
    unknown_tags: tuple[str, ...] = ()

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the values that the page has now and had not before; without `after`, those of `change`."""
        if self.after is None:
            return tuple(self.change.given)
        before, after = Metadata.of(self.before).given, Metadata.of(self.after).given
        return tuple(name for name in self.change.given if after[name] != before[name])

    @property
    def stored_otherwise(self) -> tuple[str, ...]:
        """The names of the values that the server has stored otherwise than is usual, besides unknown tags."""
        if self.after is None:
            return ()
        there = Metadata.of(self.after).given
        usual = self.change.stored().given
        return tuple(name for name, value in usual.items() if name != "tags" and value != there[name])


async def edit_page(client: Api, before: Task, change: Metadata, *, slug: str, version: int = 0) -> Edited:
    """Change what the page of a task says, which is now that of `before`, if it says something else.

    With a `version`, values of a version go to that one, whatever has been pushed meanwhile, and tags in a call of
    their own to the task.

    Raises:
        UnsupportedByServer: The server has no such call.
        FanbenchError: The server refused the change.
    """
    needed = change.changing(Metadata.of(before))
    if not needed.given:
        return Edited(slug, before, needed)
    of_task, of_version = (needed.only_tags, needed.without_tags) if version else (needed, Metadata())
    after, unknown = None, list[str]()
    with needs_call("This server cannot change what the page of a task says"):
        for change_of, number in ((of_task, 0), (of_version, version)):
            if change_of.given:
                answer = await client.update_task(slug, version=number, **change_of.given)
                after, unknown = answer.task, unknown + answer.invalid_tags
    after = after or await existing_task(client, slug, version)
    return Edited(slug, before, needed, after, tuple(unknown))


async def edit_tasks(
    client: Api, tasks: Sequence[str], change: Metadata, *, version: int = 0, dry_run: bool = False
) -> list[Edited | FanbenchError]:
    """Change what the pages of tasks say, of one `version` or (0) of the newest.

    With `dry_run`, nothing is changed, and the outcomes say what would be. Returns one outcome per task in the order
    given; an error stands for a task that failed.

    Raises:
        UsageError: A name is not valid, or a value is one that servers refuse. Nothing has been sent.
    """
    if change.problem:
        raise UsageError(f"{change.problem}.")

    async def edit(slug: str, emit: Emit) -> Edited:
        before = await existing_task(client, slug, version)
        if dry_run:
            return Edited(slug, before, change.changing(Metadata.of(before)))
        return await edit_page(client, before, change, slug=slug, version=version)

    return await each_task(tasks, edit, limit=client.config.concurrency, emit=ignore_events)
