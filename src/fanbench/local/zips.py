"""The zip of a run's output, created at the first download. The same output always gives the same bytes."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

from fanbench._util import files

# A fixed time makes the bytes reproducible, so that downloads can be resumed and ETags stay valid.
_TIME = (2020, 1, 1, 0, 0, 0)


def output_zip(folder: Path, *, include_source: bool) -> Path:
    """The path of the zip of a finished run. `include_source` adds the executed and the source notebook."""
    target = folder / ("output-source.zip" if include_source else "output.zip")
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with (
            files.replacing(target, durable=False) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            seen: set[str] = set()
            for wanted, path in _members(folder, include_source):
                name, number = wanted, 2
                while name.lower() in seen:  # names that have become equal are numbered
                    name, number = f"{wanted}-{number}", number + 1
                seen.add(name.lower())
                entry = zipfile.ZipInfo(name, _TIME)
                entry.compress_type = zipfile.ZIP_DEFLATED
                entry.external_attr = 0o644 << 16
                with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target_file:
                    shutil.copyfileobj(source, target_file, 1 << 20)
    return target


def _members(folder: Path, include_source: bool) -> Iterator[tuple[str, Path]]:
    working = folder / "working"
    # Links are left out, even if the folder is one: they could lead anywhere on this machine.
    for path in sorted(working.rglob("*") if not working.is_symlink() else ()):
        within = (path, *(parent for parent in path.parents if working in parent.parents))
        if path.is_file() and not any(part.is_symlink() for part in within):
            yield "/".join(_portable_name(part) for part in path.relative_to(working).parts), path
    if include_source:
        source, executed = folder / "source.ipynb", folder / "executed.ipynb"
        # A run that was killed left no executed notebook; the source stands in for it.
        for name, path in (
            ("__notebook__.ipynb", executed if executed.exists() else source),
            ("__notebook_source__.ipynb", source),
        ):
            if path.exists():
                yield name, path


def _portable_name(name: str) -> str:
    """A file name that every system can unpack: Linux allows any byte but "/" and NUL."""
    name = re.sub(r'[\x00-\x1f\x7f<>:"\\|?*]', "_", name.encode("utf-8", "replace").decode())
    # Windows drops dots and spaces at the end of a name.
    return name if name.strip(" .") and name == name.rstrip(" .") else f"{name.rstrip(' .')}_"
