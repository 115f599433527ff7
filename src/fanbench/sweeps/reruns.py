"""Planned runs that are made again on request (`--rerun`), each once, however often the sweep is interrupted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec

from fanbench.errors import JournalError
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, newest
from fanbench.sweeps.decide import Step, next_step
from fanbench.sweeps.journal import FRESH, Journal
from fanbench.sweeps.plan import SweepPlan

__all__ = ["Reruns"]

_NAME = "reruns"


class _Saved(msgspec.Struct, frozen=True):
    """`Reruns` as JSON: task, model, repeat and number of each."""

    after: list[tuple[str, str, int, int]]
    ended: bool


@dataclass(frozen=True, slots=True)
class Reruns:
    """What is made again.

    Attributes:
        after: By planned run, the number of its newest attempt when it was asked for. A later one is wanted.
        ended: The sweep has come to an end since then. If not, it was killed, and the same request continues it.
    """

    after: Mapping[PlannedRun, int] = field(default_factory=dict)
    ended: bool = True

    @classmethod
    def read(cls, journal: Journal | None) -> Reruns:
        """Return what the journal has.

        Raises:
            JournalError: It cannot be read.
        """
        text = journal.value(_NAME) if journal is not None else None
        if text is None:
            return cls()
        try:
            saved = msgspec.json.decode(text, type=_Saved)
        except msgspec.MsgspecError as error:
            raise JournalError(f"The reruns in the journal cannot be read: {error}", hint=FRESH) from None
        after = {PlannedRun(task, model, repeat): number for task, model, repeat, number in saved.after}
        return cls(after, saved.ended)

    def save(self, journal: Journal) -> None:
        after = [(run.task, run.model, run.repeat, number) for run, number in self.after.items()]
        journal.save_value(_NAME, msgspec.json.encode(_Saved(after, self.ended)).decode())

    def with_request(self, plan: SweepPlan, attempts: Mapping[PlannedRun, Sequence[Attempt]]) -> Reruns:
        """Add what `plan` asks for. A run that has not ended is only continued.

        As long as some of it was asked for before and is not done, or the sweep has not come to an end since, this
        continues the earlier request: what that has made is not made again. Once the sweep has come to an end, it is if
        its files could not be fetched.
        """
        if not plan.rerun:
            return self
        identities = {task.slug: task.identity for task in plan.tasks}

        def step(run: PlannedRun) -> Step:
            later = [one for one in attempts.get(run, ()) if one.number > self.after[run]]
            return next_step(later, identities[run.task], retry_errored=plan.rules.retry_errored)

        steps = {run: step(run) for run in plan.rerun if run in self.after}
        if self.ended and set(steps.values()) == {Step.DONE}:
            steps = {}
        after = dict(self.after)
        for run in plan.rerun:
            is_continued = run in steps and not (self.ended and steps[run] is Step.COLLECT)
            last = newest(attempts.get(run, ()), identities[run.task])
            if not is_continued and last is not None and last.phase is Phase.ENDED:
                after[run] = last.number
        return Reruns(after, ended=False)

    def with_end(self) -> Reruns:
        return replace(self, ended=True)
