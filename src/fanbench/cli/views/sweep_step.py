"""`fanbench sweep --step`: one stage of a sweep at a time."""

from __future__ import annotations

from collections.abc import Iterator

from fanbench.errors import FanbenchError, RunFailed
from fanbench.sweeps.decide import RunStatus, Stage
from fanbench.sweeps.preview import Preview
from fanbench.sweeps.state import SweepState

__all__ = ["question", "stage_failure", "stage_results"]


def question(stage: Stage, preview: Preview) -> str:
    """What the user is asked before a stage."""
    counts = preview.counts
    match stage:
        case "push":
            return f"Stage 1 of 3: push {preview.pushes} task(s), and wait until they are created?"
        case "schedule":
            return f"Stage 2 of 3: schedule {counts.schedule + counts.find} run(s)?"
        case _:
            left = counts.planned - counts.done
            return f"Stage 3 of 3: follow {left} run(s) to their end, and download them?"


def stage_results(stage: Stage, state: SweepState) -> Iterator[str]:
    """What a stage has done."""
    if stage == "push":
        for slug, task in state.tasks.items():
            if task.ready:
                yield f"{slug}: version {task.version} is ready"
            else:
                yield f"{slug}: {'nothing to push' if task.failed is None else f'failed: {task.failed}'}"
    else:
        counts = [f"{state.counts[each]} {each.label}" for each in RunStatus if state.counts[each]]
        yield f"Runs: {', '.join(counts)}"


def stage_failure(state: SweepState) -> FanbenchError | None:
    """The error that a stage other than the last ends with; None if all of it went well."""
    failed = sum(task.failed is not None for task in state.tasks.values())
    missing = state.counts[RunStatus.MISSING]
    if not failed and not missing:
        return None
    return RunFailed(f"{failed} task(s) failed, {missing} run(s) are missing.")
