"""`quota`: what one may still use today, of runs and of the Model Proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Literal

from fanbench._util.concurrency import settle
from fanbench.errors import ApiError, FanbenchError, Forbidden, NotFound
from fanbench.operations.api import Api
from fanbench.wire.messages import ModelProxyQuotas, TaskQuota

__all__ = ["Quota", "Quotas", "fetch_quotas"]

# How servers answer to a call that they do not have.
_NO_SUCH_CALL = (404, 405, 501)


@dataclass(frozen=True, slots=True)
class Quota:
    """`used` and `total` are numbers of runs, or US dollars."""

    kind: Literal["task_runs", "model_proxy"]
    period: str
    used: float
    total: float
    refill: datetime | None = None

    @property
    def remaining(self) -> float:
        return max(0.0, self.total - self.used)


@dataclass(frozen=True, slots=True)
class Quotas:
    """`missing` says in words what the server does not tell, and why."""

    known: tuple[Quota, ...]
    missing: tuple[str, ...] = ()


async def fetch_quotas(client: Api) -> Quotas:
    """The quotas of task runs and of the Model Proxy. One that the server does not know of is left out.

    Raises:
        FanbenchError: one of the calls failed for another reason, or there is none of both.
    """
    jobs: list[Callable[[], Awaitable[tuple[Quota, ...]]]] = [
        partial(_task_runs, client),
        partial(_model_proxy, client),
    ]
    runs, proxy = await settle(jobs, limit=2)
    known: list[Quota] = []
    missing: list[str] = []
    for name, outcome in (("task runs", runs), ("the Model Proxy", proxy)):
        if not isinstance(outcome, FanbenchError):
            known += outcome
        elif _is_absent(outcome):
            missing.append(f"No quota of {name}: {outcome}")
        else:
            raise outcome
    if isinstance(runs, FanbenchError) and isinstance(proxy, FanbenchError):
        raise runs
    return Quotas(tuple(known), tuple(missing))


def _is_absent(error: FanbenchError) -> bool:
    """A server without the call, or an account without the right to it."""
    return isinstance(error, NotFound | Forbidden) or (
        isinstance(error, ApiError) and error.status in _NO_SUCH_CALL
    )


async def _task_runs(client: Api) -> tuple[Quota, ...]:
    quota: TaskQuota = await client.task_quota()
    return (Quota("task_runs", "daily", quota.daily_quota_used, quota.total_daily_quota_allowed),)


async def _model_proxy(client: Api) -> tuple[Quota, ...]:
    quotas: ModelProxyQuotas = await client.proxy_quotas()
    return tuple(
        Quota(
            "model_proxy",
            balance.refill_period.label.lower(),
            balance.quota_used,
            balance.total_quota_allowed,
            balance.refill_time,
        )
        for balance in quotas.quota_balances
    )
