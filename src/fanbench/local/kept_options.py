"""The options of the last `fanbench serve` on a data folder, for servers that `--local` starts there.

Such a server finishes what an earlier one left. With other options, its runs would see other models, datasets or
packages than the earlier ones, and nobody would notice. Importable without the extra.
"""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec

from fanbench._util import files
from fanbench.errors import LocalServerError
from fanbench.local.folder import PRIVATE, DataFolder
from fanbench.local.settings import ServerSettings
from fanbench.local.state.database_url import without_password

__all__ = ["flags_of", "read_options", "save_options"]

_FLAGS = {
    "database": "--database",
    "judge": "--judge",
    "model_aliases": "--model-alias",
    "record": "--record",
    "replay": "--replay",
    "datasets": "--datasets",
    "files": "--files",
    "requirements_file": "--requirements",
    "requirements": "",  # the lines of that file, which may be gone by then
    "isolation": "--isolation",
    "run_timeout": "--run-timeout",
    "run_memory_mb": "--run-memory",
    "run_disk_mb": "--run-disk",
    "run_environment": "--run-env",
    "log_limit_mb": "--log-limit",
    "engine": "--engine",
    "host": "--host",
    "advertise": "--advertise",
    "workers": "--workers",
    "proxy_workers": "--proxy-workers",
    "stop_timeout": "--stop-timeout",
    "model_idle": "--model-idle",
}
"""The settings that are kept: all but those of one process, such as when it ends, and its faults."""

_FOR_CLUSTER = ("host", "advertise")
"""Kept only if runs are on other machines, which otherwise could not reach the next server."""


def read_options(folder: DataFolder) -> ServerSettings:
    """The settings of a server on this folder with the options of the last one.

    Raises:
        LocalServerError: The file cannot be read. Runs without the options might have wrong results.
    """
    file = folder.options_file
    try:
        kept = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
        if unknown := kept.keys() - _FLAGS.keys():
            raise ValueError(f"it has the unknown option {min(unknown)!r}")
        return msgspec.convert({**kept, "data": folder.root}, ServerSettings, dec_hook=_read_path)
    except FileNotFoundError:
        return ServerSettings(data=folder.root)
    except (OSError, ValueError, RecursionError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LocalServerError(
            f"Cannot read the options of the last `fanbench serve` in {file}: {reason}.",
            hint=f"Run `fanbench serve{folder.flag}` with the options that runs need.",
        ) from None


def save_options(folder: DataFolder, settings: ServerSettings) -> None:
    """Keep the options for the next server. The file is complete at any moment."""
    with files.output_errors(f"write {folder.options_file}", kind=LocalServerError):
        content = msgspec.json.encode(_kept(settings), enc_hook=str)
        files.write(folder.options_file, content + b"\n", mode=PRIVATE)


def flags_of(settings: ServerSettings) -> dict[str, str]:
    """The kept options that are not the defaults, each as it is typed: `{"--judge": "--judge test/four"}`."""
    shown = {}
    for name, value in _kept(settings).items():
        if flag := _FLAGS[name]:
            values = value if isinstance(value, tuple) else (value,)
            shown[flag] = " ".join(f"{flag} {shlex.quote(_typed(each))}" for each in values)
    return shown


def _kept(settings: ServerSettings) -> dict[str, Any]:
    values, defaults = asdict(settings), asdict(ServerSettings())
    if settings.database:  # the password is in FANBENCH_DATABASE or in ~/.pgpass
        values["database"] = without_password(settings.database)
    dropped = () if settings.cluster else _FOR_CLUSTER
    return {name: values[name] for name in _FLAGS if values[name] != defaults[name] and name not in dropped}


def _typed(value: object) -> str:
    if isinstance(value, tuple):
        return "=".join(value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _read_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value)
    raise ValueError(f"{value!r} is not a path")
