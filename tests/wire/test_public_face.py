"""The names that `import fanbench` gives: all there, and loaded only when they are used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import fanbench
from fanbench import errors


def test_every_name_is_there() -> None:
    """Each public name can be had, and each error of the tree is public."""
    assert all(getattr(fanbench, name) is not None for name in fanbench.__all__)
    assert dir(fanbench) == sorted(fanbench.__all__)
    names = {name for name in errors.__all__ if isinstance(getattr(errors, name), type)}
    assert names <= set(fanbench.__all__)


def test_other_names_are_not() -> None:
    """A name that is not public is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fanbench.nonsense  # noqa: B018


def test_the_import_is_cheap() -> None:
    """`import fanbench` loads none of our rooms and no library."""
    code = (
        "import sys; before = set(sys.modules); import fanbench;"
        "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] in"
        "('anyio', 'msgspec', 'httpx', 'click', 'rich', 'fanbench')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['fanbench', 'fanbench._version']"
