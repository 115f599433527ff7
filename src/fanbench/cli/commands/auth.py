"""`fanbench auth`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Command, Settings, pass_settings
from fanbench.cli.options import env_file_option, yes_option

__all__ = ["auth"]


@click.command(cls=Command)
@yes_option
@env_file_option
@pass_settings
def auth(settings: Settings, yes: bool, env_file: Path) -> None:
    """Renew the Model Proxy credentials in the env file.

    Model Proxy tokens expire after about two hours. Only the three MODEL_PROXY_* values are changed.

    \b
    Examples:
      fanbench auth -y
      fanbench auth --local --env-file settings.env
    """
    from fanbench.cli.views.environment import renew_credentials

    renew_credentials(settings, env_file, yes=yes)
