"""The server's data folder: its lock, its format, and every path in it."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fanbench._util import files
from fanbench._util.lock import LockHeld, lock_file
from fanbench.errors import LocalServerError
from fanbench.local.settings import data_flag, normalized
from fanbench.local.zips import zip_name

FORMAT = 1

PRIVATE = 0o600
"""The mode of files that only their owner may read."""

_PRIVATE_FOLDER = 0o700
_OURS = re.compile(
    r"(format\.json|lock|token|ray-token|serve\.json|server\.(json|log)|worker\.log|ray\.log|models\.toml"
    r"|database\.json|state\.sqlite(-\w+)?"
    r"|models|environments|datasets|tmp|logs|tasks|runs|outputs|workers)$|\..*\.part$"
)


class DataFolder:
    """The paths; `open_data_folder` creates and locks the folder."""

    def __init__(self, root: Path) -> None:
        self.root = root = normalized(root)
        self.notes: list[str] = []
        """What `open_data_folder` has found or changed, in sentences for the person who starts the server."""
        self.format_file = root / "format.json"
        self.lock_file = root / "lock"
        self.token_file = root / "token"
        self.server_file = root / "server.json"
        """The address of the running server."""
        self.options_file = root / "serve.json"
        """The options of the last server, for the next one that `--local` starts."""
        self.server_log = root / "server.log"
        self.worker_log = root / "worker.log"
        self.database = root / "state.sqlite"
        self.database_file = root / "database.json"
        """Which database the folder belongs to, if it is known."""
        self.models_file = root / "models.toml"
        self.models = root / "models"
        """Model files that had to be assembled."""
        self.environments = root / "environments"
        """Packages that runs need in addition. May be deleted at any time: they are installed again."""
        self.temporary = root / "tmp"
        """Incomplete files."""
        self.outputs = root / "outputs"
        self.logs = root / "logs"
        """Not in the folders of the runs, because a task may delete those."""

    @property
    def flag(self) -> str:
        """The option with which commands use this folder, after a space; empty if they need none."""
        return data_flag(self.root)

    def notebook(self, version_id: int) -> Path:
        return self.root / "tasks" / str(version_id) / "source.ipynb"

    def creation(self, version_id: int) -> Path:
        """The folder in which a pushed version is validated."""
        return self.root / "tasks" / str(version_id) / "creation"

    def run(self, run_id: int) -> Path:
        return self.root / "runs" / str(run_id)

    def output(self, run_id: int, *, include_source: bool) -> Path:
        """The zip of a run's output, with or without its notebooks."""
        return self.outputs / zip_name(str(run_id), include_source=include_source)

    def returned_output(self, job: str) -> Path | None:
        """Where the zip of a run's output goes if another machine carried it out; None for the name of a creation."""
        kind, _, number = job.partition("/")
        return self.output(int(number), include_source=True) if kind == "runs" else None

    def log(self, run_id: int) -> Path:
        return self.logs / f"{run_id}.jsonl"

    def creation_log(self, version_id: int) -> Path:
        return self.logs / f"creation-{version_id}.jsonl"

    def read_token(self) -> str:
        with files.output_errors(f"read {self.token_file}", kind=LocalServerError):
            return self.token_file.read_text(encoding="ascii").strip()


@contextlib.contextmanager
def open_data_folder(root: Path) -> Iterator[DataFolder]:
    """Create the folder if it does not exist, check its format, and lock it during the block.

    Raises:
        LocalServerError: Another server holds it, it has another version, or it cannot be written.
    """
    folder = DataFolder(root.absolute())
    reported = partial(
        files.output_errors,
        f"write the data folder {root}",
        hint="Choose another one with --data DIR.",
        kind=LocalServerError,
    )
    with reported():
        root.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            # A check whether a server is running holds the lock for an instant: wait a little longer than that.
            lock = lock_file(folder.lock_file, wait=0.1)
        except LockHeld as held:
            raise LocalServerError(
                f"The data folder {folder.root} is in use by process {held.pid or '?'}.",
                hint=f"Run `fanbench stop{folder.flag}` to end that server, or choose another folder with --data DIR.",
            ) from None
    try:
        with reported():
            # Left behind by a server that was killed: it must not be mistaken for ours.
            folder.server_file.unlink(missing_ok=True)
            _check_format(folder)
            if not folder.token_file.exists():
                files.write(folder.token_file, f"fb-{secrets.token_urlsafe(32)}\n", mode=PRIVATE)
            folder.database.touch(PRIVATE)  # SQLite gives the files beside it the same mode
            _keep_others_out(folder)
            shutil.rmtree(folder.temporary, ignore_errors=True)
            folder.temporary.mkdir()
            for part in folder.outputs.glob(".*.part"):  # of a server that was killed while an output arrived
                part.unlink()
            folder.logs.mkdir(exist_ok=True)
        yield folder
    finally:
        lock.release()


def _keep_others_out(folder: DataFolder) -> None:
    """Take away the rights of other users on the folder and on files that hold secrets. Note what was changed."""
    closed = [(folder.token_file, PRIVATE), (folder.database, PRIVATE), (folder.models_file, PRIVATE)]
    others = sorted(entry.name for entry in folder.root.iterdir() if not _OURS.match(entry.name))
    if not others:
        closed.insert(0, (folder.root, _PRIVATE_FOLDER))
    elif _mode(folder.root) & ~_PRIVATE_FOLDER:
        folder.notes.append(
            f"Other users of this machine may enter the data folder {folder.root}. It keeps its mode, because it also "
            f"has other files, such as {others[0]!a}."
        )
    for path, wanted in closed:
        if path.exists() and (mode := _mode(path)) & ~wanted & 0o777:
            path.chmod(wanted)
            folder.notes.append(
                f"Other users of this machine had rights on {path}: its mode was {mode:04o}, and now is {wanted:04o}."
            )


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def _check_format(folder: DataFolder) -> None:
    file, why = folder.format_file, ""
    if file.exists():
        try:
            found = json.loads(file.read_text(encoding="utf-8"))["fanbench-data"]
            if found != FORMAT:
                why = f"it has format {found}, and this fanbench writes format {FORMAT}"
        except (ValueError, KeyError, TypeError, RecursionError):
            why = "its format.json cannot be read"
    elif folder.database.exists():
        why = "it has no format.json"
    else:
        files.write(file, json.dumps({"fanbench-data": FORMAT}) + "\n", mode=PRIVATE)
    if why:
        raise LocalServerError(
            f"The data folder {folder.root} does not belong to this version: {why}.",
            hint="Move it aside, or choose another one with --data DIR.",
        )
