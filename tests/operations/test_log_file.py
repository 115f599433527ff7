"""The file that a log is written to."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from fanbench.operations.log_file import LogFile
from tests.operations.virtual_time import anyio_backend as anyio_backend

pytestmark = pytest.mark.anyio


async def test_a_reader_is_not_far_behind(tmp_path: Path) -> None:
    """Text that has waited as long as allowed is on the disk after the next write, and all of it in the end."""
    part = tmp_path / "part"
    file = LogFile(part, at_least_every=1.0)
    await file.write("one\n")
    assert not part.exists()
    await anyio.sleep(1.0)
    await file.write("two\n")
    assert part.read_text() == "one\ntwo\n"
    await file.write("three\n")
    assert part.read_text() == "one\ntwo\n"
    file.place(tmp_path / "log")
    assert (tmp_path / "log").read_text() == "one\ntwo\nthree\n"
