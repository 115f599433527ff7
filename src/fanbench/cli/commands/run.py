"""`fanbench tasks run`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import (
    agent_option,
    effort_option,
    enqueue_option,
    judge_option,
    model_option,
    task_names_argument,
    value_option,
    wait_options,
)
from fanbench.cli.prompts import is_terminal
from fanbench.cli.session import call
from fanbench.errors import UsageError, WaitTimeout

if TYPE_CHECKING:
    from fanbench.operations.queue import EnqueueMode, Skip

__all__ = ["run"]


@command()
@task_names_argument
@model_option("A model to run on, or a pattern such as 'gemini-*'. Repeatable.")
@click.option("--all-models", is_flag=True, help="Run on every model that the server has.")
@effort_option
@agent_option
@judge_option
@enqueue_option
@value_option(
    "--skip",
    "WHICH",
    "With --enqueue always: leave models alone that have any run of the task, or one that has completed.",
    click.Choice(["any", "completed"]),
)
@value_option(
    "--stale-after",
    "SECONDS",
    "With --enqueue always: skip completed runs, except those that completed longer ago.",
    click.FLOAT,
)
@wait_options("the runs to end")
@click.option("--logs/--no-logs", default=None, help="With --wait: show log lines (default: on a terminal).")
def run(
    settings: Settings,
    task_names: tuple[str, ...],
    models: tuple[str, ...],
    all_models: bool,
    efforts: tuple[str, ...],
    agents: tuple[str, ...],
    judge: str | None,
    enqueue: EnqueueMode | None,
    skip: Skip | None,
    stale_after: float | None,
    wait: float | None,
    poll_interval: float,
    logs: bool | None,
) -> None:
    """Run tasks on models.

    Without -m or --agent, you choose models from a list. With --effort, each model runs at each of these reasoning
    efforts, and such a run is called MODEL@EFFORT, which -m accepts as well. --agent is for tasks that are run on
    agents. With --wait, the log lines of all runs are shown as they are written, and the exit code is 1 if any run
    errored.

    \b
    Examples:
      fanbench tasks run my-task
      fanbench tasks run my-task -m gemini-2.5-pro -m anthropic/claude-haiku-4-5 --wait
      fanbench tasks run first-task second-task -m 'gemini-*' --wait 600
      fanbench tasks run my-task -m gemini-2.5-pro --effort low --effort high
      fanbench tasks run my-task --agent claude-code-2.1.216-opus-4.8-high
      fanbench tasks run my-task --all-models --enqueue always --skip completed
      fanbench tasks run my-task --local -m smollm2-135m-instruct --judge gemma-3-270m
    """
    from fanbench.cli.views.run import RunView, choose_models
    from fanbench.operations.run import run_tasks

    if models and all_models:
        raise UsageError("-m/--model and --all-models cannot be used together.", hint="Remove one of them.")
    chosen, available = choose_models(settings, task_names, models, all_models=all_models, ask=not agents)
    view = RunView(settings, several_tasks=len(task_names) > 1, waiting=wait is not None)
    try:
        report = call(
            settings,
            lambda client: run_tasks(
                client,
                task_names,
                chosen,
                efforts=efforts,
                agents=agents,
                available=available,
                until="scheduled" if wait is None else "ended",
                timeout=wait or None,
                poll_interval=poll_interval,
                logs=is_terminal() if logs is None else logs,
                judge=judge,
                enqueue=enqueue or "never",
                skip=skip,
                stale_after=stale_after,
                emit=view.report,
            ),
            view.progress,
        )
    except WaitTimeout:
        view.print_records()
        raise
    except KeyboardInterrupt as interrupt:
        view.add_notes(interrupt)
        raise
    view.show_report(report)
