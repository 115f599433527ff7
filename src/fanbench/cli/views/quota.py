"""What `fanbench quota` shows."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable

from fanbench.cli.output import Fields, Output, format_time, iso_time
from fanbench.operations.environment import expiry_phrase
from fanbench.operations.quota import Quota, Quotas

__all__ = ["FIELDS", "show_quotas"]

_NAMES = {"task_runs": "Task runs", "model_proxy": "Model Proxy"}
_UNITS = {"task_runs": "runs", "model_proxy": "usd"}
FIELDS: Fields[Quota] = {
    "quota": lambda one: one.kind,
    "period": lambda one: one.period,
    "unit": lambda one: _UNITS[one.kind],
    "used": lambda one: one.used,
    "remaining": lambda one: one.remaining,
    "total": lambda one: one.total,
    "refill": lambda one: iso_time(one.refill),
    # The Kaggle CLI's name for the same.
    "refillAt": lambda one: iso_time(one.refill),
}


def show_quotas(out: Output, quotas: Quotas, *, as_kaggle: bool) -> None:
    """Print the quotas that are known; with `as_kaggle`, the Kaggle CLI's CSV of them.

    Raises:
        FanbenchError: The server refuses the quota of the Model Proxy, or has none.
    """
    if quotas.runs_error is not None:
        out.note(str(quotas.runs_error))
    if as_kaggle:
        _print_kaggle_csv(quotas.known)
    else:
        out.items(quotas.known, FIELDS)
    if quotas.known:
        header = ("Quota", "Period", "Used", "Remaining", "Total", "Refill")
        out.table(header, [_row(one) for one in quotas.known], (11, 7, 9, 9, 9, 0))
    if quotas.proxy_error is not None:
        raise quotas.proxy_error
    if not quotas.known and out.for_people:
        out.note("No quota information available.")


def _print_kaggle_csv(quotas: Iterable[Quota]) -> None:
    """Print what `kaggle benchmarks quota -v` prints, which has the quotas of the Model Proxy only."""
    writer = csv.writer(sys.stdout)
    writer.writerow(("period", "used", "remaining", "total", "refillAt"))
    for one in quotas:
        if one.kind == "model_proxy":
            refill = one.refill.replace(tzinfo=None).isoformat() if one.refill else ""
            writer.writerow((one.period.title(), *_amounts(one), refill))


def _amounts(one: Quota) -> list[str]:
    return [
        f"{number:.12g}" if one.kind == "task_runs" else f"${number:.2f}"
        for number in (one.used, one.remaining, one.total)
    ]


def _row(one: Quota) -> tuple[str, ...]:
    refill = ""
    if one.refill is not None:
        when = expiry_phrase(iso_time(one.refill) or "")
        refill = f"{format_time(one.refill)} UTC ({'now' if when == 'expired' else when})"
    return (_NAMES[one.kind], one.period.title(), *_amounts(one), refill)
