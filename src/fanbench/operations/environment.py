"""`init` and `auth`: the variables that a task needs in its environment, and the starter files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.resources import files
from pathlib import Path

from fanbench._util.concurrency import both
from fanbench._util.text import as_utc
from fanbench.errors import FanbenchError, OutputError
from fanbench.operations.api import Api
from fanbench.operations.credentials import MARGIN, new_token, token_variables
from fanbench.operations.models import curate, list_models_if_possible, pick_default, proxy_names
from fanbench.tasks import to_notebook

__all__ = [
    "EXAMPLE_TASK",
    "REFERENCE_NAME",
    "Environment",
    "Written",
    "expiry_phrase",
    "fetch_credentials",
    "fetch_environment",
    "model_variables",
    "nearly_over",
    "write_skill",
    "write_starters",
]

REFERENCE_NAME = "kaggle_benchmarks_reference.md"
#: The slug of the task in the example file.
EXAMPLE_TASK = "what-is-kaggle"


# --- Values -------------------------------------------------------------------------------------------------


async def fetch_credentials(client: Api) -> dict[str, str]:
    """Return the three `MODEL_PROXY_*` variables with a new token.

    Raises:
        NotFound: The server has no Model Proxy for this user.
        Forbidden: The Model Proxy refuses this user.
    """
    return token_variables(await new_token(client))


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables to write. `problem` is why those with models are missing, if they are."""

    variables: dict[str, str]
    problem: FanbenchError | None = None


async def fetch_environment(
    client: Api, current: Mapping[str, str], *, all_models: bool = False
) -> Environment:
    """Fetch the credentials, and the models to use: those of `current` (the env file) if they still exist.

    New models are those of `curate`, or all. If the server does not list its models, or has none, the credentials
    are returned without them.

    Raises:
        NotFound: The server has no Model Proxy for this user.
        Forbidden: The Model Proxy refuses this user.
    """
    values, (available, problem) = await both(
        partial(fetch_credentials, client), partial(list_models_if_possible, client)
    )
    if problem is not None:
        return Environment(
            values, FanbenchError(f"The models cannot be listed: {problem}", hint=problem.hint)
        )
    try:
        return Environment(values | model_variables(proxy_names(available), current, all_models=all_models))
    except FanbenchError as error:
        return Environment(values, error)


def model_variables(
    names: Sequence[str], current: Mapping[str, str], *, all_models: bool = True
) -> dict[str, str]:
    """Return the three `LLM*` variables for the models `names`, keeping the choices in `current`.

    Without `all_models`, only those of `curate` are added to the models in `current`.

    Raises:
        FanbenchError: `names` is empty.
    """
    default = pick_default(names)
    if default is None:
        raise FanbenchError(
            "This server offers no model through its Model Proxy.",
            hint="On a local server, run `fanbench models add smollm2` to add one.",
        )
    chosen, judge = current.get("LLM_DEFAULT", ""), current.get("LLM_DEFAULT_EVAL", "")
    if chosen not in names:
        chosen = default
    listed = [name.strip() for name in current.get("LLMS_AVAILABLE", "").split(",")]
    kept = [name for name in listed if name in names]
    added = names if all_models else curate(names)
    return {
        "LLM_DEFAULT": chosen,
        "LLM_DEFAULT_EVAL": judge if judge in names else chosen,
        "LLMS_AVAILABLE": ",".join(dict.fromkeys([*kept, *added])),
    }


def expiry_phrase(timestamp: str, now: datetime | None = None) -> str:
    """Return "in 2 hours", "in 1 minute" or "expired", or a timestamp that cannot be parsed as it is."""
    left = _seconds_left(timestamp, now)
    if left is None:
        return timestamp
    # A new token for two hours has 1:59:59 left, which counts as 2 hours.
    minutes = round(left / 60)
    for size, unit in ((24 * 60, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            return f"in {minutes // size} {unit}{'' if minutes // size == 1 else 's'}"
    return "expired"


def nearly_over(timestamp: str, now: datetime | None = None) -> bool:
    """Return whether a token with this expiry time is of no use, because it is about to expire."""
    left = _seconds_left(timestamp, now)
    return left is not None and left < MARGIN


def _seconds_left(timestamp: str, now: datetime | None) -> float | None:
    try:
        time = as_utc(datetime.fromisoformat(timestamp))
    except ValueError:
        return None
    return (time - (now or datetime.now(UTC))).total_seconds()


# --- Files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """A starter file. `existed` is True if there was one already, which was left as it is."""

    path: Path
    existed: bool


def ensure_starters_writable(example: Path) -> None:
    """Check that the example task can be written. Do so before requesting a new token, which may revoke the old one.

    Raises:
        OutputError: `write_starters` would fail.
    """
    if not example.exists():
        try:
            tempfile.TemporaryFile(dir=example.parent).close()
        except OSError as error:
            raise _unwritable(example, error) from None


def write_starters(example: Path) -> list[Written]:
    """Write the example task and, beside it, the reference. Existing files are left as they are.

    The example is a notebook if its name ends in `.ipynb`.

    Raises:
        OutputError: A file cannot be written.
    """
    return [
        _write_text(example, "example_task.txt"),
        _write_text(example.parent / REFERENCE_NAME, "reference.md"),
    ]


def write_skill(skills: Path) -> Written:
    """Write the instructions for coding agents to `fanbench/SKILL.md` in a folder of skills, unless there are some.

    Raises:
        OutputError: The file cannot be written.
    """
    path = skills / "fanbench" / "SKILL.md"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    return _write_text(path, "SKILL.md")


def _write_text(path: Path, name: str) -> Written:
    """Write the text that is kept under `name`, unless `path` exists."""
    text = (files("fanbench.operations") / "texts" / name).read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        text = to_notebook(text)
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return Written(path, existed=True)
    except OSError as error:
        raise _unwritable(path, error) from None
    return Written(path, existed=False)


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"Cannot write {path}: {error.strerror}.", hint="Name another place.")
