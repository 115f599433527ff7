"""What is known of runs without their files: what the journal of a sweep has of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fanbench.results.scales import Scale, merge_scales
from fanbench.wire.messages import RunState

__all__ = ["KnownRun", "scales_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownRun:
    """An attempt at a planned run of a sweep, or a planned run without any attempt.

    Attributes:
        sweep: The folder of the sweep.
        folder: The absolute path of the run's folder; None if nothing of it was saved.
        task: The task's slug, with its owner if the sweep names it so.
        model: The model's slug, without its owner.
        content: Equal for versions of the task that have the same content.
        version: The task's version on the server; None before there is one.
        run_id: The run's id on the server; None if there is no run, as far as is known.
        repeat: The number of the planned run of this task and model, from 1.
        attempt: The number of the attempt, from 1.
        superseded: There is a later attempt at the planned run.
        state: How the run ended, by the server; None if it has not, as far as is known.
        error: Why it errored, or why it was not made.
        scheduled: When it was scheduled, as ISO 8601 in UTC.
        cancelled: The sweep cancelled it on the server.
        scale: The scale that the sweep declares for the task; None if it declares none.
        result: What the server reports for it: a score, or whether the model passed; None for nothing.
    """

    sweep: Path
    folder: Path | None = None
    task: str
    model: str
    content: str
    version: int | None = None
    run_id: int | None = None
    repeat: int = 1
    attempt: int = 1
    superseded: bool = False
    state: RunState | None = None
    error: str = ""
    scheduled: str | None = None
    cancelled: bool = False
    scale: Scale | None = None
    result: float | bool | None = None


def scales_of(known: Iterable[KnownRun]) -> dict[str, Scale]:
    """Return the declared scales of tasks by their slugs (see `merge_scales`)."""
    return merge_scales((run.task, run.scale) for run in known if run.scale is not None)
