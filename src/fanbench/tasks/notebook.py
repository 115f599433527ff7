"""The notebook that Kaggle runs of a task file; one in percent format is converted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fanbench.tasks.source import restore_magics
from fanbench.tasks.task_file import TaskFile

__all__ = ["KERNEL", "notebook_of", "to_notebook"]

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}

# jupytext would restore too many magics: see `restore_magics`.
_FORMAT = {"extension": ".py", "format_name": "percent", "comment_magics": False}

# What jupytext imports if it is installed, and notebooks do not need. jsonschema checks the format of web addresses
# with the first one, which takes a second to import. The others are for jupytext's contents manager in a Jupyter
# server: they take another 0.2 s and 20 MB.
_UNUSED = ("rfc3987_syntax", "jupyter_server", "tornado")


def notebook_of(file: TaskFile) -> str:
    """Return the `.ipynb` JSON that a push of `file` uploads."""
    return to_notebook(file.source) if file.notebook is None else file.notebook


def to_notebook(source: str) -> str:
    """Return the `.ipynb` JSON of `source`. The same source always gives the same text.

    Magics that are commented out in jupytext's way (`# !pip install x`) become active again.
    """
    with _without_unused():
        import jupytext

    notebook = jupytext.reads(source, fmt=_FORMAT)
    notebook.metadata["kernelspec"] = dict(KERNEL)
    notebook.metadata.pop("jupytext", None)
    for number, cell in enumerate(notebook.cells):
        # With random ids, pushing an unchanged file would look like a change.
        cell["id"] = f"cell-{number}"
        if cell.cell_type == "code":
            cell.source = restore_magics(cell.source)
    return str(jupytext.writes(notebook, fmt="ipynb"))


@contextmanager
def _without_unused() -> Iterator[None]:
    """Import as if the packages in `_UNUSED` were not installed, unless they are imported already."""
    hidden = [name for name in _UNUSED if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]  # Makes Python raise ImportError.
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
