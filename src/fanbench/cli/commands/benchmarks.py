"""`fanbench benchmarks add` and `fanbench benchmarks remove`."""

from __future__ import annotations

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import AT_LEAST_1, task_names_argument, value_option, yes_option

__all__ = ["add", "remove"]

_benchmark_argument = click.argument("benchmark", metavar="OWNER/BENCHMARK")
_benchmark_version_option = value_option(
    "--version",
    "N",
    "The version of the benchmark (default: the published one, or else the draft).",
    AT_LEAST_1,
)


@command()
@_benchmark_argument
@task_names_argument
@_benchmark_version_option
@yes_option
def add(
    settings: Settings, benchmark: str, task_names: tuple[str, ...], version: int | None, yes: bool
) -> None:
    """Add tasks to one of your benchmarks.

    The tasks may be other people's, as OWNER/TASK. Those that are in it already stay as they are. Benchmarks are made
    on Kaggle's site; the local server makes one when the first task is added.

    \b
    Examples:
      fanbench benchmarks add me/my-benchmark first-task second-task
      fanbench benchmarks add my-benchmark owner/their-task -y
    """
    from fanbench.cli.views.benchmarks import confirm_and_change

    confirm_and_change(settings, "add", benchmark, task_names, version=version or 0, yes=yes)


@command()
@_benchmark_argument
@task_names_argument
@_benchmark_version_option
@yes_option
def remove(
    settings: Settings, benchmark: str, task_names: tuple[str, ...], version: int | None, yes: bool
) -> None:
    """Remove tasks from one of your benchmarks. The tasks themselves stay.

    \b
    Examples:
      fanbench benchmarks remove me/my-benchmark first-task
      fanbench benchmarks remove my-benchmark owner/their-task -y
    """
    from fanbench.cli.views.benchmarks import confirm_and_change

    confirm_and_change(settings, "remove", benchmark, task_names, version=version or 0, yes=yes)
