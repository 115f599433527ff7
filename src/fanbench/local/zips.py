"""The zip of a run's output. The same output always gives the same bytes."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fanbench._util import files
from fanbench.local.leftovers import regular_files

# A fixed time makes the bytes reproducible, so that downloads can be resumed and ETags stay valid.
_TIME = (2020, 1, 1, 0, 0, 0)

_NOTEBOOKS = ("__notebook__.ipynb", "__notebook_source__.ipynb")
_NOTEBOOK = re.compile(r"__notebook(_source)?__\.ipynb(-\d+)?")


def zip_name(stem: str, *, include_source: bool) -> str:
    """The name of the zip of a run's output, with or without its notebooks."""
    return f"{stem}{'-source' if include_source else ''}.zip"


def write_output_zip(
    folder: Path, target: Path, *, include_source: bool, check: Callable[[], object] = lambda: None
) -> None:
    """Write the zip of the finished run in `folder`, unless it exists. Runs can write to `folder`, but not to `target`.

    If another machine executed the run, only its zip with the notebooks exists, and the zip without them is made of it.
    `include_source` adds the executed and the source notebook. `check` is called for each block, and may raise.
    """
    returned = target.with_name(zip_name(target.stem, include_source=True))
    if not (include_source or target.exists() or folder.exists()) and returned.exists():
        _write_without_notebooks(returned, target)
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with (
            files.replacing(target, durable=False) as part,
            zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
        ):
            seen: set[str] = set()
            for wanted, path in _members(folder, include_source):
                try:
                    source = files.open_regular(path)
                except OSError:
                    continue
                name, number = wanted, 2
                while name.lower() in seen:  # names that have become equal are numbered
                    name, number = f"{wanted}-{number}", number + 1
                seen.add(name.lower())
                with source, archive.open(_entry(name), "w", force_zip64=True) as target_file:
                    while block := source.read(1 << 20):
                        check()
                        target_file.write(block)


def _write_without_notebooks(returned: Path, target: Path) -> None:
    """Write what is in the zip of a run that another machine executed, without the notebooks at its end."""
    with (
        zipfile.ZipFile(returned) as source,
        files.replacing(target, durable=False) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        members = source.infolist()
        notebooks = [member for member in members[-len(_NOTEBOOKS) :] if _NOTEBOOK.fullmatch(member.filename)]
        for member in members[: len(members) - len(notebooks)]:
            with (
                source.open(member) as content,
                archive.open(_entry(member.filename), "w", force_zip64=True) as copy,
            ):
                shutil.copyfileobj(content, copy, 1 << 20)


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, _TIME)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o644 << 16
    return entry


def _members(folder: Path, include_source: bool) -> Iterator[tuple[str, Path]]:
    working = folder / "working"
    for path in sorted(regular_files(working)):
        yield "/".join(_portable_name(part) for part in path.relative_to(working).parts), path
    if include_source:
        source, executed = folder / "source.ipynb", folder / "executed.ipynb"
        # A run that was killed left no executed notebook; the source stands in for it.
        yield from zip(_NOTEBOOKS, (executed if executed.exists() else source, source), strict=True)


def _portable_name(name: str) -> str:
    """A file name that every system can unpack: Linux allows any byte but "/" and NUL."""
    name = re.sub(r'[\x00-\x1f\x7f<>:"\\|?*]', "_", name.encode("utf-8", "replace").decode())
    # Windows drops dots and spaces at the end of a name.
    return name if name.strip(" .") and name == name.rstrip(" .") else f"{name.rstrip(' .')}_"
