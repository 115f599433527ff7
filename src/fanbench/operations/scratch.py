"""The folder in which `check --run` runs a file: empty at first, kept or deleted at the end."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench.errors import OutputError

__all__ = ["Scratch", "scratch_folder"]

# Readers of results skip folders that begin with a dot: those are in progress.
_PREFIX = ".fanbench-check-"


@dataclass(frozen=True, slots=True)
class Scratch:
    """`root` is deleted at the end. The file runs in `working`, which may be moved to a folder below `output`."""

    root: Path
    output: Path | None

    @property
    def working(self) -> Path:
        return self.root / "working"

    @property
    def log(self) -> Path:
        return self.root / "output.log"

    def clear(self) -> None:
        """Empty the working folder for another attempt."""
        shutil.rmtree(self.working)
        self.working.mkdir()

    def keep(self, name: str) -> Path | None:
        """Move the files and the log to `output/NAME`, or `NAME-2` and so on; existing folders are not touched."""
        if self.output is None:
            return None
        try:
            self.log.replace(self.working / self.log.name)
            for number in count(1):
                target = self.output / (name if number == 1 else f"{name}-{number}")
                try:
                    target.mkdir()  # reserves the name; a rename may replace an empty folder
                except FileExistsError:
                    continue
                return self.working.rename(target)
        except OSError as error:
            raise OutputError(f"Cannot keep the files in {self.output}: {error.strerror}.") from None
        raise AssertionError("unreachable")


@asynccontextmanager
async def scratch_folder(output: Path | None) -> AsyncGenerator[Scratch, None]:
    """A new folder, deleted at the end except for what was kept.

    Raises:
        OutputError: The folder cannot be created.
    """

    def create() -> Scratch:
        try:
            if output is not None:
                output.mkdir(parents=True, exist_ok=True)
            scratch = Scratch(Path(tempfile.mkdtemp(prefix=_PREFIX, dir=output)).absolute(), output)
            scratch.working.mkdir()
        except OSError as error:
            where = output or "the folder for temporary files"
            raise OutputError(
                f"Cannot write to {where}: {error.strerror}.", hint="Name another folder with -o DIR."
            ) from None
        return scratch

    scratch = await anyio.to_thread.run_sync(create)
    try:
        yield scratch
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(scratch.root, ignore_errors=True))
