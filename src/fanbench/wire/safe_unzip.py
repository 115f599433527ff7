"""Unpacks a zip that comes from somewhere else: nothing outside the folder, nothing but files and folders."""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fanbench._util.files import sync
from fanbench.errors import OutputError

__all__ = ["BadZip", "UnpackedFile", "changed", "unpack"]

# Far above what a run writes, far below what would fill a disk by surprise.
MAX_BYTES = 16 << 30
MAX_FILES = 100_000
PIECE = 1 << 20

_MEANINGFUL = re.compile(r"[\x00-\x1f\\:]")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.IGNORECASE)


class UnpackedFile(NamedTuple):
    """`name` is relative to the folder, with slashes; `size` in bytes; `digest` the SHA-256 of its content in hex;
    `changed` when it was last written or renamed, by the disk's own clock, in nanoseconds since 1970."""

    name: str
    size: int
    digest: str
    changed: int


class BadZip(OutputError):
    """The download is no zip, is damaged, or holds something that must not be unpacked."""


def unpack(
    archive: Path | IO[bytes],
    folder: Path,
    *,
    check: Callable[[], object] = lambda: None,
    max_bytes: int = MAX_BYTES,
    max_files: int = MAX_FILES,
) -> list[UnpackedFile]:
    """Unpack `archive` into the empty `folder`, and have it on the disk; what files it has now.

    Every entry is checked before the first is written. `check` is called now and then, and may raise.

    Raises:
        BadZip: see there.
        OSError: a file could not be written.
    """
    with _damage_reported(), zipfile.ZipFile(archive) as zipped:
        entries = zipped.infolist()
        _refuse_bombs(entries, max_bytes, max_files)
        places = [(entry, safe_path(entry)) for entry in entries]
        return _write_all(zipped, places, folder, check)


def _write_all(
    zipped: zipfile.ZipFile,
    places: list[tuple[zipfile.ZipInfo, PurePosixPath]],
    folder: Path,
    check: Callable[[], object],
) -> list[UnpackedFile]:
    unpacked = []
    taken: Counter[PurePosixPath] = Counter()
    folders = {folder}
    for entry, place in places:
        check()
        path = folder / place
        _make_folders(path if entry.is_dir() else path.parent, folders)
        if entry.is_dir():
            continue
        name, target = _new_file(folder, place, taken, check)
        with target, zipped.open(entry) as source:
            digest = _copy(source, target, check)
            os.fsync(target.fileno())
        info = os.stat(target.name)  # after the close: some systems set the time of the last change only then
        unpacked.append(UnpackedFile(name, info.st_size, digest, changed(info)))
    for made in folders:
        sync(made)
    return unpacked


def changed(info: os.stat_result) -> int:
    """Also for who exchanges two files or sets their times back, which the time of the last change of a file tells."""
    return max(info.st_mtime_ns, info.st_ctime_ns)


def _make_folders(wanted: Path, folders: set[Path]) -> None:
    """Have `wanted` among the `folders` that are there, with all between."""
    if wanted not in folders:
        _make_folders(wanted.parent, folders)
        wanted.mkdir(exist_ok=True)
        folders.add(wanted)


def _new_file(
    folder: Path, place: PurePosixPath, taken: Counter[PurePosixPath], check: Callable[[], object]
) -> tuple[str, FileIO]:
    """Two files whose names are one here (on some disks also if they differ in case) are told apart by a number.

    `taken` has how many of the names for each place are known to be.
    """
    while True:
        taken[place] += 1
        name = str(place) if taken[place] == 1 else f"{place}-{taken[place]}"
        try:
            return name, (folder / name).open("xb", buffering=0)
        except FileExistsError:
            check()


def _copy(source: IO[bytes], target: FileIO, check: Callable[[], object]) -> str:
    """The SHA-256 of what was copied. Reading to the end is what verifies the zip's checksum."""
    digest = hashlib.sha256()
    while piece := source.read(PIECE):
        check()
        digest.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[target.write(rest) :]
    return digest.hexdigest()


def safe_path(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Where the entry goes, relative to the folder.

    Raises:
        BadZip: it would lie outside, or is no plain file or folder.
    """
    name = entry.filename
    # A run on Linux may name its files as it likes. What would mean something elsewhere is no reason to lose them.
    parts = [_portable(part) for part in PurePosixPath(name).parts]
    path = PurePosixPath(*parts)
    if path.is_absolute() or ".." in path.parts:
        raise BadZip(f"The zip has an entry that leads out of its folder: {name!r}.")
    if not path.parts:
        raise BadZip(f"The zip has an entry whose name cannot be a file's: {name!r}.")
    if _kind(entry) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadZip(f"The zip has an entry that is neither a file nor a folder: {name!r}.")
    return path


def _portable(part: str) -> str:
    safe = _MEANINGFUL.sub("_", part)
    return f"_{safe}" if _DEVICES.fullmatch(safe.rstrip(" .")) else safe


def _kind(entry: zipfile.ZipInfo) -> int:
    """The file type in the Unix mode; 0 where the zip was made elsewhere and says none."""
    return stat.S_IFMT(entry.external_attr >> 16)


def _refuse_bombs(entries: list[zipfile.ZipInfo], max_bytes: int, max_files: int) -> None:
    """The sizes that the zip declares can be relied on: reading stops there."""
    if len(entries) > max_files:
        raise BadZip(f"The zip has {len(entries)} entries; more than {max_files} are not unpacked.")
    total = sum(entry.file_size for entry in entries)
    if total > max_bytes:
        raise BadZip(f"The zip would unpack to {total} bytes; more than {max_bytes} are not unpacked.")


@contextmanager
def _damage_reported() -> Iterator[None]:
    """The many ways in which `zipfile` says that a zip is damaged, encrypted or of a kind it cannot read."""
    try:
        yield
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error) as error:
        raise BadZip(f"The zip is damaged: {error}.") from error
    except (RuntimeError, ValueError, OverflowError) as error:
        raise BadZip(f"The zip cannot be read: {error}.") from error
