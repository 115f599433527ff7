"""A run's own process: limits, folder, environment, then the notebook's cells.

The parent of the runs calls `run_job` in a fork of itself, or (`--isolation process`) starts
`python -m fanbench.local.executor.child` with a Job as JSON on stdin.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import resource
import signal
import sys
import traceback
from typing import Any, NoReturn

import msgspec

from fanbench.local.executor import mounts
from fanbench.local.executor.job import Job, Outcome
from fanbench.local.executor.notebook import NotebookRun, format_failure
from fanbench.local.executor.orphans import adopt_orphans
from fanbench.local.executor.sdk import Kit, make_kit, point_at_environment

_PR_SET_PDEATHSIG = 1


def run_job(job: Job, kit: Kit) -> int:
    """Run the job's notebook in this process; the exit code.

    Whatever goes wrong is written down for the server, as long as there is a folder to write it to.
    """
    try:
        enter(job)
        point_at_environment(kit.sdk)
        run = NotebookRun(json.loads(job.source.read_text(encoding="utf-8")), kit.shell, kit.recorders)
        error = run.execute()
        _forget(kit.shell)
        _write_outcome(job, Outcome(error=error))
        run.write(job.executed)
    except BaseException as failure:  # noqa: BLE001 - whatever it is, the server must hear of it
        _write_outcome(job, Outcome(error=format_failure(failure)))
        return 70
    return 0 if error is None else 1


def enter(job: Job) -> None:
    """Become the run: its death with its parent, its limits, its view of files, its folder and environment."""
    die_with_parent()
    adopt_orphans()  # what the run leaves behind comes to the parent when the run is over, and is killed there
    if job.memory_mb:
        limit = job.memory_mb * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(mounts.attach(job.datasets, job.working))
    os.environ.clear()
    os.environ.update(job.environment)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even by SIGKILL."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _forget(shell: Any) -> None:
    """Drop the notebook's objects, so that files it left open are written; the process ends without the usual
    clean-up of the interpreter, which would run the parent's."""
    shell.user_ns.clear()
    gc.collect()


def _write_outcome(job: Job, outcome: Outcome) -> None:
    temp = job.outcome.with_name("outcome.tmp")
    temp.write_bytes(msgspec.json.encode(outcome))
    temp.replace(job.outcome)


def leave(code: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 1
    os._exit(code)


def main() -> None:
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=Job)
    try:
        kit = make_kit()
    except BaseException:  # noqa: BLE001 - a broken install raises anything; the server turns it into a hint
        _write_outcome(job, Outcome(sdk_failure=traceback.format_exc()))
        leave(70)
    leave(run_job(job, kit))


if __name__ == "__main__":
    main()
