"""The log of the server, a file in its data folder."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from io import RawIOBase
from pathlib import Path
from typing import TextIO, cast

import structlog

from fanbench._util import files
from fanbench.errors import LocalServerError

__all__ = ["log_into"]


class _LogFile:
    """Writes each line at once, and loses what the disk has no room for: the server goes on without it."""

    def __init__(self, raw: RawIOBase) -> None:
        self._raw = raw

    def write(self, text: str) -> None:
        with contextlib.suppress(OSError):
            self._raw.write(text.encode("utf-8", "backslashreplace"))

    def flush(self) -> None:
        pass


@contextlib.contextmanager
def log_into(path: Path) -> Iterator[None]:
    """Append what structlog, uvicorn and other packages log to the file, during the block."""
    with files.output_errors(f"write {path}", kind=LocalServerError):
        raw = path.open("ab", buffering=0)
    with raw:
        file = cast("TextIO", _LogFile(raw))
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.processors.LogfmtRenderer(),
            ],
            logger_factory=structlog.WriteLoggerFactory(file),
        )
        handler = logging.StreamHandler(file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root = logging.getLogger()
        root.addHandler(handler)
        try:
            yield
        finally:
            root.removeHandler(handler)
            structlog.reset_defaults()
