"""The queue of a simulated Kaggle: when its runs begin, so that no more run at a time than its limits say."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator

from fanbench.testing.state import SimulatedRun
from fanbench.wire.messages import QueueSettings

__all__ = ["SimulatedQueue"]


class _Slots:
    """The places of runs that may run at the same time, by when they are free; without end for None."""

    def __init__(self, number: int | None) -> None:
        self._free_at = None if number is None else [-math.inf] * number

    @property
    def next_free(self) -> float:
        if self._free_at is None:
            return -math.inf
        return self._free_at[0] if self._free_at else math.inf

    def take(self, until: float) -> None:
        """Take the place that is free first."""
        if self._free_at:
            heapq.heapreplace(self._free_at, until)


class SimulatedQueue:
    """First come, first served, by slots for all models together and slots for each model."""

    def __init__(self) -> None:
        #: Each run with the second at which it would begin if it were alone.
        self._runs: list[tuple[SimulatedRun, float]] = []
        self._settings = QueueSettings()
        self._slots = _Slots(None)
        self._slots_of: dict[str, _Slots] = {}

    def put(self, run: SimulatedRun) -> None:
        """Let the run begin once it has been queued as long as its script says, and there are slots for it."""
        self._runs.append((run, run.begins))
        run.begin_at(self._place(run, run.begins))

    def __len__(self) -> int:
        return len(self._runs)

    def plan_again(self, now: float, settings: QueueSettings) -> Iterator[tuple[SimulatedRun, float]]:
        """Yield the runs that have not begun, each with the second at which it is to begin under these settings."""
        self._runs = [(run, alone) for run, alone in self._runs if run.ends > now]
        self._settings, self._slots, self._slots_of = settings, _Slots(settings.max_concurrency), {}
        begun = [run for run, _ in self._runs if run.begins <= now]
        for run in begun:
            self._take_slots(run, run.begins)
        for run, alone in self._runs:
            if run not in begun:
                yield run, self._place(run, max(now, alone))

    def _place(self, run: SimulatedRun, earliest: float) -> float:
        """Return when the run can begin, which is never while nothing leaves the queue."""
        return self._take_slots(run, earliest) if self._settings.enabled else math.inf

    def _take_slots(self, run: SimulatedRun, earliest: float) -> float:
        """Take the slots of a run, and return when it can begin."""
        limit = self._settings.max_concurrency_per_candidate_model
        own = self._slots_of.setdefault(run.slug_of_model, _Slots(limit))
        begins = max(earliest, self._slots.next_free, own.next_free)
        for slots in (self._slots, own):
            slots.take(begins + run.script.running + run.script.scoring)
        return begins
