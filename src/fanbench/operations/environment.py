"""`init` and `auth`: what a task needs in its environment, and the files to begin with."""

from __future__ import annotations

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
from fanbench.operations.models import pick_default, proxy_names

__all__ = [
    "EXAMPLE_TASK",
    "REFERENCE_NAME",
    "Written",
    "expiry_phrase",
    "fetch_credentials",
    "fetch_environment",
    "model_variables",
    "nearly_over",
    "write_starters",
]

REFERENCE_NAME = "kaggle_benchmarks_reference.md"
#: The slug of the task in the example file.
EXAMPLE_TASK = "what-is-kaggle"


# --- Values -------------------------------------------------------------------------------------------------


async def fetch_credentials(client: Api) -> dict[str, str]:
    """The three `MODEL_PROXY_*` variables, with a new token.

    Raises:
        NotFound, Forbidden: with what to do about it.
    """
    return token_variables(await new_token(client))


async def fetch_environment(client: Api, current: Mapping[str, str]) -> dict[str, str]:
    """The credentials, and the models to use: those of `current` (the env file) that are still there.

    Raises:
        NotFound, Forbidden: as `fetch_credentials`.
        FanbenchError: the server has no model that its proxy serves.
    """
    values, available = await both(partial(fetch_credentials, client), client.list_models)
    return values | model_variables(proxy_names(available), current)


def model_variables(names: Sequence[str], current: Mapping[str, str]) -> dict[str, str]:
    """The three `LLM*` variables for the models `names`, with what `current` chose of them.

    Raises:
        FanbenchError: there are none.
    """
    default = pick_default(names)
    if default is None:
        raise FanbenchError(
            "This server offers no model through its Model Proxy.",
            hint="On a local server, add one: fanbench models add smollm2",
        )
    chosen = _kept(current.get("LLM_DEFAULT"), names) or default
    listed = [name.strip() for name in current.get("LLMS_AVAILABLE", "").split(",")]
    kept = [name for name in listed if name in names]
    return {
        "LLM_DEFAULT": chosen,
        "LLM_DEFAULT_EVAL": _kept(current.get("LLM_DEFAULT_EVAL"), names) or chosen,
        "LLMS_AVAILABLE": ",".join(dict.fromkeys([*kept, *names])),
    }


def _kept(name: str | None, names: Sequence[str]) -> str | None:
    return name if name in names else None


def expiry_phrase(timestamp: str, now: datetime | None = None) -> str:
    """ "in 2 hours", "in 1 minute", "expired"; a timestamp that cannot be read, as it is."""
    try:
        time = datetime.fromisoformat(timestamp)
    except ValueError:
        return timestamp
    aware = as_utc(time)
    # A token that was made a moment ago for two hours has 1:59:59 left: that is 2 hours.
    minutes = round((aware - (now or datetime.now(UTC))).total_seconds() / 60)
    if minutes <= 0:
        return "expired"
    for size, unit in ((24 * 60, "day"), (60, "hour"), (1, "minute")):
        if minutes >= size:
            return f"in {minutes // size} {unit}{'' if minutes // size == 1 else 's'}"
    return "expired"


def nearly_over(timestamp: str, now: datetime | None = None, *, margin: float = MARGIN) -> bool:
    """Whether a token with this end is not worth writing down: less than `margin` seconds are left of it."""
    try:
        time = datetime.fromisoformat(timestamp)
    except ValueError:
        return False
    aware = as_utc(time)
    return (aware - (now or datetime.now(UTC))).total_seconds() < margin


# --- Files --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Written:
    """A file to begin with; `existed`: it was there and was left alone."""

    path: Path
    existed: bool


def write_starters(example: Path) -> list[Written]:
    """The example task and, beside it, the reference. Files that are there are left alone.

    Raises:
        OutputError: one cannot be written.
    """
    texts = {example: "example_task.txt", example.parent / REFERENCE_NAME: "reference.md"}
    return [_write_new(path, name) for path, name in texts.items()]


def _write_new(path: Path, name: str) -> Written:
    text = (files("fanbench.operations") / "texts" / name).read_text(encoding="utf-8")
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        return Written(path, existed=True)
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}.", hint="Name another place.") from None
    return Written(path, existed=False)
