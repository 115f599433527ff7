"""The log of the server, which must not be a reason for the server to fail."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import structlog

from fanbench.local.server_log import log_into


def test_a_full_disk_does_not_reach_who_logs(capsys: pytest.CaptureFixture[str]) -> None:
    """What has no room is lost, without an exception and without a traceback on the terminal."""
    with log_into(Path("/dev/full")):
        structlog.get_logger().error("a call failed")
        logging.getLogger("uvicorn.error").error("an answer failed")
    assert capsys.readouterr().err == ""


def test_texts_that_no_encoding_has_are_logged(tmp_path: Path) -> None:
    """A lone surrogate, which file names and answers of models can have, is written as its number."""
    with log_into(tmp_path / "log"):
        structlog.get_logger().error("failed", reason="a\udc80b")
        logging.getLogger("uvicorn.error").error("c\udc80d")
    said = (tmp_path / "log").read_text()
    assert r"a\udc80b" in said
    assert r"c\udc80d" in said
