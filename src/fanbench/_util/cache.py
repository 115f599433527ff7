"""Where fanbench keeps what may be deleted at any time. It imports little: `--help` needs it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder(env: Mapping[str, str] = os.environ) -> Path | None:
    """The user's folder for what may be deleted at any time, which need not exist; None for a user without a home."""
    try:
        return Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fanbench"
    except RuntimeError:
        return None
