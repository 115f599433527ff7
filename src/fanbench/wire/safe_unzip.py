"""Unpacks zips from elsewhere: nothing outside the target folder, and nothing but files and folders."""

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
from collections.abc import Callable
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from fanbench._util.files import sync
from fanbench.errors import OutputError

__all__ = ["BadZip", "UnpackedFile", "changed", "unpack"]

# Far more than a run writes, and far less than would fill a disk by surprise.
MAX_BYTES = 16 << 30
MAX_FILES = 100_000
# Beyond the first gigabyte, a zip that expands by more than this is a bomb: deflate shrinks zeros to a 1000th, and
# tables of results to a 20th.
MAX_RATIO = 200
ANY_RATIO = 1 << 30
PIECE = 1 << 20

_MEANINGFUL = re.compile(r"[\x00-\x1f\\:]")
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.IGNORECASE)


class UnpackedFile(NamedTuple):
    """A file on the disk.

    `name` is relative to the folder, with slashes. `size` is in bytes, `digest` the SHA-256 of the content in
    hex, and `changed` the time of the last change (see `changed`).
    """

    name: str
    size: int
    digest: str
    changed: int


class BadZip(OutputError):
    """The download is not a zip, is damaged, or contains something that must not be unpacked."""


def unpack(
    archive: Path | IO[bytes],
    folder: Path,
    *,
    check: Callable[[], object] = lambda: None,
    max_bytes: int | None = None,
    max_files: int = MAX_FILES,
) -> list[UnpackedFile]:
    """Unpack `archive` durably into the empty `folder`, and return the files in it.

    Every entry is checked before the first is written. `check` is called now and then, and may raise. The files may
    have `max_bytes` in total; by default 16 GB, and beyond 1 GB at most 200 times the size of the archive.

    Raises:
        BadZip: The archive is not a zip, is damaged, or contains something that must not be unpacked.
        OSError: A file could not be written.
    """
    try:
        with zipfile.ZipFile(archive) as zipped:
            entries = zipped.infolist()
            if len(entries) > max_files:
                raise BadZip(f"The zip has {len(entries)} entries; more than {max_files} are not unpacked.")
            # The declared sizes can be relied on, because reading stops there.
            total = sum(entry.file_size for entry in entries)
            limit = max_bytes if max_bytes is not None else _default_limit(zipped)
            if total > limit:
                raise BadZip(
                    f"The zip would unpack to {total:,} bytes; more than {limit:,} are not unpacked.",
                    hint=f"If you trust it, allow more: FANBENCH_MAX_OUTPUT={total}.",
                )
            places = [(entry, safe_path(entry)) for entry in entries]
            return _extract(zipped, places, folder, check)
    # These are the ways in which `zipfile` reports damage, encryption, and methods that it cannot read.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, struct.error) as error:
        raise BadZip(f"The zip is damaged: {error}.") from error
    except (RuntimeError, ValueError, OverflowError) as error:
        raise BadZip(f"The zip cannot be read: {error}.") from error


def _default_limit(zipped: zipfile.ZipFile) -> int:
    # Not the sum of the entries' packed sizes: entries may share their bytes.
    size = zipped.fp.seek(0, os.SEEK_END) if zipped.fp else 0
    return min(MAX_BYTES, max(ANY_RATIO, MAX_RATIO * size))


def safe_path(entry: zipfile.ZipInfo) -> PurePosixPath:
    """Return the path of the entry relative to the folder.

    Raises:
        BadZip: The path leads out of the folder, or the entry is neither a file nor a folder.
    """
    name = entry.filename
    # A run on Linux may name its files freely. Names with a meaning on other systems are changed, not refused.
    parts = [_MEANINGFUL.sub("_", part) for part in PurePosixPath(name).parts]
    path = PurePosixPath(*(f"_{part}" if _DEVICES.fullmatch(part.rstrip(" .")) else part for part in parts))
    if path.is_absolute() or ".." in path.parts:
        raise BadZip(f"The zip has an entry that leads out of its folder: {name!r}.")
    if not path.parts:
        raise BadZip(f"The zip has an entry whose name cannot be a file's: {name!r}.")
    # The file type in the Unix mode is 0 if the zip was made on another system.
    if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise BadZip(f"The zip has an entry that is neither a file nor a folder: {name!r}.")
    return path


def _extract(
    zipped: zipfile.ZipFile,
    places: list[tuple[zipfile.ZipInfo, PurePosixPath]],
    folder: Path,
    check: Callable[[], object],
) -> list[UnpackedFile]:
    unpacked = []
    taken: Counter[PurePosixPath] = Counter()
    folders = {folder}

    def make_folders(wanted: Path) -> None:
        if wanted not in folders:
            make_folders(wanted.parent)
            wanted.mkdir(exist_ok=True)
            folders.add(wanted)

    for entry, place in places:
        check()
        path = folder / place
        make_folders(path if entry.is_dir() else path.parent)
        if entry.is_dir():
            continue
        name, target = _new_file(folder, place, taken, check)
        with target, zipped.open(entry) as source:
            digest = _copy(source, target, check)
            os.fsync(target.fileno())
        info = os.stat(target.name)  # After the close: some systems set the modification time only then.
        unpacked.append(UnpackedFile(name, info.st_size, digest, changed(info)))
    for made in folders:
        sync(made)
    return unpacked


def changed(info: os.stat_result) -> int:
    """Return the time of the last change by the disk's own clock, in nanoseconds since 1970.

    It also reveals files that were swapped or whose modification time was set back.
    """
    return max(info.st_mtime_ns, info.st_ctime_ns)


def _new_file(
    folder: Path, place: PurePosixPath, taken: Counter[PurePosixPath], check: Callable[[], object]
) -> tuple[str, FileIO]:
    """Create a file. A number is appended if the name exists, which depends on the disk: some ignore case.

    `taken` counts the names for each place that are known to exist.
    """
    while True:
        taken[place] += 1
        name = str(place) if taken[place] == 1 else f"{place}-{taken[place]}"
        try:
            return name, (folder / name).open("xb", buffering=0)
        except FileExistsError:
            check()


def _copy(source: IO[bytes], target: FileIO, check: Callable[[], object]) -> str:
    """Copy to the end, which is what verifies the zip's checksum, and return the SHA-256 in hex."""
    digest = hashlib.sha256()
    while piece := source.read(PIECE):
        check()
        digest.update(piece)
        rest = memoryview(piece)
        while rest:
            rest = rest[target.write(rest) :]
    return digest.hexdigest()
