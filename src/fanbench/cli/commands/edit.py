"""`fanbench tasks edit`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FILE, task_names_argument, value_option, version_option

__all__ = ["edit"]


@command()
@task_names_argument
@version_option
@value_option("--description", "TEXT", "What the page says about the task, in Markdown; '' removes it.")
@value_option("--description-file", "FILE", "A file with the description; - is stdin.", FILE)
@value_option(
    "-t --tag tags", "TAG", "A tag. The tags given replace the existing ones. Repeatable.", multiple=True
)
@click.option("--no-tags", is_flag=True, help="Remove all tags.")
@value_option("--provenance", "TEXT", "Where data and code come from; '' removes it.")
@value_option(
    "--citation citations",
    "'TITLE <URL>'",
    "A reference. The citations given replace the existing ones. Repeatable.",
    multiple=True,
)
@click.option("--no-citations", is_flag=True, help="Remove all citations.")
@click.option("--dry-run", is_flag=True, help="Show what would change without changing it.")
def edit(
    settings: Settings,
    task_names: tuple[str, ...],
    version: int | None,
    description: str | None,
    description_file: Path | None,
    tags: tuple[str, ...],
    no_tags: bool,
    provenance: str | None,
    citations: tuple[str, ...],
    no_citations: bool,
    dry_run: bool,
) -> None:
    """Change what the pages of tasks say: description, tags, provenance, citations.

    What is not given stays as it is. Tags belong to a task as a whole, everything else to a version. The exit code is 1
    if the server does not know a tag; everything else is still changed.

    \b
    Examples:
      fanbench tasks edit my-task --description-file README.md --tag mathematics
      fanbench tasks edit first-task second-task --tag coding --tag reasoning --dry-run
      fanbench tasks edit my-task --citation 'A paper <https://example.org/paper>' --provenance 'Written by hand.'
    """
    from fanbench.cli.views.edit import edit_and_show, requested

    change = requested(
        description,
        description_file,
        tags=tags,
        no_tags=no_tags,
        provenance=provenance,
        citations=citations,
        no_citations=no_citations,
    )
    edit_and_show(settings, task_names, change, version=version or 0, dry_run=dry_run)
