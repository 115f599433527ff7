"""`quota`: what is left of today's quotas of task runs and of the Model Proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fanbench._util.concurrency import settle
from fanbench.errors import ApiError, FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.credentials import PROXY_HINTS
from fanbench.operations.lookup import NO_SUCH_CALL
from fanbench.wire.messages import ModelProxyQuotas, TaskQuota

__all__ = ["Quota", "Quotas", "fetch_quotas"]


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
    """The known quotas, and why the others are not: that of task runs, and that of the Model Proxy."""

    known: tuple[Quota, ...]
    runs_error: FanbenchError | None = None
    proxy_error: FanbenchError | None = None


async def fetch_quotas(client: Api) -> Quotas:
    """Fetch the quotas of task runs and of the Model Proxy. One that the server refuses or does not have is left out.

    Raises:
        FanbenchError: A call failed for another reason.
    """
    jobs: list[Callable[[], Awaitable[TaskQuota | ModelProxyQuotas]]]
    jobs = [client.task_quota, client.proxy_quotas]
    known: list[Quota] = []
    errors: list[FanbenchError | None] = []
    for name, outcome in zip(("task runs", "the Model Proxy"), await settle(jobs, limit=2), strict=True):
        errors.append(None)
        if isinstance(outcome, TaskQuota):
            used, total = outcome.daily_quota_used, outcome.total_daily_quota_allowed
            known.append(Quota("task_runs", "daily", used, total))
        elif isinstance(outcome, ModelProxyQuotas):
            known += [
                Quota(
                    "model_proxy",
                    balance.refill_period.label.lower(),
                    balance.quota_used,
                    balance.total_quota_allowed,
                    balance.refill_time,
                )
                for balance in outcome.quota_balances
            ]
        elif isinstance(outcome, ApiError) and outcome.status in (403, *NO_SUCH_CALL):
            errors[-1] = FanbenchError(f"No quota of {name}: {outcome}", hint=PROXY_HINTS.get(outcome.status))
        else:
            raise outcome
    return Quotas(tuple(known), *errors)
