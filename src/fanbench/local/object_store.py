"""A place for outputs that several machines reach: a bucket of an object store, or a folder that they share.

obstore, of the extra `files`, transfers. Credentials come from the environment of the machine that is asked, such as
`AWS_ACCESS_KEY_ID` or its role. They are in no URL, in no message, and in no environment of a run.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread
from anyio import from_thread

from fanbench._util import files
from fanbench._util.install import install_command
from fanbench.errors import LocalServerError, UsageError
from fanbench.local.zips import write_output_zip, zip_name

if TYPE_CHECKING:
    import obstore.store

__all__ = ["CREDENTIALS", "ObjectStore", "StoredFile", "checked_url", "shared_folder", "upload_output"]

CREDENTIALS = ("AWS_", "AZURE_", "GOOGLE_")
"""The beginnings of the names of variables that have the credentials and the address of an object store."""

BLOCK = 4 << 20
"""The most bytes of a download that are in memory. Each block is a request, so that slow clients keep none open."""

PART = 8 << 20
"""The bytes of a part of an upload; an upload has at most 10,000."""

PARTS_AT_ONCE = 4
"""The parts of one upload that are sent at the same time."""

REQUEST_SECONDS = 30.0
"""How long one request may take, with a block or a part."""

RETRY_SECONDS = 60.0
"""For how long a request is tried again after errors of the network and of the server."""

CALL_SECONDS = REQUEST_SECONDS + RETRY_SECONDS
"""How long a call may take."""

SLOWEST = 256 * 1024
"""The bytes per second below which an upload is given up."""

_MARKER = "fanbench-server"
_HINT = "Check the URL of --files, and the credentials and permissions of this machine (docs/cluster.md)."


class ObjectStore:
    """The files below `url`. Each call is tried again for a while, has a time limit, and raises LocalServerError."""

    def __init__(self, url: str, *, create: bool = False) -> None:
        """`create` makes the folder of a `file:` URL, which otherwise has to be there.

        Raises:
            UsageError: It is not the URL of a store.
            LocalServerError: obstore is not installed, or the URL leads nowhere.
        """
        self.url = checked_url(url)
        self._store = _open(self.url, create=create)

    async def check(self, owner: str) -> None:
        """Make sure that files can be written, read and deleted, and that they are not those of another database.

        `owner` is the id of the database, whose runs have the numbers that are in the names of files.
        """
        probe = f"fanbench-check-{secrets.token_hex(8)}"
        await self._write(probe, owner.encode())
        await self._read(probe)
        with self._calling("delete from"):
            await self._store.delete_async(probe)
        if await self._read(_MARKER) not in (None, owner.encode()):
            raise LocalServerError(
                f"The outputs in {self.url} belong to another database.",
                hint=f"Choose another place, such as --files {self.url}/NAME.",
            )

    async def claim(self, owner: str) -> None:
        """Mark the files as those of the database `owner`."""
        await self._write(_MARKER, owner.encode())

    async def _write(self, name: str, content: bytes) -> None:
        with self._calling("write to"):
            await self._store.put_async(name, content)

    async def _read(self, name: str) -> bytes | None:
        file = await self.find(name)
        return None if file is None else b"".join([block async for block in file.read(0, file.size)])

    async def put(self, name: str, file: Path) -> None:
        """Upload `file`, within the time that its size allows. It has its name only once it is complete."""
        size = (await anyio.Path(file).stat()).st_size
        with self._calling("write to", more_seconds=size / SLOWEST):
            await self._store.put_async(name, file, chunk_size=PART, max_concurrency=PARTS_AT_ONCE)

    async def find(self, name: str) -> StoredFile | None:
        """The file with this name; None if there is none."""
        with self._calling("read from"):
            try:
                found = await self._store.head_async(name)
            except FileNotFoundError:
                return None
        return StoredFile(self, name, found["size"], found["e_tag"] or "")

    async def read(self, name: str, start: int, end: int, tag: str) -> bytes:
        """The bytes from `start` to `end`, which is not included, of the version that has this ETag."""
        with self._calling("read from"):
            found = await self._store.get_async(name, options={"range": (start, end), "if_match": tag})
            return bytes(await found.bytes_async())

    async def delete_folder(self, name: str) -> None:
        """Delete all files whose names begin with `name` and a slash."""
        with self._calling("delete from"):
            async for some in self._store.list(name):
                await self._store.delete_async([each["path"] for each in some])

    @contextmanager
    def _calling(self, action: str, *, more_seconds: float = 0) -> Iterator[None]:
        """Turn every error in the block, and a block that takes longer than a call may, into LocalServerError."""
        from obstore.exceptions import BaseError

        try:
            with anyio.fail_after(CALL_SECONDS + more_seconds):
                yield
        except (BaseError, OSError, ValueError) as error:  # a TimeoutError is an OSError, too
            raise LocalServerError(f"Cannot {action} {self.url}: {_reason(error)}.", hint=_HINT) from None


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file in the store, as it was when it was found: its length in bytes, and its strong ETag."""

    store: ObjectStore
    name: str
    size: int
    tag: str

    async def read(self, start: int, end: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` to `end`, which is not included.

        Raises:
            LocalServerError: They cannot be read, or the file has changed.
        """
        for first in range(start, end, BLOCK):
            yield await self.store.read(self.name, first, min(first + BLOCK, end), self.tag)


def shared_folder(place: str) -> list[str]:
    """The folder that has the outputs of all runs, if `place` is in a folder: no run may see those of others."""
    root, *_ = place.rsplit("/", 3)
    return [unquote(urlsplit(root).path)] if root.startswith("file:") else []


async def upload_output(folder: Path, place: str) -> None:
    """Write the zips of the finished run in `folder` to `place`: the URL of each, without what `zip_name` adds.

    The credentials are those of this machine. Zips are written beside `folder` before they are sent.

    Raises:
        LocalServerError: They have not been stored.
    """
    # `ROOT/runs/ID/ATTEMPT`: the root has to be there, or a share that is not mounted would become a local folder.
    root, *stem = place.rsplit("/", 3)
    store = ObjectStore(root)
    write_zip = partial(write_output_zip, folder, check=from_thread.check_cancelled)
    with files.output_errors("write the zip of the output", kind=LocalServerError):
        async with files.async_temporary_folder(".fanbench-upload-", folder.parent) as room:
            for include_source in (False, True):
                file = room / "output.zip"
                await anyio.to_thread.run_sync(partial(write_zip, file, include_source=include_source))
                await store.put(zip_name("/".join(stem), include_source=include_source), file)
                await anyio.Path(file).unlink()


def checked_url(url: str) -> str:
    """The URL of a store without a slash at its end.

    Raises:
        UsageError: It has credentials, or parts that would be ignored. The message does not repeat it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _nowhere("The URL of --files cannot be read.") from None
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(
            "The URL of --files has a user name, a password, or a part after `?` or `#`.",
            hint="Give credentials in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and write "
            "`?` and `#` in names as %3F and %23.",
        )
    relative = parts.scheme == "file" and parts.netloc
    nowhere = not (parts.scheme and (parts.netloc or parts.path.strip("/")))
    if relative or nowhere or parts.scheme == "memory":
        raise _nowhere(f"{url!r} is not a place for outputs.")
    return url.rstrip("/")


