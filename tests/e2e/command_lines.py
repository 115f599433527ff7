"""The two command lines, each in a process of its own, on the same local server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.e2e.vendor_versions import PINNED, python_with_kaggle

TIMEOUT = 100


@dataclass(frozen=True)
class Ended:
    """The exit code and output of a command."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


class Endpoint(Protocol):
    """A server, and a token that it accepts."""

    @property
    def url(self) -> str: ...

    @property
    def token(self) -> str: ...


class Program:
    """A command line with a working folder and a home of its own."""

    def __init__(self, server: Endpoint, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            **{name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ},
            "HOME": str(folder / "home"),
            "KAGGLE_CONFIG_DIR": str(folder / "home"),
            "KAGGLE_API_TOKEN": server.token,
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONIOENCODING": "utf-8",
        }
        (folder / "home").mkdir(parents=True, exist_ok=True)

    def command(self, words: Sequence[str]) -> list[str]:
        raise NotImplementedError

    def begin(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.command(words),
            cwd=self.folder,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def end(self, process: subprocess.Popen[bytes]) -> Ended:
        with process:
            try:
                out, err = process.communicate(timeout=TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        return Ended(process.returncode, out.decode(), err.decode())

    def run(self, *words: str) -> Ended:
        return self.end(self.begin(*words))

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run the command, which must end with exit code `code`. Return all of its output."""
        ended = self.run(*words)
        assert ended.code == code, ended.text
        return ended.text


class Kaggle(Program):
    """`kaggle benchmarks …`, unmodified: only its SDK's table of endpoints points at the server."""

    def __init__(self, server: Endpoint, folder: Path, version: str = PINNED) -> None:
        super().__init__(server, folder)
        self._url = server.url
        self._python = python_with_kaggle(version)

    def command(self, words: Sequence[str]) -> list[str]:
        vendor = Path(__file__).with_name("vendor.py")
        return [str(self._python), str(vendor), self._url, "benchmarks", *words]


class Fanbench(Program):
    """`fanbench …`, with the same arguments."""

    def __init__(self, server: Endpoint, folder: Path) -> None:
        super().__init__(server, folder)
        self.environment["FANBENCH_ENDPOINT"] = server.url

    def command(self, words: Sequence[str]) -> list[str]:
        return [sys.executable, "-m", "fanbench", *words]
