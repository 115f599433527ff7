"""What all tests share: the two event loops that the library runs on."""

from __future__ import annotations

import pytest


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both; a room that knows only asyncio overrides this."""
    backend: str = request.param
    return backend
