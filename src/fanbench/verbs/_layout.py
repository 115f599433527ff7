"""Where the files of a run go: `<root>/<task>/<version or "unset">/<model>/<run_id>/`."""

from __future__ import annotations

from pathlib import Path

from fanbench.api.messages import Run
from fanbench.verbs._tasks import model_of
from fanbench.verbs.status import TaskStatus

__all__ = ["run_folder", "task_folder"]


def task_folder(root: Path, status: TaskStatus) -> Path:
    """The folder of the task's version that `status` is about. An owner in the slug is a folder, too."""
    return root / status.slug / str(status.task.slug.version_number or "unset")


def run_folder(root: Path, status: TaskStatus, run: Run) -> Path:
    """The folder of one run of the task."""
    return task_folder(root, status) / _folder_name(model_of(run)) / str(run.id)


def _folder_name(model: str) -> str:
    """A model's folder. The name comes from the server and must not lead out of its place."""
    return (
        "unknown"
        if model in ("", ".", "..")
        else model.replace("/", "-").replace("\\", "-").replace("\0", "")
    )
