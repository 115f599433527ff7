"""`--step`: one stage of a sweep at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fanbench.errors import FanbenchError, RunFailed

if TYPE_CHECKING:
    from fanbench.sweeps.attempts import TaskRecord
    from fanbench.sweeps.engine import Stage
    from fanbench.sweeps.journal import Records
    from fanbench.sweeps.plan import PlannedTask, SweepPlan
    from fanbench.sweeps.preview import Preview
    from fanbench.sweeps.state import SweepState

__all__ = ["came_out", "next_stage", "question", "stage_failure"]


def next_stage(plan: SweepPlan, records: Records | None) -> Stage:
    """The first stage that has something to do."""
    from fanbench.sweeps.attempts import by_planned_run
    from fanbench.sweeps.decide import Step, next_step

    attempts = by_planned_run(records.attempts() if records else ())
    tasks = {task.slug: task for task in plan.tasks}
    steps = {
        planned_run: next_step(
            attempts.get(planned_run, ()),
            tasks[planned_run.task].identity,
            retry_errored=plan.rules.retry_errored,
        )
        for planned_run in plan.planned_runs
    }
    due = {planned_run.task for planned_run, step in steps.items() if step is Step.SCHEDULE}
    known = records.tasks() if records else {}
    if any(not _is_ready(tasks[slug], known.get(slug)) for slug in due):
        return "push"
    return "schedule" if due or Step.FIND in steps.values() else "collect"


def _is_ready(task: PlannedTask, record: TaskRecord | None) -> bool:
    from fanbench.sweeps.attempts import TaskPhase

    if task.notebook is None:
        return True
    return record is not None and record.identity == task.identity and record.phase is TaskPhase.READY


def question(stage: Stage, preview: Preview) -> str:
    """What the user is asked before it."""
    counts = preview.counts
    match stage:
        case "push":
            return f"First stage of three: push {preview.pushes} task(s), and wait until they can be run?"
        case "schedule":
            return f"Second stage of three: schedule {counts.schedule + counts.find} run(s)?"
        case _:
            left = counts.planned - counts.done
            return f"Third stage of three: follow {left} run(s) to their end, and download them?"


def came_out(stage: Stage, state: SweepState) -> Iterator[str]:
    """What a stage has done."""
    from fanbench.sweeps.decide import RunStatus

    if stage == "push":
        for slug, task in state.tasks.items():
            yield f"{slug}: {f'version {task.version} is ready' if task.ready else _not_ready(task.failed)}"
    else:
        words = [f"{state.counts[each]} {each.label}" for each in RunStatus if state.counts[each]]
        yield f"Runs: {', '.join(words)}"


def _not_ready(failed: str | None) -> str:
    return f"failed: {failed}" if failed is not None else "nothing to push"


def stage_failure(state: SweepState) -> FanbenchError | None:
    """What a stage that is not the last ends with; `None` if all of it went well."""
    from fanbench.sweeps.decide import RunStatus

    failed = sum(task.failed is not None for task in state.tasks.values())
    missing = state.counts[RunStatus.MISSING]
    if not failed and not missing:
        return None
    return RunFailed(f"{failed} task(s) failed, {missing} run(s) are missing.")
