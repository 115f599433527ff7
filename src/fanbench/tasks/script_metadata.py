"""Read the inline metadata of a task file: the packages and the Python that it needs, as defined by PEP 723.

    # /// script
    # requires-python = ">=3.11"
    # dependencies = ["rapidfuzz>=3"]
    # ///

The local server and `check --run` honour it. Kaggle does not: there, a notebook has the packages of Kaggle's image.
"""

from __future__ import annotations

import platform
import re
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, TypeVar

from fanbench.errors import TaskFileError

__all__ = ["ScriptMetadata", "read_block", "read_script_metadata", "refuse_unread_block"]

T = TypeVar("T")

_BEGIN = re.compile(r"# /// ([a-zA-Z0-9-]+)")
_END = "# ///"


@dataclass(frozen=True, slots=True)
class ScriptMetadata:
    """What the `script` block of a file asks for.

    Attributes:
        dependencies: Requirements in the form of PEP 508, normalized, in the order of the file.
        requires_python: Version specifiers such as `>=3.11`; empty if every Python will do.
        line: The line in which the block begins, counted from 1.
    """

    dependencies: tuple[str, ...]
    requires_python: str
    line: int

    def accepts_python(self, version: str) -> bool:
        """Whether a Python of this `version`, such as 3.11.7, is new enough and not too new."""
        from packaging.specifiers import SpecifierSet

        return SpecifierSet(self.requires_python).contains(version, prereleases=True)

    def require_this_python(self, file: str) -> None:
        """Raise TaskFileError unless the Python that executes this accepts the file."""
        running = platform.python_version()
        if not self.accepts_python(running):
            raise TaskFileError(
                f"The file requires Python {self.requires_python}, and this is Python {running}.",
                file=file,
                line=self.line,
                hint=f"Install fanbench with a Python {self.requires_python}, or change requires-python.",
            )


def read_script_metadata(source: str, file: str) -> ScriptMetadata | None:
    """Return the metadata in `source`, or None if it has none. `file` is named in errors.

    Raises:
        TaskFileError: There are two `script` blocks, or the block is not TOML, or one of its two fields is invalid.
    """
    hint = 'Write `# dependencies = ["name>=1"]` between `# /// script` and `# ///`.'
    found = read_block(source, "script", file, _read_fields, hint=hint)
    return None if found is None else ScriptMetadata(*found[0], found[1])


def read_block(
    source: str, kind: str, file: str, read: Callable[[dict[str, Any]], T], *, hint: str
) -> tuple[T, int] | None:
    """Return what `read` makes of the block of a kind, whose table it gets, and the line in which the block begins.

    Returns None if there is no such block. `read` raises ValueError for what is not valid.

    Raises:
        TaskFileError: There are two such blocks, or the block is not TOML, or not valid.
    """
    blocks = [(line, content) for name, line, content in _blocks(source) if name == kind]
    if not blocks:
        return None
    line, content = blocks[-1]
    try:
        if len(blocks) > 1:
            raise ValueError("there is another one above it")
        return read(tomllib.loads("\n".join(text[2:] for text in content))), line
    except (ValueError, RecursionError) as error:
        raise _invalid(kind, str(error), file, line, hint) from None


def refuse_unread_block(source: str, kind: str, file: str, *, hint: str) -> None:
    """Raise TaskFileError if a block of a kind begins but is only a comment, as PEP 723 has it: it has no end, say."""
    lines = source.split("\n")
    begin = re.compile(rf"#[ \t]*///[ \t]*{re.escape(kind)}\s*")
    read = {line for _, line, _ in _blocks(source)}
    for number, line in enumerate(lines, 1):
        if number not in read and begin.fullmatch(line):
            comments = list(takewhile(lambda text: text.startswith("#"), lines[number:]))
            raise _invalid(kind, _why_unread(kind, line, comments), file, number, hint)


def _why_unread(kind: str, begin: str, comments: Sequence[str]) -> str:
    """Why a block with this first line and these comments after it is not read."""
    if begin != f"# /// {kind}":
        return f"its first line is {begin!r}"
    if unspaced := next((text for text in comments if text != "#" and not text.startswith("# ")), None):
        return f"{unspaced!r} has no space after the #"
    if _END not in comments:
        return f"it has no `{_END}` at its end"
    return "it is empty" if comments[0] == _END else "no empty line separates it from the block above"


def _invalid(kind: str, reason: str, file: str, line: int, hint: str) -> TaskFileError:
    return TaskFileError(f"The `# /// {kind}` block is not valid: {reason}.", file=file, line=line, hint=hint)


def _blocks(source: str) -> Iterator[tuple[str, int, list[str]]]:
    """The type, first line (from 1) and content of each block.

    They are those that the regular expression of PEP 723 finds, but in linear time: a block goes on as long as lines
    are comments, and its end is the last `# ///` among them.
    """
    lines = source.split("\n")
    number = 0
    while number < len(lines):
        begin = _BEGIN.fullmatch(lines[number])
        number += 1
        if begin is not None:
            first, end = number, None
            while number < len(lines) and (lines[number] == "#" or lines[number].startswith("# ")):
                if lines[number] == _END and number > first:
                    end = number
                number += 1
            if end is not None:
                yield begin[1], first, lines[first:end]
                number = end + 1


def _read_fields(table: dict[str, Any]) -> tuple[tuple[str, ...], str]:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

    dependencies, requires_python = table.get("dependencies", []), table.get("requires-python", "")
    if not isinstance(dependencies, list) or not all(isinstance(each, str) for each in dependencies):
        raise ValueError("dependencies is not a list of strings")
    if not isinstance(requires_python, str):
        raise ValueError("requires-python is not a string")
    # InvalidRequirement and InvalidSpecifier are ValueErrors. The former shows the place in lines of its own.
    try:
        requirements = tuple(str(Requirement(each)) for each in dependencies)
    except ValueError as error:
        raise ValueError(" ".join(str(error).split("\n")[0].split())) from None
    return requirements, str(SpecifierSet(requires_python))
