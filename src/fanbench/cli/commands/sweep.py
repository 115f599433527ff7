"""`fanbench sweep`: every task on every model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fanbench.cli.command import Settings, Verb, model_option, pass_settings
from fanbench.cli.exits import say_error
from fanbench.cli.output import bold
from fanbench.cli.prompts import confirmed
from fanbench.cli.session import call
from fanbench.cli.views.sweep_report import failure, go_on, show_report
from fanbench.errors import FanbenchError, OutputError, UsageError

if TYPE_CHECKING:
    from fanbench.cli.views.sweep_session import Outcome, Prepared
    from fanbench.client import Client
    from fanbench.sweeps.preview import TaskPreview
    from fanbench.sweeps.report import SweepReport
    from fanbench.sweeps.spec import SweepSpec

__all__ = ["PLAN_FIELDS", "sweep"]

F = TypeVar("F", bound=Callable[..., Any])

_AT_LEAST_0 = click.IntRange(min=0)
_AT_LEAST_1 = click.IntRange(min=1)
_ABOVE_0 = click.FloatRange(min=0, min_open=True)


def _number(name: str, kind: click.ParamType[Any], metavar: str, text: str) -> Callable[[F], F]:
    return click.option(name, type=kind, metavar=metavar, help=text)


_OPTIONS = (
    model_option("A model to run on; repeat it for several. Patterns such as 'gemini-*' go, too."),
    click.option("--all-models", is_flag=True, help="Run on every model that the server has."),
    click.option(
        "--models-from",
        type=click.Path(path_type=Path, allow_dash=True),
        metavar="FILE",
        help="Models from a file, one name or pattern a line; - is stdin.",
    ),
    click.option(
        "-d",
        "--dataset",
        "datasets",
        multiple=True,
        metavar="OWNER/DATASET",
        help="Attach a dataset to the tasks that are pushed; repeat it for several.",
    ),
    _number("--repeats", _AT_LEAST_1, "N", "Runs for each task and model (default: 1)."),
    click.option(
        "-o",
        "--output",
        type=click.Path(file_okay=False),
        metavar="DIR",
        help="The folder for results and the journal (default: results).",
    ),
    click.option("-s", "--include-source", is_flag=True, help="Download the notebooks of the runs as well."),
    click.option("-y", "--yes", is_flag=True, help="Do not ask."),
    click.option("--dry-run", is_flag=True, help="Show the plan, and touch nothing."),
    click.option(
        "--step", is_flag=True, help="Do the next stage only (push, schedule, collect), and ask before it."
    ),
    click.option("--fresh", is_flag=True, help="Start anew; what the folder holds is kept aside."),
    _number("--retry-errored", _AT_LEAST_0, "N", "Schedule a run that errored again, N times (default: 0)."),
    click.option(
        "--max-failures", metavar="N|P%", help="Schedule no more once so many, or such a share, have errored."
    ),
    _number("--timeout", _ABOVE_0, "SECONDS", "For each run, from its scheduling on (default: no limit)."),
    _number("--deadline", _ABOVE_0, "SECONDS", "For the whole; then exit 5 (default: no limit)."),
    _number("--max-cost", _ABOVE_0, "USD", "What the sweep may cost; then exit 6 (default: no limit)."),
    _number(
        "--poll-interval",
        _ABOVE_0,
        "SECONDS",
        "The longest pause between two polls (default: 60; they begin at 1).",
    ),
    _number("--streams", _AT_LEAST_1, "N", "How many logs are followed at a time (default: 64)."),
    _number("--downloads", _AT_LEAST_1, "N", "How many outputs are downloaded at a time (default: 16)."),
    click.option("--schema", is_flag=True, help="Print the JSON schema of sweep.toml, and do nothing."),
)


def _all_options(function: F) -> F:
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


@click.command(cls=Verb)
@click.argument("words", nargs=-1, metavar="[FILE|TASK|sweep.toml]...")
@_all_options
@pass_settings
def sweep(
    settings: Settings,
    /,
    words: tuple[str, ...],
    yes: bool,
    dry_run: bool,
    step: bool,
    fresh: bool,
    schema: bool,
    **flags: Any,
) -> None:
    """Run every task on every model: push, run, follow the logs, download, and print one table.

    Tasks are files (FILE::TASK for one of several in a file), tasks of the server, or a sweep file. The same
    command again does what is left, whatever ended the one before; so does one without tasks, for the sweep
    in -o.

    \b
    Examples:
      fanbench sweep tasks/*.py -m 'gemini-*' -m claude-haiku-4-5 -o results
      fanbench sweep sums.py my-task --all-models --repeats 3 --max-cost 5 --dry-run
      fanbench sweep sweep.toml -y --format jsonl > events.jsonl
      fanbench sweep -o results --retry-errored 1
    """
    if schema:
        from fanbench.sweeps.sweep_file import schema_text

        click.echo(schema_text(), nl=False)
        return
    spec = _spec(words, flags)
    if step and spec.max_cost is not None:
        raise UsageError(
            "--step does not go with --max-cost: what runs cost is known once they are collected.",
            hint="Leave out one of them; --dry-run shows the plan.",
        )
    if settings.concurrency is None:
        settings = replace(settings, concurrency=spec.concurrency)
    _Command(settings, spec, _Wishes(yes, dry_run, step, fresh)).run()


# --- What is asked for ----------------------------------------------------------------------------------------


def _spec(words: tuple[str, ...], flags: dict[str, Any]) -> SweepSpec:
    """From the words, else from the folder's journal; flags go before both."""
    from fanbench.sweeps.resume import resumed
    from fanbench.sweeps.spec import DEFAULT_OUTPUT, classify, merge, models_from
    from fanbench.sweeps.sweep_file import read_sweep_file

    listed, models = flags.pop("models_from"), list(flags.pop("models"))
    if listed is not None:
        models += models_from(listed)
    arguments = classify(words)
    base = read_sweep_file(arguments.sweep_file) if arguments.sweep_file else None
    spec = merge(base, tasks=arguments.tasks, models=models, **flags)
    if spec.tasks:
        return spec
    if arguments.sweep_file:
        raise UsageError(
            f"{arguments.sweep_file} names no tasks.", hint="Name some there, or on the command line."
        )
    if spec.datasets:
        raise UsageError("-d/--dataset is for tasks that are named.", hint="Name the tasks again.")
    return merge(resumed(spec.output or DEFAULT_OUTPUT), models=models, **flags)


@dataclass(frozen=True, slots=True)
class _Wishes:
    yes: bool
    dry_run: bool
    step: bool
    fresh: bool


# --- What is done ---------------------------------------------------------------------------------------------


class _Command:
    def __init__(self, settings: Settings, spec: SweepSpec, wishes: _Wishes) -> None:
        self._settings = settings
        self._out = settings.output
        self._spec = spec
        self._wishes = wishes

    def run(self) -> None:
        """One session where nobody is asked; a question is asked between two, where Ctrl-C ends it at once."""
        if self._wishes.dry_run:
            self._show_plan(call(self._settings, self._prepare))
        elif self._wishes.yes:
            self._end(*call(self._settings, self._all_at_once))
        else:
            prepared = call(self._settings, self._prepare)
            if self._confirmed(prepared):
                self._end(prepared, call(self._settings, lambda client: self._follow(client, prepared)))
            else:
                self._out.note("Nothing was touched.")

    async def _all_at_once(self, client: Client) -> tuple[Prepared, Outcome]:
        prepared = await self._prepare(client)
        self._say_plan(prepared)
        return prepared, await self._follow(client, prepared)

    async def _prepare(self, client: Client) -> Prepared:
        from fanbench.cli.progress import spinner
        from fanbench.cli.views.sweep_session import prepare

        with spinner(self._out, "Planning"):
            return await prepare(client, self._spec, fresh=self._wishes.fresh, quotas=not self._wishes.yes)

    async def _follow(self, client: Client, prepared: Prepared) -> Outcome:
        import anyio.to_thread

        from fanbench.cli.views.sweep_session import Course
        from fanbench.sweeps.folder import set_aside

        if self._wishes.fresh:
            aside = await anyio.to_thread.run_sync(set_aside, prepared.plan.output)
            if aside is not None:
                self._out.note(f"What was in {prepared.plan.output} is in {aside} now.")
        until = prepared.stage if self._wishes.step else "collect"
        return await Course(self._settings, prepared.plan, until).follow(client)

    # --- The plan ---

    def _show_plan(self, prepared: Prepared) -> None:
        """As what was asked for: to stdout; for programs a record a task, and what else there is to say to stderr."""
        for line in prepared.preview.lines():
            self._out.text(line)
        if not self._out.plain:
            for warning in prepared.preview.warnings:
                self._out.warn(warning)
        self._out.rows([_plan_record(task) for task in prepared.preview.tasks], PLAN_FIELDS)

    def _say_plan(self, prepared: Prepared) -> None:
        for line in prepared.preview.lines():
            self._out.note(line)

    def _confirmed(self, prepared: Prepared) -> bool:
        from fanbench.cli.views.sweep_step import question

        if prepared.preview.nothing_to_do:
            self._say_plan(prepared)
            return True
        for line in prepared.preview.lines():  # also with -q: it is what is asked about
            click.echo(line, err=True)
        asked = question(prepared.stage, prepared.preview) if self._wishes.step else "Go on?"
        return confirmed(asked, yes=False)

    # --- The end ---

    def _end(self, prepared: Prepared, outcome: Outcome) -> None:
        """The summaries come first: whoever reads the tables may go away. A full disk for them keeps no table back."""
        report = outcome.report
        if report is None:
            raise click.exceptions.Exit(outcome.code)
        unwritten = _write_summary(report)
        if self._wishes.step and prepared.stage != "collect":
            error = self._end_stage(prepared, outcome)
        else:
            show_report(self._settings, report, written=unwritten is None)
            error = failure(self._settings, report)
        if unwritten is not None:
            say_error(unwritten)
        if outcome.code:
            raise click.exceptions.Exit(self._interrupted(outcome))
        if unwritten is not None or error is not None:
            raise error or click.exceptions.Exit(1)

    def _interrupted(self, outcome: Outcome) -> int:
        if outcome.report is not None and not outcome.report.ok:
            command = go_on(self._settings, outcome.report.output)
            self._out.note(f"\nInterrupted. What is left is done by: {bold(command)}")
        return outcome.code

    def _end_stage(self, prepared: Prepared, outcome: Outcome) -> FanbenchError | None:
        from fanbench.cli.views.sweep_step import came_out, stage_failure

        for line in came_out(prepared.stage, outcome.state):
            self._out.text(line)
        self._out.note(f"\nNext: {bold(go_on(self._settings, prepared.plan.output, ' --step'))}")
        return stage_failure(outcome.state)


def _write_summary(report: SweepReport) -> OutputError | None:
    from fanbench.sweeps.report import write_summary

    try:
        write_summary(report)
    except OutputError as error:
        return error
    return None


PLAN_FIELDS = (
    "task",
    "file",
    "datasets",
    "version",
    "push",
    "pushed",
    "schedule",
    "find",
    "watch",
    "collect",
    "done",
    "calls",
)


def _plan_record(task: TaskPreview) -> dict[str, Any]:
    return {
        "task": task.task,
        "file": task.file,
        "datasets": list(task.datasets),
        "version": task.version,
        "push": task.push.value,
        "pushed": task.pushed,
        **asdict(task.counts),
        "calls": task.calls,
    }
