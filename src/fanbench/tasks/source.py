"""Read the text of a task file, replace IPython's magics, and parse it. Nothing here executes it."""

from __future__ import annotations

import ast
import re
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path

from fanbench._util.garbage import without_collection
from fanbench.errors import TaskFileError

__all__ = [
    "CELL_MARKER",
    "MAX_BYTES",
    "SUFFIXES",
    "Scanner",
    "all_nodes",
    "blank_magics",
    "char_column",
    "names_in",
    "parse",
    "parse_python",
    "read_text",
    "restore_magics",
    "walk",
]

#: Kaggle's limit for a notebook's source is about this large. A task file above it has data pasted in.
MAX_BYTES = 5 * 1024 * 1024

#: What the names of task files end in: Python, or a notebook.
SUFFIXES = (".py", ".ipynb")

#: `# %%`, `#%% title`, `# %% [markdown]`, and the older spellings that jupytext accepts.
CELL_MARKER = re.compile(r"^\s*#\s*(?:%%%*(?:\s.*)?|<codecell>\s*|In\[[0-9 ]*\]:?\s*)$")

# jupytext can restore commented magics itself, but it also takes `# cat pictures` and `# why?` for magics, and a
# comment that becomes code breaks its cell. Only what is hardly prose is restored here.
_COMMENTED = re.compile(
    r"^(\s*)# ?((?:%%[A-Za-z]|%[A-Za-z_]\w|!{1,2}[A-Za-z./~$]|[A-Za-z_]\w*\s*=\s*[%!][A-Za-z]).*)$"
)

