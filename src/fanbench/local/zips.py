"""A run's output as the zip that is downloaded: made when it is first asked for, the same at every time."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from fanbench._util import files

# A fixed time: the same files make the same bytes, so that a download can be resumed and its ETag holds.
_TIME = (2020, 1, 1, 0, 0, 0)


def output_zip(folder: Path, *, include_source: bool) -> Path:
    """The zip of a finished run's folder; `include_source` adds the executed and the source notebook."""
    target = folder / ("output-source.zip" if include_source else "output.zip")
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (
            files.replacing(target, durable=False) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            for name, path in _unique(_members(folder, include_source)):
                _add(archive, name, path)
    return target


def _members(folder: Path, include_source: bool) -> Iterator[tuple[str, Path]]:
    working = folder / "working"
    # Links are left out, the folder itself too if it is one: they could lead anywhere on this machine.
    for path in sorted(working.rglob("*") if not working.is_symlink() else ()):
        if path.is_file() and not _crosses_link(path, working):
            yield _portable(path.relative_to(working)), path
    if include_source:
        source, executed = folder / "source.ipynb", folder / "executed.ipynb"
        # A run that was killed left no executed notebook: it is the source without outputs then.
        for name, path in (
            ("__notebook__.ipynb", executed if executed.exists() else source),
            ("__notebook_source__.ipynb", source),
        ):
            if path.exists():
                yield name, path


def _portable(path: Path) -> str:
    """The path in a form that every system can unpack. Linux allows any byte in a name but "/" and NUL."""
    return "/".join(_portable_name(part) for part in path.parts)


def _portable_name(name: str) -> str:
    name = re.sub(r'[\x00-\x1f\x7f<>:"\\|?*]', "_", name.encode("utf-8", "replace").decode())
    # Windows drops dots and spaces at the end; a name of nothing else is none.
    return name if name.strip(" .") and name == name.rstrip(" .") else f"{name.rstrip(' .')}_"


def _unique(names: Iterable[tuple[str, Path]]) -> Iterator[tuple[str, Path]]:
    """Two names that have become one are told apart by a number."""
    seen: set[str] = set()
    for wanted, path in names:
        name, number = wanted, 2
        while name.lower() in seen:
            name, number = f"{wanted}-{number}", number + 1
        seen.add(name.lower())
        yield name, path


def _crosses_link(path: Path, top: Path) -> bool:
    return any(part.is_symlink() for part in (path, *path.parents) if part != top and top in part.parents)


def _add(archive: zipfile.ZipFile, name: str, path: Path) -> None:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
        while block := source.read(1 << 20):
            target.write(block)
