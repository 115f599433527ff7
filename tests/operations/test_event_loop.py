"""The tests of operations fail on calls that block the event loop."""

from __future__ import annotations

from pathlib import Path

import pytest
from blockbuster import BlockingError

from fanbench.operations.env_file import read_env_file

pytestmark = pytest.mark.anyio


async def test_a_blocking_call_in_the_event_loop_is_an_error(tmp_path: Path) -> None:
    """On asyncio and on trio, reading a file in the event loop raises BlockingError."""
    path = tmp_path / ".env"
    path.touch()
    with pytest.raises(BlockingError):
        read_env_file(path)
