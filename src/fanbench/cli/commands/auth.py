"""`fanbench auth`."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.cli.session import call
from fanbench.cli.views.environment import env_file_option, offer, yes_option

__all__ = ["auth"]


@click.command(cls=Verb)
@yes_option
@env_file_option
@pass_settings
def auth(settings: Settings, yes: bool, env_file: Path) -> None:
    """Renew the Model Proxy credentials in the env file: the three MODEL_PROXY_* values, nothing else.

    They live for about two hours.

    \b
    Examples:
      fanbench auth -y
      fanbench auth --local --env-file settings.env
    """
    from fanbench.operations.env_file import ensure_writable
    from fanbench.operations.environment import fetch_credentials

    ensure_writable(env_file)
    values = call(settings, fetch_credentials)
    renew = partial(call, settings, fetch_credentials)
    offer(settings.output, values, env_file, yes=yes, renew=renew)
    settings.output.note(f"Environment variables have been written to {env_file.absolute()}.")
