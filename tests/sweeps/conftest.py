"""Fixtures that the tests of sweeps share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from blockbuster import blockbuster_ctx

from fanbench._util import polling

#: Functions that may block the event loop, and why.
MAY_BLOCK = {
    # Writes take well below 1 ms; intents must be on the disk before the call that they announce.
    "fanbench/sweeps/journal.py": {
        *("open", "close", "tasks", "attempts", "foreign_runs", "value"),
        *("save_task", "save_attempts", "save_foreign_runs", "save_value", "save_history"),
    },
    # What the engine passes to a thread runs inline in virtual time.
    "tests/sweeps/life.py": {"offload"},
    # The simulated Kaggle writes small files in virtual time, which must not pass meanwhile.
    "fanbench/testing/kaggle.py": {"_put_in_place"},
}


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Code of fanbench that blocks asyncio's event loop fails the test, except in `MAY_BLOCK`."""
    with blockbuster_ctx("fanbench") as guard:
        for function in guard.functions.values():
            for file, names in MAY_BLOCK.items():
                function.can_block_in(file, names)
        yield


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poll at the exact second."""
    monkeypatch.setattr(polling, "_JITTER", 0.0)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Never wait for the disk: a killed process loses nothing that it wrote, only a machine without power does."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
