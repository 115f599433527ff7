"""The file that a log is written to."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from fanbench.operations.log_file import LogFile
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def test_a_reader_is_not_far_behind(tmp_path: Path) -> None:
    """Text that has waited as long as allowed is on the disk after the next write, and all of it in the end."""
    part, log = anyio.Path(tmp_path / "part"), anyio.Path(tmp_path / "log")
    file = LogFile(Path(part), at_least_every=1.0)
    await file.write("one\n")
    assert not await part.exists()
    await anyio.sleep(1.0)
    await file.write("two\n")
    assert await part.read_text() == "one\ntwo\n"
    await file.write("three\n")
    assert await part.read_text() == "one\ntwo\n"
    await anyio.to_thread.run_sync(file.place, Path(log))
    assert await log.read_text() == "one\ntwo\nthree\n"
