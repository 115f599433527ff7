"""Kaggle datasets as folders: `DIR/owner/slug/` stands for the dataset `owner/slug`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_REFERENCE = re.compile(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)")


def find_dataset(root: Path | None, reference: str) -> Path | None:
    """The folder of `owner/slug` below `root`; `None` where there is none, or the reference is no such name."""
    match = _REFERENCE.fullmatch(reference)
    if root is None or match is None:
        return None
    folder = root / match[1] / match[2]
    return folder if folder.is_dir() else None


def dataset_folders(root: Path | None, references: Iterable[str]) -> dict[str, str]:
    """Name below `/kaggle/input` → real folder. A dataset that is not there any more is left out."""
    found = {reference.rpartition("/")[2]: find_dataset(root, reference) for reference in references}
    return {name: str(folder.resolve()) for name, folder in found.items() if folder is not None}
