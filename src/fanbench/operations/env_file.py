"""Setting values in a `.env` file in place: comments, other keys, their order and quoting stay.

python-dotenv's own parser decides what belongs to which key, and parses the new text before it is written: what
cannot be read back is never written.
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
_HINT = "Name another file with --env-file."


# --- The text -----------------------------------------------------------------------------------------------


def upsert(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with each of `values` set, at the first binding of its key or at the end.

    Further bindings of the key are removed.

    Raises:
        UsageError: A key is not a name, or a value cannot be written so that it is read back.
    """
    body = text.removeprefix(_BOM)
    for key, value in values.items():
        body = _set(body, key, value)
    return f"{_BOM}{body}" if text.startswith(_BOM) else body


def _set(text: str, key: str, value: str) -> str:
    if not _KEY.fullmatch(key):
        raise UsageError(f"{key!r} cannot be a key of an env file.")
    wanted = {**_raw_values(text), key: value}
    # The present kind of quotes is tried first.
    present = next((part.quote for part in _parts(text) if part.key == key), "")
    for quote in dict.fromkeys([present, "", "'", '"']):
        written = value
        if quote:
            written = quote + value.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote
        candidate = _replaced(text, key, written)
        if _raw_values(candidate) == wanted and _values(candidate).get(key) == value:
            return candidate
    raise UsageError(
        f"The value of {key} cannot be written to an env file.",
        hint="Remove ${NAME} from the value, or close the open quote in a line of the file.",
    )


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
    if done:
        return joined
    ends = _END_OF_LINE.findall(joined)
    end = ends[0] if ends else "\n"
    open_line = joined and not joined.endswith(("\r", "\n"))
    return f"{joined}{end if open_line else ''}{key}={written}{end}"


@dataclass(frozen=True, slots=True)
class _Part:
    """A stretch of the file: a binding of `key` with the text around it, or something else (`key` is None)."""

    key: str | None
    text: str

    @property
    def quote(self) -> str:
        match = _BINDING.match(self.text)
        first = self.text[match.end() : match.end() + 1] if match else ""
        return first if first in ("'", '"') else ""

    @property
    def empty_lines(self) -> str:
        match = _EMPTY_LINES.match(self.text)
        return match[0] if match else ""

    def with_value(self, key: str, written: str) -> str:
        """Return the text with another value. A comment behind the value stays."""
        ends = _END_OF_LINE.findall(self.text)
        end = ends[-1] if ends and self.text.endswith(ends[-1]) else "\n"
        match = _BINDING.match(self.text)
        if match is None:  # a key alone, without "="
            return f"{self.empty_lines}{key}={written}{end}"
        text, start = self.text.rstrip("\r\n"), match.start("space")
        if self.quote:
            start = match.end() + 1
            while start < len(text) and text[start] != self.quote:
                start += 2 if text[start] == "\\" else 1
            start += 1
        comment = _COMMENT.search(text[start:])
        return f"{match[0]}{written}{comment[0] if comment else ''}{end}"


def _parts(text: str) -> list[_Part]:
    from dotenv.parser import parse_stream

    return [
        _Part(binding.key, binding.original.string) for binding in parse_stream(StringIO(text, newline=""))
    ]


def _raw_values(text: str) -> dict[str, str | None]:
    """The values as they are written, without expanding `${NAME}`."""
    from dotenv.parser import parse_stream

    bindings = parse_stream(StringIO(text, newline=""))
    return {binding.key: binding.value for binding in bindings if binding.key is not None}


def _values(text: str) -> dict[str, str | None]:
    from dotenv import dotenv_values

    return dotenv_values(stream=StringIO(text, newline=""))


# --- The file -----------------------------------------------------------------------------------------------


def read_env_file(path: Path) -> dict[str, str]:
    """Return the values in the file; none if it does not exist.

    Raises:
        OutputError: The file exists, but cannot be read as an env file.
    """
    values = _values(_text_of(path).removeprefix(_BOM))
    return {key: value for key, value in values.items() if value is not None}


def ensure_writable(path: Path) -> None:
    """Check that the file can be replaced. Do so before requesting a new token, which may revoke the old one.

    Raises:
        OutputError: `write_env_file` would not be able to replace the file.
    """
    target = Path(os.path.realpath(path))
    _text_of(path)
    with _env_file_errors(path):
        _mode(path, target)
        tempfile.TemporaryFile(dir=target.parent).close()


def write_env_file(path: Path, values: Mapping[str, str]) -> None:
    """Set `values` in the file, which is replaced in one step. A new file is readable by its owner only.

    A symbolic link is followed: the file that it points to is replaced, and the link stays.

    Raises:
        OutputError: The file is a folder, read-only or not text, or its folder cannot be written to.
        UsageError: A value cannot be written so that it is read back.
    """
    target = Path(os.path.realpath(path))
    text = upsert(_text_of(path), values)
    with _env_file_errors(path):
        files.write(target, text, mode=_mode(path, target))


def _text_of(path: Path) -> str:
    with _env_file_errors(path):
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
        # Replacing a file does not need the permission to write it, so this is checked here.
        raise OutputError(
            f"{path} is read-only.", hint="Make it writable, or name another file with --env-file."
        )
    return mode


@contextmanager
def _env_file_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except IsADirectoryError:
        raise OutputError(f"{path} is a folder, not an env file.", hint=_HINT) from None
    except UnicodeDecodeError:
        raise OutputError(f"{path} is not UTF-8 text.", hint=_HINT) from None
    except OSError as error:
        raise OutputError(f"Cannot use {path} as env file: {error.strerror}.", hint=_HINT) from None
