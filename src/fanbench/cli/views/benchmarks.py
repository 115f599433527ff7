"""What `fanbench benchmarks add` and `remove` ask and show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

from fanbench._util.text import first_few, many
from fanbench.cli.command import Settings
from fanbench.cli.prompts import confirm
from fanbench.cli.session import call
from fanbench.errors import FanbenchError, NotFound
from fanbench.operations.batch import unique_slugs
from fanbench.operations.benchmarks import benchmark_name, change_benchmark
from fanbench.wire.messages import TaskSlug
from fanbench.wire.slugs import join_task

__all__ = ["FIELDS", "confirm_and_change"]

FIELDS = ("benchmark", "task", "owner", "version", "outcome")


def confirm_and_change(
    settings: Settings,
    action: Literal["add", "remove"],
    benchmark: str,
    task_names: Sequence[str],
    *,
    version: int,
    yes: bool,
) -> None:
    is_add = action == "add"
    benchmark_name(benchmark)
    slugs = unique_slugs(task_names)
    tasks = f"{many(len(slugs), 'task')} ({first_few(slugs)})"
    question = f"Add {tasks} to {benchmark}?" if is_add else f"Remove {tasks} from {benchmark}?"
    if not confirm(question, yes=yes, default=is_add):
        raise FanbenchError("Nothing was changed.")
    try:
        done = call(
            settings, lambda client: change_benchmark(client, action, benchmark, slugs, version=version)
        )
    except NotFound as error:
        makes = (
            "`benchmarks add` makes benchmarks" if settings.local else "benchmarks are made on Kaggle's site"
        )
        error.hint = f"Check the names of the benchmark and the tasks; {makes}."
        raise
    out, name = settings.output, f"{done.owner}/{done.benchmark}".lstrip("/")
    past, nothing = ("added to", "in it already") if is_add else ("removed from", "not in it")
    out.text(f"{many(len(done.changed), 'task')} {past} {name}")
    if done.skipped:
        out.text(f"{many(len(done.skipped), 'task')} {nothing}: {', '.join(map(join_task, done.skipped))}")
    records = [_record(name, slug, "added" if is_add else "removed") for slug in done.changed]
    out.records([*records, *(_record(name, slug, "skipped") for slug in done.skipped)], FIELDS)


def _record(benchmark: str, slug: TaskSlug, outcome: str) -> dict[str, Any]:
    return {
        "benchmark": benchmark,
        "task": slug.task_slug,
        "owner": slug.owner_slug or None,
        "version": slug.version_number or None,
        "outcome": outcome,
    }
