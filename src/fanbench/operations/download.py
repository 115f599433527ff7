"""`download`: the outputs of all ended runs at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import anyio.to_thread

from fanbench._util.concurrency import InOrder, settle
from fanbench.errors import FanbenchError, OutputError
from fanbench.operations.api import Api
from fanbench.operations.batch import each_task
from fanbench.operations.events import Downloading, Event, Report, ignore_events
from fanbench.operations.layout import run_folder
from fanbench.operations.lookup import model_of
from fanbench.operations.status import task_status
from fanbench.wire.messages import Run
from fanbench.wire.slugs import slugify_task

__all__ = [
    "DownloadReport",
    "DownloadRow",
    "DownloadsBegan",
    "Outcome",
    "RowDone",
    "download_runs",
    "download_tasks",
    "is_bad_zip",
]

Outcome = Literal["Done", "Cached", "Bad zip", "Failed"]

_SOURCES = ("__notebook__.ipynb", "__notebook_source__.ipynb")


@dataclass(frozen=True, slots=True)
class DownloadRow:
    """One run's output. `size` is in bytes on disk, `None` where there is none."""

    run: Run
    path: Path
    outcome: Outcome
    size: int | None = None
    lacks_source: bool = False
    error: FanbenchError | None = None

    @property
    def model(self) -> str:
        return model_of(self.run)


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """`pending` runs have not ended yet and were left out."""

    slug: str
    folder: Path
    rows: tuple[DownloadRow, ...] = ()
    pending: int = 0

    def count(self, outcome: Outcome) -> int:
        return sum(row.outcome == outcome for row in self.rows)

    @property
    def failed(self) -> tuple[DownloadRow, ...]:
        return tuple(row for row in self.rows if row.error is not None)


class DownloadsBegan(Event, frozen=True):
    """The outputs of `runs` are downloaded into `folder`."""

    slug: str
    folder: Path
    runs: tuple[Run, ...]

    @property
    def text(self) -> str:
        return f"Downloading output runs for {self.slug}"


class RowDone(Event, frozen=True):
    """Rows come in the order of the server's list."""

    row: DownloadRow

    @property
    def text(self) -> str:
        return f"{self.row.model}/{self.row.run.id}/: {self.row.outcome}"


@dataclass(frozen=True, slots=True)
class _Wishes:
    include_source: bool
    force: bool


async def download_tasks(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str] = (),
    *,
    output: Path = Path(),
    include_source: bool = False,
    force: bool = False,
    report: Report = ignore_events,
) -> list[DownloadReport | FanbenchError]:
    """`download_runs` of several tasks at once: what became of each, in the order in which they are named.

    Raises:
        UsageError: a name is none.
    """

    async def one(slug: str, say: Report) -> DownloadReport:
        return await download_runs(
            client, slug, models, output=output, include_source=include_source, force=force, report=say
        )

    return await each_task(tasks, one, limit=client.config.concurrency, report=report)


async def download_runs(
    client: Api,
    task: str,
    models: Sequence[str] = (),
    *,
    output: Path = Path(),
    include_source: bool = False,
    force: bool = False,
    report: Report = ignore_events,
) -> DownloadReport:
    """Downloads the outputs of a task's ended runs to `<output>/<task>/<version>/<model>/<run_id>/`.

    What is there already is kept (`Cached`), unless `force`. A run that fails is a row like the others: it
    ends none of them, and an earlier good copy of it stays.

    Raises:
        NotFound: there is no such task.
        OutputError: `output` cannot be written to.
    """
    status = await task_status(client, slugify_task(task), models)
    folder = output / status.slug
    ended = tuple(run for run in status.runs if run.state.terminal)
    pending = len(status.runs) - len(ended)
    if not ended:
        return DownloadReport(status.slug, folder, pending=pending)
    await anyio.to_thread.run_sync(_make_folder, folder)
    report(DownloadsBegan(status.slug, folder, ended))
    for run in ended:
        report(Downloading(status.slug, run))
    in_order = InOrder[DownloadRow](lambda row: report(RowDone(row)))
    wishes = _Wishes(include_source, force)

    async def one(run: Run) -> DownloadRow:
        say = partial(Downloading, status.slug, run)
        row = await _row(
            client, run, run_folder(output, status, run), wishes, lambda *bytes_: report(say(*bytes_))
        )
        report(say(row.size, row.size, row.outcome))
        return row

    jobs = [partial(one, run) for run in ended]
    rows = await settle(jobs, limit=client.config.concurrency, done=_rows_only(in_order))
    return DownloadReport(status.slug, folder, tuple(_rows(rows)), pending)


def _rows_only(emit: InOrder[DownloadRow]) -> Callable[[int, DownloadRow | FanbenchError], None]:
    def done(index: int, outcome: DownloadRow | FanbenchError) -> None:
        if isinstance(outcome, DownloadRow):
            emit(index, outcome)

    return done


def _rows(outcomes: Sequence[DownloadRow | FanbenchError]) -> list[DownloadRow]:
    return [outcome for outcome in outcomes if isinstance(outcome, DownloadRow)]


async def _row(
    client: Api, run: Run, path: Path, wishes: _Wishes, progress: Callable[[int, int | None], None]
) -> DownloadRow:
    """Never raises a FanbenchError: it becomes the row's outcome."""
    kept = None if wishes.force else await anyio.to_thread.run_sync(_kept, path)
    if kept is not None:
        lacks = wishes.include_source and not any((path / name).exists() for name in _SOURCES)
        return DownloadRow(run, path, "Cached", kept, lacks_source=lacks)
    progress(0, None)
    try:
        got = await client.download_output(
            run.id, path, include_source=wishes.include_source, progress=progress
        )
    except FanbenchError as error:
        return DownloadRow(run, path, "Bad zip" if is_bad_zip(error) else "Failed", error=error)
    return DownloadRow(run, path, "Done", got.size)


def is_bad_zip(error: FanbenchError) -> bool:
    """Whether a download came, but is damaged."""
    from fanbench.wire.downloads import BadZip

    return isinstance(error, BadZip)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot write to {folder}: {error.strerror}.", hint="Name another folder with -o."
        ) from None


def _kept(path: Path) -> int | None:
    """The size in bytes of what is there, `None` for nothing."""
    if not path.is_dir() or not any(path.iterdir()):
        return None
    return _size(path)


def _size(path: Path) -> int:
    files = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    return sum(file.stat().st_size for file in files if file.is_file())
