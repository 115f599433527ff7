"""`fanbench doctor`."""

from __future__ import annotations

from pathlib import Path

from fanbench.cli.command import Settings, command
from fanbench.cli.options import env_file_option

__all__ = ["doctor"]


@command()
@env_file_option("The env file to check (default: .env).")
def doctor(settings: Settings, env_file: Path) -> None:
    """Check this machine's setup, and suggest a fix for each problem. Exit with 1 if a check fails.

    Checks Python, the credentials (where they come from, and whether the server accepts them), the endpoint, the
    env file, and what the local server needs: packages, models, its data folder, mounts and port; and Ray,
    PostgreSQL and the place for outputs, if the last `fanbench serve` on the data folder has used them. A warning
    is about something that you may not need. Nothing is started, and nothing is changed: a small file is written to
    the place for outputs, and deleted. Secrets are never shown.

    \b
    Examples:
      fanbench doctor
      fanbench doctor --local
      fanbench doctor --format json
    """
    from fanbench.cli.views.doctor import show_checks

    show_checks(settings, env_file)
