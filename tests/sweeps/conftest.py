"""What the tests of the sweep share."""

from __future__ import annotations

import os

import pytest

from fanbench._util import polling


@pytest.fixture
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Polls come at the exact second."""
    monkeypatch.setattr(polling, "_JITTER", 0.0)


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing waits for the disk: a process that is killed loses nothing that it wrote, only a machine does."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)
