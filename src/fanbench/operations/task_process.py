"""The process of `check --run`: one task file as `python FILE` would run it, on the environment it was given.

A script, never imported by us: `python -P task_process.py LIFELINE FILE [NOTEBOOK]`. LIFELINE is the number
of a pipe whose other end is our parent's: when that goes, so does this process group. NOTEBOOK is what FILE
is as a notebook, where its magics need IPython.
"""

from __future__ import annotations

import builtins
import importlib.abc
import json
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from typing import Any


class WithoutDotenv(importlib.abc.MetaPathFinder):
    """Imports the SDK as if there were no `.env`.

    At its import the SDK takes the nearest `.env` above its own files over the environment, and with it
    somebody's old token. What the task file itself does with dotenv is its own affair.
    """

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != "kaggle_benchmarks":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        specs = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in specs if spec is not None), None)
        if spec is not None and spec.loader is not None:
            # On the loader that it has, as resources are read through it later.
            loader: Any = spec.loader
            loader.exec_module = blindly(loader.exec_module)
        return spec


def blindly(load: Callable[[types.ModuleType], None]) -> Callable[[types.ModuleType], None]:
    def exec_module(module: types.ModuleType) -> None:
        import dotenv

        find, dotenv.find_dotenv = dotenv.find_dotenv, lambda *_args, **_options: ""
        try:
            load(module)
        finally:
            dotenv.find_dotenv = find

    return exec_module


def die_with_parent(lifeline: int) -> None:
    """Kill this process group when nobody holds the other end of `lifeline` any more, for whatever reason."""
    os.set_inheritable(lifeline, False)

    def watch() -> None:
        os.read(lifeline, 1)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="lifeline").start()


def run_script(file: str) -> None:
    with open(file, "rb") as stream:
        source = stream.read()
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=file, __builtins__=builtins)
    sys.modules["__main__"] = main
    try:
        exec(compile(source, file, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - what we are for
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - as Python's own end, without our frame
        trace = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1 if isinstance(error, Exception) else 128 + signal.SIGINT)


def run_notebook(notebook: str) -> None:
    from fanbench.local.executor.notebook import NotebookRun, record_streams
    from fanbench.local.executor.sdk import make_shell

    # As on Kaggle; without it, a run that a cell shows asks for jupyter_bokeh.
    os.environ.setdefault("BENCHMARK_MODE", "RUN")
    recorders = record_streams()
    with open(notebook, encoding="utf-8") as stream:
        run = NotebookRun(json.load(stream), make_shell(), recorders)
    if run.execute() is not None:
        sys.exit(1)


def main() -> None:
    lifeline, file, *notebook = sys.argv[1:]
    die_with_parent(int(lifeline))
    sys.meta_path.insert(0, WithoutDotenv())
    sys.argv = [file]
    sys.path.insert(0, os.path.dirname(file))
    if notebook:
        run_notebook(notebook[0])
    else:
        run_script(file)


if __name__ == "__main__":
    main()
