"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fanbench.errors import UsageError

__all__ = [
    "above_zero",
    "data_option",
    "env_file_option",
    "model_option",
    "task_names_argument",
    "wait_options",
    "yes_option",
]

F = TypeVar("F", bound=Callable[..., Any])

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The local server's data folder.  [env: FANBENCH_DATA]",
)
env_file_option = click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    default=Path(".env"),
    metavar="FILE",
    help="The env file (default: .env). Other values in it are kept.",
)
task_names_argument = click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")


def model_option(help_text: str) -> Callable[[F], F]:
    return click.option("-m", "--model", "models", multiple=True, metavar="MODEL", help=help_text)


def above_zero(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    """Refuse numbers that are not above 0; unlike `click.FloatRange`, also NaN."""
    if value is not None and not value > 0:
        raise UsageError(f"{param.opts[0]} must be more than 0 seconds.")
    return value


def _at_least_zero(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not value >= 0:  # NaN is neither
        raise UsageError(
            "--wait must not be negative.", hint="Use --wait without a number to wait without a limit."
        )
    return value


def wait_options(what: str) -> Callable[[F], F]:
    """`--wait [SECONDS]` (0 and the bare flag mean no limit) and `--poll-interval SECONDS`."""
    wait = click.option(
        "--wait",
        type=float,
        metavar="[SECONDS]",
        callback=_at_least_zero,
        help=f"Wait for {what}; with a number, for at most that many seconds (exit code 5 after that).",
    )
    poll_interval = click.option(
        "--poll-interval",
        type=float,
        default=60.0,
        metavar="SECONDS",
        callback=above_zero,
        help="The longest pause between two polls; the first pauses are shorter (default: 60).",
    )
    return lambda function: wait(poll_interval(function))
