"""How a command is defined: the options that all commands share, and the settings made from them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import click

from fanbench.cli.argv import expand_flags, one_value_each, optional_wait
from fanbench.cli.options import AT_LEAST_1, FOLDER, PATH
from fanbench.cli.output import TEXT_FORMATS, Output
from fanbench.errors import UsageError

__all__ = ["Command", "Settings", "command", "common_options"]

P = ParamSpec("P")

# A command in a hint, up to the end of the hint, the closing backquote, or the next command in a list.
_COMMAND = re.compile(r"fanbench (?:tasks|auth|init|quota|queue|leaderboard|sweep)\b(?:[^`;\n]*[^`;.\s])?")
# Such a command that takes `--data`, but not `--local`.
_LOCAL_COMMAND = re.compile(r"fanbench (?:models (?:add|list|remove)|stop|serve)\b(?:[^`;\n]*[^`;.\s])?")


@dataclass(frozen=True)
class Settings:
    """The common options: which server, with which credentials, and how to print what it answers."""

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
    no_warn: bool = False
    debug: bool = False
    csv: bool = False
    """The format is CSV as the Kaggle CLI prints it."""

    def __post_init__(self) -> None:
        if self.local and self.endpoint:
            raise UsageError("--local and --endpoint name two different servers.", hint="Remove one of them.")
        if self.token is not None and not self.token.strip():
            raise UsageError(
                "--token is empty.", hint="Remove it to use the credentials stored on this machine."
            )
        if self.data is not None and not self.local:
            raise UsageError("--data can only be used with the local server.", hint="Add --local.")

    @cached_property
    def output(self) -> Output:
        return Output(self.format, quiet=self.quiet, no_color=self.no_color)

    def fanbench_command(self, words: str) -> str:
        """Return the command line of a `fanbench` command that talks to the same server."""
        return f"fanbench {words}{self._server_flags}"

    def on_this_server(self, hint: str) -> str:
        """Return `hint` with the flags of this server added to each command in it.

        Hints are written where the server's flags are not known.
        """
        for command, flags in ((_COMMAND, self._server_flags), (_LOCAL_COMMAND, self._data_flag)):
            hint = command.sub(partial(_with_flags, flags=flags), hint)
        return hint

    @property
    def _data_flag(self) -> str:
        return f" --data {shlex.quote(str(self.data))}" if self.data else ""

    @property
    def _server_flags(self) -> str:
        flags = " --local" if self.local else ""
        flags += self._data_flag
        return flags + (f" --endpoint {shlex.quote(self.endpoint)}" if self.endpoint else "")


def _with_flags(command: re.Match[str], flags: str) -> str:
    # One with a folder was written where the folder is known, which may be spelled in another way.
    complete = command[0].endswith(flags) or " --data " in command[0]
    return command[0] if complete else command[0] + flags


def common_options(*, hidden: bool = False, formats: Sequence[str] = TEXT_FORMATS) -> list[click.Option]:
    """New objects on each call. All default to None, so that a command's value can override the root's."""

    def option(flags: str, text: str, **settings: Any) -> click.Option:
        return click.Option(flags.split(), help=text, hidden=hidden, default=None, **settings)

    return [
        option("--endpoint", "The server to use (default: Kaggle).", metavar="URL"),
        option("--local", "Use the local server; it is started if necessary.", is_flag=True),
        option("--data", "The local server's data folder.", metavar="DIR", type=FOLDER),
        option("--token", "An API token, or a file that contains one.", metavar="TOKEN"),
        option(
            "--concurrency",
            "The maximum number of calls at a time (default: 16).",
            metavar="N",
            type=AT_LEAST_1,
        ),
        option("--format", "The output format (default: table).", type=click.Choice(formats)),
        option("-q --quiet", "Print only data and errors.", is_flag=True),
        option("-v --verbose", "Print debug messages to stderr.", is_flag=True),
        option("--log-file", "Append debug messages to FILE as JSON lines.", metavar="FILE", type=PATH),
        option("--no-color", "Disable colors.", is_flag=True),
        option("-W --no-warn", "Do not say that Kaggle has a newer API.", is_flag=True),
        option("--debug", "Show the traceback of an unexpected error.", is_flag=True),
    ]


_COMMON = tuple(str(option.name) for option in common_options())


class Command(click.Command):
    """A command with the common options; its function receives them as `Settings`.

    With `csv_flag`, it accepts the Kaggle CLI's `-v` and `--csv`: CSV with the columns that are printed there.
    `formats` are those that it can print. The help shows its options under the titles of `sections`, which name their
    parameters, and the others under "Options".
    """

    def __init__(
        self,
        *args: Any,
        csv_flag: bool = False,
        formats: Sequence[str] = TEXT_FORMATS,
        sections: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = {title: names.split() for title, names in (sections or {}).items()}
        self.params.extend(common_options(formats=formats))
        if csv_flag:
            verbose = next(param for param in self.params if param.name == "verbose")
            verbose.opts.remove("-v")
            self.params.append(
                click.Option(["-v", "--csv", "csv"], is_flag=True, help="Print CSV as the Kaggle CLI does.")
            )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        own = [option for option in options if option.name not in _COMMON]
        args = expand_flags(args, own, [option for option in options if option not in own])
        if any(param.name == "wait" for param in self.params):
            args = optional_wait(args)
        one_value_each(args, options)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        root = ctx.find_root()
        given = dict(root.obj) if isinstance(root.obj, dict) else {}
        given.update({name: value for name in _COMMON if (value := ctx.params.pop(name, None)) is not None})
        if ctx.params.pop("csv", False):
            if given.get("format") not in (None, "csv"):
                raise UsageError(
                    f"-v and --format {given['format']} are two formats.", hint="Remove one of them."
                )
            given |= {"format": "csv", "csv": True}
        self._refuse_other_formats(ctx, given.get("format"))
        settings = Settings(**{name: value for name, value in given.items() if value is not None})
        # The root's as well: that is where an error is printed, with the flags of this server in its hint.
        ctx.obj = root.obj = settings
        if settings.no_color or os.environ.get("TERM") == "dumb":
            root.color = ctx.color = False
        if not (settings.verbose or settings.log_file):
            return super().invoke(ctx)
        # Importing the logging library takes a while.
        from fanbench.cli.logging_setup import logging_to

        with logging_to(settings.log_file, ctx.command_path, on_stderr=settings.verbose):
            return super().invoke(ctx)

    def _refuse_other_formats(self, ctx: click.Context, given: str | None) -> None:
        """Refuse a format that only other commands have. Before the command, the root has accepted it."""
        option = next(param for param in self.params if param.name == "format")
        option.type_cast_value(ctx, given)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        elsewhere = {*_COMMON, *chain.from_iterable(self.sections.values())}
        rest = [str(option.name) for option in options if option.name not in elsewhere]
        for title, names in {**self.sections, "Options": rest, "Common options": _COMMON}.items():
            shown = [option for option in options if option.name in names]
            with formatter.section(title):
                formatter.write_dl([record for option in shown if (record := option.get_help_record(ctx))])


def command(
    name: str | None = None, **settings: Any
) -> Callable[[Callable[Concatenate[Settings, P], None]], Command]:
    """Make a `Command` of a function that takes the settings first, and then its own arguments and options.

    The `settings` are those of `Command`.
    """

    def decorate(function: Callable[Concatenate[Settings, P], None]) -> Command:
        with_settings = click.make_pass_decorator(Settings)(function)
        return click.command(name, cls=Command, **settings)(with_settings)

    return decorate
