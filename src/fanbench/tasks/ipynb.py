"""Read a notebook file: what a push uploads of it, and its code as one Python source.

The upload has all cells with their attachments and metadata, but nothing that running or displaying the notebook
changes: no outputs, execution counts, random ids, or timestamps. Otherwise each execution would look like a change
of the task, and a sweep would run it again.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec

from fanbench.errors import TaskFileError
from fanbench.tasks.notebook import KERNEL
from fanbench.tasks.source import MAX_BYTES, parse, read_text
from fanbench.tasks.task_file import Cells

__all__ = ["Notebook", "code_digest", "read_notebook"]

#: Most of a large notebook is outputs. What is left without them must be below MAX_BYTES.
MAX_BYTES_WITH_OUTPUTS = 256 * 1024 * 1024

# What Jupyter, Colab, VS Code, nbclient and papermill write when they run or display a notebook, and jupytext, with
# its version, when it pairs the notebook with a Python file.
_VOLATILE = frozenset({"jupytext", "language_info", "papermill", "signature", "widgets"})
_VOLATILE_IN_CELLS = frozenset(
    {
        "ExecuteTime",
        "autoscroll",
        "colab",
        "collapsed",
        "execution",
        "executionInfo",
        "outputId",
        "papermill",
        "scrolled",
        "trusted",
    }
)
# The prompts of Python and of IPython: that of the first line, and those of any line.
_PROMPTS = (
    (re.compile(r">>>(?: |$)"), re.compile(r"(?:>>>|\.\.\.)(?: |$)")),
    (re.compile(r"In \[\d+\]: "), re.compile(r"In \[\d+\]: |\s*\.{3,}: ?")),
)
# The tag with which nbclient, and so Kaggle, does not run a cell.
SKIPPED = "skip-execution"


class _Cell(msgspec.Struct):
    cell_type: Literal["code", "markdown", "raw"]
    source: str | list[str]
    metadata: dict[str, Any] = {}
    attachments: dict[str, Any] = {}

    @property
    def text(self) -> str:
        joined = self.source if isinstance(self.source, str) else "".join(self.source)
        return joined.replace("\r\n", "\n").replace("\r", "\n")

    @property
    def runs(self) -> bool:
        tags = self.metadata.get("tags")
        return self.cell_type == "code" and not (isinstance(tags, list) and SKIPPED in tags)


class _File(msgspec.Struct):
    cells: list[_Cell]
    metadata: dict[str, Any] = {}

    @property
    def language(self) -> str:
        """The language of the notebook's kernel; Python if it names none."""
        parts = (("kernelspec", "language"), ("language_info", "name"))
        tables = [(self.metadata.get(table), key) for table, key in parts]
        named = [table.get(key) for table, key in tables if isinstance(table, dict)]
        return next((str(name) for name in named if name), "python")


@dataclass(frozen=True, slots=True)
class Notebook:
    """`text` is the `.ipynb` JSON to upload. `source` has the code that runs, each cell after a line `# %%`."""

    text: str
    source: str
    tree: ast.Module
    cells: Cells


def read_notebook(path: Path) -> Notebook:
    """Read the notebook at `path` without executing it. The same cells always give the same text.

    Raises:
        TaskFileError: As from `read_text`, or the file is not a notebook of format 4 in Python, is too large
            without its outputs, or has no code, or code that is not Python.
    """
    file = str(path)
    notebook = _load(read_text(path, MAX_BYTES_WITH_OUTPUTS), file)
    if not any(cell.runs and cell.text.strip() for cell in notebook.cells):
        raise TaskFileError(
            "The notebook has no code to run.", file=file, hint="Write a task in a code cell."
        )
    lines: list[str] = []
    body: list[ast.stmt] = []
    starts: list[int] = []
    numbers: list[int] = []
    for number, cell in enumerate(notebook.cells, 1):
        if cell.runs:
            lines.append("# %%")
            starts.append(len(lines) + 1)
            numbers.append(number)
            # Cell by cell, as IPython does it: what begins in one cell cannot end in another.
            tree = parse(_clean(cell.text), file, cell=number)
            body += ast.increment_lineno(tree, len(lines)).body
            lines += cell.text.split("\n")
    source = "\n".join(lines) + "\n"
    cells = Cells(tuple(starts), tuple(numbers))
    return Notebook(_write(notebook, file), source, ast.Module(body, type_ignores=[]), cells)


