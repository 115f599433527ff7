"""What a user asks of a sweep, before any server is asked: from words, flags and `sweep.toml`."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from fanbench.errors import SweepError, UsageError
from fanbench.sweeps.options import MaxFailures, Rules
from fanbench.sweeps.sweep_file import MAX_REPEATS, Loaded, TaskTable, load
from fanbench.sweeps.task_selection import TaskChoice, choices, expanded, files_like, models_from
from fanbench.sweeps.toml_lines import KeyPath
from fanbench.wire.slugs import slugify_task

__all__ = [
    "DEFAULT_OUTPUT",
    "Arguments",
    "SweepSpec",
    "TaskChoice",
    "classify",
    "from_json",
    "merge",
    "models_from",
    "read_sweep_file",
    "rules_of",
    "to_json",
]

DEFAULT_OUTPUT = Path("results")


class SweepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks × models × repeats and how to run them, as asked for; `None` is what nobody said.

    `models` are names and patterns in the order in which they are reported. `datasets` ("owner/slug") are
    for the tasks of files that have none of their own. The rest is as in `Rules`; `concurrency` is how many
    calls are under way at a time, at most.
    """

    tasks: tuple[TaskChoice, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    all_models: bool = False
    repeats: int | None = None
    output: Path | None = None
    include_source: bool | None = None
    concurrency: int | None = None
    streams: int | None = None
    downloads: int | None = None
    max_cost: float | None = None
    timeout: float | None = None
    deadline: float | None = None
    poll_interval: float | None = None
    retry_errored: int | None = None
    max_failures: MaxFailures | None = None


# --- Words of the command line ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arguments:
    """What positional arguments mean."""

    tasks: tuple[TaskChoice, ...] = ()
    sweep_file: Path | None = None


def classify(words: Sequence[str | Path]) -> Arguments:
    """Sorts positional arguments: `*.toml` is the sweep file, the rest are tasks (see `choices`).

    Raises:
        UsageError: two sweep files, a pattern that no file is like, or a word that can be no task.
    """
    texts = [str(word) for word in words]
    sweep_files = [text for text in texts if text.endswith(".toml")]
    if len(sweep_files) > 1:
        raise UsageError(f"One sweep file at a time, not {len(sweep_files)}: {', '.join(sweep_files)}.")
    tasks = [choice for text in texts if text not in sweep_files for choice in choices(text)]
    return Arguments(tuple(tasks), Path(sweep_files[0]) if sweep_files else None)


def merge(base: SweepSpec | None, **flags: Any) -> SweepSpec:
    """`base` with what `flags` (named as the fields) say instead; `None`, empty and `False` flags say nothing.

    A flag replaces what it names, so `models` replaces all models, those of `all_models` as well, and the
    other way round. A task's own datasets stay.

    Raises:
        UsageError: `models` and `all_models` at once, or a share of failures that is none.
    """
    given = {name: value for name, value in flags.items() if not _says_nothing(value)}
    if given.get("models") and given.get("all_models"):
        raise UsageError("-m and --all-models exclude each other.", hint="Leave one out.")
    for name in ("tasks", "models", "datasets"):
        if name in given:
            given[name] = tuple(given[name])
    if "models" in given:
        given["all_models"] = False
    elif "all_models" in given:
        given["models"] = ()
    if isinstance(given.get("max_failures"), str):
        given["max_failures"] = MaxFailures.parse(given["max_failures"])
    if "output" in given:
        given["output"] = _folder(given["output"])
    return msgspec.structs.replace(base or SweepSpec(), **given)


def _folder(name: Any) -> Path:
    """An empty name is mostly a variable that is not set, and hardly the folder where we are."""
    if not os.fspath(name):
        raise UsageError("The name of the output folder is empty.", hint="For this folder, write: -o .")
    return Path(name)


def _says_nothing(flag: Any) -> bool:
    """Zero does say something."""
    return flag is None or flag is False or (isinstance(flag, list | tuple) and not flag)


# --- Limits -------------------------------------------------------------------------------------------------

_AT_LEAST = {"repeats": 1, "concurrency": 1, "streams": 1, "downloads": 1, "retry_errored": 0}
_UNITS = {
    "timeout": "seconds",
    "deadline": "seconds",
    "poll_interval": "seconds",
    "max_cost": "US dollars",
}


def rules_of(spec: SweepSpec) -> Rules:
    """Limits and policies, with the defaults for what nobody said.

    Raises:
        UsageError: a number is out of its range.
    """
    for name, least in _AT_LEAST.items():
        value = getattr(spec, name)
        if value is not None and not value >= least:
            raise UsageError(f"{name} must be {least} or more, not {value}.")
    if spec.repeats is not None and spec.repeats > MAX_REPEATS:
        raise UsageError(f"repeats must be {MAX_REPEATS} or less, not {spec.repeats}.")
    for name, unit in _UNITS.items():
        value = getattr(spec, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(
                f"{name} must be more than 0 {unit}, not {value:g}.", hint="Leave it out for no limit."
            )
    said = {name: getattr(spec, name) for name in Rules.__struct_fields__}
    return Rules(**{name: value for name, value in said.items() if value is not None})


# --- The sweep file -----------------------------------------------------------------------------------------


def read_sweep_file(path: Path) -> SweepSpec:
    """The sweep that a `sweep.toml` describes (see `SweepFile`), with absolute paths.

    Raises:
        UsageError: it cannot be read, or `FILE:LINE: message` for the first mistake.
    """
    loaded = load(path)
    file, base = loaded.file, Path(os.path.abspath(path)).parent
    limits, policy = _said(file.limits), _said(file.policy)
    if "max_failures" in policy:
        policy["max_failures"] = MaxFailures.parse(str(policy["max_failures"]))
    _refuse_infinite(loaded, limits)
    return SweepSpec(
        tasks=tuple(_tasks(loaded, base)),
        datasets=tuple(file.datasets or ()),
        models=(*(file.models or ()), *_listed_models(loaded, base)),
        all_models=file.all_models is True,
        repeats=file.repeats or None,
        output=base / expanded(file.output) if file.output else None,
        include_source=None if file.include_source is UNSET else file.include_source,
        **limits,
        **policy,
    )


def _said(table: msgspec.Struct | UnsetType) -> dict[str, Any]:
    return {} if isinstance(table, UnsetType) else msgspec.to_builtins(table)


def _refuse_infinite(loaded: Loaded, limits: dict[str, Any]) -> None:
    """TOML has `inf`, which no schema can refuse."""
    for key, value in limits.items():
        if value == math.inf:
            raise loaded.error(
                ("limits", key), f"{key} takes a number, not inf.", "Leave it out for no limit."
            )


def _tasks(loaded: Loaded, base: Path) -> list[TaskChoice]:
    found: list[TaskChoice] = []
    for index, entry in enumerate(loaded.file.tasks or ()):
        place: KeyPath = ("tasks", index)
        try:
            found += choices(entry, base) if isinstance(entry, str) else _of_table(entry, base)
        except UsageError as error:
            raise loaded.error(place, error.message, error.hint) from None
    return found


def _of_table(table: TaskTable, base: Path) -> list[TaskChoice]:
    if table.slug:
        return [TaskChoice(slug=slugify_task(table.slug))]
    datasets = None if table.datasets is UNSET else tuple(table.datasets)
    return [
        TaskChoice(file=file, name=table.task or None, datasets=datasets)
        for file in files_like(str(table.file), base)
    ]


def _listed_models(loaded: Loaded, base: Path) -> list[str]:
    if not loaded.file.models_from:
        return []
    try:
        return models_from(base / expanded(loaded.file.models_from))
    except UsageError as error:
        raise loaded.error(("models_from",), error.message, error.hint) from None


# --- For the journal ----------------------------------------------------------------------------------------


def to_json(spec: msgspec.Struct) -> str:
    """The spec, or a struct that has one, for the journal. Paths become absolute, to hold in every folder.

    Raises:
        UsageError: a path is not Unicode.
    """
    try:
        return msgspec.json.encode(spec, enc_hook=_absolute).decode()
    except UnicodeEncodeError:
        raise UsageError("The path of a task file or of the output folder is not Unicode.") from None


def from_json(text: str | bytes) -> SweepSpec:
    """What `to_json` wrote.

    Raises:
        SweepError: something else wrote it.
    """
    try:
        return msgspec.json.decode(text, type=SweepSpec, dec_hook=to_path)
    except msgspec.MsgspecError as error:
        raise SweepError(f"The sweep that was saved cannot be read: {error}") from None


def _absolute(value: object) -> str:
    if isinstance(value, Path):
        return str(value.absolute())
    raise NotImplementedError(f"{type(value).__name__} is nothing that a spec has")


def to_path(kind: type, value: Any) -> Path:
    """msgspec's hook for paths, which are text in JSON."""
    if isinstance(value, str):
        return Path(value)
    raise ValueError(f"Expected a path, got {type(value).__name__}")
