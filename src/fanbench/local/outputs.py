"""Where the outputs of runs are: in the folders of the runs, or as zips in an object store (`serve --files`)."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterable, Mapping
from functools import partial

import anyio.to_thread
import structlog
from starlette.responses import FileResponse, Response, StreamingResponse

from fanbench._util import files
from fanbench._util.concurrency import settle
from fanbench.errors import LocalServerError
from fanbench.local.folder import PRIVATE, DataFolder
from fanbench.local.object_store import ObjectStore, StoredFile
from fanbench.local.store import RunRow
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
    async def open(cls, folder: DataFolder, url: str) -> Outputs:
        """With an empty `url`, outputs stay in the folders of the runs.

        Raises:
            LocalServerError: The place cannot be used, or another server uses it.
        """
        if not url:
            return cls(folder)
        store = ObjectStore(url, create=True)
        await store.check(await anyio.to_thread.run_sync(_identity, folder))
        return cls(folder, store)

    def place(self, run_id: int, attempt: int) -> str:
        """Where the machine of a run uploads its output to, for `upload_output`; empty if it does not.

        Each attempt has its own place: the late upload of one that was given up must not replace what was accepted.
        """
        return f"{self._store.url}/{_stem(run_id, attempt)}" if self._store else ""

    async def response(
        self, run: RunRow, attempt: int, *, include_source: bool, headers: Mapping[str, str]
    ) -> Response | None:
        """The zip of an ended run, or the part of it that the `headers` of a request ask for; None if it is gone.

        A run that failed before it had an output has an empty zip.

        Raises:
            LocalServerError: It cannot be read.
        """
        path, folder = self._folder.output(run.id, include_source=include_source), self._folder.run(run.id)
        returned = self._folder.output(run.id, include_source=True)
        here = path.exists() or returned.exists() or folder.exists()
        if self._store is not None and not here:
            stem = _stem(run.id, attempt)
            stored = await self._store.find(zip_name(stem, include_source=include_source))
            if stored is not None:
                return _stream(stored, headers, filename=f"run-{run.id}.zip")
        if run.state is RunState.COMPLETED and not here:
            return None
        write = partial(write_output_zip, folder, path, include_source=include_source)
        await anyio.to_thread.run_sync(write)
        # Starlette adds Content-Length and ETag, and handles Range.
        return FileResponse(path, media_type="application/zip", filename=f"run-{run.id}.zip")

    async def delete(self, run_ids: Iterable[int]) -> None:
        """Delete the outputs of runs, of all their attempts. What a store does not delete is named in the log."""
        ids = [*run_ids]
        await anyio.to_thread.run_sync(self._delete_here, ids)
        if self._store is not None:
            jobs = [partial(self._store.delete_folder, f"runs/{run_id}") for run_id in ids]
            for run_id, outcome in zip(ids, await settle(jobs, limit=_DELETED_AT_ONCE), strict=True):
                if outcome is not None:
                    _log.warning("an output is left in the store", run=run_id, error=str(outcome))

    def _delete_here(self, run_ids: list[int]) -> None:
        for run_id in run_ids:
            shutil.rmtree(self._folder.run(run_id), ignore_errors=True)
            for include_source in (False, True):
                self._folder.output(run_id, include_source=include_source).unlink(missing_ok=True)


def _identity(folder: DataFolder) -> str:
    """What distinguishes this server from others. Its data folder keeps it, as it keeps what its runs belong to."""
    with files.output_errors(f"write {folder.identity_file}", kind=LocalServerError):
        if not folder.identity_file.exists():
            files.write(folder.identity_file, secrets.token_hex(16), mode=PRIVATE)
        return folder.identity_file.read_text(encoding="ascii")


def _stem(run_id: int, attempt: int) -> str:
    return f"runs/{run_id}/{attempt}"


def _stream(file: StoredFile, headers: Mapping[str, str], filename: str) -> Response:
    """Answer a request with the file, or with the one range of it that `headers` ask for."""
    answer = {
        "Accept-Ranges": "bytes",
        "ETag": file.tag,
        "Content-Disposition": f'attachment; filename="{filename}"',
    }
    start, end, status = 0, file.size, 200
    asked = _RANGE.fullmatch(headers.get("range", ""))
    if asked is not None and headers.get("if-range", file.tag) == file.tag:
        start, status = int(asked[1]), 206
        end = min(int(asked[2]) + 1, file.size) if asked[2] else file.size
        if start >= end:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{file.size}"})
        answer["Content-Range"] = f"bytes {start}-{end - 1}/{file.size}"
    answer["Content-Length"] = str(end - start)
    return StreamingResponse(file.read(start, end), status, answer, media_type="application/zip")
