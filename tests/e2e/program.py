"""Any Python program that uses fanbench, for `tests.warm`: its arguments are those of `python`."""

from __future__ import annotations

import gc
import runpy
import sys
import warnings
from pathlib import Path


def preload() -> None:
    runpy.run_path(str(Path(__file__).with_name("ours.py")))["preload"]()


def main() -> None:
    """Run a file, or a module after `-m`, as `python -W error` does."""
    warnings.simplefilter("error")
    del sys.argv[0]
    if sys.argv[0] == "-m":
        del sys.argv[0]
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(Path(sys.argv[0]).absolute().parent)
        runpy.run_path(sys.argv[0], run_name="__main__")
    gc.collect()  # which warns of what was not closed
