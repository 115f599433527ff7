"""Which call is hit by which fault depends on the seed, and on nothing else."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.faults.injector import FaultInjector
from fanbench.testing import ApiCall, Fault


def hits(injector: FaultInjector, calls: list[ApiCall], second: float = 0.0) -> list[bool]:
    return [injector.choose(call, second) is not None for call in calls]


LISTS: list[ApiCall] = ["list_runs"] * 40


@settings(max_examples=40)  # each is 40 calls among others
@given(
    seed=st.integers(0, 9),
    others=st.lists(st.sampled_from(["get_task", "logs", "list_models"]), max_size=40),
    order=st.randoms(use_true_random=False),
)
def test_other_calls_change_nothing(seed: int, others: list[ApiCall], order: Random) -> None:
    """The n-th call of a kind is hit or not, whatever other calls are in between."""
    faults = (Fault("list_runs", share=0.3), Fault("get_task", share=0.5))
    alone = hits(FaultInjector(faults, seed), LISTS)
    calls = LISTS + others
    order.shuffle(calls)
    mixed = hits(FaultInjector(faults, seed), calls)
    assert [hit for call, hit in zip(calls, mixed, strict=True) if call == "list_runs"] == alone


@pytest.mark.parametrize(("share", "seed"), [(0.05, 1), (0.5, 2), (0.95, 3)])
def test_a_share_of_the_calls_is_hit(share: float, seed: int) -> None:
    """Of many calls, a fault hits its share, up to five standard deviations."""
    number = 2000
    hit = sum(hits(FaultInjector([Fault("logs", share=share)], seed), ["logs"] * number))
    assert abs(hit - share * number) <= 5 * math.sqrt(number * share * (1 - share))


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("logs"), [1]),
        (Fault("logs", first=3, times=2), [3, 4]),
        (Fault("logs", every=3), [1, 4, 7, 10]),
        (Fault("logs", first=2, every=3, times=2), [2, 5]),
        (Fault("all", every=4), [1, 5, 9]),
        (Fault("logs", every=1), [*range(1, 11)]),
        (Fault("logs", share=1.0), [*range(1, 11)]),
        (Fault("get_task", times=math.inf), []),
        (Fault("model", times=math.inf), []),
    ],
)
def test_the_calls_that_are_counted(fault: Fault, expected: list[int]) -> None:
    """`first`, `every` and `times` choose calls by their number."""
    found = hits(FaultInjector([fault]), ["logs"] * 10)
    assert [number for number, hit in enumerate(found, 1) if hit] == expected


def test_a_period() -> None:
    """Only calls in the period of a fault are counted."""
    injector = FaultInjector([Fault("logs", first=2, since=10.0, until=20.0)])
    assert [hits(injector, ["logs"], second) for second in (0, 5, 10, 15, 20)] == [
        [False],
        [False],
        [False],
        [True],
        [False],
    ]


def test_the_first_fault_that_applies() -> None:
    """Of several faults, the first is used; the others count the call all the same."""
    faults = (Fault("logs", 429), Fault("all", 503, times=2))
    injector = FaultInjector(faults)
    found = [injector.choose("logs", 0.0) for _ in range(3)]
    assert [hit.fault.status if hit else None for hit in found] == [429, 503, None]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"call": "nothing"}, "call must be create_task, "),
        ({"damage": "nothing"}, "damage must be reset, "),
        ({"status": 42}, "status must be"),
        ({"status": 503, "damage": "cut"}, "exclude each other"),
        ({"retry_after": 3}, "need a status"),
        ({"share": 0}, "share must be"),
        ({"every": 0}, "at least 1"),
        ({"since": 5, "until": 5}, "before until"),
        ({"delay": (5, 1)}, "delay must be"),
        ({"delay": -1}, "delay must be"),
        ({"rate": 0}, "rate must be"),
        ({"rate": math.inf}, "rate must be"),
        ({"status": 429, "retry_after": math.inf}, "retry_after must be"),
        ({"status": 429, "retry_after": math.nan}, "retry_after must be"),
        ({"status": 429, "retry_after": "1\r\nX: y"}, "retry_after must be"),
        ({"status": 429, "retry_after": "später"}, "retry_after must be"),
        ({"status": 429, "retry_after_date": 1e12}, "at most 100 years"),
        ({"skew": math.nan}, "at most 100 years"),
        ({"events": -1}, "not be negative"),
    ],
)
def test_faults_that_are_impossible(fields: dict[str, object], problem: str) -> None:
    """A fault that contradicts itself is refused where it is written."""
    with pytest.raises(ValueError, match=problem):
        Fault(**{"call": "logs", **fields})  # type: ignore[arg-type]
