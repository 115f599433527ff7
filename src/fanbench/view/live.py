"""The page about a folder whose sweep may be running: what it shows now, and each change of it."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from fanbench import results
from fanbench._util.lock import is_locked
from fanbench.results import KnownRun, ResultSet
from fanbench.results.read import SUFFIX
from fanbench.results.run_file import NotARunFile, RunFile, read_run_file
from fanbench.sweeps.folder import LOCK
from fanbench.sweeps.history import History
from fanbench.sweeps.journal import JOURNAL
from fanbench.sweeps.results import read_journals, read_results
from fanbench.view.columns import changed_rows
from fanbench.view.document import MARGIN, CellEntry, Document, Shown, build, with_states
from fanbench.view.report import name_of

__all__ = ["Live", "Moment", "Patch"]

#: So many changes are kept for pages that are behind. One that is further behind reads everything again.
KEPT = 100
# The numbers of the results are computed anew at most in this share of the time: states are cheaper, and come first.
_SHARE = 0.2
# Seconds between two looks at all run files. Journals are looked at each time.
_LOOK = 2.0
# Of these, a page that has the same runs has no others.
_FIXED = ("written", "cells", "tasks", "models", "states")


class Moment(msgspec.Struct, frozen=True):
    """What changes are counted from: another `generation` has other rows, another `version` other values in them."""

    generation: int
    version: int


class Patch(msgspec.Struct, kw_only=True):
    """What changed from one version to the next; `columns` has rows and their values."""

    version: int
    document: dict[str, Any]
    cells: list[CellEntry]
    texts: list[str]
    columns: dict[str, tuple[list[int], list[float]]]


class Live:
    """Reads `folders`, and keeps up with them. All methods block, and may be called in any thread.

    `against` is an earlier sweep to compare with.
    """

    def __init__(
        self, folders: Sequence[Path], *, against: Path | None = None, margin: float = MARGIN
    ) -> None:
        self._folders = list(folders)
        self._against = None if against is None else (name_of(against), read_results(against))
        self._margin = margin
        self._lock = threading.Lock()
        self._files: dict[Path, tuple[tuple[int, int], RunFile]] = {}
        self._texts = {"": 0}
        self._tree: object = None
        self._tree_due = 0.0
        self._stamp = self._read_stamp()
        self._histories: dict[Path, History] = {}
        self._known, self._unread = read_journals(self._folders, self._histories)
        self._found, self._shown = self._build()
        self._is_stale = False
        self._moment = Moment(1, 0)
        self._patches: deque[Patch] = deque(maxlen=KEPT)

    def refresh(self) -> Moment:
        """Look whether anything changed since the last time.

        States are always those of the journal. The numbers follow them as often as their cost allows.
        """
        with self._lock:
            stamp = self._read_stamp()
            if stamp == self._stamp and not self._is_stale:
                return self._moment
            is_due = time.monotonic() >= self._due
            if stamp != self._stamp:
                before = set(map(_place, self._known))
                self._known, self._unread = read_journals(self._folders, self._histories)
                self._stamp, self._is_stale = stamp, True
                is_due = is_due or set(map(_place, self._known)) != before
            sent = len(self._texts)
            if is_due:
                self._is_stale = False
                self._found, shown = self._build()
            else:
                shown = with_states(
                    self._shown,
                    self._found,
                    self._known,
                    running=self._is_running(),
                    histories=self._histories,
                )
            self._show(shown, sent)
            return self._moment

    def now(self) -> tuple[Moment, Shown, ResultSet]:
        """Return all that the page shows, and the results that it was made of."""
        with self._lock:
            return self._moment, self._shown, self._found

    def since(self, moment: Moment) -> list[Patch] | None:
        """Return the changes after a moment; None if they are not kept, so that all must be read again."""
        with self._lock:
            missing = self._moment.version - moment.version
            if moment.generation != self._moment.generation or not 0 <= missing <= len(self._patches):
                return None
            return list(self._patches)[len(self._patches) - missing :]

    def _show(self, shown: Shown, sent: int) -> None:
        """Show what was read. `sent` is the number of texts that pages have."""
        old, self._shown = self._shown, shown
        if [run.place for run in old.runs] != [run.place for run in shown.runs]:
            self._moment = Moment(self._moment.generation + 1, 0)
            self._patches.clear()
        elif (patch := _patch(self._moment.version + 1, old, shown, sent)) is not None:
            self._moment = Moment(self._moment.generation, patch.version)
            self._patches.append(patch)

    # --- Reading ------------------------------------------------------------------------------------------------

    def _build(self) -> tuple[ResultSet, Shown]:
        """Compute all numbers anew. Run files that have not changed are not read again."""
        began = time.monotonic()
        found = results.read_results(self._folders, known=self._known, read=self._read_file)
        found = replace(found, problems=(*self._unread, *found.problems))
        shown = build(
            found,
            self._known,
            title=" + ".join(map(name_of, self._folders)),
            running=self._is_running(),
            against=self._against,
            margin=self._margin,
            texts=self._texts,
            histories=self._histories,
        )
        shown.document.live = True
        ended = time.monotonic()
        self._due = ended + (ended - began) / _SHARE
        return found, shown

    def _read_file(self, path: Path) -> RunFile:
        try:
            state = os.stat(path)
        except OSError as error:
            raise NotARunFile(f"cannot be read: {error.strerror}") from None
        stamp = state.st_size, state.st_mtime_ns
        kept = self._files.get(path)
        if kept is None or kept[0] != stamp:
            kept = self._files[path] = stamp, read_run_file(path)
        return kept[1]

    def _is_running(self) -> bool:
        return any(is_locked(folder / LOCK) for folder in self._folders)

    def _read_stamp(self) -> object:
        """Return a value that changes with the journals and with run files, and when a sweep begins or ends."""
        began = time.monotonic()
        if began >= self._tree_due:
            self._tree = [list(_tree(folder)) for folder in self._folders]
            ended = time.monotonic()
            self._tree_due = ended + max(_LOOK, (ended - began) / _SHARE)
        return self._is_running(), self._tree, list(map(_journal_stamp, self._folders))


def _tree(folder: Path) -> Iterator[object]:
    """Yield values of which some change with the run files and the journals below a folder."""
    for place, subfolders, names in os.walk(folder):
        path = Path(place)
        # A hidden folder is a download in progress.
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        yield place, _stamp(path), _journal_stamp(path)
        yield from (_stamp(path / name) for name in names if name.endswith(SUFFIX))


def _journal_stamp(folder: Path) -> list[tuple[int, int]]:
    return [_stamp(folder / name) for name in (JOURNAL, JOURNAL.with_name(f"{JOURNAL.name}-wal"))]


def _stamp(path: Path) -> tuple[int, int]:
    try:
        state = path.stat()
    except OSError:
        return 0, 0
    return state.st_size, state.st_mtime_ns


def _place(run: KnownRun) -> tuple[object, ...]:
    return run.sweep, run.task, run.content, run.model, run.repeat, run.attempt


def _patch(version: int, old: Shown, new: Shown, sent: int) -> Patch | None:
    """Return what changed; None if nothing did. Both have the same runs."""
    cells = {(cell.task, cell.model): cell for cell in old.document.cells}
    patch = Patch(
        version=version,
        document={
            name: value
            for name in Document.__struct_fields__
            if name not in _FIXED and (value := getattr(new.document, name)) != getattr(old.document, name)
        },
        cells=[cell for cell in new.document.cells if cell != cells.get((cell.task, cell.model))],
        texts=list(islice(new.texts, sent, None)),
        columns={
            name: (rows, [new.columns[name][row] for row in rows])
            for name, rows in changed_rows(old.columns, new.columns)
        },
    )
    return patch if patch.document or patch.cells or patch.columns else None
