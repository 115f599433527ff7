"""A line about a newer API at Kaggle, at most once a day."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from datetime import date

from fanbench._util.cache import cache_folder

__all__ = ["note_newer_api"]


def note_newer_api(
    note: Callable[[str], None],
    newest: str,
    *,
    env: Mapping[str, str] = os.environ,
    clock: Callable[[], float] = time.time,
) -> None:
    """Print that the server's answers name a newer release of `kaggle` than the one whose API we follow.

    The day is kept as the name of a file in the user's cache folder. Where that cannot be written, nothing is printed,
    because it would be printed by every command.
    """
    from fanbench.wire.protocol import API_VERSION

    if not _is_newer(newest, API_VERSION):
        return
    cache = cache_folder(env)
    if cache is None:
        return
    try:
        today = cache / f"newer-api-{date.fromtimestamp(clock())}"
        today.parent.mkdir(parents=True, exist_ok=True)
        today.touch(exist_ok=False)  # Of commands at the same time, only one succeeds.
        for other_day in set(today.parent.glob("newer-api*")) - {today}:
            other_day.unlink(missing_ok=True)
    except OSError:
        return
    note(
        f"Kaggle has a newer API (kaggle {newest}) than this version of fanbench knows ({API_VERSION}). "
        "Upgrade with: pip install --upgrade fanbench (-W hides this line)"
    )


def _is_newer(newest: str, ours: str) -> bool:
    if newest in ("", ours):
        return False
    from packaging.version import InvalidVersion, Version

    try:
        return Version(newest) > Version(ours)
    except InvalidVersion:
        return False
