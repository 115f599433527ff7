"""The folders of runs, `<root>/<task>/<version or "unset">/<model>/<run_id>/`, and their logs beside them.

A run's folder has its output and nothing else: a task may give any name to its files.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["EARLIER_LOG", "LOG", "folder_of_log", "folder_of_run", "folder_of_version", "log_of_run"]

#: The end of the name of a log, after the id of its run.
LOG = ".log"
#: What earlier versions of fanbench called the log, which they kept in the run's folder.
EARLIER_LOG = "run.log"


def folder_of_version(root: Path, slug: str, version: int) -> Path:
    """The folder of a task's `version` (0 if it is not known). An owner in the slug is a folder, too."""
    return root / slug / str(version or "unset")


def folder_of_run(root: Path, slug: str, version: int, model: str, run_id: int) -> Path:
    """The folder of a run on a normalized `model`, in the `folder_of_version`."""
    # The model's name comes from the server, and must not lead out of the folder.
    folder = model.replace("/", "-").replace("\\", "-").replace("\0", "")
    name = "unknown" if model in ("", ".", "..") else folder
    return folder_of_version(root, slug, version) / name / str(run_id)


def log_of_run(folder: Path) -> Path:
    """The log of the run in `folder`: `<run_id>.log`, beside the folder."""
    return folder.with_name(f"{folder.name}{LOG}")


def folder_of_log(log: Path) -> Path:
    """The folder of the run whose log this is, also where an earlier version wrote it."""
    return log.parent if log.name == EARLIER_LOG else log.with_suffix("")
