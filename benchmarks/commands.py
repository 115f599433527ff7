"""The commands that are measured: ours and the vendor's, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
VENDOR = [sys.executable, str(HERE.parent / "tests/e2e/vendor.py")]


class Spent(NamedTuple):
    """What one command took: elapsed seconds, CPU seconds (user and system), and peak memory in MB."""

    seconds: float
    cpu: float
    memory: float


def ours(url: str, folder: Path, *words: str) -> Spent:
    return _spent([str(BIN / "fanbench"), *words, "--endpoint", url], folder)


def vendors(url: str, folder: Path, *words: str) -> Spent:
    return _spent([*VENDOR, url, "benchmarks", *words], folder)


def environment(folder: Path) -> dict[str, str]:
    """The variables of a command whose home is `folder`, and whom any server knows."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    own = {"HOME": str(folder), "KAGGLE_CONFIG_DIR": str(folder), "KAGGLE_API_TOKEN": "any"}
    return {**kept, **own, "NO_PROXY": "127.0.0.1"}


def _spent(command: Sequence[str], folder: Path) -> Spent:
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode()}")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


both = {"ours": ours, "the vendor's": vendors}
