"""What `fanbench serve` shows."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import anyio
import click

from fanbench._util.text import many
from fanbench.cli.exits import end_line
from fanbench.errors import LocalServerError, UsageError
from fanbench.faults.files import read_faults
from fanbench.local.address import Address
from fanbench.local.folder import DataFolder
from fanbench.local.kept_options import flags_of, read_options
from fanbench.local.object_store import checked_url
from fanbench.local.requirements import read_requirements
from fanbench.local.serve import serve
from fanbench.local.settings import ServerSettings, data_flag, default_data_folder
from fanbench.local.state.database_url import DATABASE_VARIABLE

__all__ = ["merge_settings", "run_server"]


def run_server(given: dict[str, Any], *, last_options: bool) -> None:
    """Serve until Ctrl-C. `given` are fields of the server's settings.

    The others have their defaults, or with `last_options` the values of the last server on the data folder.
    """
    os.environ.pop(DATABASE_VARIABLE, None)  # it may have a password, and what the server starts needs none
    folder = DataFolder((given.get("data") or default_data_folder()).absolute())
    if "requirements" in given:
        given["requirements_file"] = given["requirements"].absolute()
        given["requirements"] = read_requirements(given["requirements"])
    for name in {"datasets", "record", "replay"} & given.keys():
        given[name] = given[name].absolute()
    if {"record", "replay"} <= given.keys():
        raise UsageError(
            "--record and --replay exclude each other.",
            hint="Replay with --replay DIR, or ask the models again and replace their answers with --record DIR.",
        )
    if "files" in given:
        checked_url(given["files"])
    if "faults" in given:
        given["faults"] = read_faults(given["faults"])
    if last_options:
        settings, dropped = merge_settings(folder, given), ""
    else:
        settings = ServerSettings(**given)
        dropped = _dropped_options(folder, settings)
    if settings.faults is not None and settings.proxy_workers:
        raise UsageError(
            "--faults and --proxy-workers exclude each other.",
            hint="With --proxy-workers 0, the server answers requests to models itself, and they can fail, too.",
        )
    if settings.proxy_port is not None and not settings.proxy_workers:
        raise UsageError(
            "--proxy-port is for the processes of --proxy-workers, and there are none.",
            hint="Add for instance --proxy-workers 2.",
        )
    if (host := settings.host) not in ("127.0.0.1", "::1", "localhost"):
        click.echo(
            f"warning: {host} can be reached from other machines; anyone with the token can run code as you",
            err=True,
        )
    anyio.run(serve, settings, partial(_listening, settings, dropped), _cannot_run, _say)
    end_line()


def merge_settings(folder: DataFolder, given: dict[str, Any]) -> ServerSettings:
    """The settings of the last server on the folder, but for those that are given."""
    settings = read_options(folder)
    if {"record", "replay"} & given.keys():
        settings = replace(settings, record=None, replay=None)  # what is given takes the place of either
    if not replace(settings, **given).cluster:
        settings = replace(settings, host=ServerSettings.host, advertise="")  # only the workers needed them
    return replace(settings, **given)


def _dropped_options(folder: DataFolder, settings: ServerSettings) -> str:
    """The options of the last server on the folder that this one has not, as they are typed."""
    try:
        last = flags_of(read_options(folder))
    except LocalServerError:
        return ""  # they are unknown, and about to be replaced
    return " ".join(text for flag, text in last.items() if flag not in flags_of(settings))


def _listening(settings: ServerSettings, dropped: str, address: Address) -> None:
    flag = data_flag(settings.data)
    click.echo(f"fanbench is listening on {address.url}")
    click.echo(f"Token file: {address.token_file}")
    token = f'"$(cat {shlex.quote(address.token_file)})"'
    click.echo(f"Use it:     fanbench tasks list --local{flag}")
    click.echo(f"            (or with --endpoint {address.url} --token {token})")
    click.echo(f"Stop it:    Ctrl-C, or `fanbench stop{flag}`")
    if (faults := settings.faults) is not None:
        text = f"Faults:     answers fail on purpose: {faults.name}, {many(len(faults.faults), 'kind')}"
        click.echo(f"{text}, seed {faults.seed}")
    if dropped:
        click.echo(f"Options of the last `fanbench serve` that do not apply any more: {dropped}", err=True)


def _say(text: str) -> None:
    with suppress(OSError):  # whoever read it is gone, and the server does not depend on that
        click.echo(text)


def _cannot_run(error: LocalServerError) -> None:
    click.echo(f"warning: runs cannot be started: {error}", err=True)
    if error.hint:
        click.echo(f"hint: {error.hint}", err=True)