def _nowhere(text: str) -> UsageError:
    hint = "Write for instance --files s3://bucket/prefix, or --files file:///folder/that/all/share."
    return UsageError(text, hint=hint)


def _open(url: str, *, create: bool) -> obstore.store.ObjectStore:
    try:
        from obstore.exceptions import BaseError
        from obstore.store import LocalStore, from_url
    except ImportError:
        raise LocalServerError(
            "obstore is not installed.", hint=f"Run `{install_command('files')}`."
        ) from None
    try:
        if url.startswith("file:"):
            return LocalStore.from_url(url, automatic_cleanup=True, mkdir=create)
        return from_url(
            url,
            # A server in the own network, named by AWS_ENDPOINT_URL, may have no certificate.
            client_options={"allow_http": True, "timeout": timedelta(seconds=REQUEST_SECONDS)},
            retry_config={"max_retries": 5, "retry_timeout": timedelta(seconds=RETRY_SECONDS)},
        )
    except (BaseError, OSError, ValueError) as error:
        raise LocalServerError(f"Cannot use {url}: {_reason(error)}.", hint=_HINT) from None


_REASONS = {
    r"<Code>(\w{1,80})</Code>": "it answers {0}",
    r"169\.254\.169\.254|metadata\.google\.internal": "there are no credentials",
    r"status code: (\d{3})": "it answers with status {0}",
    r"error sending request|timed out|operation timeout|error decoding response": "it does not answer",
    r"(?:^|: )([\w -]+) \(os error \d+\)": "{0}",
    r'message: "([\w ]+)"': "{0}",  # of a folder, in the details
    r"account must be specified": "no account is named",
    r"unable to recognise url|relative url": "this kind of URL is not supported",
}


def _reason(error: Exception) -> str:
    """Why a call failed. The whole text names requests with their headers, and may be pages long."""
    if isinstance(error, TimeoutError):
        return "it does not answer"
    for pattern, reason in _REASONS.items():
        if found := re.search(pattern, str(error), re.IGNORECASE | re.MULTILINE):
            return reason.format(*found.groups())
    return type(error).__name__
