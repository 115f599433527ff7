"""The tree of commands. Every spelling of the Kaggle CLI works here, so that `alias kaggle=fanbench` is enough.

To add a command, write `commands/NAME.py` (help and options) and `views/NAME.py` (how its result is shown), and
add an `Entry` to the table of its group: that of `tasks` for `fanbench tasks NAME`, that of `root` for `fanbench NAME`,
or `_SETUP` or `_ACCOUNT` for one that exists as `fanbench NAME` and as the Kaggle CLI's `fanbench benchmarks NAME`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module
from itertools import takewhile
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fanbench.cli.argv import expand_flags
from fanbench.cli.command import common_options
from fanbench.cli.exits import explain
from fanbench.cli.output import FORMATS
from fanbench.errors import FanbenchError
from fanbench.version import __version__

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["benchmarks", "root", "tasks"]


class Entry(NamedTuple):
    """A command (if it is in `commands/`, as `module:attribute`), its line of help, and its other names."""

    command: str | click.Command
    help: str
    aliases: tuple[str, ...] = ()


class LazyGroup(click.Group):
    """A group that imports a command when it is called: `fanbench --help` imports none of them."""

    def __init__(self, *args: Any, table: Mapping[str, Entry], **kwargs: Any) -> None:
        kwargs.setdefault("callback", click.pass_context(_show_help_if_alone))
        kwargs["invoke_without_command"] = True
        super().__init__(*args, **kwargs)
        self.table = table
        self._aliases = {alias: name for name, entry in table.items() for alias in entry.aliases}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.table.get(self._aliases.get(cmd_name, cmd_name))
        if entry is None:
            return None
        if isinstance(entry.command, click.Command):
            return entry.command
        module, _, attribute = entry.command.partition(":")
        command: click.Command = getattr(import_module(f"fanbench.cli.commands.{module}"), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(", ".join([name, *entry.aliases]), entry.help) for name, entry in self.table.items()]
            )

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        names = [(name, entry.help) for name, entry in self.table.items() if name.startswith(incomplete)]
        # Not `super()`: click's groups import every command to complete a word.
        options = click.Command.shell_complete(self, ctx, incomplete)
        return [*(CompletionItem(name, help=text) for name, text in names), *options]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = [*self.table, *self._aliases]
        if args and not args[0].startswith("-") and args[0] not in known:
            from difflib import get_close_matches

            below = [
                f"{name} {args[0]}"
                for name, entry in self.table.items()
                if isinstance(entry.command, LazyGroup) and entry.command.get_command(ctx, args[0])
            ]
            similar = below or get_close_matches(args[0], known, n=1)
            suggestion = f" Did you mean '{similar[0]}'?" if similar else ""
            ctx.fail(f"No such command '{args[0]}'.{suggestion}")
        return super().resolve_command(ctx, args)


def _show_help_if_alone(ctx: click.Context) -> None:
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


class Root(LazyGroup):
    """The program itself: every error below it becomes an exit code in `fanbench.cli.exits`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        if os.environ.get("NO_COLOR"):
            extra["color"] = False
        try:
            code = super().main(args, prog_name, complete_var, standalone_mode=False, **extra)
        except (click.ClickException, click.Abort) as error:
            code = explain(error)
        raise SystemExit(code if isinstance(code, int) else 0)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        # This reads the program's own flags, and prints its help text and version.
        try:
            return super().make_context(*args, **kwargs)
        except (FanbenchError, OSError) as error:
            raise click.exceptions.Exit(explain(error)) from None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        flags = list(takewhile(lambda word: word not in self.table and word not in self._aliases, args))
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        return super().parse_args(ctx, expand_flags(flags, options) + args[len(flags) :])

    def invoke(self, ctx: click.Context) -> Any:
        # Errors are caught here because click's `main` has its own answers to a broken pipe and an interrupt.
        try:
            result: Any = super().invoke(ctx)
            sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, Exception) as error:  # noqa: BLE001 - the last place that can
            raise click.exceptions.Exit(explain(error)) from None
        except BaseExceptionGroup as group:
            raise click.exceptions.Exit(explain(group)) from None
        return result


# --- The commands -----------------------------------------------------------------------------------------------

