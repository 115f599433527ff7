"""Small packages to install in tests, without a package index."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

WHEEL = "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path, name: str, version: str, *, requires: Sequence[str] = ()) -> Path:
    """Write a package whose only module has its version in VERSION, and whose command prints it."""
    info = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    content = {
        f"{name}.py": f"VERSION = {version!r}\n\ndef main():\n    print({name!r}, VERSION)\n",
        f"{info}/METADATA": metadata,
        f"{info}/WHEEL": WHEEL,
        f"{info}/entry_points.txt": f"[console_scripts]\n{name}-command = {name}:main\n",
    }
    content[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*content, f"{info}/RECORD"))
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in content.items():
            archive.writestr(inside, text)
    return path


def offline(folder: Path) -> dict[str, str]:
    """The variables with which uv and pip know only the packages in `folder`."""
    only = {"NO_INDEX": "1", "FIND_LINKS": str(folder)}
    return {f"{tool}_{name}": value for tool in ("PIP", "UV") for name, value in only.items()}


def fake_uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """Put a command named uv into PATH, which executes the shell script."""
    (path := tmp_path / "path").mkdir(exist_ok=True)
    (path / "uv").write_text(f"#!/bin/sh\n{script}\n")
    (path / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}{os.environ['PATH']}")
