"""Runs the programs of the documentation in processes of their own, with a local server that is theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["REPOSITORY", "own_server", "run_program"]

REPOSITORY = Path(__file__).parents[2]

_SCRIPTED = """
[[model]]
slug = "test/tokyo"
kind = "scripted"
reply = "Tokyo"

[[model]]
slug = "test/four"
kind = "scripted"
reply = "4"
"""


@contextmanager
def own_server(data: Path) -> Iterator[dict[str, str]]:
    """The environment of programs whose `--local` server is at `data`; that server ends with this block."""
    data.mkdir(parents=True)
    (data / "models.toml").write_text(_SCRIPTED)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("KAGGLE_", "FANBENCH_", "MODEL_PROXY_", "LLM"))
    }
    try:
        yield {**kept, "FANBENCH_DATA": str(data), "HOME": str(data.parent), "PYTHONWARNINGS": "error"}
    finally:
        stop = [sys.executable, "-m", "fanbench", "stop", "--data", str(data)]
        subprocess.run(stop, capture_output=True, timeout=60)


def run_program(*words: str | Path, folder: Path, environment: dict[str, str]) -> str:
    """The output of a Python program, which must end with exit code 0 and print nothing to stderr."""
    ended = subprocess.run(
        [sys.executable, *map(str, words)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=110,
    )
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stdout + ended.stderr
    return ended.stdout
