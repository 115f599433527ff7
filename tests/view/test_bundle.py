"""The page's modules as one script."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.resources import files
from pathlib import Path

import pytest

from fanbench.view.bundle import bundle, page_file

MODULES = sorted(
    file.name
    for file in files("fanbench.view").joinpath("page").iterdir()
    # What unpacks the bundle is no part of it.
    if file.name.endswith(".js") and file.name != "load.js"
)


@pytest.mark.parametrize("name", MODULES)
def test_the_modules_keep_to_the_rules(name: str) -> None:
    """Imports are at the top, one a line, exports are declared as such, and no text spans lines."""
    text = page_file(name)
    imports = re.findall(r"^import .*$", text, re.MULTILINE)
    assert all(re.fullmatch(r'import \{ [\w, ]+ \} from "\./\w+\.js";', line) for line in imports)
    after = text.rpartition(imports[-1])[2] if imports else text
    assert not re.search(r"^import ", after, re.MULTILINE)
    assert not re.search(r"^export (?!(?:async )?function |class |const )", text, re.MULTILINE)
    assert all(line.count("`") % 2 == 0 for line in text.splitlines())


def test_every_module_is_part_of_it() -> None:
    """The page has all modules once, each before those that import it."""
    text = bundle()
    places = [text.index(f"const ${name.removesuffix('.js')} = ") for name in MODULES]
    assert len(set(places)) == len(MODULES)
    for name in MODULES:
        for needed in re.findall(r'from "\./(\w+)\.js"', page_file(name)):
            assert text.index(f"const ${needed} = ") < text.index(f"const ${name.removesuffix('.js')} = ")


def test_it_is_valid(tmp_path: Path) -> None:
    """A JavaScript engine takes the script."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    path = tmp_path / "page.mjs"
    path.write_text(bundle(), encoding="utf-8")
    ended = subprocess.run([node, "--check", path], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_nothing_is_requested() -> None:
    """The page's code and styles name no address, and make no code of text."""
    for text in (bundle(), page_file("load.js"), page_file("style.css")):
        assert set(re.findall(r"https?://[^\s\"'`)]+", text)) <= {"http://www.w3.org/2000/svg"}
        assert not re.search(
            r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|@import|url\(", text
        )
