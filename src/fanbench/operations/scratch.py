"""The folder that a trial of a task file works in: empty at first, kept or deleted in the end."""

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

__all__ = ["Workplace", "workplace"]

#: A folder that begins with a dot is under way, for the reader of results as well.
_PREFIX = ".fanbench-check-"


@dataclass(frozen=True, slots=True)
class Workplace:
    """`root` is ours; the file runs in `working`, which goes to a folder below `output` in the end."""

    root: Path
    output: Path | None

    @property
    def working(self) -> Path:
        return self.root / "working"

    @property
    def log(self) -> Path:
        return self.root / "output.log"

    @property
    def notebook(self) -> Path:
        return self.root / "source.ipynb"

    def clear(self) -> None:
        """For another attempt."""
        shutil.rmtree(self.working)
        self.working.mkdir()

    def keep(self, name: str) -> Path | None:
        """The folder with all files and the log: `name`, `name-2`, … Nothing that is there is touched."""
        if self.output is None:
            return None
        try:
            self.log.replace(self.working / self.log.name)
            return _renamed(self.working, self.output, name)
        except OSError as error:
            raise OutputError(f"Cannot keep the files in {self.output}: {error.strerror}.") from None


def _renamed(folder: Path, output: Path, name: str) -> Path:
    for number in count(1):
        target = output / (name if number == 1 else f"{name}-{number}")
        try:
            target.mkdir()  # an empty folder may be replaced by a rename, and nobody else takes it now
        except FileExistsError:
            continue
        return folder.rename(target)
    raise AssertionError  # pragma: no cover - there are numbers enough


@asynccontextmanager
async def workplace(output: Path | None) -> AsyncGenerator[Workplace, None]:
    """A new one, deleted at the end but for what was kept.

    Raises:
        OutputError: it cannot be made.
    """
    place = await anyio.to_thread.run_sync(_made, output)
    try:
        yield place
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(place.root, ignore_errors=True))


def _made(output: Path | None) -> Workplace:
    try:
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
        root = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=output))
        place = Workplace(root.absolute(), output)
        place.working.mkdir()
    except OSError as error:
        where = output or "the folder for temporary files"
        raise OutputError(
            f"Cannot write to {where}: {error.strerror}.", hint="Name another folder with -o."
        ) from None
    return place
