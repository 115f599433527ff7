"""`fanbench doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.cli.redact import hidden, hide

if TYPE_CHECKING:
    from fanbench.operations.doctor import Check
    from fanbench.operations.events import Event

__all__ = ["FIELDS", "doctor"]

FIELDS = ("check", "level", "message", "fix")
_COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command(cls=Verb)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    default=Path(".env"),
    metavar="FILE",
    help="The env file to look at (default: .env).",
)
@pass_settings
def doctor(settings: Settings, env_file: Path) -> None:
    """Say what is missing on this machine and how to mend it. Exit 1 if anything fails.

    Looked at are Python, the credentials (from where, and whether the server takes them; never the secret
    itself), the endpoint, the env file, and what the local server needs: packages, models, its folder,
    mounts, its port. A warning is about something that you may not need. Nothing is changed or started.

    \b
    Examples:
      fanbench doctor
      fanbench doctor --local
      fanbench doctor --format json
    """
    import anyio

    from fanbench.operations.doctor import Patient, examine

    view = _View(settings)
    patient = Patient(
        endpoint=settings.endpoint,
        token=settings.token,
        local=settings.local,
        data=settings.data,
        env_file=env_file,
    )
    checks = anyio.run(lambda: examine(patient, report=view.report))
    settings.output.rows([_record(check) for check in checks], FIELDS)
    if any(check.level == "fail" for check in checks):
        raise click.exceptions.Exit(1)


class _View:
    """A line a check, as each is through."""

    def __init__(self, settings: Settings) -> None:
        from fanbench.config import credential_sources
        from fanbench.errors import CredentialsError
        from fanbench.wire.transport import secrets_of

        self._out = settings.output
        for _, found in credential_sources(token=settings.token):
            if not isinstance(found, CredentialsError):
                hide(*secrets_of(found))

    def report(self, event: Event) -> None:
        from fanbench.operations.doctor import Checked

        if isinstance(event, Checked):
            self._show(event.check)

    def _show(self, check: Check) -> None:
        level = click.style(f"{check.level:<4}", fg=_COLOURS[check.level], bold=check.level == "fail")
        self._out.text(f"{level}  {check.name:<12}  {hidden(check.message)}")
        if check.fix:
            self._out.text(f"{'':<18}  → {check.fix}")


def _record(check: Check) -> dict[str, Any]:
    return {
        "check": check.name,
        "level": check.level,
        "message": hidden(check.message),
        "fix": check.fix,
    }
