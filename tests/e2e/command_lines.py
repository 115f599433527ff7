"""The two command lines, each in a process of its own, on the same local server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Protocol

from tests.e2e.vendor_versions import PINNED, python_with_kaggle
from tests.warm import Forked, warm_python

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


@dataclass(frozen=True)
class Begun:
    """A command that runs, and the files that it prints to."""

    process: Forked
    out: IO[bytes]
    err: IO[bytes]


class Program:
    """A command line with a working folder and a home of its own."""

    #: What `tests.warm` executes, and with which Python.
    program: Path
    python = sys.executable

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

    def arguments(self, words: Sequence[str]) -> Sequence[str]:
        return words

    def begin(self, *words: str) -> Begun:
        out, err = TemporaryFile(), TemporaryFile()  # noqa: SIM115 - `end` closes them
        process = warm_python(self.program, self.python).start(
            self.arguments(words),
            folder=self.folder,
            environment=self.environment,
            out=out.fileno(),
            err=err.fileno(),
        )
        return Begun(process, out, err)

    def end(self, begun: Begun) -> Ended:
        with begun.out as out, begun.err as err:
            try:
                code = begun.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                begun.process.kill()
                raise
            out.seek(0)
            err.seek(0)
            return Ended(code, out.read().decode(), err.read().decode())

    def run(self, *words: str) -> Ended:
        return self.end(self.begin(*words))

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run the command, which must end with exit code `code`. Return all of its output."""
        ended = self.run(*words)
        assert ended.code == code, ended.text
        return ended.text


class Kaggle(Program):
    """`kaggle benchmarks …`, unmodified: only its SDK's table of endpoints points at the server."""

    program = Path(__file__).with_name("vendor.py")

    def __init__(self, server: Endpoint, folder: Path, version: str = PINNED) -> None:
        super().__init__(server, folder)
        self._url = server.url
        self.python = str(python_with_kaggle(version))

    def arguments(self, words: Sequence[str]) -> Sequence[str]:
        return [self._url, "benchmarks", *words]


class Fanbench(Program):
    """`fanbench …`, with the same arguments."""

    program = Path(__file__).with_name("ours.py")

    def __init__(self, server: Endpoint, folder: Path) -> None:
        super().__init__(server, folder)
        self.environment["FANBENCH_ENDPOINT"] = server.url
