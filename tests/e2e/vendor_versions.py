"""The versions of the vendor's command line that the tests run: the pinned one and, as long tests, the one before."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from filelock import FileLock

from tests.e2e.programs import REPOSITORY

__all__ = ["PINNED", "VERSIONS", "python_with_kaggle"]

PINNED = version("kaggle")
#: Versions of `kaggle`, the pinned one first, with the `kagglesdk` that was current at the time.
SDKS = {PINNED: version("kagglesdk"), "2.2.4": "0.1.37"}
VERSIONS = [PINNED, *(pytest.param(older, marks=pytest.mark.long) for older in SDKS if older != PINNED)]


def python_with_kaggle(kaggle: str) -> Path:
    """The interpreter of an environment with this version of `kaggle`.

    The pinned version is in the environment of the tests. Any other one is installed beside it once, into
    `vendor-VERSION`. The calling test is skipped if the package index cannot be reached.
    """
    if kaggle == PINNED:
        return Path(sys.executable)
    folder = Path(sys.prefix) / f"vendor-{kaggle}"
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            _install(folder, kaggle)
    return folder / "bin" / "python"


def _install(folder: Path, kaggle: str) -> None:
    # The six is for kaggle itself, which does not declare it.
    wanted = {"kaggle": kaggle, "kagglesdk": SDKS[kaggle], "six": version("six")}
    pins = (REPOSITORY / "constraints.txt").read_text().splitlines()
    others = [pin for pin in pins if pin.partition("==")[0] not in wanted]
    constraints = folder.with_name(f"{folder.name}.txt")
    constraints.write_text("\n".join(others))
    # What has its final name is complete: the tests may be killed meanwhile.
    part = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    install = ["-m", "pip", "install", "--quiet", "--retries", "1", "--constraint", str(constraints)]
    try:
        subprocess.run([sys.executable, "-m", "venv", str(part)], check=True, capture_output=True)
        packages = [f"{name}=={number}" for name, number in wanted.items()]
        subprocess.run([part / "bin/python", *install, *packages], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        shutil.rmtree(part, ignore_errors=True)
        pytest.skip(f"kaggle {kaggle} cannot be installed: {(error.stderr or '')[-300:]}")
    part.rename(folder)
