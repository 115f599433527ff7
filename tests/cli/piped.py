"""The program with its output in pipes, in a fork that need not import it: see `tests.warm`."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import Signals
from subprocess import TimeoutExpired
from types import TracebackType
from typing import Self

from tests.cli.terminal import PROGRAM
from tests.warm import warm_python

__all__ = ["Piped"]


class Piped:
    """The program that was started with `words`, with what the tests need of a `Popen`."""

    def __init__(self, *words: str, **env: str) -> None:
        (out, their_out), (err, their_err) = os.pipe(), os.pipe()
        self.stdout, self.stderr = os.fdopen(out, "rb"), os.fdopen(err, "rb")
        self._process = warm_python(PROGRAM).start(
            words, folder=Path.cwd(), environment={**os.environ, **env}, out=their_out, err=their_err
        )
        os.close(their_out)
        os.close(their_err)

    @property
    def returncode(self) -> int | None:
        return self._process.returncode

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self, timeout: float) -> int:
        return self._process.wait(timeout)

    def send_signal(self, number: Signals) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()

    def communicate(self, timeout: float = 60) -> tuple[bytes, bytes]:
        """Read until the program ends, and close the pipes."""
        with ThreadPoolExecutor() as readers, self.stdout, self.stderr:
            pending = [readers.submit(pipe.read) for pipe in (self.stdout, self.stderr)]
            try:
                self.wait(timeout)
            except TimeoutExpired:
                self.kill()  # which ends what the readers read
                raise
            out, err = [each.result() for each in pending]
        return out, err

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stdout.close()
        self.stderr.close()
        self._process.wait()
