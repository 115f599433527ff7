"""The tree of commands. The vendor's spellings are all here, so that an alias `kaggle=fanbench` serves."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click

from fanbench._version import __version__
from fanbench.cli.command import common_options
from fanbench.cli.exits import explain, explain_click
from fanbench.cli.lazy import Entry, LazyGroup, show_help_if_alone

__all__ = ["benchmarks", "root", "tasks"]

_TASKS = {
    "push": Entry("fanbench.cli.commands.push:push", "Upload task files; several at once."),
    "run": Entry("fanbench.cli.commands.run:run", "Run tasks on models."),
    "list": Entry("fanbench.cli.commands.list:list_", "List your tasks."),
    "status": Entry("fanbench.cli.commands.status:status", "Show a task and its runs."),
    "download": Entry("fanbench.cli.commands.download:download", "Download the outputs of all ended runs."),
    "log": Entry(
        "fanbench.cli.commands.log:log", "Show the logs of runs, live where they still run.", ("logs",)
    ),
    "publish": Entry("fanbench.cli.commands.publish:publish", "Make a task public."),
    "models": Entry("fanbench.cli.commands.models:models", "List the models that tasks can run on."),
    "delete": Entry("fanbench.cli.commands.delete:delete", "Delete a task, where the server can."),
}

_START = {
    "init": Entry(
        "fanbench.cli.commands.init:init",
        "Set a folder up: Model Proxy credentials, an example, a reference.",
    ),
    "auth": Entry("fanbench.cli.commands.auth:auth", "Renew the Model Proxy credentials in the env file."),
}

_OF_BENCHMARKS = {
    "leaderboard": Entry("fanbench.cli.commands.leaderboard:leaderboard", "Show a benchmark's leaderboard."),
    "quota": Entry("fanbench.cli.commands.quota:quota", "Show what is used of your quotas."),
}

tasks = LazyGroup(
    "tasks",
    table=_TASKS,
    help="Push, run, watch and download benchmark tasks.",
    epilog="\b\nExamples:\n  fanbench tasks push my-task -f task.py --wait\n"
    "  fanbench tasks run my-task -m 'gemini-*' --wait\n  fanbench tasks download my-task",
)

benchmarks = LazyGroup(
    "benchmarks",
    table=_START
    | {"tasks": Entry("fanbench.cli.app:tasks", "All that is done with tasks.", ("t",))}
    | _OF_BENCHMARKS,
    help="The vendor's spelling: `fanbench benchmarks …` is `fanbench …`.",
    epilog="\b\nExamples:\n  fanbench benchmarks init -y\n  fanbench b t status my-task",
)

_ROOT = {
    **_START,
    "check": Entry("fanbench.cli.commands.check:check", "Say what a push of task files would refuse."),
    "tasks": Entry("fanbench.cli.app:tasks", "Push, run, watch and download benchmark tasks.", ("t",)),
    "sweep": Entry(
        "fanbench.cli.commands.sweep:sweep", "Run every task on every model: the whole chain, resumable."
    ),
    "results": Entry("fanbench.cli.commands.results:results", "Make a table of downloaded run files."),
    **_OF_BENCHMARKS,
    "serve": Entry("fanbench.cli.commands.serve:serve", "Run the local server in the foreground."),
    "stop": Entry("fanbench.cli.commands.serve:stop", "Stop the local server."),
    "models": Entry(
        "fanbench.cli.commands.local_models:models", "Add, list and remove the local server's models."
    ),
    "doctor": Entry(
        "fanbench.cli.commands.doctor:doctor", "Say what is missing on this machine, and how to mend it."
    ),
    "completion": Entry("fanbench.cli.commands.completion:completion", "Print a shell's completion script."),
    "benchmarks": Entry("fanbench.cli.app:benchmarks", "The vendor's spelling of all of this.", ("b",)),
}


def _guarded(run: Callable[[], Any]) -> Any:
    """The exit code of a command line that cannot be read, else what `run` returns."""
    try:
        return run()
    except click.ClickException as error:
        return explain_click(error)
    except click.Abort as error:
        return explain(error)


class Root(LazyGroup):
    """Whatever happens below ends in `fanbench.cli.exits`."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        if standalone_mode and os.environ.get("NO_COLOR"):
            extra["color"] = False
        run = partial(super().main, args, prog_name, complete_var, standalone_mode=False, **extra)
        if not standalone_mode:
            return run()
        code = _guarded(run)
        raise SystemExit(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        # In here because click itself answers a broken pipe otherwise, and an interrupt with "Aborted!".
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


@click.group(
    cls=Root,
    table=_ROOT,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples, to begin with:\n  fanbench init -y\n"
    "  fanbench tasks push what-is-kaggle -f example_task.py --wait\n"
    "  fanbench tasks run what-is-kaggle\nWith --local all of it happens on this machine.",
)
@click.version_option(__version__, "--version", prog_name="fanbench")
@click.pass_context
def root(ctx: click.Context, /, **common: Any) -> None:
    """Kaggle Benchmarks for many runs: the commands of `kaggle benchmarks`, all of them concurrent."""
    ctx.obj = common
    if common.get("no_color"):
        ctx.color = False
    show_help_if_alone(ctx)


root.params.extend(common_options(hidden=True))
