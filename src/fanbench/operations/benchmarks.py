"""Benchmarks as collections of tasks: their names, their tasks, and changes of these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fanbench.errors import ApiError, UsageError
from fanbench.operations.api import Api
from fanbench.operations.batch import unique_slugs
from fanbench.operations.lookup import NO_SUCH_CALL, UnsupportedByServer, needs_call, username
from fanbench.wire.messages import Task, TaskSlug
from fanbench.wire.slugs import slugify

__all__ = [
    "BenchmarkChange",
    "benchmark_name",
    "change_benchmark",
    "own_benchmark",
    "tasks_of_benchmark",
    "tasks_of_owner",
    "whole_name",
]

#: No benchmark has this name, because a slug cannot begin with a hyphen.
_NO_BENCHMARK = "-"


@dataclass(frozen=True, slots=True)
class BenchmarkChange:
    """The tasks that were added or removed, and the `skipped` ones, for which there was nothing to do."""

    owner: str
    benchmark: str
    changed: tuple[TaskSlug, ...]
    skipped: tuple[TaskSlug, ...]


def benchmark_name(text: str) -> tuple[str, str]:
    """Return the owner, empty if none is given, and the slug of OWNER/BENCHMARK or BENCHMARK.

    Raises:
        UsageError: The text is neither of them.
    """
    parts = text.strip().split("/")
    # The slug becomes the name of a file.
    valid = all(
        part.strip() and part not in (".", "..") and part.isprintable() and "\\" not in part for part in parts
    )
    if len(parts) > 2 or not valid:
        raise UsageError(f"'{text}' is not a benchmark.", hint="Write it as OWNER/BENCHMARK.")
    return (parts[0], parts[1]) if len(parts) == 2 else ("", parts[0])


async def whole_name(client: Api, benchmark: str) -> tuple[str, str]:
    """Return the owner and the slug of a benchmark, whose owner is the user unless it is written.

    Raises:
        UsageError: The name is not valid, or has no owner and the server does not say who the user is.
    """
    owner, slug = benchmark_name(benchmark)
    owner = owner or await username(client)
    if not owner:
        raise UsageError("The benchmark has no owner.", hint="Write it as OWNER/BENCHMARK.")
    return owner, slug


async def own_benchmark(client: Api, benchmark: str) -> tuple[str, str]:
    """Return the owner and the slug of a benchmark of the user. Others cannot be changed, or even named, in a change.

    Raises:
        UsageError: The name is not valid, or that of somebody else's benchmark. Nothing has been changed.
    """
    owner, slug = benchmark_name(benchmark)
    me = await username(client)
    if not owner or slugify(me) == slugify(owner):
        return owner or me, slug
    if not me:
        raise UsageError(
            f"The server does not say whether you are {owner}.",
            hint=f"Write '{slug}' for your own benchmark.",
        )
    raise UsageError(
        f"Benchmark '{owner}/{slug}' belongs to {owner}, and you are {me}.",
        hint="Only your own benchmarks can be changed.",
    )


async def tasks_of_benchmark(
    client: Api, benchmark: str, *, version: int = 0, regex: str | None = None, status: str | None = None
) -> list[Task]:
    """Return the tasks of a benchmark: of one `version`, or (0) of its published one, or else of its draft.

    Raises:
        NotFound: The benchmark does not exist.
        UnsupportedByServer: The server cannot list them.
    """
    owner, slug = await whole_name(client, benchmark)
    listed = client.list_tasks(regex=regex, status=status, owner=owner, benchmark=slug, version=version)
    tasks = [task async for task in listed]
    if tasks and await _lists_anything(client, owner):
        raise UnsupportedByServer(
            "This server cannot list the tasks of a benchmark: its ListBenchmarkTasks does not know benchmarks."
        )
    return tasks


async def _lists_anything(client: Api, owner: str) -> bool:
    """Whether the server lists tasks of a benchmark that cannot exist: an older one ignores what it does not know."""
    try:
        return await anext(client.list_tasks(owner=owner, benchmark=_NO_BENCHMARK), None) is not None
    except ApiError as error:
        if error.status not in (400, 403, *NO_SUCH_CALL):
            raise
        return False


async def tasks_of_owner(
    client: Api, owner: str, *, regex: str | None = None, status: str | None = None
) -> list[Task]:
    """Return the tasks of an owner that the user may see.

    Raises:
        UnsupportedByServer: The server lists only the user's.
    """
    tasks = [task async for task in client.list_tasks(regex=regex, status=status, owner=owner)]
    if any(slugify(task.slug.owner_slug) != slugify(owner) for task in tasks):
        raise UnsupportedByServer(
            "This server cannot list the tasks of an owner: its ListBenchmarkTasks does not know owners."
        )
    return tasks


async def change_benchmark(
    client: Api, action: Literal["add", "remove"], benchmark: str, tasks: Sequence[str], *, version: int = 0
) -> BenchmarkChange:
    """Add tasks to a benchmark of the user, or remove them from it, in one call.

    Raises:
        UsageError: A name is not valid, or the benchmark is somebody else's.
        NotFound: The benchmark or a task does not exist.
        UnsupportedByServer: The server has no such call.
    """
    slugs = unique_slugs(tasks)
    owner, slug = await own_benchmark(client, benchmark)
    with needs_call("This server cannot change the tasks of a benchmark"):
        if action == "add":
            added = await client.add_tasks(slug, slugs, version=version)
            changed, skipped = added.added_tasks, added.skipped_tasks
        else:
            removed = await client.remove_tasks(slug, slugs, version=version)
            changed, skipped = removed.removed_tasks, removed.skipped_tasks
    return BenchmarkChange(owner, slug, tuple(changed), tuple(skipped))
