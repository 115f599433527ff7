"""Quotas, and the names of benchmarks."""

from __future__ import annotations

import sys

import pytest

from fanbench import ConnectionFailed, UsageError
from fanbench.operations.benchmarks import benchmark_name
from fanbench.operations.leaderboard import shown_score
from fanbench.operations.quota import fetch_quotas
from fanbench.testing import Fault
from fanbench.wire.messages import (
    BenchmarkResult,
    DisplayType,
    NumericResult,
    QuotaBalance,
    RefillPeriod,
    TaskQuota,
)
from tests.operations.conftest import simulated
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("text", "name"), [("me/b", ("me", "b")), ("b", ("", "b")), (" me/b ", ("me", "b"))])
def test_names_of_benchmarks(text: str, name: tuple[str, str]) -> None:
    """The name of a benchmark may have an owner."""
    assert benchmark_name(text) == name


@pytest.mark.parametrize("text", ["", "/", "me/", "/b", "a/b/c", "..", "me/..", "me/a\\b", "me/a\nb"])
def test_invalid_names_of_benchmarks(text: str) -> None:
    """A benchmark's name must also be valid as the name of a file."""
    with pytest.raises(UsageError):
        benchmark_name(text)


@pytest.mark.parametrize(
    ("scale", "value", "text"),
    [
        ("PERCENTAGES", 0.12345, "12.3%"),
        ("PERCENTAGES", 45600.0, "4560000.0%"),
        ("RAW_PERCENTAGES", 4.56, "4.6%"),
        ("RAW_PERCENTAGES", 75, "75.0%"),
        ("COUNTS", 789.57, "790"),
        ("FLOAT_COUNTS", 456, "456.0"),
        ("RAW_VALUES", 123.444, "123.44"),
        ("DOLLARS", 790.567, "$790.57"),
        ("CENTS", 456, "¢456.00"),
        ("WHOLE_DOLLARS", 2601845.4, "$2,601,845"),
        ("SOMETHING_NEW", 1.5, "1.5"),
        ("COUNTS", sys.float_info.max, "undefeated"),
        ("BENCHMARK_LEADERBOARD_DISPLAY_TYPE_UNSPECIFIED", sys.float_info.max, "undefeated"),
        ("BENCHMARK_LEADERBOARD_DISPLAY_TYPE_UNSPECIFIED", 1, "1"),
    ],
)
def test_values_are_shown_on_their_scale(scale: str, value: float, text: str) -> None:
    """Each display type has the form that Kaggle documents; one that is not known leaves the number as it is.

    The largest float is no number: it stands for a model that has never lost.
    """
    result = BenchmarkResult(numeric_result=NumericResult(value=value))
    assert shown_score(result, DisplayType(scale)) == text
    for passed, word in ((True, "Pass"), (None, "N/A")):
        assert shown_score(BenchmarkResult(boolean_result=passed), DisplayType(scale)) == word


async def test_quotas() -> None:
    """The quotas are those of runs and of the Model Proxy, and a quota that is exceeded has 0 remaining."""
    balance = QuotaBalance(quota_used=7, total_quota_allowed=5, refill_period=RefillPeriod.MONTHLY)
    runs = TaskQuota(daily_quota_used=1, total_daily_quota_allowed=4)
    client = simulated()
    client.run_quota, client.balances = runs, [balance]
    quotas = await fetch_quotas(client)
    assert [(one.kind, one.period, one.remaining) for one in quotas.known] == [
        ("task_runs", "daily", 3),
        ("model_proxy", "monthly", 0),
    ]


async def test_other_errors_of_quotas_are_raised() -> None:
    """A lost connection is raised, and does not count as a missing quota."""
    with pytest.raises(ConnectionFailed):
        await fetch_quotas(simulated(faults=(Fault("proxy_quotas"),)))
