"""Imports that fail where task files run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanbench.tasks import Finding, read_task_file
from fanbench.tasks.imports import check_imports
from fanbench.tasks.source import parse

FILE = Path("task.py")


def check(source: str, path: Path = FILE, *, here: bool = True) -> list[Finding]:
    return check_imports(parse(source, str(path)), source, path, here=here)


def warnings(source: str) -> list[str]:
    return [f"{each.line}:{each.column} {each.message}" for each in check(source)]


@pytest.mark.parametrize(
    "source",
    [
        "import nosuch",
        "import nosuch.inner as n",
        "from nosuch.inner import name",
        "%pip install another\nimport nosuch",
        "# pip install nosuch, if it is missing\nimport nosuch",
        "import nosuch\n%pip install nosuch",
        "if True:\n    import nosuch",
        "try:\n    import nosuch\nexcept ValueError:\n    pass",
    ],
)
def test_a_missing_module_is_named(source: str) -> None:
    """A module that this environment lacks, and that nothing in the file provides, is a warning with its name."""
    assert [text.split(" ", 1)[1] for text in warnings(source)] == [
        "The module nosuch is not installed here."
    ]


@pytest.mark.parametrize(
    "source",
    [
        "import os.path, json, __main__\nfrom __future__ import annotations",
        "import kaggle_benchmarks\nfrom numpy import linalg",
        "from google import genai\nimport google.genai.types\nfrom google.protobuf import *",
        "from . import nosuch\nfrom .nosuch import x",
        "try:\n    import nosuch\nexcept ImportError:\n    import other_nosuch",
        "try:\n    import nosuch\nexcept (ModuleNotFoundError, OSError):\n    pass",
        "try:\n    import nosuch\nexcept:\n    pass",
        "import contextlib\nwith contextlib.suppress(ImportError):\n    import nosuch",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nosuch",
        "import sys\nif sys.version_info < (3, 11):\n    import nosuch",
        "import sys\nsys.path.append('/kaggle/input/code')\nimport nosuch",
        "%pip install nosuch\nimport nosuch",
        "# !pip install nosuch\nimport nosuch",
        "!uv pip install -q 'nosuch[all]>=2' \nimport nosuch",
        "!pip install -q \\\n    nosuch\nimport nosuch",
        "%pip install No.Such\nimport no_such",
        "%pip install nosuch\nimport nosuch_core",
        "%pip install scikit-learn\nimport sklearn",
        "%pip install -r needed.txt\nimport nosuch",
        "%pip install git+https://example.org/nosuch\nimport nosuch",
        "import os\nos.system('pip install nosuch')\nimport nosuch",
        "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'pip', 'install', 'nosuch'])\nimport nosuch",
        "def f():\n    import nosuch\n%pip install nosuch",
        "%%writefile nosuch.py\nx = 1\n# %%\nimport nosuch",
        "# /// script\n# dependencies = ['nosuch']\n# ///\n%pip install nosuch\nimport nosuch",
    ],
)
def test_what_may_be_there_is_not_reported(source: str) -> None:
    """No warning is given about a module that is installed, optional, or provided by the file itself."""
    assert warnings(source) == []


def test_a_missing_part_of_a_shared_package_is_named() -> None:
    """Of a package that several distributions share, the part that is missing is named."""
    assert warnings("import os\nfrom google import genai, nosuch") == [
        "2:1 The module google.nosuch is not installed here."
    ]


def test_the_fix_names_the_package() -> None:
    """The fix names the package of a well-known module, and a module is reported once, where it is used first."""
    found = check("def f():\n    import z3.x\nimport z3\n")
    assert [(each.line, each.column, each.rule) for each in found] == [(2, 5, "missing-import")]
    assert "%pip install z3-solver" in str(found[0].fix)


def test_files_beside_the_task_are_not_uploaded(tmp_path: Path) -> None:
    """A module or package beside the file is reported because a push uploads only the file."""
    (tmp_path / "helper_a.py").touch()
    (tmp_path / "helper_b").mkdir()
    (tmp_path / "helper_b/__init__.py").touch()
    (tmp_path / "json.py").touch()
    (tmp_path / "numpy.py").touch()
    source = "import helper_a, json, numpy\nfrom helper_b import x\n"
    found = check(source, tmp_path / "task.py", here=False)
    assert [(each.line, each.rule, each.message) for each in found] == [
        (1, "local-import", "The file imports helper_a.py, which a push does not upload."),
        (2, "local-import", "The file imports helper_b/__init__.py, which a push does not upload."),
    ]


def test_without_the_sdk_nothing_is_missing() -> None:
    """Where task files do not run, nothing is said about packages."""
    assert check("import nosuch", FILE, here=False) == []


def test_kaggle_ignores_the_metadata() -> None:
    """A file with inline metadata is told what Kaggle needs instead, without what a cell installs already."""
    block = "# /// script\n# dependencies = ['nosuch>=2', 'other', 'kaggle-benchmarks']\n# ///\n"
    (finding,) = check(f"x = 1\n{block}%pip install other\nimport nosuch")
    assert (finding.line, finding.level, finding.rule) == (2, "warning", "script-block")
    assert finding.fix == 'For Kaggle, add a cell: %pip install "nosuch>=2"'


def test_invalid_metadata_is_a_warning() -> None:
    """Kaggle takes a file whose metadata is invalid or asks for another Python, so these are warnings."""
    (invalid,) = check("# /// script\n# dependencies = 1\n# ///\n")
    assert (invalid.level, invalid.line) == ("warning", 1)
    assert "dependencies is not a list of strings" in invalid.message
    (newer,) = check("# /// script\n# requires-python = '>=4'\n# ///\n")
    assert newer.message.startswith("The file requires Python >=4, and this is Python 3.")


def test_findings_in_a_notebook_name_the_cell(tmp_path: Path) -> None:
    """Of a notebook, a missing module and inline metadata are reported with their cells; a push reports neither."""
    cells = [
        "# /// script\n# dependencies = ['other']\n# ///",
        "%pip install other\n",
        "x = 1\nimport nosuch",
    ]
    code = [{"cell_type": "code", "source": text, "metadata": {}} for text in cells]
    (path := tmp_path / "task.ipynb").write_text(json.dumps({"cells": code, "nbformat": 4, "metadata": {}}))
    found = [each for each in read_task_file(path, with_imports=True).findings if each.level == "warning"]
    assert [(each.cell, each.line, each.rule) for each in found] == [(3, 2, "missing-import")]
    assert not [each for each in read_task_file(path).findings if each.level == "warning"]
