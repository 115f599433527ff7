from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """The server of the page runs on asyncio."""
    return "asyncio"