# Cell magics whose body is Python that runs in the notebook itself.
_PYTHON_CELLS = frozenset({"capture", "debug", "memit", "mprun", "prun", "time", "timeit"})
_CELL_MAGIC = re.compile(r"^\s*%%(\w+)")
# Line magics that run the Python after them. An option is a dash with a letter and perhaps a number.
_TIMED = re.compile(r"^(\s*)(%(?:time|timeit|prun|memit)(?:\s+-\w+(?:\s+\d+)?)*\s+)(\S.*)$")
_ASSIGNED = re.compile(r"^(\s*[A-Za-z_][\w.\[\], ]*?\s*=\s*)(?:%(?!%)|!)\s*[A-Za-z_./~$].*$")
_HELP = re.compile(r"^\s*%{0,2}[A-Za-z_][\w.*]*\?{1,2}\s*$")
_LEAVES = (ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop, ast.Constant)
_PARSING = threading.Lock()
_TOKEN = re.compile(r"'''|\"\"\"|['\"#()\[\]{}]|\\.?")
_NOT_PYTHON = (SyntaxError, ValueError, RecursionError, MemoryError)


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Return the text of `path`, with `\\n` between lines.

    Raises:
        TaskFileError: The file is missing, a directory, not one of `SUFFIXES`, over `limit` bytes, not UTF-8, or
            empty.
    """
    file = str(path)
    try:
        if path.is_dir():
            raise TaskFileError("This is a directory.", file=file, hint="Name one task file in it.")
        if path.suffix not in SUFFIXES:
            raise TaskFileError("A task file must end in .py or .ipynb.", file=file)
        if path.exists() and not path.is_file():  # Reading a pipe may never end.
            raise TaskFileError("This is not a regular file.", file=file)
        with path.open("rb") as stream:
            raw = stream.read(limit + 1)
    except FileNotFoundError:
        raise TaskFileError("The file does not exist.", file=file) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise TaskFileError(f"The file cannot be read: {reason}.", file=file) from None
    if len(raw) > limit:
        raise TaskFileError(
            f"The file is larger than {limit // 1024 // 1024} MB.",
            file=file,
            hint="Put the data into a Kaggle dataset and attach it with -d OWNER/DATASET.",
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise TaskFileError(
            "The file is not UTF-8 text.", file=file, line=line, hint="Save it as UTF-8."
        ) from None
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise TaskFileError(
            "The file is empty.", file=file, hint="Run `fanbench init` to write an example_task.py."
        )
    return text


def parse(source: str, file: str, *, cell: int | None = None) -> ast.Module:
    """Return the syntax tree of `source`, ignoring magics. Lines and columns are those of `source`.

    With `cell`, the source is that of one cell of a notebook, in which cell markers and commented magics have no
    meaning.

    Raises:
        TaskFileError: The source is not valid Python. The error has the cell, line and column.
    """
    if cell is None:
        source = restore_magics(source)
    try:
        # If it parses as it is, it has no magics: a `%` inside a long expression or string must stay.
        return parse_python(source)
    except _NOT_PYTHON:
        pass
    try:
        return parse_python(blank_magics(source, markers=cell is None))
    except SyntaxError as error:
        lines = source.split("\n")
        line = min(error.lineno, len(lines)) if error.lineno else None
        text = lines[line - 1].strip() if line else ""
        hint = f"The line is: {text[:120]}" if text else None
        if re.match(r"(pip|conda|apt|apt-get)\s+install\b", text):
            hint = f"Write `%{text}` (or `!{text}`) to run a command."
        elif text.startswith("```"):
            hint = "Remove the Markdown fence: a task file contains only Python."
        column = max(error.offset or 1, 1) if line else None
        raise TaskFileError(
            f"Not valid Python: {error.msg}.", file=file, cell=cell, line=line, column=column, hint=hint
        ) from None
    except (RecursionError, MemoryError):
        raise TaskFileError("The code is nested too deeply to be read.", file=file, cell=cell) from None
    except ValueError as error:
        raise TaskFileError(f"Not valid Python: {error}.", file=file, cell=cell) from None


def parse_python(source: str) -> ast.Module:
    """Call `ast.parse` in one thread at a time and without warnings.

    Before Python 3.11.8 and 3.12.2, two threads that parse at once may get a SystemError, because they share the
    count of the recursion depth (python/cpython#106905). The warning filters belong to the process, too.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: As from `ast.parse`.
    """
    # A large syntax tree would be searched for garbage again and again.
    with _PARSING, without_collection(), warnings.catch_warnings():
        # Python would warn about "\d" in a string for each check. That is the author's decision.
        warnings.simplefilter("ignore")
        return ast.parse(source)


def all_nodes(tree: ast.Module) -> list[ast.AST]:
    """Return the nodes of `tree` from the top down, without operators and constants.

    The rules share this list, because walking a large tree is slow.
    """
    nodes: list[ast.AST] = [tree]
    for node in nodes:
        if not isinstance(node, ast.Name):
            nodes.extend(part for part in ast.iter_child_nodes(node) if not isinstance(part, _LEAVES))
    return nodes


def walk(node: ast.AST) -> Iterable[ast.AST]:
    """As `ast.walk`, but fast on the many names and constants of a file of data, which have no relevant parts."""
    return (node,) if isinstance(node, ast.Name | ast.Constant) else ast.walk(node)


def names_in(*nodes: ast.AST) -> set[str]:
    """Return the names and attributes in `nodes`."""
    parts = (part for node in nodes for part in walk(node))
    named = (part for part in parts if isinstance(part, ast.Name | ast.Attribute))
    return {part.id if isinstance(part, ast.Name) else part.attr for part in named}


def char_column(source_lines: list[str], line: int, utf8_offset: int) -> int:
    """Convert the byte offset of a syntax tree to a column in characters, counted from 1."""
    text = source_lines[line - 1] if line <= len(source_lines) else ""
    return len(text.encode()[:utf8_offset].decode(errors="replace")) + 1


class Scanner:
    """Reads text line by line and knows whether the next line begins a statement.

    A tokenizer would need valid Python; this also works on shell commands and unfinished code.
    """

    def __init__(self) -> None:
        self._quote = ""
        self._depth = 0
        self._continued = False

    @property
    def quoted(self) -> bool:
        """The next line is inside a string."""
        return bool(self._quote)

    @property
    def at_start(self) -> bool:
        """The next line begins a statement."""
        return not (self._quote or self._depth or self._continued)

    def feed(self, line: str) -> None:
        self._continued = False
        for token in _TOKEN.finditer(line):
            mark = token[0]
            if self._quote:
                # Inside '…', ''' is three quotes: the first ends the string, the others are an empty string.
                if mark == self._quote or (len(self._quote) == 1 and mark == self._quote * 3):
                    self._quote = ""
            elif mark == "#":
                break
            elif mark[0] in "'\"":
                self._quote = mark
            elif mark in "([{":
                self._depth += 1
            elif mark in ")]}":
                self._depth = max(0, self._depth - 1)
            else:
                self._continued = mark == "\\"
        if len(self._quote) == 1 and not line.endswith("\\"):
            self._quote = ""


def restore_magics(source: str) -> str:
    """Make magics active that are commented out as jupytext writes them (`# !pip install x`), line for line."""
    lines, scanner = [], Scanner()
    if not any("#" in line and _COMMENTED.match(line) for line in source.split("\n")):
        return source
    for line in source.split("\n"):
        if not scanner.quoted and CELL_MARKER.match(line):
            scanner = Scanner()
        magic = _COMMENTED.match(line) if scanner.at_start else None
        lines.append(magic[1] + magic[2] if magic else line)
        scanner.feed(line)
    return "\n".join(lines)


def blank_magics(source: str, *, markers: bool = True) -> str:
    """Replace IPython's own syntax in `source`, line for line, with Python that does nothing.

    `%line`, `!shell` and `help?` become `pass`, because they may be the whole body of an `if`. `x = !ls` keeps its
    `x`, and `%time statement` its statement. The body of `%%bash` is blanked up to the next cell marker; a cell
    magic that runs Python (`%%time`, `%%capture`) keeps its body. Without `markers`, the source is a single cell.
    """
    blanked: list[str] = []
    scanner, foreign, continued = Scanner(), False, False
    for line in source.split("\n"):
        if markers and not scanner.quoted and CELL_MARKER.match(line):
            scanner, foreign, continued = Scanner(), False, False
            blanked.append(line)
        elif foreign or continued:
            continued = continued and line.endswith("\\")
            blanked.append("")
        elif scanner.at_start and (replacement := _replace_magic(line)) is not None:
            cell = _CELL_MAGIC.match(line)
            foreign = cell is not None and cell[1] not in _PYTHON_CELLS
            continued = line.endswith("\\")
            blanked.append("" if cell else replacement)
        else:
            scanner.feed(line)
            blanked.append(line)
    return "\n".join(blanked)


def _replace_magic(line: str) -> str | None:
    """Harmless Python for a line that is a magic, otherwise `None`. What is kept stays in its column."""
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    if not text.startswith(("%", "!", "?")):
        if _HELP.match(line):
            return indent + "pass"
        assigned = _ASSIGNED.match(line)
        return assigned[1] + "None" if assigned else None
    if timed := _TIMED.match(line):
        try:
            parse_python(timed[3])
        except _NOT_PYTHON:
            pass
        else:
            return timed[1] + "None;".ljust(len(timed[2])) + timed[3]
    return indent + "pass"
