"""Programs of the documentation in processes of their own, with a local server that is theirs."""

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


def _models() -> str:
    """The real models where there are some, else two that answer at once."""
    real = os.environ.get("FANBENCH_TEST_MODELS")
    return Path(real, "models.toml").read_text() if real else _SCRIPTED


@contextmanager
def own_server(data: Path) -> Iterator[dict[str, str]]:
    """The environment of programs whose `--local` is `data`; its server, if one was started, ends with this."""
    data.mkdir(parents=True)
    (data / "models.toml").write_text(_models())
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
    """What a Python program says, which must end well and complain of nothing."""
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
