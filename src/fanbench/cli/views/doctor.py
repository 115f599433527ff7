"""What `fanbench doctor` shows: one line per check, as soon as it is done."""

from __future__ import annotations

from pathlib import Path

import anyio
import click

from fanbench.cli.command import Settings
from fanbench.cli.output import Fields
from fanbench.cli.redact import hide, redact
from fanbench.config import credential_sources
from fanbench.errors import CredentialsError
from fanbench.operations.doctor import Check, Checked, DoctorTarget, examine
from fanbench.operations.events import Event
from fanbench.wire.transport import secrets_of

__all__ = ["FIELDS", "show_checks"]

FIELDS: Fields[Check] = {
    "check": lambda check: check.name,
    "level": lambda check: check.level,
    "message": lambda check: redact(check.message),
    "fix": lambda check: check.fix,
}
_COLORS = {"ok": "green", "warn": "yellow", "fail": "red"}


def show_checks(settings: Settings, env_file: Path) -> None:
    out = settings.output
    for _, found in credential_sources(token=settings.token):
        if not isinstance(found, CredentialsError):
            hide(*secrets_of(found))

    def report(event: Event) -> None:
        if isinstance(event, Checked):
            check = event.check
            level = click.style(f"{check.level:<4}", fg=_COLORS[check.level], bold=check.level == "fail")
            out.text(f"{level}  {check.name:<12}  {redact(check.message)}")
            if check.fix:
                out.text(f"{'':<18}  → {settings.on_this_server(check.fix)}")

    target = DoctorTarget(
        endpoint=settings.endpoint,
        token=settings.token,
        local=settings.local,
        data=settings.data,
        env_file=env_file,
    )
    checks = anyio.run(lambda: examine(target, emit=report))
    out.items(checks, FIELDS)
    if any(check.level == "fail" for check in checks):
        raise click.exceptions.Exit(1)
