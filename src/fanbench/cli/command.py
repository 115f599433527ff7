"""The options that every command has, and what becomes of them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click

from fanbench.cli.argv import one_value_each, optional_wait
from fanbench.cli.exits import leaves
from fanbench.cli.output import Output
from fanbench.errors import FanbenchError, UsageError

__all__ = ["CsvVerb", "Settings", "Verb", "common_options", "model_option", "pass_settings", "wait_options"]


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Settings:
    """Which server, as whom, and how to show what comes back."""

    endpoint: str | None = None
    local: bool = False
    data: Path | None = None
    token: str | None = field(default=None, repr=False)
    concurrency: int | None = None
    format: str = "table"
    quiet: bool = False
    verbose: bool = False
    log_file: Path | None = None
    no_color: bool = False

    def __post_init__(self) -> None:
        if self.local and self.endpoint:
            raise UsageError("--local and --endpoint name two servers.", hint="Leave one out.")
        if self.token is not None and not self.token.strip():
            raise UsageError("--token is empty.", hint="Leave it out to use the credentials of this machine.")
        if self.data is not None and not self.local:
            raise UsageError("--data is the local server's folder.", hint="Add --local.")

    @property
    def output(self) -> Output:
        return Output(self.format, quiet=self.quiet)

    def command(self, words: str) -> str:
        """A command to type next, for the same server."""
        return f"fanbench {words}{self._where}"

    def here(self, hint: str) -> str:
        """A hint of the verbs, who do not know the server: the commands in it are for the same one."""
        where = self._where

        def complete(match: re.Match[str]) -> str:
            return match[0] if match[0].endswith(where) else f"{match[0]}{where}"

        return _COMMAND.sub(complete, hint)

    @property
    def _where(self) -> str:
        return "".join(
            [
                " --local" if self.local else "",
                f" --data {shlex.quote(str(self.data))}" if self.data else "",
                f" --endpoint {shlex.quote(self.endpoint)}" if self.endpoint else "",
            ]
        )


# Up to the end of the command: of the hint, of the quotes, or of a list of commands.
_COMMAND = re.compile(r"fanbench (?:tasks|auth|init|quota|leaderboard|sweep)\b[^`;\n]*[^`;.\s]")


pass_settings = click.make_pass_decorator(Settings)


def common_options(*, hidden: bool = False) -> list[click.Option]:
    """New objects for each command; all default to `None`, so that the root's can be told from a command's."""
    folder = click.Path(path_type=Path, file_okay=False)
    formats = click.Choice(["table", "json", "jsonl", "csv"])
    return [
        click.Option(["--endpoint"], metavar="URL", hidden=hidden, help="The server (default: Kaggle)."),
        click.Option(["--local"], is_flag=True, default=None, hidden=hidden, help="Use the local server."),
        click.Option(
            ["--data"], type=folder, metavar="DIR", hidden=hidden, help="The local server's folder."
        ),
        click.Option(["--token"], metavar="TOKEN", hidden=hidden, help="An API token, or a file with one."),
        click.Option(
            ["--concurrency"],
            type=click.IntRange(min=1),
            metavar="N",
            hidden=hidden,
            help="How many calls at a time (default: 16; large outputs keep the cores busy from 4 on).",
        ),
        click.Option(["--format"], type=formats, hidden=hidden, help="How data is printed (default: table)."),
        click.Option(
            ["-q", "--quiet"], is_flag=True, default=None, hidden=hidden, help="Data and errors only."
        ),
        click.Option(
            ["-v", "--verbose"], is_flag=True, default=None, hidden=hidden, help="Say more on stderr."
        ),
        click.Option(
            ["--log-file"],
            type=click.Path(path_type=Path),
            metavar="FILE",
            hidden=hidden,
            help="Append what -v says to FILE, as JSON lines.",
        ),
        click.Option(["--no-color"], is_flag=True, default=None, hidden=hidden, help="No colours."),
    ]


_COMMON = tuple(str(option.name) for option in common_options())


class Verb(click.Command):
    """A command with the common options; its function gets them as `Settings` (`pass_settings`)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(common_options())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        tidy = optional_wait(args) if any(param.name == "wait" for param in self.params) else args
        one_value_each(tidy, [param for param in self.params if isinstance(param, click.Option)])
        return super().parse_args(ctx, tidy)

    def invoke(self, ctx: click.Context) -> Any:
        earlier = ctx.find_root().obj
        given = dict(earlier) if isinstance(earlier, dict) else {}
        given.update({name: value for name in _COMMON if (value := ctx.params.pop(name, None)) is not None})
        ctx.obj = Settings(**{name: value for name, value in given.items() if value is not None})
        if ctx.obj.no_color or os.environ.get("TERM") == "dumb":
            ctx.find_root().color = ctx.color = False
        try:
            return self._invoke(ctx)
        except BaseException as error:
            for known in leaves(error):
                if isinstance(known, FanbenchError) and known.hint:
                    known.hint = ctx.obj.here(known.hint)
            raise

    def _invoke(self, ctx: click.Context) -> Any:
        if not (ctx.obj.verbose or ctx.obj.log_file):
            return super().invoke(ctx)
        # The logging library takes a while to import, and is imported here only.
        from fanbench.cli.logging_setup import journal

        with journal(ctx.command_path, ctx.obj.log_file, on_stderr=ctx.obj.verbose):
            return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        self._section("Options", [option for option in options if option.name not in _COMMON], ctx, formatter)
        self._section("Everywhere", [option for option in options if option.name in _COMMON], ctx, formatter)

    @staticmethod
    def _section(
        title: str, options: Sequence[click.Option], ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        with formatter.section(title):
            formatter.write_dl([record for option in options if (record := option.get_help_record(ctx))])


class CsvVerb(Verb):
    """A command that takes the vendor's `--csv` for `--format csv`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        words = [word for arg in args for word in (("--format", "csv") if arg == "--csv" else (arg,))]
        return super().parse_args(ctx, words)


# --- Options of several commands ------------------------------------------------------------------------------


def model_option(help_text: str) -> Callable[[F], F]:
    return click.option("-m", "--model", "models", multiple=True, metavar="MODEL", help=help_text)


def _not_negative(ctx: click.Context, param: click.Parameter, value: float | None) -> float | None:
    if value is not None and not value >= 0:  # NaN is neither
        raise UsageError(
            "--wait takes a number of seconds, not a negative one.", hint="--wait alone has no limit."
        )
    return value


def _positive(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not value > 0:
        raise UsageError("--poll-interval must be more than 0 seconds.")
    return value


def wait_options(what: str) -> Callable[[F], F]:
    """`--wait [S]` (0 and the flag alone: without limit) and `--poll-interval S`."""
    wait = click.option(
        "--wait",
        type=float,
        metavar="[SECONDS]",
        callback=_not_negative,
        help=f"Wait for {what}; with a number, for so long at most (then exit 5).",
    )
    poll = click.option(
        "--poll-interval",
        type=float,
        default=60.0,
        metavar="SECONDS",
        callback=_positive,
        help="The longest pause between two polls (default: 60; they begin at 1).",
    )

    def both(function: F) -> F:
        return wait(poll(function))

    return both
