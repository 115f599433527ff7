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
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

from fanbench._util import files
from fanbench.errors import OutputError, UsageError

if TYPE_CHECKING:
    from dotenv.parser import Binding

__all__ = ["ensure_writable", "exposure", "read_env_file", "upsert", "write_env_file"]

_BOM = "\ufeff"
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*")
_BINDING = re.compile(
    r"(?P<empty_lines>(?:[^\S\r\n]*(?:\r\n|\n|\r))*)\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=#\s]+)"
    r"(?:[^\S\r\n]*=(?P<space>[^\S\r\n]*)(?P<quoted>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")?)?",
    re.DOTALL,
)
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
    matches = [_match(binding) for binding in _bindings(text) if binding.key == key]
    present = (matches[0]["quoted"] or "")[:1] if matches else ""
    for quote in dict.fromkeys([present, "", "'", '"']):
        written = value
        if quote:
            written = quote + value.replace("\\", "\\\\").replace(quote, f"\\{quote}") + quote
        candidate = _replace_value(text, key, written)
        if _raw_values(candidate) == wanted and _values(candidate).get(key) == value:
            return candidate
    raise UsageError(
        f"The value of {key} cannot be written to an env file.",
        hint="Remove ${NAME} from the value, or close the open quote in a line of the file.",
    )


def _replace_value(text: str, key: str, written: str) -> str:
    """Return the text with another value of the key. Empty lines before it and a comment behind it stay."""
    parts, done = [], False
    for binding in _bindings(text):
        part = binding.original.string
        if binding.key != key:
            parts.append(part)
            continue
        match = _match(binding)
        if done:
            parts.append(match["empty_lines"])
            continue
        ends = _END_OF_LINE.findall(part)
        end = ends[-1] if ends and part.endswith(ends[-1]) else "\n"
        if match["space"] is None:  # a key alone, without "="
            parts.append(f"{match['empty_lines']}{key}={written}{end}")
        else:
            behind = match.end() if match["quoted"] else match.start("space")
            comment = _COMMENT.search(part.rstrip("\r\n"), behind)
            parts.append(f"{part[: match.end('space')]}{written}{comment[0] if comment else ''}{end}")
        done = True
    if not done:
        ends = _END_OF_LINE.findall(text)
        end = ends[0] if ends else "\n"
        open_line = text and not text.endswith(("\r", "\n"))
        parts.append(f"{end if open_line else ''}{key}={written}{end}")
    return "".join(parts)


def _bindings(text: str) -> list[Binding]:
    """Cut the text into bindings of keys, each with the text around it, and other stretches, whose key is None."""
    from dotenv.parser import parse_stream

    return list(parse_stream(StringIO(text, newline="")))


def _match(binding: Binding) -> re.Match[str]:
    match = _BINDING.match(binding.original.string)
    assert match is not None
    return match


def _raw_values(text: str) -> dict[str, str | None]:
    """The values as they are written, without expanding `${NAME}`."""
    return {binding.key: binding.value for binding in _bindings(text) if binding.key is not None}


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


def exposure(path: Path) -> str | None:
    """A sentence if other users of this machine may read or change the file; None if not, or if it does not exist."""
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None
    if os.name == "nt" or not mode & 0o077:
        return None
    deed = "change" if mode & 0o022 else "read"
    return f"Other users of this machine may {deed} {path}, which has credentials (mode {mode:04o})."


def _text_of(path: Path) -> str:
    with _env_file_errors(path):
        if path.exists() and not (path.is_file() or path.is_dir()):
            # Reading a pipe or a device may never end.
            raise OutputError(f"{path} is not a regular file.", hint=_HINT)
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
