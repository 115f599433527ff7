"""The names that `import fanbench` provides."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys

import pytest

import fanbench
from fanbench import errors


def test_every_public_name_can_be_imported() -> None:
    """Each name in `__all__` exists, `dir()` lists it, and every error of the tree is among them."""
    assert all(getattr(fanbench, name) is not None for name in fanbench.__all__)
    assert dir(fanbench) == sorted(fanbench.__all__)
    assert {name for name, value in vars(errors).items() if isinstance(value, type)} <= set(fanbench.__all__)


def test_type_checkers_see_the_same_names() -> None:
    """The imports under `TYPE_CHECKING` and the table of lazy names agree, name by name and module by module."""
    tree = ast.parse(inspect.getsource(fanbench))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.asname: node.module for node in imports for alias in node.names}
    assert typed == fanbench._MODULE_OF


def test_other_names_raise() -> None:
    """A name that is not public raises AttributeError, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        fanbench.nonsense  # type: ignore[attr-defined]  # noqa: B018


def test_the_import_is_cheap() -> None:
    """`import fanbench` loads the errors, but no other package of ours and no library."""
    code = (
        "import sys; before = set(sys.modules); import fanbench;"
        "print(sorted(name for name in set(sys.modules) - before if name.split('.')[0] in"
        "('anyio', 'msgspec', 'httpx', 'click', 'rich', 'fanbench')))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "['fanbench', 'fanbench.errors', 'fanbench.version']"
