"""`fanbench sweep`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import (
    AT_LEAST_1,
    agent_option,
    effort_option,
    enqueue_option,
    judge_option,
    model_option,
    value_option,
    yes_option,
)
from fanbench.errors import UsageError

if TYPE_CHECKING:
    from fanbench.sweeps.spec import SweepSpec

__all__ = ["sweep"]

_ABOVE_0 = click.FloatRange(min=0, min_open=True)

_SECTIONS = {
    "What to run": "benchmark models all_models models_from efforts agents judge datasets repeats rerun adopt",
    "Failures and limits": "retry_errored max_failures timeout deadline max_cost cancel cancel_on_interrupt",
    "Calls": "enqueue poll_interval confirm_within streams downloads",
}


@command(sections=_SECTIONS)
@click.argument("words", nargs=-1, metavar="[FILE|DIR|TASK|sweep.toml]...")
@value_option("--benchmark", "OWNER/BENCHMARK", "Run the tasks of a benchmark, as they are on the server.")
@model_option("A model to run on, or a pattern such as 'gemini-*'. Repeatable.")
@click.option("--all-models", is_flag=True, help="Run on every model that the server has.")
@value_option(
    "--models-from",
    "FILE",
    "Read models from a file, one name or pattern per line; - is stdin.",
    click.Path(path_type=Path, allow_dash=True),
)
@effort_option
@agent_option
@judge_option
@value_option(
    "-d --dataset datasets",
    "OWNER/DATASET",
    "A dataset to attach to the tasks that are pushed. Repeatable.",
    multiple=True,
)
@value_option("--repeats", "N", "Runs per task and model (default: 1).", AT_LEAST_1)
@value_option(
    "--rerun",
    "TASK:MODEL",
    "Make these runs again, whatever came of them; TASK and MODEL may be patterns ('quiz:*'). Repeatable.",
    multiple=True,
)
@click.option(
    "--adopt", is_flag=True, help="Take over runs of the same content that are on the server already."
)
@value_option(
    "--retry-errored",
    "N",
    "Repeat errored runs up to N times, and failed creations once (default: 0).",
    click.IntRange(min=0),
)
@value_option("--max-failures", "N|P%", "Stop scheduling after N errored runs, or P% of all runs.")
@value_option("--timeout", "SECONDS", "The time limit for each run once scheduled (default: none).", _ABOVE_0)
@value_option("--deadline", "SECONDS", "The time limit for the sweep; exit code 5 (default: none).", _ABOVE_0)
@value_option("--max-cost", "USD", "The budget for the sweep; exit code 6 (default: none).", _ABOVE_0)
@value_option(
    "--cancel",
    "WHICH",
    "The runs in flight to cancel on the server at one of these four limits: never, queued or all "
    "(default: never).",
    click.Choice(["never", "queued", "all"]),
)
@click.option(
    "--cancel-on-interrupt",
    is_flag=True,
    help="Cancel runs at the first Ctrl-C, too: all, or only queued ones with --cancel queued.",
)
@enqueue_option
@value_option(
    "--poll-interval",
    "SECONDS",
    "The longest pause between two polls; the first pauses are shorter (default: 60).",
    _ABOVE_0,
)
@value_option(
    "--confirm-within",
    "SECONDS",
    "Look for the effect of a call without an answer, before it is made again (default: 60; with --local 10).",
    _ABOVE_0,
)
@value_option("--streams", "N", "The maximum number of logs to follow at a time (default: 64).", AT_LEAST_1)
@value_option("--downloads", "N", "The maximum number of downloads at a time (default: 16).", AT_LEAST_1)
@value_option(
    "-o --output",
    "DIR",
    "The folder for the results and the journal (default: results).",
    click.Path(file_okay=False),
)
@click.option("-s", "--include-source", is_flag=True, help="Also download the notebooks of the runs.")
@yes_option
@click.option("--dry-run", is_flag=True, help="Show the plan without changing anything.")
@click.option(
    "--step", is_flag=True, help="Ask before the next stage (push, schedule or collect), and do only that."
)
@click.option("--fresh", is_flag=True, help="Start over; what the folder contains is moved aside.")
@click.option(
    "--view", "shows_page", is_flag=True, help="Show the page of `fanbench view` while the sweep runs."
)
@click.option("--schema", is_flag=True, help="Print the JSON schema of sweep.toml and exit.")
def sweep(
    settings: Settings,
    /,
    words: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    step: bool,
    fresh: bool,
    shows_page: bool,
    schema: bool,
    **flags: Any,
) -> None:
    """Run every task on every model: push, run, follow the logs, download, and print one table.

    Tasks are task files (FILE::TASK for one of several in a file), folders of them, tasks on the server, those of a
    benchmark, or a sweep file. Run the same command again to resume an interrupted sweep: only what is left is done.
    Without tasks, the sweep in the output folder is resumed.

    \b
    Examples:
      fanbench sweep tasks -m 'gemini-*' -m claude-haiku-4-5 -o results
      fanbench sweep tasks -m 'gemini-*' --effort low --effort high
      fanbench sweep sums.py my-task --all-models --repeats 3 --max-cost 5 --dry-run
      fanbench sweep --benchmark owner/their-benchmark --all-models
      fanbench sweep sweep.toml -y --format jsonl > events.jsonl
      fanbench sweep -o results --retry-errored 1
      fanbench sweep -o results --view
      fanbench sweep -o results --rerun 'my-task:gemini-*' --dry-run
    """
    if schema:
        from fanbench.sweeps.sweep_file import schema_text

        click.echo(schema_text(), nl=False)
        return
    from fanbench.cli.views.sweep import SweepView

    spec = _read_spec(words, flags)
    if step and spec.max_cost is not None:
        raise UsageError(
            "--step cannot be used with --max-cost: the cost of runs is known only once they are collected.",
            hint="Remove one of them; use --dry-run to see the plan.",
        )
    if settings.concurrency is None:
        settings = replace(settings, concurrency=spec.concurrency)
    if shows_page:
        from fanbench.cli.views.view import require_view

        require_view()
    view = SweepView(settings, spec, step=step, fresh=fresh, quotas=not yes, shows_page=shows_page)
    view.run(yes=yes, dry_run=dry_run)


def _read_spec(words: tuple[str, ...], flags: dict[str, Any]) -> SweepSpec:
    """What to run: from the arguments, or from the journal of the output folder. Flags override both."""
    from fanbench.sweeps.resume import resumed
    from fanbench.sweeps.spec import DEFAULT_OUTPUT, classify, merge, models_from
    from fanbench.sweeps.sweep_file import read_sweep_file

    listed, models = flags.pop("models_from"), list(flags.pop("models"))
    if listed is not None:
        models += models_from(listed)
    arguments = classify(words)
    base = read_sweep_file(arguments.sweep_file) if arguments.sweep_file else None
    spec = merge(base, tasks=arguments.tasks, models=models, **flags)
    if spec.tasks or spec.benchmark:
        return spec
    if arguments.sweep_file:
        raise UsageError(
            f"{arguments.sweep_file} names no tasks.",
            hint="Add tasks to it, or name them on the command line.",
        )
    if spec.datasets:
        raise UsageError("-d/--dataset can only be used with named tasks.", hint="Name the tasks again.")
    return merge(resumed(spec.output or DEFAULT_OUTPUT), models=models, **flags)
