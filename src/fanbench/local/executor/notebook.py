"""Executes a notebook's cells one by one in this very process, through IPython.

The shell makes magics (`!`, `%`, `%%`) work as they do on Kaggle, without the seconds and the hundreds of MB that
a Jupyter kernel takes.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import Any

OUTPUT_LIMIT = 1_000_000
"""The executed notebook keeps this many characters of a cell's output; the log keeps all of it."""

_CELL_FILE = re.compile(r'File "<ipython-input-(\d+)-[0-9a-f]+>"')
_TRUNCATED = "\n[output truncated in the notebook; the log has all of it]\n"


class Recorder(io.TextIOWrapper):
    """A text stream that writes through to a descriptor and keeps a bounded copy for the current cell."""

    def __init__(self, name: str, descriptor: int) -> None:
        # backslashreplace: a lone surrogate in a task's output must not end the run.
        binary = open(descriptor, "wb", closefd=False)  # noqa: SIM115 - lives as long as the process
        super().__init__(binary, encoding="utf-8", errors="backslashreplace", newline="\n")
        self._stream_name = name
        self._outputs: list[dict[str, Any]] = []
        self._room = 0

    def start_cell(self, outputs: list[dict[str, Any]]) -> None:
        self._outputs = outputs
        self._room = OUTPUT_LIMIT

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a task may close the descriptor
            super().write(text)
            self.flush()
        if self._room > 0 and text:
            kept = text[: self._room]
            self._room -= len(kept)
            kept = kept if self._room else kept + _TRUNCATED
            last = self._outputs[-1] if self._outputs else {}
            if last.get("name") == self._stream_name:
                last["text"] += kept
            else:
                self._outputs.append({"output_type": "stream", "name": self._stream_name, "text": kept})
        return len(text)

    def close(self) -> None:
        """Stay open: later cells print to this stream even if a task has closed its stdout."""


def record_streams() -> tuple[Recorder, Recorder]:
    """Replace `sys.stdout` and `sys.stderr` by recorders. To be called before the SDK is imported: it keeps them."""
    recorders = Recorder("stdout", 1), Recorder("stderr", 2)
    sys.stdout, sys.stderr = recorders
    return recorders


def run_notebook(notebook: dict[str, Any], shell: Any, recorders: Sequence[Recorder]) -> str | None:
    """Run the notebook's cells in order, and write their outputs into it.

    Return the traceback of the first cell that fails, None if none does.
    """
    outputs: list[dict[str, Any]] = []

    def display(value: object) -> None:
        # The value of a cell's last expression. SDK objects are left out: they render 166 KB of HTML.
        if type(value).__module__.partition(".")[0] != "kaggle_benchmarks":
            data = {"text/plain": repr(value)[:OUTPUT_LIMIT]}
            result = {"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None}
            outputs.append(result)

    shell.displayhook.show = display
    # IPython prints tracebacks to stdout, with decoration of its own: we print them ourselves.
    shell.showtraceback = shell.showsyntaxerror = lambda *_args, **_options: None
    _make_working_folder_importable()
    code = [
        cell for cell in notebook.get("cells", []) if cell.get("cell_type") == "code" and not _skipped(cell)
    ]
    for number, cell in enumerate(code, start=1):
        # IPython names the code by it in tracebacks.
        cell["execution_count"] = shell.execution_count = number
        cell["outputs"] = outputs = []
        for recorder in recorders:
            recorder.start_cell(outputs)
        source = cell.get("source", "")
        result = shell.run_cell(source if isinstance(source, str) else "".join(source), store_history=False)
        failure = result.error_before_exec or result.error_in_exec
        clean_exit = isinstance(failure, SystemExit) and failure.code in (None, 0)
        if failure is not None and not clean_exit:
            text = format_failure(failure)
            sys.stderr.write(text)
            named = {"ename": type(failure).__name__, "evalue": str(failure)}
            outputs.append({"output_type": "error", **named, "traceback": text.splitlines()})
            return text
    return None


def _skipped(cell: dict[str, Any]) -> bool:
    """Whether the cell has the tag that makes nbclient, with which Kaggle runs notebooks, skip it."""
    tags = (cell.get("metadata") or {}).get("tags")
    return isinstance(tags, list) and "skip-execution" in tags


def _make_working_folder_importable() -> None:
    """As in Jupyter, which puts it before the installed packages: `%%writefile tool.py` may precede `import tool`."""
    if "" not in sys.path:
        packages = (at for at, path in enumerate(sys.path) if path.endswith("site-packages"))
        sys.path.insert(next(packages, 0), "")


def format_failure(failure: BaseException) -> str:
    """The traceback as Python users know it, without the frames of the machinery around the cell.

    Code of the cell with the execution count 3 is in the file "Cell In[3]", as in Jupyter.
    """
    shown = traceback.TracebackException.from_exception(failure)
    error: traceback.TracebackException | None = shown
    while error is not None:
        error.stack = traceback.StackSummary.from_list(
            [frame for frame in error.stack if not _is_machinery(frame.filename)]
        )
        error = error.__cause__ or error.__context__
    return _CELL_FILE.sub(r'File "Cell In[\1]"', "".join(shown.format()))


def _is_machinery(file: str) -> bool:
    return "IPython/core" in file.replace("\\", "/") or os.path.dirname(file) == os.path.dirname(__file__)
