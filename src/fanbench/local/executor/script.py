"""The process of `check --run`: one task file as `python FILE` would run it.

The forkserver starts it as `python -P -m fanbench.local.executor.script FILE [NOTEBOOK]`, with the environment of
the run. NOTEBOOK is FILE as a notebook, given if its magics need IPython. Imports are late, because the task file
should start as fast, and in as empty a Python, as with `python FILE`.
"""

from __future__ import annotations

import builtins
import os
import signal
import sys
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec


class _SdkFinder:
    """Makes the task file's own import of the SDK skip the `.env` file, and find models by their aliases.

    What else the task file does with dotenv is its own business.
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
            from fanbench.local.aliases import ALIASES_VARIABLE
            from fanbench.local.executor.sdk import importing_sdk, lazy_models

            # Patch the existing loader: resources are read through it later.
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                with importing_sdk():
                    execute(module)
                if ALIASES_VARIABLE in os.environ:
                    module.llms = lazy_models(module)

            loader.exec_module = exec_module
        return spec


def run_python(file: str) -> None:
    with open(file, "rb") as stream:
        source = stream.read()
    main = types.ModuleType("__main__")
    main.__dict__.update(__file__=file, __builtins__=builtins)
    sys.modules["__main__"] = main
    try:
        exec(compile(source, file, "exec", dont_inherit=True), main.__dict__)  # noqa: S102 - our purpose
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - as Python itself ends, without our frame
        trace = error.__traceback__ and error.__traceback__.tb_next
        sys.excepthook(type(error), error.with_traceback(trace), trace)
        sys.exit(1 if isinstance(error, Exception) else 128 + signal.SIGINT)


def run_in_ipython(notebook: str) -> None:
    import json

    from fanbench.local.executor.notebook import record_streams, run_notebook
    from fanbench.local.executor.sdk import FIXED_ENVIRONMENT, make_shell

    # Without it, showing a Run in a cell needs jupyter_bokeh.
    os.environ.setdefault("BENCHMARK_MODE", FIXED_ENVIRONMENT["BENCHMARK_MODE"])
    recorders = record_streams()
    with open(notebook, encoding="utf-8") as stream:
        failure = run_notebook(json.load(stream), make_shell(), recorders)
    if failure is not None:
        sys.exit(1)


def main() -> None:
    file, *notebook = sys.argv[1:]
    sys.meta_path.insert(0, _SdkFinder())
    sys.argv = [file]
    sys.path.insert(0, os.path.dirname(file))
    if notebook:
        run_in_ipython(notebook[0])
    else:
        run_python(file)


if __name__ == "__main__":
    main()
