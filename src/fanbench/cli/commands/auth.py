"""`fanbench auth`."""

from __future__ import annotations

from pathlib import Path

from fanbench.cli.command import Settings, command
from fanbench.cli.options import env_file_option, yes_option

__all__ = ["auth"]


@command()
@yes_option
@env_file_option("The env file (default: .env). Other values in it are kept.")
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
