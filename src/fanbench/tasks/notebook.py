"""Convert a task file in percent format to the notebook that Kaggle runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fanbench.tasks.source import Scanner

__all__ = ["to_notebook"]

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

# jupytext can restore commented magics itself, but it also takes `# cat pictures` and `# why?` for magics, and a
# comment that becomes code breaks its cell. Only what is hardly prose is restored here.
_FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}
_COMMENTED = re.compile(
    r"^(\s*)# ?((?:%%[A-Za-z]|%[A-Za-z_]\w|!{1,2}[A-Za-z./~$]|[A-Za-z_]\w*\s*=\s*[%!][A-Za-z]).*)$"
)


def to_notebook(source: str) -> str:
    """Return the `.ipynb` JSON of `source`. The same source always gives the same text.

    Magics that are commented out in jupytext's way (`# !pip install x`) become active again.
    """
    with _without_grammar():
        import jupytext

    notebook = jupytext.reads(source, fmt=_FORMAT)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        # With random ids, pushing an unchanged file would look like a change.
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            scanner, lines = Scanner(), []
            for line in cell.source.split("\n"):
                magic = _COMMENTED.match(line) if scanner.at_start else None
                lines.append(magic[1] + magic[2] if magic else line)
                scanner.feed(line)
            cell.source = "\n".join(lines)
    return str(jupytext.writes(notebook, fmt="ipynb"))


@contextmanager
def _without_grammar() -> Iterator[None]:
    """Import as if rfc3987_syntax were not installed: it makes up three quarters of jupytext's import, a second.

    jsonschema uses it, if present, to check the format of web addresses, which notebooks do not need.
    """
    grammar = "rfc3987_syntax"
    if grammar in sys.modules:
        yield
        return
    sys.modules[grammar] = None  # type: ignore[assignment]  # Makes Python raise ImportError.
    try:
        yield
    finally:
        del sys.modules[grammar]
