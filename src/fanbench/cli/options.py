"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fanbench._util.shares import check_share
from fanbench.errors import UsageError

__all__ = [
    "AT_LEAST_1",
    "FILE",
    "FOLDER",
    "PATH",
    "above_zero",
    "against_options",
    "agent_option",
    "data_option",
    "effort_option",
    "enqueue_option",
    "env_file_option",
    "judge_option",
    "model_option",
    "poll_interval_option",
    "share_option",
    "task_names_argument",
    "value_option",
    "version_option",
    "wait_options",
    "yes_option",
]

F = TypeVar("F", bound=Callable[..., Any])


class NamedPath(click.Path):
    """A path that is not empty: an empty one is usually a variable that is not set, rarely the current folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            self.fail("The path is empty. Write '.' for the current folder.", param, ctx)
        return super().convert(value, param, ctx)


PATH = NamedPath(path_type=Path)
FILE = NamedPath(path_type=Path, dir_okay=False)
FOLDER = NamedPath(path_type=Path, file_okay=False)
AT_LEAST_1 = click.IntRange(min=1)


def value_option(
    flags: str, metavar: str, text: str, kind: click.ParamType[Any] | None = None, **settings: Any
) -> Callable[[F], F]:
    """An option with a value. `flags` are its names, such as "-o --output", and may end with its parameter's name."""
    return click.option(*flags.split(), metavar=metavar, help=text, type=kind, **settings)


def share_option(flags: str, metavar: str, text: str, **settings: Any) -> Callable[[F], F]:
    """An option whose value is a number above 0 and at most 1."""
    return value_option(flags, metavar, text, click.FLOAT, callback=_share, **settings)


def _share(ctx: click.Context, param: click.Parameter, value: float) -> float:
    # Unlike `click.FloatRange`, it refuses NaN.
    return check_share(param.opts[0], value)


def against_options(function: F) -> F:
    """The options for what changed since an earlier sweep."""
    margin = share_option(
        "--margin",
        "M",
        "With --against: the loss of the mean score that is accepted (default: 0.05).",
        default=0.05,
    )
    against = value_option("--against", "DIR", "Also show what changed since the results in DIR.", FOLDER)
    return against(margin(function))


task_names_argument = click.argument("task_names", nargs=-1, required=True, metavar="TASK...")
yes_option = click.option("-y", "--yes", is_flag=True, help="Do not ask for confirmation.")
data_option = value_option("--data", "DIR", "The local server's data folder.  [env: FANBENCH_DATA]", FOLDER)


def env_file_option(text: str) -> Callable[[F], F]:
    return value_option("--env-file", "FILE", text, FILE, default=Path(".env"))


def model_option(text: str) -> Callable[[F], F]:
    return value_option("-m --model models", "MODEL", text, multiple=True)


effort_option = value_option(
    "--effort efforts",
    "EFFORT",
    "A reasoning effort for each model, such as low or high. Repeatable.",
    multiple=True,
)
agent_option = value_option("--agent agents", "SLUG", "An agent to run on. Repeatable.", multiple=True)
judge_option = value_option("--judge", "MODEL", "Local server: the model behind judge_llm.")
enqueue_option = value_option(
    "--enqueue",
    "WHEN",
    "Put runs into the server's queue: auto (if your account has it), always, or never (default: never).",
    click.Choice(["auto", "always", "never"]),
)
version_option = value_option("--version", "N", "The version of the task (default: the newest).", AT_LEAST_1)


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
    wait = value_option(
        "--wait",
        "[SECONDS]",
        f"Wait for {what}; with a number, for at most that many seconds (exit code 5 after that).",
        click.FLOAT,
        callback=_at_least_zero,
    )
    return lambda function: wait(poll_interval_option(60)(function))


def poll_interval_option(seconds: int, what: str = "The longest pause") -> Callable[[F], F]:
    return value_option(
        "--poll-interval",
        "SECONDS",
        f"{what} between two polls; the first pauses are shorter (default: {seconds}).",
        click.FLOAT,
        default=float(seconds),
        callback=above_zero,
    )
