"""What a run's process is told, and what it leaves behind. Plain JSON: it crosses a process boundary."""

from __future__ import annotations

from pathlib import Path

import msgspec


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of one notebook.

    `folder` holds `working/` (the run's current folder; its files are the run's output) and, beside it, what the
    run's code should not see as output: the source notebook, the executed one, the outcome.
    """

    folder: str
    environment: dict[str, str]
    memory_mb: int = 0
    """The most memory of its own that the process may take, in MB; 0 for no limit."""
    datasets: dict[str, str] = {}
    """Folder below `/kaggle/input` → the real folder that it stands for."""

    @property
    def working(self) -> Path:
        return Path(self.folder, "working")

    @property
    def source(self) -> Path:
        return Path(self.folder, "source.ipynb")

    @property
    def executed(self) -> Path:
        return Path(self.folder, "executed.ipynb")

    @property
    def outcome(self) -> Path:
        return Path(self.folder, "outcome.json")


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What the process itself says of the run; missing where it died before it could."""

    error: str | None = None
    """The traceback of the cell that failed."""
    sdk_failure: str | None = None
    """The traceback of the SDK's import, where that failed."""


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """How the process ended. `code` is negative for a signal, as in `subprocess`."""

    code: int
    lost: bool = False
    """Its parent died, and it with it."""
