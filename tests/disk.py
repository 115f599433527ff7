"""Records what is asked of the disk, in order: nothing else shows what a crash in between would leave."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

__all__ = ["Disk"]


class Disk:
    """`asked`: ("fsync", name, content at that time; `None` of a folder) and ("rename", from, to).

    The step `fails_at` (from 0) fails, as on a full disk.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str, bytes | str | None]] = []
        self.fails_at: int | None = None
        self._open: dict[int, Path] = {}
        self._real = os.open, os.fsync
        self._open_file = io.open
        monkeypatch.setattr(io, "open", self._opened_file)  # what Path.open calls
        monkeypatch.setattr(os, "open", self._opened)
        monkeypatch.setattr(os, "fsync", self._synced)
        for name in ("replace", "rename"):
            monkeypatch.setattr(os, name, partial(self._renamed, getattr(os, name)))

    def _opened(self, path: str | Path, *arguments: int, **named: int) -> int:
        handle = self._real[0](path, *arguments, **named)
        self._open[handle] = Path(path)
        return handle

    def _opened_file(self, path: str | Path, *arguments: Any, **named: Any) -> Any:
        file = self._open_file(path, *arguments, **named)
        self._open[file.fileno()] = Path(path)
        return file

    def _synced(self, handle: int) -> None:
        path = self._open[handle]
        self._ask("fsync", path.name, None if path.is_dir() else path.read_bytes())
        self._real[1](handle)

    def _renamed(self, rename: Callable[..., None], source: str | Path, target: str | Path) -> None:
        self._ask("rename", Path(source).name, Path(target).name)
        rename(source, target)

    def _ask(self, *step: *tuple[str, str, bytes | str | None]) -> None:
        self.asked.append(step)
        if len(self.asked) - 1 == self.fails_at:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
