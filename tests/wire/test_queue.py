"""How runs are put into a server's queue, which of them it leaves alone, and what it says of itself."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fanbench.errors import UsageError
from fanbench.wire.messages import BatchScheduleRequest, QueueSettings, RunState, SkipPolicy
from fanbench.wire.queue import Enqueue, make_status, requested_enqueue, skip_reason

NOW = datetime(2027, 1, 1, tzinfo=UTC)
STATES = list(RunState)[1:]
# The policies in the order of the documentation, in which each queues all that the one before it does.
WIDER = [SkipPolicy.MISSING_ONLY, SkipPolicy.MISSING_OR_ERRORED, SkipPolicy.STALER_THAN]

seconds = st.integers(0, 10**9)
histories = st.lists(st.tuples(st.sampled_from(STATES), seconds), max_size=4)


def queued(policy: SkipPolicy, runs: list[tuple[RunState, int]], stale_after: int) -> bool:
    """The documentation in other words: whether a pair with these runs, newest first, each of an age, is queued."""
    if policy is SkipPolicy.ALL:
        return True
    if any(not state.terminal for state, _ in runs):
        return False
    reasons = {SkipPolicy.MISSING_ONLY: not runs}
    reasons[SkipPolicy.MISSING_OR_ERRORED] = bool(runs) and runs[0][0] is RunState.ERRORED
    reasons[SkipPolicy.STALER_THAN] = bool(runs) and runs[0][1] > stale_after
    meant = SkipPolicy.MISSING_OR_ERRORED if policy is SkipPolicy.UNSPECIFIED else policy
    return any(reasons[each] for each in WIDER[: WIDER.index(meant) + 1])


@given(policy=st.sampled_from(SkipPolicy), runs=histories, stale_after=seconds)
@example(SkipPolicy.STALER_THAN, [(RunState.COMPLETED, 10)], 10)
def test_the_skip_policies(policy: SkipPolicy, runs: list[tuple[RunState, int]], stale_after: int) -> None:
    """Whatever runs a pair has, each policy queues exactly what the documentation says, and names a reason if not."""
    enqueue = Enqueue(skip=policy, stale_after=stale_after if policy is SkipPolicy.STALER_THAN else None)
    shown = [(state, NOW - timedelta(seconds=age) if state.terminal else None) for state, age in runs]
    assert (not skip_reason(enqueue, shown, NOW)) == queued(policy, runs, stale_after)


@given(stale_after=st.floats(0, 10**10) | seconds.map(float))
@example(86_400.0)
@example(1e-9)
def test_durations_of_any_length(stale_after: float) -> None:
    """What a client sends as `stale_after` is what a server reads, to the nanosecond, also if it is many days."""
    sent = Enqueue(skip=SkipPolicy.STALER_THAN, stale_after=stale_after)
    request = BatchScheduleRequest(enqueue=True, skip_policy=sent.skip, stale_after=sent.duration)
    read = requested_enqueue(request, "me")
    assert read is not None
    assert read.stale_after == pytest.approx(stale_after, rel=1e-15, abs=1e-9)


@pytest.mark.parametrize(
    ("sent", "text"), [(86_400.0, "86400s"), (0.5, "0.5s"), (1e10, "10000000000s"), (0.0, "0s")]
)
def test_durations_are_seconds(sent: float, text: str) -> None:
    """A duration is sent in seconds, without an exponent."""
    assert Enqueue(skip=SkipPolicy.STALER_THAN, stale_after=sent).duration == text


@pytest.mark.parametrize(
    "terms",
    [
        {"skip": SkipPolicy.STALER_THAN},
        {"stale_after": 1.0},
        {"skip": SkipPolicy.STALER_THAN, "stale_after": -1.0},
        {"skip": SkipPolicy.STALER_THAN, "stale_after": float("nan")},
        {"benchmark": "without-an-owner"},
        {"benchmark": "owner/"},
        {"benchmark": "/benchmark"},
    ],
)
def test_what_does_not_go_together_is_refused(terms: dict[str, object]) -> None:
    """A policy without its time, a time without its policy, and half a benchmark are refused at once."""
    with pytest.raises(UsageError):
        Enqueue(**terms)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "request_",
    [
        BatchScheduleRequest(skip_policy=SkipPolicy.ALL),
        BatchScheduleRequest(stale_after="1s"),
        BatchScheduleRequest(enqueue=True, stale_after="1s"),
        BatchScheduleRequest(enqueue=True, skip_policy=SkipPolicy.STALER_THAN),
        *(
            BatchScheduleRequest(enqueue=True, skip_policy=SkipPolicy.STALER_THAN, stale_after=text)
            for text in ("1", "-1s", "1e3s", "1.s", "١s", "99999999999s", "1s\n")
        ),
        BatchScheduleRequest(enqueue=True, skip_policy=SkipPolicy("NEWER_THAN")),
    ],
    ids=str,
)
def test_a_server_refuses_requests_that_make_no_sense(request_: BatchScheduleRequest) -> None:
    """Terms of the queue without it, unknown policies, and times that are no durations are refused."""
    with pytest.raises(ValueError, match=r"\w"):
        requested_enqueue(request_, "me")


tallies = st.lists(
    st.tuples(st.integers(1, 3), st.integers(0, 2), st.sampled_from(STATES), st.integers(1, 5)), max_size=12
)


@given(tallies)
def test_the_parts_of_a_status_add_up(counted: list[tuple[int, int, RunState, int]]) -> None:
    """The runs per model and per benchmark add up to all, live and ended apart, the busiest model first."""
    status = make_status(counted, {1: "one", 2: "two"}, QueueSettings(enabled=True))
    expected = Counter[RunState]()
    for _, _, state, number in counted:
        expected[state] += number
    live = {each.state: each.count for each in status.state_counts}
    recent = {each.state: each.count for each in status.recent_state_counts}
    assert live | recent == expected
    assert all(not state.terminal for state in live)
    assert all(state.terminal for state in recent)
    for stats in (status.model_version_stats, status.benchmark_stats):
        assert sum(each.queued_count for each in stats) == expected[RunState.QUEUED]
        assert sum(each.running_count for each in stats) == expected[RunState.RUNNING]
        ended = sum(count.count for each in stats for count in each.recent_state_counts)
        assert ended == expected[RunState.COMPLETED] + expected[RunState.ERRORED]
    order = [(-each.running_count, each.benchmark_model_version_id) for each in status.model_version_stats]
    assert order == sorted(order)
