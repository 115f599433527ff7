"""What the server has of a task: whether a version of it has the same content as a file.

Kaggle does not return the notebook of a task, but that of a run is in the run's output. So what is behind a version is
known once one of its runs has ended, and is kept on this machine from then on: a version never changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio.to_thread

from fanbench._util import files
from fanbench._util.cache import cache_folder
from fanbench.errors import FanbenchError, OutputError, TaskFileError
from fanbench.operations.api import Api
from fanbench.operations.lookup import runs_of
from fanbench.tasks.ipynb import code_digest
from fanbench.wire.messages import CreationState, RunState, Task
from fanbench.wire.slugs import join_task

__all__ = ["has_content"]

_SOURCE = "__notebook_source__.ipynb"
# The most bytes that are downloaded to compare a notebook; a push takes less than the rest.
_MOST = 64 << 20


async def has_content(client: Api, task: Task, notebook: str, datasets: Iterable[str]) -> bool | None:
    """Return whether a version of a task certainly runs the cells of `notebook` (`.ipynb` JSON) on these datasets.

    None means that nothing shows it: the version has no run that has ended, or its output is large or cannot be read.
    It takes no call, or up to three, of which one is the download of an output.
    """
    if task.creation_state is not CreationState.COMPLETED or not task.slug.version_number:
        return None
    attached = task.options.dataset_data_sources if task.options else []
    if set(attached) != set(datasets):
        return False
    kept = _kept(client.config.server, task)
    there = await anyio.to_thread.run_sync(_read, kept)
    if there is None:
        there = await _look(client, task)
        if there is None:
            return None
        await anyio.to_thread.run_sync(_write, kept, there)
    return there == await anyio.to_thread.run_sync(_digest, notebook)


async def _look(client: Api, task: Task) -> str | None:
    """The digest of the code that the server has; None if it cannot be known now."""
    slug, version = join_task(task.slug), task.slug.version_number
    try:
        details = await client.get_task(slug, version=version, include_definition=True)
        if details.definition is not None:
            if details.definition.notebook is None:
                return ""  # a Docker image, or a Harbor task: no notebook is the same
            if content := details.definition.notebook.content:
                return _digest(content)
        runs = [run for run in await runs_of(client, slug, version=version) if run.state.terminal]
        if not runs:
            return None
        # One that completed is surest to have an output.
        run = min(runs, key=lambda run: (run.state is not RunState.COMPLETED, run.id))
        async with files.async_temporary_folder(".fanbench-source-") as folder:
            output = folder / "output"
            await client.download_output(run.id, output, include_source=True, progress=_refuse_large)
            read = partial((output / _SOURCE).read_text, encoding="utf-8")
            return _digest(await anyio.to_thread.run_sync(read))
    except (FanbenchError, OSError, UnicodeDecodeError):
        return None


def _refuse_large(received: int, total: int | None) -> None:
    if max(received, total or 0) > _MOST:
        raise OutputError(f"The output has more than {_MOST >> 20} MB.")


def _digest(notebook: str) -> str | None:
    try:
        return code_digest(notebook)
    except TaskFileError:
        return None


# --- What is kept ---------------------------------------------------------------------------------------------


def _kept(server: str, task: Task) -> Path | None:
    """The file for this version; None without a home. A task that was made again is another, which its time tells."""
    folder = cache_folder()
    name = f"{server}\n{join_task(task.slug)}\n{task.slug.version_number}\n{task.create_time}"
    return folder / "contents" / hashlib.sha256(name.encode()).hexdigest() if folder else None


def _read(kept: Path | None) -> str | None:
    try:
        return kept.read_text() if kept else None
    except (OSError, UnicodeDecodeError):
        return None


def _write(kept: Path | None, digest: str) -> None:
    if kept is not None:
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            files.write(kept, digest, durable=False)
