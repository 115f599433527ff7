"""Programs that hold a sweep's folder, and are killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["begun", "ended"]


@contextmanager
def begun(code: str, *arguments: str | Path) -> Iterator[subprocess.Popen[str]]:
    """Start a process that runs `code`, wait for its first line of output, and kill it at the end of the block."""
    command = [sys.executable, "-u", "-c", code, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "ready"
            yield process
        finally:
            process.kill()


def ended(code: str, *arguments: str | Path) -> str:
    """Return what a process that runs `code` has printed."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
