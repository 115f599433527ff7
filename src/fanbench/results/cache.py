"""Keep the results of large folders, so that they are read at once the next time.

They are kept in the folder itself, as `.fanbench/items.jsonl` if it is that of a sweep, or else as
`.fanbench-items.jsonl`: a line that says what they were made of, one line for each run, for each task and model, and
for each item. docs/output.md describes the file. It may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import msgspec

from fanbench._util import files
from fanbench.results.items import Item
from fanbench.results.known import KnownRun, scales_of
from fanbench.results.result_set import KeptItems, ResultSet
from fanbench.results.scores import Cell, Scores, scores_of
from fanbench.results.types import RunResult
from fanbench.version import __version__

__all__ = ["Cache"]

# Fewer run files, with fewer bytes, are read in less than a second.
_MANY = 1_000
_LARGE = 20_000_000
# A file that was written just now may be written again without a change of its time.
_SETTLED = 2.0
_UNUSABLE = (OSError, msgspec.MsgspecError, ValueError)


class _Header(msgspec.Struct, frozen=True):
    """What the results were made of, and by which fanbench. `digest` is that of the files and of the journal."""

    fanbench: str
    digest: str
    runs: int
    scores: int
    items: int


class Cache:
    """The results that are kept of `folder`, as long as its files and the `known` runs are the same."""

    def __init__(self, folder: Path, known: Collection[KnownRun]) -> None:
        own = folder / ".fanbench"
        self._path = own / "items.jsonl" if own.is_dir() else folder / ".fanbench-items.jsonl"
        self._number, self._size, self._changed = 0, 0, 0
        self._scales = scales_of(known)
        # An absolute path is part of each result.
        digest = hashlib.sha256(f"{os.path.abspath(folder)}\n{folder}\n".encode("utf-8", "surrogateescape"))
        for each in self._listed(folder):
            digest.update(each.encode("utf-8", "surrogateescape"))
        for run in known:
            digest.update(repr(run).encode("utf-8", "surrogateescape"))
        self._digest = digest.hexdigest()

    def _listed(self, folder: Path) -> Iterable[str]:
        """Yield the name of every file that is not hidden, and the size and time of every run file."""
        for place, subfolders, names in os.walk(folder):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            yield f"{place}\0"
            for name in sorted(names):
                if name.startswith("."):
                    continue
                if not name.endswith(".run.json"):
                    yield f"{name}\0"
                    continue
                with suppress(OSError):
                    found = os.stat(os.path.join(place, name))
                    self._number += 1
                    self._size += found.st_size
                    self._changed = max(self._changed, found.st_mtime_ns)
                    yield f"{name}\0{found.st_size}\0{found.st_mtime_ns}\0"

    @property
    def _is_worth_it(self) -> bool:
        return self._number >= _MANY or self._size >= _LARGE

    def load(self, read: Callable[[], ResultSet]) -> ResultSet | None:
        """Return the results; None if there are none that were made of the same files by this version.

        Should the file be gone when the items are needed, they are those that `read` returns.
        """
        if not self._is_worth_it:
            return None
        try:
            with self._path.open("rb") as file:
                header = msgspec.json.decode(file.readline(), type=_Header)
                if (header.fanbench, header.digest) != (__version__, self._digest):
                    return None
                runs = [_RUN.decode(file.readline()) for _ in range(header.runs)]
                cells = [_CELL.decode(file.readline()) for _ in range(header.scores)]
        except _UNUSABLE:
            return None
        items = KeptItems(Scores.from_cells(cells), partial(self._items, header, read))
        return ResultSet(tuple(runs), (), items, self._scales)

    def _items(self, header: _Header, read: Callable[[], ResultSet]) -> Sequence[Item]:
        try:
            with self._path.open("rb") as file:
                if msgspec.json.decode(file.readline(), type=_Header) == header:
                    lines = islice(file, header.runs + header.scores, None)
                    items = list(map(_ITEM.decode, lines))
                    if len(items) == header.items:
                        return items
        except _UNUSABLE:
            pass
        return read().items

    def save(self, found: ResultSet) -> None:
        """Keep `found`, if that is worth it and possible."""
        settled = time.time() - self._changed / 1e9 > _SETTLED
        if not self._is_worth_it or not settled or found.problems:
            return
        cells = scores_of(found.items).cells.values()
        header = _Header(__version__, self._digest, len(found.runs), len(cells), len(found.items))
        try:
            lines = [_ENCODER.encode(each) for each in (header, *found.runs, *cells)]
            # JSON has no NaN and no infinities.
            kept = tuple(map(_RUN.decode, lines[1 : 1 + header.runs]))
            if kept == found.runs and list(map(_CELL.decode, lines[1 + header.runs :])) == list(cells):
                with files.replacing(self._path, durable=False) as part, part.open("wb") as file:
                    file.writelines(line + b"\n" for line in chain(lines, map(_ENCODER.encode, found.items)))
        except (*_UNUSABLE, TypeError):
            return


def _to_path(kind: type, value: Any) -> Any:
    if kind is Path:
        return Path(value)
    raise NotImplementedError


_ENCODER = msgspec.json.Encoder(enc_hook=str)
_RUN = msgspec.json.Decoder(RunResult, dec_hook=_to_path)
_CELL = msgspec.json.Decoder(Cell)
_ITEM = msgspec.json.Decoder(Item)
