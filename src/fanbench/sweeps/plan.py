"""What a sweep is to do, before anything is touched."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fanbench.sweeps.attempts import PlannedRun, expand_runs
from fanbench.sweeps.spec import Rules
from fanbench.wire.messages import Task

__all__ = ["PlannedTask", "SweepPlan"]


@dataclass(frozen=True, slots=True)
class PlannedTask:
    """A task of a sweep, named by its slug ("slug" or "owner/slug").

    `notebook` is the `.ipynb` text of a task that comes from `file`, `None` for one that is on the server
    already. `seen` is the task as the server had it when the plan was made, `None` for none. `identity` is
    that of the content that is to be run (see `fanbench.sweeps.attempts`).
    """

    slug: str
    identity: str
    seen: Task | None
    file: Path | None = None
    notebook: str | None = None
    datasets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """Tasks × models × repeats, where the results go, and how it is to be run."""

    tasks: tuple[PlannedTask, ...]
    models: tuple[str, ...]
    output: Path
    repeats: int = 1
    rules: Rules = field(default_factory=Rules)

    @property
    def planned_runs(self) -> list[PlannedRun]:
        """All planned runs, in the order in which they are reported."""
        return expand_runs((task.slug for task in self.tasks), self.models, self.repeats)
