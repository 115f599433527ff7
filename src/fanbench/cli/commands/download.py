"""`fanbench tasks download`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FOLDER, model_option, task_names_argument, value_option, version_option
from fanbench.cli.session import call

__all__ = ["download"]


@command()
@task_names_argument
@version_option
@model_option("Download only the runs of this model, or of those that match a pattern. Repeatable.")
@value_option("-o --output", "DIR", "The folder for the tasks' folders (default: .).", FOLDER, default=Path())
@click.option("-s", "--include-source", is_flag=True, help="Also download the notebooks.")
@click.option("-f", "--force", is_flag=True, help="Download runs again that are already there.")
def download(
    settings: Settings,
    task_names: tuple[str, ...],
    version: int | None,
    models: tuple[str, ...],
    output: Path,
    include_source: bool,
    force: bool,
) -> None:
    """Download the outputs of all finished runs of tasks to DIR/TASK/VERSION/MODEL/RUN/.

    Runs are downloaded concurrently. If a download fails, the others continue, and an earlier copy is kept.

    \b
    Examples:
      fanbench tasks download my-task
      fanbench tasks download my-task -o runs -m gemini-2.5-pro
      fanbench tasks download my-task -f -s
      fanbench tasks download first-task second-task
    """
    from fanbench.cli.views.download import DownloadView
    from fanbench.operations.download import download_tasks

    view = DownloadView(settings, several_tasks=len(set(task_names)) > 1)
    outcomes = call(
        settings,
        lambda client: download_tasks(
            client,
            task_names,
            models,
            output=output,
            include_source=include_source,
            force=force,
            version=version or 0,
            emit=view.report,
        ),
        view.progress,
    )
    view.end(outcomes)