_SETUP = {
    "init": Entry("init:init", "Set up a folder: credentials, an example task, a reference."),
    "auth": Entry("auth:auth", "Renew the Model Proxy credentials in the env file."),
    "skill": Entry("skill:skill", "Print instructions for coding agents."),
}
_ACCOUNT = {
    "leaderboard": Entry("leaderboard:leaderboard", "Show the leaderboard of a benchmark, or of results."),
    "quota": Entry("quota:quota", "Show how much of your quotas is used."),
}

tasks = LazyGroup(
    "tasks",
    table={
        "push": Entry("push:push", "Upload task files as new versions of their tasks."),
        "run": Entry("run:run", "Run tasks on models."),
        "list": Entry("list:list_", "List your tasks."),
        "status": Entry("status:status", "Show tasks and their runs."),
        "download": Entry("download:download", "Download the outputs of finished runs."),
        "log": Entry("log:log", "Show the logs of runs, live while they run.", ("logs",)),
        "publish": Entry("publish:publish", "Make tasks public."),
        "edit": Entry("edit:edit", "Change descriptions, tags, provenance and citations."),
        "models": Entry("models:models", "List the models that tasks can run on."),
        "cancel": Entry("cancel:cancel", "Cancel runs that are queued or running."),
        "delete": Entry("delete:delete", "Delete tasks (local server only for now)."),
    },
    help="Push, run, watch and download benchmark tasks.",
    epilog="\b\nExamples:\n  fanbench tasks push my-task -f task.py --wait\n"
    "  fanbench tasks run my-task -m 'gemini-*' --wait\n  fanbench tasks download my-task",
)

_TASKS = Entry(tasks, "Push, run, watch and download benchmark tasks.", ("t",))

benchmarks = LazyGroup(
    "benchmarks",
    table={
        **_SETUP,
        "tasks": _TASKS,
        "add": Entry("benchmarks:add", "Add tasks to a benchmark."),
        "remove": Entry("benchmarks:remove", "Remove tasks from a benchmark."),
        **_ACCOUNT,
    },
    help="Change the tasks of benchmarks. The other commands are here in the Kaggle CLI's spelling: "
    "`fanbench benchmarks COMMAND` is `fanbench COMMAND`.",
    epilog="\b\nExamples:\n  fanbench benchmarks add me/my-benchmark my-task\n  fanbench b t status my-task",
)


@click.group(
    cls=Root,
    table={
        **_SETUP,
        "check": Entry("check:check", "Find errors in task files before pushing them."),
        "tasks": _TASKS,
        "sweep": Entry("sweep:sweep", "Run every task on every model; resumable."),
        "report": Entry("report:report", "Write results as one HTML file."),
        "results": Entry("results:results", "Tabulate downloaded results."),
        "show": Entry("show:show", "Show why a model has its score on a task."),
        "view": Entry("view:view", "Show results in the browser, live."),
        "compare": Entry("compare:compare", "Compare two models, or two folders of results."),
        "gate": Entry("gate:gate", "Decide whether new results are worse than old ones."),
        **_ACCOUNT,
        "queue": Entry("queue:queue", "Show how many of your runs are queued and running."),
        "serve": Entry("serve:serve", "Run the local server in the foreground."),
        "stop": Entry("serve:stop", "Stop the local server."),
        "models": Entry("local_models:models", "Manage the models of the local server."),
        "doctor": Entry("doctor:doctor", "Check this machine's setup, and suggest fixes."),
        "completion": Entry("completion:completion", "Print a shell completion script."),
        "benchmarks": Entry(benchmarks, "Change benchmarks; also the Kaggle CLI's spelling.", ("b",)),
    },
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="\b\nExamples:\n  fanbench init -y\n"
    "  fanbench tasks push what-is-kaggle -f example_task.py --wait\n"
    "  fanbench tasks run what-is-kaggle\n"
    "Add --local to any of these to use a server on this machine instead of Kaggle.",
)
@click.version_option(__version__, "--version", prog_name="fanbench", help="Show the version and exit.")
@click.pass_context
def root(ctx: click.Context, /, **common: Any) -> None:
    """Run Kaggle Benchmarks at scale: push tasks, run them on many models at once, and collect the results."""
    ctx.obj = common
    if common.get("no_color"):
        ctx.color = False
    _show_help_if_alone(ctx)


root.params.extend(common_options(hidden=True, formats=tuple(FORMATS)))
