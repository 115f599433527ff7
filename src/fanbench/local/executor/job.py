"""What is asked of a run process, and what it reports back. Plain JSON: it crosses a process boundary."""

from __future__ import annotations

from pathlib import Path

import msgspec

__all__ = ["CANNOT_WRITE", "Choice", "Exit", "Job", "NotebookOutcome"]


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a notebook, or of a task file.

    `folder` holds `working/` (the current folder of the run; its files are the run's output) and, beside it,
    what is not output: the source notebook, the executed one, the outcome, the run's `tmp/`.
    """

    folder: str
    environment: dict[str, str]
    memory_mb: int = 0
    """The most memory that a process of the run may allocate, and that all may take, in MB; 0 for no limit."""
    disk_mb: int = 0
    """The most room that the files in `folder` may take, in MB; 0 for no limit."""
    datasets: dict[str, str] = {}
    """Dataset, as OWNER/SLUG → the real folder behind it."""
    hidden: list[str] = []
    """Folders that the run is not to see, where the system allows mounts. It sees empty ones of its own instead."""
    visible: list[str] = []
    """Folders below the hidden ones that the run sees nevertheless, and cannot change."""
    script: str = ""
    """The absolute path of a task file to run as `python FILE` would, instead of the notebook.

    If there is a source notebook too, its cells run in the file's place, in IPython. A script requires isolation
    "process", because a fork is not as empty as a new Python.
    """

    @property
    def working(self) -> Path:
        return Path(self.folder, "working")

    @property
    def scratch(self) -> Path:
        """`/kaggle/tmp` and `/kaggle/temp`, to be deleted after the run."""
        return Path(self.folder, "tmp")

    @property
    def covers(self) -> Path:
        """What the run sees in place of the hidden folders, to be deleted after the run."""
        return Path(self.folder, "covers")

    @property
    def source(self) -> Path:
        return Path(self.folder, "source.ipynb")

    @property
    def outcome(self) -> Path:
        return Path(self.folder, "outcome.json")


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What the `%choose` lines of a notebook did."""

    word: str
    """What the last one names."""
    kept: str | None
    """The name of the task whose run it kept; None if no task of that name had run."""
    removed: list[str]
    """The names of the tasks whose runs were removed."""


class NotebookOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the process itself reports about a notebook; missing if it died before it could."""

    error: str | None = None
    """The traceback of the cell that failed."""
    choice: Choice | None = None
    sdk_failure: str | None = None
    """The traceback of the SDK's import, if that failed."""


CANNOT_WRITE = 74
"""The exit code of a process that could not write its outcome: EX_IOERR."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How the process ended. `code` is negative for a signal, as in `subprocess`."""

    code: int
    lost: bool = False
    """The forkserver died and took the process with it."""
