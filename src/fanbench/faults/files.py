"""Files of faults in TOML, and the presets, which are such files."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from dataclasses import dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import msgspec

from fanbench._util.text import in_terms_of_toml
from fanbench.errors import UsageError
from fanbench.faults.fault import Damage, Fault, FaultyCall

__all__ = ["PRESETS", "FaultPlan", "read_faults"]

_PRESETS = files("fanbench.faults") / "presets"
#: The presets, with what each is like.
PRESETS = {
    "rate-limited": "429 on a fifth of all calls, with Retry-After in every form",
    "flaky": "503 on 20%, 429 on 10%, a third of logs and downloads cut, drips, stalls, old lists",
    "dying": "fails more and more, and does not answer at all after 90 seconds",
    "hostile": "what no server should send: garbage, floods, loops, bombs, wrong types",
}

_FIELDS = tuple(field.name for field in fields(Fault) if field.name != "raises")
_KEYS = ("seed", "fault")
_PLACE = re.compile(r" - at `\$(?:\.(\w+))?[^`]*`$")


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """Faults and the seed that chooses the calls. `name` is that of the preset or the file."""

    name: str
    faults: tuple[Fault, ...]
    seed: int = 0


def read_faults(source: str | os.PathLike[str]) -> FaultPlan:
    """The faults of a preset or of a TOML file: `seed = 7`, and a `[[fault]]` with the fields of each `Fault`.

    Raises:
        UsageError: There is no such preset or file, or it has a mistake, whose place is named.
    """
    name = os.fspath(source)
    if name in PRESETS:
        return _read(name, _PRESETS.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    try:
        text = Path(name).read_text(encoding="utf-8")
    except FileNotFoundError:
        known = "\n".join(f"  {preset:13} {what}" for preset, what in PRESETS.items())
        raise UsageError(
            f"There are no faults {name!r}: that is neither a file nor a preset.",
            hint=f"Name a TOML file, or one of the presets:\n{known}",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise UsageError(f"Cannot read the faults in {name}: {reason}.") from None
    return _read(name, text)


def _read(name: str, text: str) -> FaultPlan:
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name} is not TOML: {error}.") from None
    _check_keys(name, document, _KEYS)
    seed, entries = document.get("seed", 0), document.get("fault", [])
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise UsageError(f"{name}: seed must be an integer.")
    if not isinstance(entries, list) or not entries or not all(isinstance(each, dict) for each in entries):
        raise UsageError(f"{name}: there is no [[fault]].", hint='Write [[fault]] and, below, call = "all".')
    faults = [_fault(f"{name}: fault number {number}", entry) for number, entry in enumerate(entries, 1)]
    return FaultPlan(name, tuple(faults), seed)


def _fault(place: str, entry: dict[str, Any]) -> Fault:
    _check_keys(place, entry, _FIELDS)
    for key, allowed in (("call", get_args(FaultyCall)), ("damage", get_args(Damage))):
        if key in entry and entry[key] not in allowed:
            what = f"{key} is {entry[key]!r}{_near(str(entry[key]), allowed)}"
            raise UsageError(f"{place}: {what}.", hint=f"It must be one of {', '.join(allowed)}.")
    try:
        return msgspec.convert(entry, Fault, dec_hook=_refuse)
    except msgspec.ValidationError as error:
        said = str(error)
        if (found := _PLACE.search(said)) is not None:
            said = f"{found[1] + ': ' if found[1] else ''}{said.removesuffix(found[0])}"
        # TOML has no null: a key is left out.
        said = said.replace("Object missing required field `call`", "call is missing").replace(" | null", "")
        raise UsageError(f"{place}: {in_terms_of_toml(said)}.") from None


def _check_keys(place: str, table: dict[str, Any], known: tuple[str, ...]) -> None:
    if unknown := table.keys() - set(known):
        key = min(unknown)
        hint = f"The keys are {', '.join(known)}."
        raise UsageError(f"{place}: there is no key {key}{_near(key, known)}.", hint=hint)


def _near(word: str, known: tuple[str, ...]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _refuse(_kind: type, _value: object) -> Any:
    raise ValueError("this cannot be given in a file")
