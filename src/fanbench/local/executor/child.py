"""The process of a notebook run: limits, folder, environment, then the cells.

The forkserver calls `run_job` in a fork of itself or, with `--isolation process`, starts
`python -m fanbench.local.executor.child` with a Job as JSON on stdin.
"""

from __future__ import annotations

import gc
import json
import os
import resource
import signal
import sys
import traceback
from pathlib import Path

import msgspec

from fanbench._util import files
from fanbench._util.text import without_surrogates
from fanbench.local.executor.job import CANNOT_WRITE, Job, NotebookOutcome
from fanbench.local.executor.lifetime import exit_without_cleanup
from fanbench.local.executor.notebook import format_failure, run_notebook
from fanbench.local.executor.sdk import Kit, make_kit, point_at_environment


def run_job(job: Job, kit: Kit) -> int:
    """Run the job's notebook in this process, report how it ended, and return the exit code."""
    try:
        if job.memory_mb:
            limit = job.memory_mb * 1024 * 1024
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ.clear()
        os.environ.update(job.environment)
        _import_from(job.environment.get("PYTHONPATH", ""))
        point_at_environment(kit.sdk)
        notebook = json.loads(job.source.read_text(encoding="utf-8"))
        error = run_notebook(notebook, kit.shell, kit.recorders)
        # Drop the notebook's objects, so that files it left open are written: the process ends without the
        # interpreter's usual clean-up, which would run the forkserver's.
        kit.shell.user_ns.clear()
        gc.collect()
        error = without_surrogates(error) if error is not None else None
        _report(job, NotebookOutcome(error=error, choice=kit.shell.choice))
        files.write(Path(job.folder, "executed.ipynb"), json.dumps(notebook), durable=False)
    except BaseException as failure:  # noqa: BLE001 - the server must learn of it, whatever it is
        try:
            _report(job, NotebookOutcome(error=without_surrogates(format_failure(failure))))
        except OSError:
            return CANNOT_WRITE
        return 70
    return 0 if error is None else 1


def _import_from(python_path: str) -> None:
    """Do what a new Python would have done at its start: a fork has the path of its parent."""
    folders = [folder for folder in python_path.split(os.pathsep) if folder and folder not in sys.path]
    sys.path[:0] = folders


def _report(job: Job, outcome: NotebookOutcome) -> None:
    files.write(job.outcome, msgspec.json.encode(outcome), durable=False)


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)  # in a container it is ignored until here
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        kit = make_kit()
    except BaseException:  # noqa: BLE001 - a broken install raises anything; the server turns it into a hint
        _report(job, NotebookOutcome(sdk_failure=traceback.format_exc()))
        exit_without_cleanup(70)
    exit_without_cleanup(run_job(job, kit))


if __name__ == "__main__":
    main()
