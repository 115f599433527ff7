"""What `fanbench serve` shows."""

from __future__ import annotations

import shlex
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import click

from fanbench.cli.exits import end_line
from fanbench.errors import LocalServerError
from fanbench.local.address import Address
from fanbench.local.requirements import read_requirements
from fanbench.local.serve import serve
from fanbench.local.settings import ServerSettings, data_flag

__all__ = ["run_server"]


def run_server(options: dict[str, Any]) -> None:
    """Serve until Ctrl-C. `options` are fields of the server's settings, None for its defaults."""
    host = options["host"]
    if host not in ("127.0.0.1", "::1", "localhost"):
        click.echo(
            f"warning: {host} can be reached from other machines; anyone with the token can run code as you",
            err=True,
        )
    given = {name: value for name, value in options.items() if value is not None}
    if "requirements" in given:
        given["requirements"] = read_requirements(given["requirements"])
    settings = ServerSettings(**given)
    anyio.run(serve, settings, partial(_listening, settings.data), _cannot_run, _say)
    end_line()


def _listening(data: Path, address: Address) -> None:
    flag = data_flag(data)
    click.echo(f"fanbench is listening on {address.url}")
    click.echo(f"Token file: {address.token_file}")
    token = f'"$(cat {shlex.quote(address.token_file)})"'
    click.echo(f"Use it:     fanbench tasks list --local{flag}")
    click.echo(f"            (or with --endpoint {address.url} --token {token})")
    click.echo(f"Stop it:    Ctrl-C, or `fanbench stop{flag}`")


def _say(text: str) -> None:
    with suppress(OSError):  # whoever read it is gone, and the server does not depend on that
        click.echo(text)


def _cannot_run(error: LocalServerError) -> None:
    click.echo(f"warning: runs cannot be started: {error}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
