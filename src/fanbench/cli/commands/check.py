"""`fanbench check FILE...`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FOLDER, PATH, above_zero, value_option
from fanbench.errors import UsageError

__all__ = ["check"]


@command()
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=PATH)
@click.option("--allow-no-run", is_flag=True, help="Accept tasks that the file defines but never runs.")
@click.option("--run", "run_", is_flag=True, help="Also run the files, with the real SDK, on one model.")
@value_option("-m --model", "MODEL", "With --run: the model (default: the server's).")
@value_option("--judge", "MODEL", "With --run: the model behind judge_llm (default: the same).")
@value_option(
    "-o --output", "DIR", "With --run: keep the files that the runs leave in folders below DIR.", FOLDER
)
@value_option(
    "--timeout",
    "SECONDS",
    "With --run: the time limit for each file (default: 600).",
    click.FloatRange(min=0, min_open=True, max=1e9),
    callback=above_zero,
)
@value_option(
    "-d --dataset datasets",
    "OWNER/SLUG",
    "A dataset that will be attached; with --run, the files can read it. Repeatable.",
    multiple=True,
)
@value_option(
    "--datasets dataset_folder",
    "DIR",
    "With --run -d: the folder of OWNER/SLUG folders (default: that of the local server).",
    click.Path(path_type=Path, exists=True, file_okay=False),
)
def check(
    settings: Settings,
    files: tuple[Path, ...],
    allow_no_run: bool,
    run_: bool,
    model: str | None,
    judge: str | None,
    output: Path | None,
    timeout: float | None,
    datasets: tuple[str, ...],
    dataset_folder: Path | None,
) -> None:
    """Find errors in task files before pushing them. Exit with 1 if a push would refuse one.

    Each finding is a line FILE:LINE:COLUMN: error|warning: MESSAGE, followed by a suggestion; in a notebook the
    place is FILE:cell N:LINE:COLUMN, with N counted over all cells. Nothing is run.

    With --run, each file without errors is then run like `python FILE`, several at a time, in an empty folder and
    with new Model Proxy credentials; .env files are ignored. A file passes if it exits successfully and writes a
    *.run.json for each task that it runs itself. The output of files that fail is shown; with -v, every line as it is
    written. A dataset named with -d is in /kaggle/input, as on Kaggle. The dependencies in a file's inline metadata
    (PEP 723) are installed before it runs.

    \b
    Examples:
      fanbench check my_task.py
      fanbench check tasks/*.py tasks/*.ipynb --format jsonl
      fanbench check my_task.py --run --local
      fanbench check my_task.py --run -d owner/words --datasets ./datasets
      fanbench check tasks/*.py --run -m gemini-2.5-flash --timeout 120 -o trials
    """
    from fanbench.cli.views.check import check_files, show_findings

    if not run_ and (model or judge or output or timeout or dataset_folder):
        flags = "-m, --judge, -o, --timeout and --datasets"
        raise UsageError(f"{flags} can only be used with --run.", hint="Add --run.")
    if dataset_folder and not datasets:
        raise UsageError("--datasets can only be used with -d.", hint="Add -d OWNER/SLUG.")
    checked = check_files(settings.output, files, allow_no_run=allow_no_run, datasets=datasets)
    if run_:
        from fanbench.cli.views.check_run import run_files
        from fanbench.local.folder import DataFolder
        from fanbench.local.kept_options import read_options
        from fanbench.local.settings import default_data_folder, find_datasets

        found: dict[str, Path] = {}
        if datasets:
            data = DataFolder((settings.data or default_data_folder()).absolute())
            root = dataset_folder or read_options(data).dataset_folder
            hint = "Put its files into DIR/OWNER/SLUG, and name DIR with --datasets DIR."
            found = find_datasets(root, datasets, hint=hint, kind=UsageError)
        passed = run_files(
            settings,
            checked,
            model,
            judge,
            output,
            timeout,
            allow_no_run=allow_no_run,
            datasets=found,
        )
    else:
        passed = show_findings(settings.output, checked)
    if not passed:
        raise click.exceptions.Exit(1)
