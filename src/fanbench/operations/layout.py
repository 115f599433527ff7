"""The folders of runs: `<root>/<task>/<version or "unset">/<model>/<run_id>/`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder_of_run", "folder_of_version"]


def folder_of_version(root: Path, slug: str, version: int) -> Path:
    """The folder of a task's `version` (0 if it is not known). An owner in the slug is a folder, too."""
    return root / slug / str(version or "unset")


def folder_of_run(root: Path, slug: str, version: int, model: str, run_id: int) -> Path:
    """The folder of a run on a normalized `model`, in the `folder_of_version`."""
    # The model's name comes from the server, and must not lead out of the folder.
    folder = model.replace("/", "-").replace("\\", "-").replace("\0", "")
    name = "unknown" if model in ("", ".", "..") else folder
    return folder_of_version(root, slug, version) / name / str(run_id)
