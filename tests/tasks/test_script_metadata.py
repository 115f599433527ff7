"""Inline metadata of task files (PEP 723)."""

from __future__ import annotations

import json
import re
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import TaskFileError
from fanbench.tasks import ScriptMetadata, read_script_metadata, to_notebook
from fanbench.tasks.script_metadata import _blocks

BLOCK = """\
# /// script
# requires-python = ">= 3.11"
# dependencies = [
#     "Rapid_Fuzz >= 3",  # the newest
#
#     "other[all]; sys_platform == 'linux'",
# ]
# ///
"""


def test_the_block_is_read() -> None:
    """The requirements of a block are normalized and keep their order; the line is that of its beginning."""
    assert read_script_metadata(f'"""A task."""\n\n{BLOCK}x = 1\n', "f") == ScriptMetadata(
        ("Rapid_Fuzz>=3", 'other[all]; sys_platform == "linux"'), ">=3.11", 3
    )


REFERENCE = re.compile(r"(?m)^# /// (?P<type>[a-zA-Z0-9-]+)$\s(?P<content>(^#(| .*)$\s)+)^# ///$")
"""The regular expression of PEP 723."""

LINES = st.sampled_from(
    [
        "# /// script",
        "# /// other",
        "# ///",
        "#",
        "# dependencies = ['a']",
        "# x",
        "#x",
        "",
        "y = 1",
        " # ///",
    ]
)


@given(st.lists(LINES, max_size=12))
def test_blocks_are_those_of_the_pep(lines: list[str]) -> None:
    """In any file, the blocks are those that the PEP's own regular expression finds."""
    source = "\n".join(lines)
    expected = [
        (found["type"], source.count("\n", 0, found.start()) + 1, found["content"].rstrip("\n").split("\n"))
        for found in REFERENCE.finditer(source)
    ]
    assert list(_blocks(source)) == expected


@given(st.text(alphabet="# /script\n'[]=a,>1", max_size=60))
def test_any_block_is_read_or_refused(content: str) -> None:
    """Whatever a block contains, it is read, or refused with a TaskFileError."""
    with suppress(TaskFileError):
        read_script_metadata(f"# /// script\n# dependencies = [{content}\n# ///\n", "f")


def test_a_hostile_file_is_read_quickly() -> None:
    """A file with many beginnings of blocks takes time in proportion to its size."""
    assert read_script_metadata("# /// script\n#\n" * 200_000, "f") is None


@pytest.mark.parametrize(
    "source",
    [
        "",
        "# /// pyproject\n# x = 1\n# ///\n",
        "# /// script\nx = 1\n# ///\n",
        "# /// script\n# dependencies = ['a']\n",
        "  # /// script\n  # dependencies = ['a']\n  # ///\n",
    ],
)
def test_other_comments_are_no_metadata(source: str) -> None:
    """Blocks of another type, without an end, or indented, are comments."""
    assert read_script_metadata(source, "f") is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("dependencies = [", "Invalid value"),
        ("dependencies = " + "[" * 5000, "recursion"),
        ("dependencies = 'a'", "dependencies is not a list of strings"),
        ("dependencies = [1]", "dependencies is not a list of strings"),
        ("dependencies = ['a b']", "Expected"),
        ("requires-python = 3.11", "requires-python is not a string"),
        ("requires-python = 'new'", "Invalid specifier"),
    ],
)
def test_invalid_metadata_is_explained(content: str, reason: str) -> None:
    """A block that is not TOML, or whose fields have another form, raises with the file, the line and the reason."""
    with pytest.raises(TaskFileError, match=reason) as caught:
        read_script_metadata(f"x = 1\n# /// script\n# {content}\n# ///\n", "task.py")
    assert (caught.value.file, caught.value.line) == ("task.py", 2)
    assert "\n" not in str(caught.value)


def test_only_one_block_is_allowed() -> None:
    """A file with two blocks raises at the second one."""
    with pytest.raises(TaskFileError, match="another one above") as caught:
        read_script_metadata(f"{BLOCK}x = 1\n{BLOCK}", "f")
    assert caught.value.line == 10


@pytest.mark.parametrize(
    ("specifiers", "accepted"),
    [("", True), (">=3.11", True), (">=3.12", False), ("<3.11.5", False), ("~=3.11", True)],
)
def test_a_python_is_accepted_by_its_version(specifiers: str, accepted: bool) -> None:
    """`requires-python` is compared with the full version of a Python."""
    assert ScriptMetadata((), specifiers, 1).accepts_python("3.11.7") is accepted


@pytest.mark.parametrize(
    "before", ["", "# %%\n", '"""A task."""\n\n', "# %% [markdown]\n# # A task\n\n# %%\n"]
)
@pytest.mark.parametrize("after", ["", "\n# %%\nx = 1\n", "import os\n"])
def test_the_block_survives_the_notebook(before: str, after: str) -> None:
    """The code cells of the converted file have the same metadata, wherever the block is."""
    notebook = json.loads(to_notebook(f"{before}{BLOCK}{after}"))
    code = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    found = read_script_metadata("\n".join(code), "f")
    assert found is not None
    assert found.dependencies == ("Rapid_Fuzz>=3", 'other[all]; sys_platform == "linux"')
