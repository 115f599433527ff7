"""`fanbench tasks list`."""

from __future__ import annotations

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import AT_LEAST_1, value_option
from fanbench.cli.session import call
from fanbench.errors import UsageError

__all__ = ["list_"]


@command("list")
@value_option("--name-regex", "REGEX", "Only tasks whose names match.")
@value_option("--status", "STATE", "Only tasks in this state, such as completed or errored.")
@value_option("--benchmark", "OWNER/BENCHMARK", "The tasks of a benchmark, of all owners.")
@value_option(
    "--benchmark-version", "N", "The version of the benchmark (default: the published one).", AT_LEAST_1
)
@value_option("--owner", "NAME", "The tasks of this owner that you may see.")
@value_option("--page-size", "N", "Tasks per page (default: 20).", AT_LEAST_1)
@click.option("--all", "show_all", is_flag=True, help="Show all tasks on one page.")
def list_(
    settings: Settings,
    name_regex: str | None,
    status: str | None,
    benchmark: str | None,
    benchmark_version: int | None,
    owner: str | None,
    page_size: int | None,
    show_all: bool,
) -> None:
    """List your tasks and their states, or those of a benchmark or another owner.

    On a terminal, tasks are shown page by page; elsewhere, all at once.

    \b
    Examples:
      fanbench tasks list
      fanbench tasks list --name-regex '^math' --status completed
      fanbench tasks list --benchmark owner/their-benchmark
      fanbench tasks list --format csv > tasks.csv
    """
    from fanbench.cli.views.list import show_tasks
    from fanbench.operations.status import list_tasks
    from fanbench.wire.slugs import refuse_empty

    for name, what, flag in ((benchmark, "a benchmark", "--benchmark"), (owner, "an owner", "--owner")):
        refuse_empty([] if name is None else [name], what, flag)
    if benchmark and owner:
        raise UsageError("--benchmark has its owner in its name.", hint="Remove --owner.")
    if benchmark_version and not benchmark:
        raise UsageError("--benchmark-version is for --benchmark.", hint="Add --benchmark OWNER/BENCHMARK.")
    tasks = call(
        settings,
        lambda client: list_tasks(
            client,
            regex=name_regex,
            status=status,
            owner=owner or "",
            benchmark=benchmark or "",
            version=benchmark_version or 0,
        ),
    )
    filtered = any((name_regex, status, benchmark, owner))
    show_tasks(settings, tasks, page_size=None if show_all else page_size or 20, filtered=filtered)
