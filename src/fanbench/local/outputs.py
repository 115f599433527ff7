"""Where the outputs of runs are: in the folders of the runs, or as zips in an object store (`serve --files`)."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from functools import partial

import anyio.to_thread
import structlog
from starlette.datastructures import Headers
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from fanbench._util.concurrency import settle
from fanbench.local.folder import DataFolder
from fanbench.local.object_store import ObjectStore, StoredFile
from fanbench.local.state.tables import RunRow
from fanbench.local.zips import write_output_zip, zip_name
from fanbench.wire.messages import RunState

__all__ = ["Outputs"]

_log = structlog.get_logger(__name__)

_DELETED_AT_ONCE = 8

_RANGE = re.compile(r"bytes=(\d{1,18})-(\d{1,18})?")


class Outputs:
    """The outputs of the runs of one server."""

    def __init__(self, folder: DataFolder, store: ObjectStore | None = None) -> None:
        self._folder = folder
        self._store = store

    @classmethod
    async def open(cls, folder: DataFolder, url: str, owner: str) -> Outputs:
        """With an empty `url`, outputs stay in the folders of the runs. `owner` is the id of the database.

        Raises:
            LocalServerError: The place cannot be used, or belongs to another database.
        """
        if not url:
            return cls(folder)
        store = ObjectStore(url, create=True)
        await store.check(owner)
        return cls(folder, store)

    async def claim(self, owner: str) -> None:
        """Mark the place as that of the database `owner`, after `open` has found that it may be.

        Raises:
            LocalServerError: It cannot be written.
        """
        if self._store is not None:
            await self._store.claim(owner)

    def place(self, run_id: int, attempt: int) -> str:
        """Where the machine of a run uploads its output to, for `upload_output`; empty if it does not.

        Each attempt has its own place: the late upload of one that was given up must not replace what was accepted.
        """
        return f"{self._store.url}/{_stem(run_id, attempt)}" if self._store else ""

    async def response(self, run: RunRow, *, include_source: bool) -> Response | None:
        """An answer with the zip of an ended run, or the part that is asked for; None if the zip is gone.

        A run that failed before it had an output has an empty zip.

        Raises:
            LocalServerError: It cannot be read.
        """
        filename = f"run-{run.id}.zip"
        path, folder = self._folder.output(run.id, include_source=include_source), self._folder.run(run.id)
        returned = self._folder.output(run.id, include_source=True)
        here = path.exists() or returned.exists() or folder.exists()
        if self._store is not None and not here:
            stem = _stem(run.id, run.attempt)
            stored = await self._store.find(zip_name(stem, include_source=include_source))
            if stored is not None:
                return _StoredResponse(stored, filename)
        if run.state is RunState.COMPLETED and not here:
            return None
        write = partial(write_output_zip, folder, path, include_source=include_source)
        await anyio.to_thread.run_sync(write)
        # Starlette adds Content-Length and ETag, and handles Range.
        return FileResponse(path, media_type="application/zip", filename=filename)

    async def delete(self, run_ids: Iterable[int]) -> None:
        """Delete the outputs of runs, of all their attempts. What a store does not delete is named in the log."""
        ids = [*run_ids]
        await self.delete_here(ids)
        if self._store is not None:
            jobs = [partial(self._store.delete_folder, f"runs/{run_id}") for run_id in ids]
            for run_id, outcome in zip(ids, await settle(jobs, limit=_DELETED_AT_ONCE), strict=True):
                if outcome is not None:
                    _log.warning("an output is left in the store", run=run_id, error=str(outcome))

    async def delete_here(self, run_ids: Iterable[int]) -> None:
        """Delete what the data folder has of the outputs of runs.

        This is also done before a run starts: if the database was moved away, an earlier run may have had its number.
        """
        await anyio.to_thread.run_sync(self._delete_files, [*run_ids])

    def _delete_files(self, run_ids: list[int]) -> None:
        for run_id in run_ids:
            shutil.rmtree(self._folder.run(run_id), ignore_errors=True)
            for include_source in (False, True):
                self._folder.output(run_id, include_source=include_source).unlink(missing_ok=True)


def _stem(run_id: int, attempt: int) -> str:
    return f"runs/{run_id}/{attempt}"


class _StoredResponse(Response):
    """A file of the store, or the range of it that the request asks for, as `FileResponse` sends a local one."""

    def __init__(self, file: StoredFile, filename: str) -> None:
        super().__init__(
            headers={
                "Accept-Ranges": "bytes",
                "ETag": file.tag,
                "Content-Disposition": f'attachment; filename="{filename}"',
            },
            media_type="application/zip",
        )
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        file, asked = self._file, Headers(scope=scope)
        start, end = 0, file.size
        found = _RANGE.fullmatch(asked.get("range", ""))
        if found is not None and asked.get("if-range", file.tag) == file.tag:
            start, self.status_code = int(found[1]), 206
            end = min(int(found[2]) + 1, file.size) if found[2] else file.size
            self.headers["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
            if start >= end:
                end, self.status_code = start, 416
                self.headers["Content-Range"] = f"bytes */{file.size}"
        self.headers["Content-Length"] = str(end - start)
        answer = StreamingResponse(file.read(start, end), self.status_code, self.headers)
        await answer(scope, receive, send)
