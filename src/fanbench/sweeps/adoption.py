"""What the server has already of a sweep: its tasks with the same content, and runs of these that it can take over.

Only a version whose content is certain counts: one that the sweep has pushed, one that it names, or one whose notebook
and datasets are those of the file (see `has_content`). A run is taken for one planned run at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial

import anyio.to_thread

from fanbench._util.concurrency import settle
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.contents import has_content
from fanbench.operations.lookup import as_scheduled, model_of, runs_of
from fanbench.sweeps.attempts import PlannedRun, TaskRecord
from fanbench.sweeps.decide import push_step
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.wire.messages import Run, RunState

__all__ = ["compare_with_server", "match_runs", "takeable"]


async def compare_with_server(client: Api, plan: SweepPlan, *, fresh: bool = False) -> SweepPlan:
    """Return the plan with what the server has of its tasks: the same content, and runs to take over.

    Only tasks are compared that would be pushed by the journal of the folder, which a `fresh` sweep does not read.
    What cannot be compared is pushed.

    Raises:
        JournalError: The journal cannot be read.
    """

    def read_records() -> dict[str, TaskRecord]:
        journal = None if fresh else Journal.read(plan.output)
        if journal is None:
            return {}
        with journal:
            return journal.tasks()

    records = await anyio.to_thread.run_sync(read_records)
    jobs = [partial(_compare, client, plan, task, records.get(task.slug)) for task in plan.tasks]
    compared = await settle(jobs, limit=client.config.concurrency)
    tasks = [
        task if isinstance(found, FanbenchError) else found
        for task, found in zip(plan.tasks, compared, strict=True)
    ]
    return replace(plan, tasks=tuple(tasks))


async def _compare(client: Api, plan: SweepPlan, task: PlannedTask, record: TaskRecord | None) -> PlannedTask:
    if task.is_gone and record is not None:
        # Its runs are those of the version that was there.
        return replace(task, identity=record.identity)
    pushed = push_step(record, task.identity, task.seen, retry_failed=plan.rules.retry_failed).needs_push
    if task.seen is not None and task.notebook is not None and pushed:
        same = await has_content(client, task.seen, task.notebook, task.datasets)
        task = replace(task, same_as_server=same)
    if plan.judge or not (plan.rules.adopt or task.same_as_server):
        return task
    if task.seen is None or (pushed and not task.same_as_server):
        return task
    version = task.seen.slug.version_number
    listed = as_scheduled(await runs_of(client, task.slug, version=version), plan.models)
    return replace(task, runs=tuple(takeable(listed, version)))


def takeable(runs: Iterable[Run], version: int) -> list[Run]:
    """Return the runs of this version that may become planned runs, the best ones first.

    Those that have completed are the best. Those that have errored are left out: the sweep makes these runs itself.
    """
    fitting = [
        run
        for run in runs
        if run.id and run.state != RunState.ERRORED and run.task_slug.version_number in (0, version)
    ]
    return sorted(fitting, key=lambda run: (run.state != RunState.COMPLETED, run.id))


def match_runs(
    runs: Iterable[Run], planned: Iterable[PlannedRun], ours: Collection[int]
) -> Mapping[PlannedRun, Run]:
    """Return which of the `runs` are taken for which of the `planned` runs of their task; `ours` are taken already."""
    by_model: dict[str, list[Run]] = {}
    for run in runs:
        if run.id not in ours:
            by_model.setdefault(model_of(run), []).append(run)
    return {each: by_model[each.model].pop(0) for each in planned if by_model.get(each.model)}