def code_digest(text: str) -> str:
    """Return a digest of what decides how a notebook (`.ipynb` JSON) runs: the kinds, texts and tags of its cells.

    All else may be the addition of a server that has stored the notebook, or of a program that ran it.

    Raises:
        TaskFileError: The text is not a notebook of format 4 in Python.
    """
    cells = [(cell.cell_type, cell.text.rstrip(), cell.runs) for cell in _load(text, "").cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def _load(text: str, file: str) -> _File:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        # Without a message it is no JSONDecodeError: Python reads no integer of thousands of digits.
        reason = getattr(error, "msg", "a number in it is too long")
        if isinstance(error, RecursionError):
            reason = "it is nested too deeply"
        raise TaskFileError(
            f"Not a notebook: the JSON cannot be read ({reason}).",
            file=file,
            line=getattr(error, "lineno", None),
            column=getattr(error, "colno", None),
            hint="A notebook is JSON. If this is Python code, rename the file to end in .py.",
        ) from None
    version = raw.get("nbformat") if isinstance(raw, dict) else None
    if isinstance(version, int) and version != 4:
        raise TaskFileError(
            f"The notebook is in format {version}; Kaggle takes format 4.",
            file=file,
            hint="Open it in Jupyter and save it, which writes format 4.",
        )
    try:
        notebook = msgspec.convert(raw, _File)
    except msgspec.ValidationError as error:
        raise TaskFileError(
            f"Not a notebook: {error}.", file=file, hint="Save it as a notebook in Jupyter."
        ) from None
    except UnicodeEncodeError:  # half of a surrogate pair
        raise TaskFileError("The notebook has text that is not Unicode.", file=file) from None
    if notebook.language.lower() not in ("python", "python3", "ipython"):
        raise TaskFileError(
            f"The notebook is in {notebook.language}; tasks are in Python.",
            file=file,
            hint="Choose a Python kernel in Jupyter, and save the notebook.",
        )
    return notebook


def _clean(code: str) -> str:
    """Remove what IPython removes from a cell: the indentation of its first line, and prompts."""
    lines = code.split("\n")
    begin = next((number for number, line in enumerate(lines) if line.strip()), 0)
    indent = lines[begin][: len(lines[begin]) - len(lines[begin].lstrip())]
    lines = [line.removeprefix(indent) for line in lines]
    for first, prompt in _PROMPTS:
        if first.match(lines[begin]):
            lines = [prompt.sub("", line, count=1) if prompt.match(line) else line for line in lines]
    return "\n".join(lines)


def _write(notebook: _File, file: str) -> str:
    cells = []
    for number, cell in enumerate(notebook.cells):
        metadata = {key: value for key, value in cell.metadata.items() if key not in _VOLATILE_IN_CELLS}
        written: dict[str, Any] = {
            "cell_type": cell.cell_type,
            "id": f"cell-{number}",
            "metadata": metadata,
            "source": cell.text.splitlines(keepends=True),
        }
        if cell.cell_type == "code":
            written |= {"execution_count": None, "outputs": []}
        elif cell.attachments:
            written["attachments"] = cell.attachments
        cells.append(written)
    metadata = {key: value for key, value in notebook.metadata.items() if key not in _VOLATILE}
    whole = {
        "cells": cells,
        # The author's own kernel, such as "my-venv", does not exist on Kaggle.
        "metadata": metadata | {"kernelspec": KERNEL},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    # As jupytext writes it, so that a Python file and the notebook made of it are the same content.
    text = json.dumps(whole, indent=1, ensure_ascii=False, sort_keys=True)
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise TaskFileError("The notebook has text that is not Unicode.", file=file) from None
    if size > MAX_BYTES:
        raise TaskFileError(
            f"The notebook is larger than {MAX_BYTES // 1024 // 1024} MB without its outputs.",
            file=file,
            hint="Remove attached images, or put the data into a Kaggle dataset and attach it with -d.",
        )
    return text
