"""`fanbench quota`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import CsvVerb, Settings, pass_settings
from fanbench.cli.output import format_time, iso_time, table
from fanbench.cli.session import call

if TYPE_CHECKING:
    from datetime import datetime

    from fanbench.operations.quota import Quota

__all__ = ["FIELDS", "quota"]

FIELDS = ("quota", "period", "unit", "used", "remaining", "total", "refill")
_NAMES = {"task_runs": "Task runs", "model_proxy": "Model Proxy"}
_UNITS = {"task_runs": "runs", "model_proxy": "usd"}


@click.command(cls=CsvVerb)
@pass_settings
def quota(settings: Settings) -> None:
    """Show what is used and what remains: task runs today, and US dollars of the Model Proxy.

    \b
    Examples:
      fanbench quota
      fanbench quota --format json
    """
    from fanbench.operations.quota import fetch_quotas

    found = call(settings, fetch_quotas)
    out = settings.output
    for text in found.missing:
        out.note(text)
    out.rows([_record(one) for one in found.known], FIELDS)
    if out.plain and not found.known:
        out.note("No quota information available.")
    elif out.plain:
        header = ("Quota", "Period", "Used", "Remaining", "Total", "Refill")
        for line in table(header, [_row(one) for one in found.known], (11, 7, 9, 9, 9, 0)):
            out.text(line)


def _row(one: Quota) -> tuple[str, ...]:
    amounts = (_amount(one, number) for number in (one.used, one.remaining, one.total))
    return (_NAMES[one.kind], one.period.title(), *amounts, _refill(one.refill))


def _amount(one: Quota, number: float) -> str:
    return f"{number:g}" if one.kind == "task_runs" else f"${number:.2f}"


def _refill(time: datetime | None) -> str:
    from fanbench.operations.environment import expiry_phrase

    if time is None:
        return ""
    when = expiry_phrase(iso_time(time) or "")
    return f"{format_time(time)} UTC ({'now' if when == 'expired' else when})"


def _record(one: Quota) -> dict[str, Any]:
    return {
        "quota": one.kind,
        "period": one.period,
        "unit": _UNITS[one.kind],
        "used": one.used,
        "remaining": one.remaining,
        "total": one.total,
        "refill": iso_time(one.refill),
    }
