"""Say what is wrong with an entry of `models.toml`, in the words of the file: the model, the key, and the line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import msgspec

from fanbench._util.text import in_terms_of_toml
from fanbench.local.models import BaseSpec, Modality

__all__ = ["Mistake", "find_mistake"]

# How msgspec names the place, and what it expects there.
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\.(\w+)|\[(\d+)\]")
_FIELD = re.compile(r"Object (?P<problem>missing required|contains unknown) field `(?P<key>.*)`")
_HEADER = re.compile(r"\s*\[\[\s*model\s*\]\]")
_ROLES = ("default", "judge", "model")


@dataclass(frozen=True, slots=True)
class Mistake:
    """A mistake in the entry number `index` of `[[model]]` (from 0), or outside of them. `key` is the key in it."""

    text: str
    index: int | None
    key: str

    def find_line(self, source: str) -> int | None:
        """The line of the key, counted from 1, or of its entry; None if it is not written as a line of its own."""
        wanted, entry, found = re.compile(rf"\s*{re.escape(self.key)}\s*="), -1, None
        for number, line in enumerate(source.split("\n"), 1):
            if _HEADER.match(line):
                entry += 1
                found = number if entry == self.index else found
            elif self.key and entry == (-1 if self.index is None else self.index) and wanted.match(line):
                return number
        return found


def find_mistake(
    error: msgspec.ValidationError, document: Mapping[str, Any], kinds: Sequence[type[BaseSpec]]
) -> Mistake:
    """The mistake for which msgspec refuses the document, as models of these kinds."""
    message = str(error)
    place = _PLACE.search(message)
    said = message.removesuffix(place[0]) if place else message
    steps = [name or int(number) for name, number in _STEP.findall(place["path"] if place else "")]
    index = steps[1] if steps[:1] == ["model"] and len(steps) > 1 and isinstance(steps[1], int) else None
    entry = document["model"][index] if index is not None else document
    entry = entry if isinstance(entry, dict) else {}
    inner = steps[2:] if index is not None else steps
    key = str(inner[0]) if inner else ""
    names = {str(kind.__struct_config__.tag): kind for kind in kinds}
    field = _FIELD.fullmatch(said)
    if key == "kind" and said.startswith("Invalid value"):
        text = f"kind is {entry['kind']!r}, and must be {_alternatives(names)}"
    elif field is None:
        what = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in inner).lstrip(".")
        text = f"{what + ': ' if what else ''}{_in_words(said)}"
    elif field["problem"] == "missing required":
        key = "" if len(inner) == 0 else key
        missing = field["key"]
        text = f"the key {missing} is missing" + (f": {_alternatives(names)}" if missing == "kind" else "")
    else:
        kind = names.get(str(entry.get("kind")))
        known = _ROLES if index is None else ("kind", *(kind.__struct_fields__ if kind and not inner else ()))
        near = difflib.get_close_matches(field["key"], known, n=1)
        text = f"there is no key {field['key']}" + (f" (did you mean {near[0]}?)" if near else "")
        text += f" in {key}" if inner else ""
        key = key or field["key"]
    if index is None:
        return Mistake(text, None, key)
    slug = entry.get("slug")
    return Mistake(f"model {slug if isinstance(slug, str) else f'number {index + 1}'}: {text}", index, key)


def _in_words(said: str) -> str:
    if said.startswith("Invalid enum value"):
        return f"{said.removeprefix('Invalid enum value ')} is not one of {_alternatives(get_args(Modality))}"
    return in_terms_of_toml(said)


def _alternatives(names: Sequence[str] | Mapping[str, object]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}"
