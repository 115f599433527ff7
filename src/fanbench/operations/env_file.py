"""Setting values in a `.env` file in place: comments, other keys, their order and quoting stay.

python-dotenv's own parser says what belongs to which key, and reads the new text back before it is written:
what cannot be read back is never written.
"""

from __future__ import annotations

import os
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from fanbench._util import files
from fanbench.errors import OutputError, UsageError

__all__ = ["ensure_writable", "read_env_file", "upsert", "write_env_file"]

_BOM = "\ufeff"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_BINDING = re.compile(r"\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)[^\S\r\n]*=(?P<space>[^\S\r\n]*)")
_EMPTY_LINES = re.compile(r"(?:[^\S\r\n]*(?:\r\n|\n|\r))*")
_END_OF_LINE = re.compile(r"\r\n|\n|\r")
_COMMENT = re.compile(r"[^\S\r\n]+#[^\r\n]*$")


# --- The text -----------------------------------------------------------------------------------------------


def upsert(text: str, values: Mapping[str, str]) -> str:
    """`text` with each of `values` set: where its key is first, or at the end. Other bindings of it go.

    Raises:
        UsageError: a key is no name, or a value cannot be written so that it is read back.
    """
    body = text.removeprefix(_BOM)
    for key, value in values.items():
        body = _set(body, key, value)
    return f"{_BOM}{body}" if text.startswith(_BOM) else body


def _set(text: str, key: str, value: str) -> str:
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} cannot be a key of an env file.")
    wanted = {**_raw(text), key: value}
    for quote in _quotes(text, key):
        candidate = _replaced(text, key, _quoted(value, quote))
        if _raw(candidate) == wanted and _resolved(candidate).get(key) == value:
            return candidate
    raise UsageError(
        f"The value of {key} cannot be written to an env file.",
        hint="It has a ${NAME} in it, or a line of the file has a quote that does not end.",
    )


def _quoted(value: str, quote: str) -> str:
    if not quote:
        return value
    return quote + value.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote


def _quotes(text: str, key: str) -> list[str]:
    """The kinds of quotes to try: the one that is there first."""
    there = next((part.quote for part in _parts(text) if part.key == key), "")
    return list(dict.fromkeys([there, "", "'", '"']))


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of the file: a binding of `key` with what is around it, or something else (`None`)."""

    key: str | None
    text: str

    @property
    def quote(self) -> str:
        match = _BINDING.match(self.text)
        first = self.text[match.end() : match.end() + 1] if match else ""
        return first if first in ("'", '"') else ""

    def with_value(self, key: str, written: str) -> str:
        """The same stretch with another value; a comment behind the value stays."""
        match = _BINDING.match(self.text)
        head = match[0] if match else f"{self.empty_lines}{key}="  # a key alone has no "="
        comment = _COMMENT.search(self._behind_value)
        return f"{head}{written}{comment[0] if comment else ''}{self._end}"

    @property
    def empty_lines(self) -> str:
        match = _EMPTY_LINES.match(self.text)
        return match[0] if match else ""

    @property
    def _end(self) -> str:
        """The end of the last line, as it is written here."""
        ends = _END_OF_LINE.findall(self.text)
        return ends[-1] if ends and self.text.endswith(ends[-1]) else "\n"

    @property
    def _behind_value(self) -> str:
        """Where a comment may stand: the rest of the line, for a quoted value behind its last quote."""
        match = _BINDING.match(self.text)
        text = self.text.rstrip("\r\n")
        if match is None:
            return ""
        return text[_end_of_quoted(text, match.end()) if self.quote else match.start("space") :]


def _end_of_quoted(text: str, start: int) -> int:
    """Where the value ends whose first quote is at `start`."""
    at = start + 1
    while at < len(text) and text[at] != text[start]:
        at += 2 if text[at] == "\\" else 1
    return at + 1


def _replaced(text: str, key: str, written: str) -> str:
    parts, done = [], False
    for part in _parts(text):
        if part.key != key:
            parts.append(part.text)
        elif done:
            parts.append(part.empty_lines)
        else:
            parts.append(part.with_value(key, written))
            done = True
    joined = "".join(parts)
    return joined if done else _appended(joined, f"{key}={written}")


def _appended(text: str, line: str) -> str:
    ends = _END_OF_LINE.findall(text)
    end = ends[0] if ends else "\n"
    open_line = text and not text.endswith(("\r", "\n"))
    return f"{text}{end if open_line else ''}{line}{end}"


# --- python-dotenv ------------------------------------------------------------------------------------------


def _parts(text: str) -> list[_Part]:
    from dotenv.parser import parse_stream

    return [
        _Part(binding.key, binding.original.string) for binding in parse_stream(StringIO(text, newline=""))
    ]


def _raw(text: str) -> dict[str, str | None]:
    """The values as written, without `${NAME}` filled in."""
    from dotenv.parser import parse_stream

    bindings = parse_stream(StringIO(text, newline=""))
    return {binding.key: binding.value for binding in bindings if binding.key is not None}


def _resolved(text: str) -> dict[str, str | None]:
    from dotenv import dotenv_values

    return dotenv_values(stream=StringIO(text, newline=""))


# --- The file -----------------------------------------------------------------------------------------------


def read_env_file(path: Path) -> dict[str, str]:
    """The values in the file; none where there is no file.

    Raises:
        OutputError: it is there, but cannot be read as an env file.
    """
    return {
        key: value for key, value in _resolved(_text_of(path).removeprefix(_BOM)).items() if value is not None
    }


def ensure_writable(path: Path) -> None:
    """Asked before there are values to write: a new token may end the one before it.

    Raises:
        OutputError: `write_env_file` would not be able to replace the file.
    """
    target = Path(os.path.realpath(path))
    _text_of(path)
    with _explained(path):
        _mode(path, target)
        tempfile.TemporaryFile(dir=target.parent).close()


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Sets `values` in the file, which is replaced in one step; a new one is for its owner only.

    A link is followed: the file behind it is replaced, and the link stays.

    Raises:
        OutputError: the file is a folder, read-only, or not text; or its folder cannot be written to.
        UsageError: a value cannot be written so that it is read back.
    """
    target = Path(os.path.realpath(path))
    text = upsert(_text_of(path), values)
    with _explained(path):
        files.write(target, text, mode=_mode(path, target))


def _text_of(path: Path) -> str:
    with _explained(path):
        try:
            with path.open(encoding="utf-8", newline="") as file:
                return file.read()
        except FileNotFoundError:
            return ""


def _mode(path: Path, target: Path) -> int:
    """The permissions of the new file: those of the old one."""
    if not target.exists():
        return 0o600
    mode = stat.S_IMODE(target.stat().st_mode)
    if not mode & 0o222:
        # Replacing needs no right to write the file itself: the user's wish has to be looked at here.
        raise OutputError(
            f"{path} is read-only.", hint="Make it writable, or name another file with --env-file."
        )
    return mode


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    hint = "Name another file with --env-file."
    try:
        yield
    except IsADirectoryError:
        raise OutputError(f"{path} is a folder, not an env file.", hint=hint) from None
    except UnicodeDecodeError:
        raise OutputError(f"{path} is not UTF-8 text.", hint=hint) from None
    except OSError as error:
        raise OutputError(f"Cannot use {path} as env file: {error.strerror}.", hint=hint) from None
