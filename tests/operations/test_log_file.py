"""The file that a log is written to."""

from __future__ import annotations

from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from fanbench.operations.log_file import LogFile
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def test_others_can_follow_a_slow_log(tmp_path: Path) -> None:
    """A line that comes long after the last was written is on the disk at once, and all of the log in the end."""
    part, log = anyio.Path(tmp_path / "part"), anyio.Path(tmp_path / "log")
    file = LogFile(Path(part), every=1.0)
    await file.write("one\n")
    assert not await part.exists()
    for line in ("two\n", "three\n"):
        await anyio.sleep(1.0)
        await file.write(line)
        assert (await part.read_text()).endswith(line)
    await file.write("four\n")
    assert await part.read_text() == "one\ntwo\nthree\n"
    await anyio.to_thread.run_sync(file.place, Path(log))
    assert await log.read_text() == "one\ntwo\nthree\nfour\n"
