"""Virtual time for a test module: `from tests.operations.virtual_time import anyio_backend as anyio_backend`."""

from __future__ import annotations

from typing import Any

import pytest
from trio.testing import MockClock

__all__ = ["anyio_backend"]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run the module's tests on trio, whose clock jumps to the next event when every task sleeps."""
    return "trio", {"clock": MockClock(autojump_threshold=0)}
