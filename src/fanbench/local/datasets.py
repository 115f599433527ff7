"""Kaggle datasets as folders: `DIR/owner/slug/` stands for the dataset `owner/slug`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_REFERENCE = re.compile(r"([A-Za-z0-9_-]+)/([A-Za-z0-9_-]+)")


def find_dataset(root: Path | None, reference: str) -> Path | None:
    """The folder of the dataset `owner/slug` below `root`, or None if it does not exist or the name is invalid."""
    match = _REFERENCE.fullmatch(reference)
    if root is None or match is None:
        return None
    folder = root / match[1] / match[2]
    return folder if folder.is_dir() else None


def dataset_folders(root: Path | None, references: Iterable[str]) -> dict[str, str]:
    """Name below `/kaggle/input` → real folder, without datasets that no longer exist."""
    found = {reference.rpartition("/")[2]: find_dataset(root, reference) for reference in references}
    return {name: str(folder.resolve()) for name, folder in found.items() if folder is not None}
