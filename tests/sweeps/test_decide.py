"""The rule that says what is still to be done for a planned run."""

from __future__ import annotations

import pytest

from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, by_planned_run, newest, real_ones
from fanbench.sweeps.decide import Step, next_step
from fanbench.wire.messages import RunState

ONE, OTHER = PlannedRun("t", "m", 1), PlannedRun("t", "m", 2)


def attempt(phase: Phase, number: int = 1, *, errored: bool = False, **fields: object) -> Attempt:
    end = RunState.ERRORED if errored else RunState.COMPLETED
    state = end if phase is Phase.ENDED else None
    return Attempt(ONE, number, "now", 1, phase, 0.0, state=state).with_(**fields)


def errored(number: int) -> Attempt:
    return attempt(Phase.ENDED, number, errored=True)


@pytest.mark.parametrize(
    ("attempts", "retries", "step"),
    [
        ([], 0, Step.SCHEDULE),
        ([attempt(Phase.INTENDED)], 0, Step.FIND),
        ([attempt(Phase.SCHEDULED)], 0, Step.FIND),
        ([attempt(Phase.FOUND)], 0, Step.WATCH),
        ([attempt(Phase.ENDED)], 0, Step.NOTHING),
        ([attempt(Phase.VOID)], 0, Step.SCHEDULE),
        ([errored(1)], 0, Step.NOTHING),
        ([errored(1)], 1, Step.SCHEDULE),
        ([errored(1), errored(2)], 1, Step.NOTHING),
        ([errored(1), attempt(Phase.VOID, 2)], 1, Step.SCHEDULE),
        ([attempt(Phase.ENDED, 2), errored(1)], 9, Step.NOTHING),
        ([attempt(Phase.ENDED, identity="before")], 0, Step.SCHEDULE),
        ([errored(1).with_(identity="before"), errored(2)], 1, Step.SCHEDULE),
    ],
)
def test_the_next_step(attempts: list[Attempt], retries: int, step: Step) -> None:
    """As the table has it: by the newest attempt at the content that there is now."""
    assert next_step(attempts, "now", retry_errored=retries) is step


def test_the_newest_is_a_run_or_may_be_one() -> None:
    """Of this content; what came to nothing is none."""
    first, second = errored(1), attempt(Phase.INTENDED, 2)
    void, before = attempt(Phase.VOID, 3), attempt(Phase.FOUND, 4, identity="before")
    assert real_ones([before, void, second, first], "now") == [first, second]
    assert newest([before, void, second, first], "now") == second
    assert newest([void, before], "now") is None


def test_attempts_by_planned_run() -> None:
    """In the order in which they come."""
    one, other, again = errored(1), errored(1).with_(planned_run=OTHER), errored(2)
    assert by_planned_run([one, other, again]) == {ONE: [one, again], OTHER: [other]}
