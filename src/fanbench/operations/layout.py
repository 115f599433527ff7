"""Where the files of a run go: `<root>/<task>/<version or "unset">/<model>/<run_id>/`."""

from __future__ import annotations

from pathlib import Path

from fanbench.operations.lookup import model_of
from fanbench.operations.status import TaskStatus
from fanbench.wire.messages import Run

__all__ = ["folder_of_run", "run_folder", "task_folder"]


def task_folder(root: Path, status: TaskStatus) -> Path:
    """The folder of the task's version that `status` is about. An owner in the slug is a folder, too."""
    return _version_folder(root, status.slug, status.task.slug.version_number)


def run_folder(root: Path, status: TaskStatus, run: Run) -> Path:
    """The folder of one run of the task."""
    return folder_of_run(root, status.slug, status.task.slug.version_number, model_of(run), run.id)


def folder_of_run(root: Path, slug: str, version: int, model: str, run_id: int) -> Path:
    """The folder of a run of a task's `version` (0 for one that is not known) on a normalized `model`."""
    return _version_folder(root, slug, version) / _folder_name(model) / str(run_id)


def _version_folder(root: Path, slug: str, version: int) -> Path:
    return root / slug / str(version or "unset")


def _folder_name(model: str) -> str:
    """A model's folder. The name comes from the server and must not lead out of its place."""
    return (
        "unknown"
        if model in ("", ".", "..")
        else model.replace("/", "-").replace("\\", "-").replace("\0", "")
    )
