"""The folders of runs: `<root>/<task>/<version or "unset">/<model>/<run_id>/`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["folder_of_run"]


def folder_of_run(root: Path, slug: str, version: int, model: str, run_id: int) -> Path:
    """The folder of a run of a task's `version` (0 if it is not known) on a normalized `model`.

    An owner in the slug is a folder, too.
    """
    # The model's name comes from the server, and must not lead out of the folder.
    folder = model.replace("/", "-").replace("\\", "-").replace("\0", "")
    return (
        root
        / slug
        / str(version or "unset")
        / ("unknown" if model in ("", ".", "..") else folder)
        / str(run_id)
    )
