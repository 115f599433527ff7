"""`download`: the outputs of all runs of a task that have ended, at once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import anyio.to_thread

from fanbench._util.concurrency import InOrder, gather
from fanbench._util.files import output_errors
from fanbench._util.layout import folder_of_run, folder_of_version
from fanbench.errors import FanbenchError
from fanbench.operations.api import Api
from fanbench.operations.batch import each_task
from fanbench.operations.events import Downloading, Emit, Event, ignore_events
from fanbench.operations.lookup import model_of
from fanbench.operations.status import task_status
from fanbench.wire.messages import Run

__all__ = ["DownloadOutcome", "DownloadReport", "DownloadRow", "DownloadsBegan", "RowDone", "download_tasks"]

DownloadOutcome = Literal["Done", "Cached", "Bad zip", "Failed"]

_SOURCES = ("__notebook__.ipynb", "__notebook_source__.ipynb")


@dataclass(frozen=True, slots=True)
class DownloadRow:
    """The output of one run. `size` is in bytes on disk, None if the download failed."""

    run: Run
    path: Path
    outcome: DownloadOutcome
    size: int | None = None
    lacks_source: bool = False
    error: FanbenchError | None = None

    @property
    def model(self) -> str:
        return model_of(self.run)


@dataclass(frozen=True, slots=True)
class DownloadReport:
    """One row per run that has ended; `pending` runs have not, and were left out."""

    slug: str
    folder: Path
    rows: tuple[DownloadRow, ...] = ()
    pending: int = 0

    def count(self, outcome: DownloadOutcome) -> int:
        return sum(row.outcome == outcome for row in self.rows)

    @property
    def failed(self) -> tuple[DownloadRow, ...]:
        return tuple(row for row in self.rows if row.error is not None)


class DownloadsBegan(Event, frozen=True):
    """The outputs of `runs` are going to be downloaded into `folder`."""

    template: ClassVar[str | None] = "Downloading output runs for {slug}"

    slug: str
    folder: Path
    runs: tuple[Run, ...]


class RowDone(Event, frozen=True):
    """The download of one run has ended. Rows are reported in the order of the server's list."""

    template: ClassVar[str | None] = "{row.model}/{row.run.id}/: {row.outcome}"

    row: DownloadRow


async def download_tasks(
    client: Api,
    tasks: Sequence[str],
    models: Sequence[str] = (),
    *,
    output: Path = Path(),
    include_source: bool = False,
    force: bool = False,
    version: int = 0,
    emit: Emit = ignore_events,
) -> list[DownloadReport | FanbenchError]:
    """Download the outputs of runs that have ended to `<output>/<task>/<version>/<model>/<run_id>/`.

    They are those of one `version`, by default the newest. Existing outputs are kept (`Cached`) unless `force` is
    set. A failed download is a row like the others: it does not affect them, and leaves an earlier copy intact. Returns
    one report per task in the order given; an error stands for a task that failed as a whole, for example because
    `output` cannot be written to.

    Raises:
        UsageError: A name is not valid.
    """

    async def download(slug: str, emit: Emit) -> DownloadReport:
        status = await task_status(client, slug, models, version=version)
        folder = folder_of_version(output, slug, status.task.slug.version_number)
        ended = tuple(run for run in status.runs if run.state.terminal)
        pending = len(status.runs) - len(ended)
        if not ended:
            return DownloadReport(slug, folder, pending=pending)
        with output_errors(f"write to {folder}", hint="Name another folder with -o."):
            await anyio.to_thread.run_sync(partial(folder.mkdir, parents=True, exist_ok=True))
        emit(DownloadsBegan(slug, folder, ended))
        for run in ended:
            emit(Downloading(slug, run))
        in_order = InOrder[DownloadRow](lambda row: emit(RowDone(row)))

        async def one(index: int, run: Run) -> DownloadRow:
            path = folder_of_run(output, slug, status.task.slug.version_number, model_of(run), run.id)
            row = await _row(client, slug, run, path, include_source, force, emit)
            emit(Downloading(slug, run, row.size, row.size, row.outcome))
            in_order(index, row)
            return row

        jobs = [partial(one, index, run) for index, run in enumerate(ended)]
        rows = await gather(jobs, limit=client.config.concurrency)
        return DownloadReport(slug, folder, tuple(rows), pending)

    return await each_task(tasks, download, limit=client.config.concurrency, emit=emit)


async def _row(
    client: Api, slug: str, run: Run, path: Path, include_source: bool, force: bool, emit: Emit
) -> DownloadRow:
    """Download one output. An error becomes the row's outcome."""
    from fanbench.wire.safe_unzip import BadZip

    if not force:
        size, has_source = await anyio.to_thread.run_sync(_examine_copy, path)
        if size is not None:
            return DownloadRow(run, path, "Cached", size, lacks_source=include_source and not has_source)
    emit(Downloading(slug, run, 0))
    try:
        downloaded = await client.download_output(
            run.id,
            path,
            include_source=include_source,
            progress=lambda received, total: emit(Downloading(slug, run, received, total)),
        )
    except FanbenchError as error:
        return DownloadRow(run, path, "Bad zip" if isinstance(error, BadZip) else "Failed", error=error)
    return DownloadRow(run, path, "Done", downloaded.size)


def _examine_copy(path: Path) -> tuple[int | None, bool]:
    """Return the size in bytes of the copy in `path`, None if there is no copy, and whether it has notebooks."""
    if not path.is_dir() or not any(path.iterdir()):
        return None, False
    files = (Path(folder) / name for folder, _, names in os.walk(path) for name in names)
    size = sum(file.stat().st_size for file in files if file.is_file())
    return size, any((path / name).exists() for name in _SOURCES)
