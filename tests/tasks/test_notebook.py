"""Converting task files to notebooks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from fanbench.tasks import to_notebook


def cells(source: str) -> list[tuple[str, str]]:
    notebook: dict[str, Any] = json.loads(to_notebook(source))
    return [(cell["cell_type"], "".join(cell["source"])) for cell in notebook["cells"]]


def test_cells_follow_the_markers() -> None:
    """Code and Markdown cells keep their order and their text."""
    source = "# %% [markdown]\n# # Title\n\n# %%\nx = 1\n\n\n# %% named\ny = 2\n"
    assert cells(source) == [("markdown", "# Title"), ("code", "x = 1"), ("code", "y = 2")]


def test_a_file_without_markers_is_one_cell() -> None:
    """Python without cell markers becomes a notebook with a single cell."""
    assert cells("import os\n\n\ndef f():\n    pass\n") == [("code", "import os\n\n\ndef f():\n    pass")]


@pytest.mark.parametrize(
    "magic", ["!pip install x", "%matplotlib inline", "files = !ls", "x?", "%%bash\necho hi", "%%time\nf()"]
)
def test_magics_are_kept(magic: str) -> None:
    """Magics are kept in the notebook, where they run."""
    assert cells(f"# %%\n{magic}\n") == [("code", magic)]


@pytest.mark.parametrize(
    ("line", "revived"),
    [
        ("# !pip install x", "!pip install x"),
        ("# %pip install x", "%pip install x"),
        ("# %%time", "%%time"),
        ("# files = !ls", "files = !ls"),
        ("    # !ls", "    !ls"),
    ],
)
def test_commented_magics_are_restored(line: str, revived: str) -> None:
    """Magics that jupytext has commented out become active again."""
    assert cells(f"# %%\nif x:\n    y\n{line}\nz\n") == [("code", f"if x:\n    y\n{revived}\nz")]


@pytest.mark.parametrize(
    "comment",
    ["# cat pictures are fun", "# ls the files", "# why?", "# %d items", "# % done", "# rm old ones"],
)
def test_comments_stay_comments(comment: str) -> None:
    """A comment that merely resembles a command stays a comment."""
    assert cells(f"# %%\nx = 1\n{comment}\n") == [("code", f"x = 1\n{comment}")]


def test_strings_are_kept() -> None:
    """A line inside a string is kept even if it looks like a commented magic or a cell marker."""
    code = 'x = """\n# !pip install\n# %%\n"""'
    assert cells(f"# %%\n{code}\n") == [("code", code)]


def test_the_kernel_is_python3_and_the_format_is_4() -> None:
    """The notebook is in format 4 and names the kernel that Kaggle starts."""
    notebook = json.loads(to_notebook("# %%\nx = 1\n"))
    assert notebook["metadata"] == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}
    }
    assert notebook["nbformat"] == 4


def test_the_same_source_gives_the_same_notebook() -> None:
    """Converting the same source twice gives identical text, so unchanged files can be recognized."""
    source = "# %%\nx = 1\n# %%\ny = 1\n"
    assert to_notebook(source) == to_notebook(source)
