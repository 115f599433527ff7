"""What `init` and `auth` share: showing what will be set, asking, writing it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import click

from fanbench.cli.output import Output
from fanbench.cli.prompts import confirmed
from fanbench.errors import FanbenchError

__all__ = ["env_file_option", "offer", "yes_option"]

_LABEL = 17

yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask.")
env_file_option = click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    default=Path(".env"),
    metavar="FILE",
    help="Where the values are set (default: .env); everything else in it stays.",
)


def offer(
    out: Output,
    values: Mapping[str, str],
    env_file: Path,
    *,
    yes: bool,
    renew: Callable[[], Mapping[str, str]],
) -> None:
    """Shows `values`, asks, and writes them; what `renew` gives instead, where the answer took too long.

    Raises:
        FanbenchError: the answer was no.
        OutputError: the file cannot be written.
    """
    from fanbench.operations.env_file import write_env_file
    from fanbench.operations.environment import nearly_over

    for line in _lines(values):
        out.note(line)
    if not confirmed(f"Write these settings to {env_file.name}?", yes=yes):
        raise FanbenchError("Nothing was written.")
    if nearly_over(values.get("MODEL_PROXY_EXPIRY_TIME", "")):
        values = {**values, **renew()}
    write_env_file(env_file, values)


def _lines(values: Mapping[str, str]) -> Iterator[str]:
    from fanbench.operations.environment import expiry_phrase

    yield "The following configuration will be set:"
    # Four characters tell one key from another, and are of no use to anybody else.
    yield f"  API Key  (ends in ...{values['MODEL_PROXY_API_KEY'][-4:]})"
    if expiry := values.get("MODEL_PROXY_EXPIRY_TIME"):
        yield f"  Expires: {expiry_phrase(expiry)}"
    for label, key in (("Default LLM", "LLM_DEFAULT"), ("Default Judge", "LLM_DEFAULT_EVAL")):
        if key in values:
            yield f"  {label:<{_LABEL}}{values[key]}"
    for number, name in enumerate(values.get("LLMS_AVAILABLE", "").split(",")):
        if name:
            yield f"  {'' if number else 'LLMs Available':<{_LABEL}}{name}"
    yield ""
