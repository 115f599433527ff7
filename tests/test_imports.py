"""The script that checks imports finds what it is there to find."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts/check_imports.py"


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({"a/x.py": "from house.b.y import public"}, "", id="public name"),
        pytest.param({"a/x.py": "from house.a.z import _near"}, "", id="private name of its own package"),
        pytest.param({"a/x.py": "from house._util.files import write"}, "", id="shared helpers"),
        pytest.param({"a/x.py": "import json\nfrom os import _exit"}, "", id="other packages"),
        pytest.param({"a/x.py": "from house.b.y import _far"}, "house.b.y._far", id="private name"),
        pytest.param({"a/x.py": "from house.b._y import name"}, "house.b._y.name", id="private module"),
        pytest.param({"a/x.py": "from ..b import _y"}, "house.b._y", id="relative import"),
        pytest.param(
            {"a/x.py": "def f():\n    from house.b.y import _far"}, "house.b.y._far", id="inside a function"
        ),
        pytest.param(
            {"a/x.py": "import house.b.y", "b/y.py": "def f():\n    from house.a import x"},
            "import cycle: house.a.x -> house.b.y -> house.a.x",
            id="cycle through a function",
        ),
        pytest.param(
            {
                "a/x.py": "from house.a import z",
                "a/z.py": "if TYPE_CHECKING:\n    from house.a.x import name",
            },
            "import cycle: house.a.x -> house.a.z -> house.a.x",
            id="cycle through TYPE_CHECKING",
        ),
    ],
)
def test_private_imports_and_cycles_are_reported(
    files: dict[str, str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The script passes clean code, and fails naming the import or the cycle that breaks a rule."""
    house = {"__init__.py": "", "a/__init__.py": "", "a/x.py": "", "a/z.py": "", "b/__init__.py": ""}
    house |= {"b/y.py": "", "b/_y.py": "", "_util/__init__.py": "", "_util/files.py": ""} | files
    for name, text in house.items():
        path = tmp_path / "house" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), str(tmp_path / "house")])
    with pytest.raises(SystemExit) as exit_:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    printed = capsys.readouterr().out
    assert exit_.value.code == (1 if complaint else 0)
    assert complaint in printed if complaint else not printed
