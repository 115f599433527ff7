"""Executes a notebook's cells one by one in this very process, through IPython.

The shell makes magics (`!`, `%`, `%%`) work as they do on Kaggle, without the seconds and the hundreds of MB that
a Jupyter kernel takes.
"""

from __future__ import annotations

import contextlib
import io
import sys
import traceback
from collections.abc import Sequence
from typing import Any

OUTPUT_LIMIT = 1_000_000
"""The executed notebook keeps this many characters of a cell's output; the log keeps all of it."""

_TRUNCATED = "\n[output truncated in the notebook; the log has all of it]\n"


class Recorder(io.TextIOBase):
    """A text stream that writes through to a descriptor and keeps a bounded copy for the current cell."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        # backslashreplace: a lone surrogate in a task's output must not end the run.
        self._through = open(  # noqa: SIM115 - lives as long as the process
            descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False, newline="\n"
        )
        self._outputs: list[dict[str, Any]] = []
        self._room = 0

    def start_cell(self, outputs: list[dict[str, Any]]) -> None:
        self._outputs = outputs
        self._room = OUTPUT_LIMIT

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):  # a task may close its own stdout
            self._through.write(text)
            self._through.flush()
        if self._room > 0 and text:
            kept = text[: self._room]
            self._room -= len(kept)
            kept = kept if self._room else kept + _TRUNCATED
            last = self._outputs[-1] if self._outputs else {}
            if last.get("name") == self._name:
                last["text"] += kept
            else:
                self._outputs.append({"output_type": "stream", "name": self._name, "text": kept})
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._through.flush()

    def fileno(self) -> int:
        return self._through.fileno()

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def buffer(self) -> Any:
        return self._through.buffer


def record_streams() -> tuple[Recorder, Recorder]:
    """Replace `sys.stdout` and `sys.stderr` by recorders. To be called before the SDK is imported: it keeps them."""
    recorders = Recorder("stdout", 1), Recorder("stderr", 2)
    sys.stdout, sys.stderr = recorders
    return recorders


class NotebookRun:
    """Executes `notebook` in `shell` and fills in its outputs as it goes."""

    def __init__(self, notebook: dict[str, Any], shell: Any, recorders: Sequence[Recorder]) -> None:
        self.notebook = notebook
        self._shell = shell
        self._recorders = recorders
        self._outputs: list[dict[str, Any]] = []

    def execute(self) -> str | None:
        """Run the cells in order. Return the traceback of the first that fails, None if none does."""
        self._shell.displayhook.show = self._display
        # IPython prints tracebacks to stdout, with decoration of its own: we print them ourselves.
        self._shell.showtraceback = self._shell.showsyntaxerror = lambda *_args, **_options: None
        code = [cell for cell in self.notebook.get("cells", []) if cell.get("cell_type") == "code"]
        for number, cell in enumerate(code, start=1):
            cell["execution_count"] = number
            cell["outputs"] = self._outputs = []
            for recorder in self._recorders:
                recorder.start_cell(self._outputs)
            source = cell.get("source", "")
            source = source if isinstance(source, str) else "".join(source)
            result = self._shell.run_cell(source, store_history=False)
            failure = result.error_before_exec or result.error_in_exec
            clean_exit = isinstance(failure, SystemExit) and failure.code in (None, 0)
            if failure is not None and not clean_exit:
                return self._record_failure(failure)
        return None

    def _record_failure(self, failure: BaseException) -> str:
        text = format_failure(failure)
        sys.stderr.write(text)
        summary = {"ename": type(failure).__name__, "evalue": str(failure), "traceback": text.splitlines()}
        self._outputs.append({"output_type": "error", **summary})
        return text

    def _display(self, value: object) -> None:
        """Record the value of a cell's last expression, unless it is an SDK object: those render 166 KB of HTML."""
        if type(value).__module__.partition(".")[0] == "kaggle_benchmarks":
            return
        text = repr(value)[:OUTPUT_LIMIT]
        data = {"data": {"text/plain": text}, "metadata": {}, "execution_count": None}
        self._outputs.append({"output_type": "execute_result", **data})


def format_failure(failure: BaseException) -> str:
    """The traceback as Python users know it, without the frames of the machinery around the cell."""
    frames = traceback.TracebackException.from_exception(failure)
    inner = [
        frame
        for frame in frames.stack
        if "IPython/core" not in frame.filename.replace("\\", "/") and frame.filename != __file__
    ]
    frames.stack = traceback.StackSummary.from_list(inner)
    return "".join(frames.format())
