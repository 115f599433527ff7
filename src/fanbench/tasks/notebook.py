"""A task file in percent format as the notebook that Kaggle runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fanbench.tasks.source import Scanner

__all__ = ["to_notebook"]

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

# jupytext would read its magics back from comments itself, but it takes `# cat pictures` and `# why?` for
# magics as well, and a comment that becomes code breaks the cell. Only what is hardly prose counts here.
_FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}
_COMMENTED = re.compile(
    r"^(\s*)# ?((?:%%[A-Za-z]|%[A-Za-z_]\w|!{1,2}[A-Za-z./~$]|[A-Za-z_]\w*\s*=\s*[%!][A-Za-z]).*)$"
)


def to_notebook(source: str) -> str:
    """The `.ipynb` JSON of `source`. The same source gives the same text.

    Magics that are commented out the way jupytext does it (`# !pip install x`) come back to life.
    """
    with _without_grammar():
        import jupytext

    notebook = jupytext.reads(source, fmt=_FORMAT)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        # Random ids would make every push of one file look like another one.
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.source = _revive_magics(cell.source)
    return str(jupytext.writes(notebook, fmt="ipynb"))


@contextmanager
def _without_grammar() -> Iterator[None]:
    """Import as if this package were not there: it takes a second, three quarters of jupytext's import.

    jsonschema takes it where it finds it, for the format of web addresses, which no notebook is checked for.
    """
    grammar = "rfc3987_syntax"
    if grammar in sys.modules:
        yield
        return
    sys.modules[grammar] = None  # type: ignore[assignment]  # how Python is told that there is none
    try:
        yield
    finally:
        del sys.modules[grammar]


def _revive_magics(source: str) -> str:
    scanner, lines = Scanner(), []
    for line in source.split("\n"):
        magic = _COMMENTED.match(line) if scanner.at_start else None
        lines.append(magic[1] + magic[2] if magic else line)
        scanner.feed(line)
    return "\n".join(lines)
