"""`fanbench tasks push`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import PATH, value_option, wait_options
from fanbench.cli.session import call
from fanbench.errors import UsageError

__all__ = ["push"]


@command()
@click.argument("task", required=False)
@value_option("-f --file files", "FILE", "A task file. Required, and repeatable.", PATH, multiple=True)
@wait_options("the tasks to be created")
@value_option(
    "-d --kaggle-dataset datasets",
    "OWNER/DATASET",
    "A Kaggle dataset to attach. Repeatable.",
    multiple=True,
)
@click.option("--all-tasks", is_flag=True, help="Push every task in each file.")
@click.option(
    "--if-changed",
    is_flag=True,
    help="Skip tasks whose newest version on the server certainly has the same cells and datasets.",
)
@click.option("--allow-no-run", is_flag=True, help="Accept tasks that the file defines but never runs.")
def push(
    settings: Settings,
    task: str | None,
    files: tuple[Path, ...],
    wait: float | None,
    poll_interval: float,
    datasets: tuple[str, ...],
    all_tasks: bool,
    if_changed: bool,
    allow_no_run: bool,
) -> None:
    """Upload task files, each as a new version of its task.

    A task file is Python, or a notebook (.ipynb), of which all cells are uploaded without their outputs.
    TASK names the task in the file; leave it out if the file defines only one. All files are checked first, and
    nothing is uploaded if any of them has an error.

    A `# /// fanbench` block in the file says what the page of the task is to say: description, tags, provenance and
    citations. It is sent with --wait, once the version has been created, or with --if-changed, if it exists already.

    With --if-changed, the notebook in the output of a run of the newest version tells whether a task has changed. A
    version without a run that has ended is pushed again.

    \b
    Examples:
      fanbench tasks push my-task -f task.py --wait
      fanbench tasks push -f sums.py -f cities.ipynb --wait 600
      fanbench tasks push my-task -f task.py -d owner/first -d owner/second
    """
    from fanbench.cli.views.push import PushView
    from fanbench.operations.push import plan_push, push_tasks
    from fanbench.tasks.source import SUFFIXES

    if not files:
        meant = f"-f {task}" if task and task.endswith(SUFFIXES) else f"{task or 'TASK'} -f FILE"
        raise UsageError("Missing option '-f' / '--file'.", hint=f"Run `fanbench tasks push {meant}`.")
    for dataset in datasets:
        owner, slash, name = dataset.partition("/")
        if not (owner and slash and name) or "/" in name:
            raise UsageError(f"'{dataset}' is not a dataset.", hint="Use the form -d OWNER/DATASET.")
    plans = plan_push(files, task, all_tasks=all_tasks, allow_no_run=allow_no_run, datasets=datasets)
    view = PushView(settings, plans, datasets, waiting=wait is not None)
    try:
        outcomes = call(
            settings,
            lambda client: push_tasks(
                client,
                plans,
                datasets=datasets,
                if_changed=if_changed,
                wait=wait is not None,
                timeout=wait or None,
                poll_interval=poll_interval,
                emit=view.report,
                done=view.done,
            ),
            view.progress,
        )
    except KeyboardInterrupt as interrupt:
        view.add_notes(interrupt)
        raise
    view.end(outcomes)
