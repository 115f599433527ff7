"""What a task file says about the page of its tasks."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from fanbench.errors import TaskFileError
from fanbench.tasks import raise_for_errors, read_task_file
from fanbench.tasks.page_block import read_page_block
from fanbench.wire.messages import Citation
from fanbench.wire.metadata import Metadata

CODE = """\
import kaggle_benchmarks as kbench

@kbench.task(name="t")
def t(llm) -> bool:
    return llm.prompt("x") == "x"

t.run(kbench.llm)
"""
BLOCK = """\
# /// fanbench
# tags = ["mathematics"]
# ///
"""


def page(source: str) -> Metadata | None:
    return read_page_block(source, ast.parse(source), "t.py")


def test_all_fields() -> None:
    """The block has a description of several lines, tags, a provenance, and citations with or without titles."""
    found = page(
        "# /// fanbench\n"
        '# description = """\n# # Sums\n#\n# More.\n# """\n'
        '# tags = ["a", "b"]\n# provenance = "p "\n'
        '# citations = [{ title = "T", url = "https://a.org" }, { url = "b.org" }]\n# ///\n'
    )
    assert found == Metadata(
        description="# Sums\n\nMore.",
        tags=("a", "b"),
        provenance="p",
        citations=(Citation(title="T", url="https://a.org"), Citation(url="b.org")),
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CODE, None),
        (f'"""Doc."""\n{CODE}', None),
        (BLOCK, Metadata(tags=("mathematics",))),
        (
            f'"""Doc.\n\n    More.\n    """\n{BLOCK}',
            Metadata(description="Doc.\n\nMore.", tags=("mathematics",)),
        ),
        (f'{BLOCK}"""Doc."""\n', Metadata(description="Doc.", tags=("mathematics",))),
        ('"""Doc."""\n# /// fanbench\n# description = ""\n# ///\n', Metadata(description="")),
        ("# /// fanbench\n# tags = []\n# ///\n", Metadata(tags=())),
    ],
)
def test_the_docstring_is_the_description_of_a_block(source: str, expected: Metadata | None) -> None:
    """Without a block nothing is said; with one, the docstring counts unless the block has a description."""
    assert page(source) == expected


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("# tags = 'x'", "expected an array, got a string - at `$.tags`"),
        ("# tag = ['x']", "there is no key `tag`"),
        ("# tags = [' ']", "a tag is empty"),
        ("# citations = [{ title = 'x' }]", "missing required field `url`"),
        ("# citations = [{ url = 'ftp://x' }]", "'ftp://x' is not an http or https URL"),
        ("# citations = [{ url = 'javascript:1' }]", "'javascript:1' is not an http or https URL"),
        ("# citations = [{ url = 'A paper, 2024.' }]", "'A paper, 2024.' is not an http or https URL"),
        (f"# provenance = '{'p' * 4001}'", "more than 4,000 characters"),
        ("# nonsense", "Expected '=' after a key"),
    ],
)
def test_a_block_that_is_not_valid_cannot_be_pushed(tmp_path: Path, line: str, problem: str) -> None:
    """A mistake in the block is an error at its first line, because a push would lose what it says."""
    path = tmp_path / "t.py"
    path.write_text(f"# a comment\n# /// fanbench\n{line}\n# ///\n{CODE}")
    file = read_task_file(path)
    (finding,) = [each for each in file.findings if each.rule == "page-block"]
    assert (finding.level, finding.line, file.page) == ("error", 2, None)
    assert problem in finding.message
    with pytest.raises(TaskFileError, match="block is not valid"):
        raise_for_errors(file, ["t"])


def test_two_blocks_are_refused() -> None:
    """Which of two blocks is meant cannot be known."""
    with pytest.raises(TaskFileError, match="there is another one above it"):
        page(f"{BLOCK}\nx = 1\n{BLOCK}")


@pytest.mark.parametrize(
    ("source", "line", "problem"),
    [
        (f"# /// fanbench\n# tags = ['a']\n{CODE}", 1, "it has no `# ///` at its end"),
        ("# /// fanbench\n# tags = ['a']", 1, "it has no `# ///` at its end"),
        ("x = 1\n# /// fanbench\n#tags = ['a']\n# ///\n", 2, "\"#tags = ['a']\" has no space after the #"),
        ("# /// fanbench\n# tags = ['a']\n#///\n", 1, "'#///' has no space after the #"),
        ("#/// fanbench\n# tags = ['a']\n# ///\n", 1, "its first line is '#/// fanbench'"),
        ("# /// fanbench \n# tags = ['a']\n# ///\n", 1, "its first line is '# /// fanbench '"),
        ("# /// fanbench\n# ///\n", 1, "it is empty"),
        ("# /// script\n# dependencies = []\n# ///\n" + BLOCK, 4, "no empty line separates it"),
        (f"{BLOCK}\n# /// fanbench\n# tags = ['a']\n", 5, "it has no `# ///` at its end"),
    ],
)
def test_a_block_that_would_be_a_mere_comment_is_refused(source: str, line: int, problem: str) -> None:
    """A block that begins but lacks an end, or a space, and so is not read, is an error where it begins."""
    with pytest.raises(TaskFileError, match=re.escape(problem)) as caught:
        page(source)
    assert caught.value.line == line


def test_a_block_in_a_notebook(tmp_path: Path) -> None:
    """In a notebook the block is in a code cell, and a mistake in it is found there; text cells are not read."""

    def notebook(block: str) -> Path:
        cells = [("markdown", BLOCK), ("code", CODE), ("code", block)]
        path = tmp_path / "t.ipynb"
        path.write_text(
            json.dumps(
                {
                    "nbformat": 4,
                    "nbformat_minor": 5,
                    "metadata": {},
                    "cells": [
                        {
                            "id": f"c{number}",
                            "cell_type": kind,
                            "metadata": {},
                            "source": source,
                            **({"outputs": [], "execution_count": None} if kind == "code" else {}),
                        }
                        for number, (kind, source) in enumerate(cells)
                    ],
                }
            )
        )
        return path

    assert read_task_file(notebook(BLOCK)).page == Metadata(tags=("mathematics",))
    assert read_task_file(notebook("x = 1")).page is None
    (finding,) = read_task_file(notebook(BLOCK.replace("tags", "tag"))).findings
    assert (finding.rule, finding.cell, finding.line) == ("page-block", 3, 1)
