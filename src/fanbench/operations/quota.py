"""`quota`: what is left of today's quotas of task runs and of the Model Proxy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from fanbench._util.concurrency import settle
from fanbench.errors import ApiError, FanbenchError, Forbidden, NotFound
from fanbench.operations.api import Api
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
    """The known quotas. Each entry of `missing` is a sentence about one that the server does not report."""

    known: tuple[Quota, ...]
    missing: tuple[str, ...] = ()


async def fetch_quotas(client: Api) -> Quotas:
    """Fetch the quotas of task runs and of the Model Proxy. One that the server does not have is left out.

    Raises:
        FanbenchError: A call failed for another reason, or the server has neither quota.
    """
    jobs: list[Callable[[], Awaitable[TaskQuota | ModelProxyQuotas]]]
    jobs = [client.task_quota, client.proxy_quotas]
    outcomes = await settle(jobs, limit=2)
    known: list[Quota] = []
    missing: list[str] = []
    for name, outcome in zip(("task runs", "the Model Proxy"), outcomes, strict=True):
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
        elif isinstance(outcome, NotFound | Forbidden) or (
            # The server has no such call, or the user may not make it.
            isinstance(outcome, ApiError) and outcome.status in NO_SUCH_CALL
        ):
            missing.append(f"No quota of {name}: {outcome}")
        else:
            raise outcome
    if isinstance(outcomes[0], FanbenchError) and len(missing) == len(outcomes):
        raise outcomes[0]
    return Quotas(tuple(known), tuple(missing))
