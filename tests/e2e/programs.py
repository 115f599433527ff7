"""Runs the programs of the documentation in processes of their own, with a local server that is theirs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile

from tests.warm import warm_python

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
    with TemporaryFile() as out, TemporaryFile() as err:
        process = warm_python(Path(__file__).with_name("program.py")).start(
            [*map(str, words)], folder=folder, environment=environment, out=out.fileno(), err=err.fileno()
        )
        try:
            code = process.wait(110)
        finally:
            process.kill()
        out.seek(0)
        err.seek(0)
        printed, said = out.read().decode(), err.read().decode()
    assert (code, said) == (0, ""), printed + said
    return printed
