"""A sweep whose journal tests write step by step, as `fanbench sweep` does."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, SavedLog, SavedOutput
from fanbench.sweeps.journal import Journal
from fanbench.wire.messages import RunState
from tests.results.folders import add_run

__all__ = ["collect", "schedule"]


def schedule(root: Path, journal: Journal, task: str, model: str, run_id: int = 1) -> Attempt:
    """Record a run that the server has, and that has not ended."""
    attempt = Attempt(
        PlannedRun(task, model), 1, f"content-1:{task}", 1, Phase.FOUND, 1_800_000_000.0, run_id
    )
    journal.save_attempts([attempt])
    return attempt


def collect(
    root: Path,
    journal: Journal,
    task: str,
    model: str,
    values: Iterable[Any],
    state: RunState,
    run_id: int = 1,
) -> None:
    """Record that a run has ended, with its files on the disk."""
    folder = add_run(root, f"google/{model}", values, task=task, run_id=run_id)
    log = folder.with_name(f"{run_id}.log")
    log.write_text("done\n")
    attempt = msgspec.structs.replace(
        schedule(root, journal, task, model, run_id),
        phase=Phase.ENDED,
        state=state,
        output=SavedOutput(str(folder.relative_to(root)), 1, 1, "d"),
        log=SavedLog(str(log.relative_to(root)), 1, 5),
    )
    journal.save_attempts([attempt])
