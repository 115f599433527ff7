"""The text of a task file: read, freed of IPython's magics, parsed. Nothing here runs it."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

from fanbench.errors import TaskFileError

__all__ = [
    "CELL_MARKER",
    "MAX_BYTES",
    "Scanner",
    "all_nodes",
    "blank_magics",
    "char_column",
    "parse",
    "parse_python",
    "read_source",
]

#: Kaggle's limit for a notebook's source is of this order; a task file above it has data pasted in.
MAX_BYTES = 5 * 1024 * 1024

#: `# %%`, `#%% title`, `# %% [markdown]`, and the older spellings that jupytext takes too.
CELL_MARKER = re.compile(r"^\s*#\s*(?:%%%*(?:\s.*)?|<codecell>\s*|In\[[0-9 ]*\]:?\s*)$")

# Cell magics whose body is Python that runs in the notebook itself.
_PYTHON_CELLS = frozenset({"capture", "debug", "memit", "mprun", "prun", "time", "timeit"})
_CELL_MAGIC = re.compile(r"^\s*%%(\w+)")
# Line magics that run the Python behind them; their options are a dash and perhaps a number.
_TIMED = re.compile(r"^(\s*)(%(?:time|timeit|prun|memit)(?:\s+-\w+(?:\s+\d+)?)*\s+)(\S.*)$")
_ASSIGNED = re.compile(r"^(\s*[A-Za-z_][\w.\[\], ]*?\s*=\s*)(?:%(?!%)|!)\s*[A-Za-z_./~$].*$")
_HELP = re.compile(r"^\s*%{0,2}[A-Za-z_][\w.*]*\?{1,2}\s*$")
_LEAVES = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Constant)
_PARSING = threading.Lock()
_TOKEN = re.compile(r"'''|\"\"\"|['\"#()\[\]{}]|\\.?")


def read_source(path: Path) -> str:
    """The text of `path`, with `\\n` between lines.

    Raises:
        TaskFileError: missing, a directory, not `.py`, over `MAX_BYTES`, not UTF-8, or empty.
    """
    file = str(path)
    raw = _read_bytes(path, file)
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TaskFileError(
            "the file is not UTF-8 text.", file=file, line=line, hint="Save it as UTF-8."
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise TaskFileError(
            "the file is empty.", file=file, hint="`fanbench init` writes an example_task.py."
        )
    return text


def _read_bytes(path: Path, file: str) -> bytes:
    try:
        if path.is_dir():
            raise TaskFileError("this is a directory.", file=file, hint="Name one .py file in it.")
        if path.suffix != ".py":
            raise TaskFileError("a task file must end in .py.", file=file, hint=_suffix_hint(path))
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise TaskFileError("there is no such file.", file=file) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TaskFileError(f"the file cannot be read: {reason}.", file=file) from None
    if len(raw) > MAX_BYTES:
        raise TaskFileError(
            f"the file is larger than {MAX_BYTES // 1024 // 1024} MB.",
            file=file,
            hint="Put the data into a Kaggle dataset and attach it with -d OWNER/DATASET.",
        )
    return raw


def _suffix_hint(path: Path) -> str | None:
    if path.suffix == ".ipynb":
        return f"Convert it: jupytext --to py:percent {path.name}"
    return None


def parse(source: str, file: str) -> ast.Module:
    """The syntax tree of `source`, whose magics do not matter; lines and columns are those of `source`.

    Raises:
        TaskFileError: not Python, with the place.
    """
    try:
        # What parses as it is has no magics: a `%` inside a long expression or text must stay.
        return parse_python(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        pass
    try:
        return parse_python(blank_magics(source))
    except SyntaxError as error:
        raise _syntax_error(error, source, file) from None
    except (RecursionError, MemoryError):
        raise TaskFileError("the code is nested too deeply to be read.", file=file) from None
    except ValueError as error:
        raise TaskFileError(f"this is not Python: {error}.", file=file) from None


def parse_python(source: str) -> ast.Module:
    """`ast.parse`, one at a time and without warnings.

    Before Python 3.11.8 and 3.12.2 two threads that parse at once may get a SystemError: they share
    the count of the recursion (python/cpython#106905). And the filters of warnings are the process's.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: as `ast.parse`.
    """
    with _PARSING, warnings.catch_warnings():
        # "\d" in a pattern is the author's affair, and a warning would be printed for every check.
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _syntax_error(error: SyntaxError, source: str, file: str) -> TaskFileError:
    lines = source.split("\n")
    line = min(error.lineno, len(lines)) if error.lineno else None
    text = lines[line - 1].strip() if line else ""
    return TaskFileError(
        f"not valid Python: {error.msg}.",
        file=file,
        line=line,
        column=max(error.offset or 1, 1) if line else None,
        hint=_syntax_hint(text),
    )


def _syntax_hint(text: str) -> str | None:
    if re.match(r"(pip|conda|apt|apt-get)\s+install\b", text):
        return f"Write `%{text}` (or `!{text}`) to run a command."
    if text.startswith("```"):
        return "Take the Markdown fence out: a task file is Python alone."
    return f"The line is: {text[:120]}" if text else None


def all_nodes(tree: ast.Module) -> list[ast.AST]:
    """The nodes of `tree` that say something by themselves, top down: walked once, as files may be large."""
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        nodes.extend(part for part in ast.iter_child_nodes(node) if not isinstance(part, _LEAVES))
    return nodes


def char_column(source_lines: list[str], line: int, utf8_offset: int) -> int:
    """The column of a syntax tree's byte offset, in characters, from 1."""
    text = source_lines[line - 1] if line <= len(source_lines) else ""
    return len(text.encode()[:utf8_offset].decode(errors="replace")) + 1


class Scanner:
    """Follows text line by line and knows whether the next line begins a statement.

    A tokenizer would need valid Python; this one also gets over the shell and the half-written.
    """

    def __init__(self) -> None:
        self._quote = ""
        self._depth = 0
        self._continued = False

    @property
    def quoted(self) -> bool:
        return bool(self._quote)

    @property
    def at_start(self) -> bool:
        return not (self._quote or self._depth or self._continued)

    def feed(self, line: str) -> None:
        self._continued = False
        for token in _TOKEN.finditer(line):
            if token[0] == "#" and not self._quote:
                break
            self._take(token[0])
        if len(self._quote) == 1 and not line.endswith("\\"):
            self._quote = ""

    def _take(self, mark: str) -> None:
        if self._quote:
            # Inside '…' a ''' is three quotes, of which the first ends it; what follows is empty text.
            if mark == self._quote or (len(self._quote) == 1 and mark == self._quote * 3):
                self._quote = ""
        elif mark[0] in "'\"":
            self._quote = mark
        elif mark in "([{":
            self._depth += 1
        elif mark in ")]}":
            self._depth = max(0, self._depth - 1)
        else:
            self._continued = mark == "\\"


def blank_magics(source: str) -> str:
    """`source` with IPython's own syntax replaced by Python that does nothing, line for line.

    `%line`, `!shell` and `help?` become `pass` (they may be all that an `if` has), `x = !ls` keeps its `x`,
    `%time statement` its statement, the body of `%%bash` goes up to the next cell marker. A cell magic that
    runs Python (`%%time`, `%%capture`) keeps its body.
    """
    return "\n".join(_blanked(source.split("\n")))


def _blanked(lines: list[str]) -> Iterator[str]:
    scanner, foreign, continued = Scanner(), False, False
    for line in lines:
        if not scanner.quoted and CELL_MARKER.match(line):
            scanner, foreign, continued = Scanner(), False, False
            yield line
            continue
        if foreign or continued:
            continued = continued and line.endswith("\\")
            yield ""
            continue
        plain = _without_magic(line) if scanner.at_start else None
        if plain is None:
            scanner.feed(line)
            yield line
            continue
        cell = _CELL_MAGIC.match(line)
        foreign = cell is not None and cell[1] not in _PYTHON_CELLS
        continued = line.endswith("\\")
        yield "" if cell else plain


def _without_magic(line: str) -> str | None:
    """The harmless Python for a line that is a magic, else `None`. Columns of what is kept do not move."""
    text = line.lstrip()
    if text.startswith(("%", "!", "?")):
        return _timed_statement(line) or line[: len(line) - len(text)] + "pass"
    if _HELP.match(line):
        return line[: len(line) - len(text)] + "pass"
    if assigned := _ASSIGNED.match(line):
        return assigned[1] + "None"
    return None


def _timed_statement(line: str) -> str | None:
    if not (timed := _TIMED.match(line)):
        return None
    try:
        parse_python(timed[3])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return timed[1] + "None;".ljust(len(timed[2])) + timed[3]
