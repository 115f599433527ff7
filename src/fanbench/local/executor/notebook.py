"""A notebook's cells, executed one by one in this very process through IPython.

Runs inside a run's own process only (forked from the warm parent, or fresh). The shell makes magics work
(`!`, `%`, `%%`) as they do on Kaggle, without the seconds and the hundreds of MB of a Jupyter kernel.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

OUTPUT_LIMIT = 1_000_000
"""Characters of one cell's output that the executed notebook keeps; the log has all of it."""

_TRUNCATED = "\n[output truncated in the notebook; the log has all of it]\n"


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook.get("cells", []) if cell.get("cell_type") == "code"]


def cell_source(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


class Recorder(io.TextIOBase):
    """A text stream that writes through to a descriptor at once, and keeps a bounded copy for the cell."""

    def __init__(self, name: str, descriptor: int) -> None:
        self._name = name
        # backslashreplace: a lone surrogate in what a task prints must not end the run.
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
            self._append(kept if self._room else kept + _TRUNCATED)
        return len(text)

    def _append(self, text: str) -> None:
        last = self._outputs[-1] if self._outputs else None
        if last and last.get("name") == self._name:
            last["text"] += text
        else:
            self._outputs.append({"output_type": "stream", "name": self._name, "text": text})

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
    """Replace `sys.stdout` and `sys.stderr` by recorders. Before the SDK is imported: it keeps the stream."""
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
        """Run the cells in order; the traceback of the first that fails, `None` if none does."""
        self._shell.displayhook.show = self._display
        # IPython would print tracebacks with its own decoration, to stdout: we print them ourselves.
        self._shell.showtraceback = self._shell.showsyntaxerror = _print_nothing
        for number, cell in enumerate(code_cells(self.notebook), start=1):
            error = self._execute_cell(number, cell)
            if error is not None:
                return error
        return None

    def _execute_cell(self, number: int, cell: dict[str, Any]) -> str | None:
        cell["execution_count"] = number
        cell["outputs"] = self._outputs = []
        for recorder in self._recorders:
            recorder.start_cell(self._outputs)
        result = self._shell.run_cell(cell_source(cell), store_history=False)
        failure = result.error_before_exec or result.error_in_exec
        if failure is None or _is_clean_exit(failure):
            return None
        return self._record_failure(failure)

    def _record_failure(self, failure: BaseException) -> str:
        text = format_failure(failure)
        sys.stderr.write(text)
        summary = {"ename": type(failure).__name__, "evalue": str(failure), "traceback": text.splitlines()}
        self._outputs.append({"output_type": "error", **summary})
        return text

    def _display(self, value: object) -> None:
        """What a cell's last expression shows. The SDK's own objects render 166 KB of HTML each: left out."""
        if type(value).__module__.partition(".")[0] == "kaggle_benchmarks":
            return
        text = repr(value)[:OUTPUT_LIMIT]
        data = {"data": {"text/plain": text}, "metadata": {}, "execution_count": None}
        self._outputs.append({"output_type": "execute_result", **data})

    def write(self, path: Path) -> None:
        temp = path.with_name(path.name + ".tmp")
        temp.write_text(json.dumps(self.notebook), encoding="utf-8")
        temp.replace(path)


def format_failure(failure: BaseException) -> str:
    """The traceback as a Python user knows it, without the frames of the machinery around the cell."""
    frames = traceback.TracebackException.from_exception(failure)
    inner = [frame for frame in frames.stack if not _is_machinery(frame.filename)]
    frames.stack = traceback.StackSummary.from_list(inner)
    return "".join(frames.format())


def _is_machinery(filename: str) -> bool:
    return "IPython/core" in filename.replace("\\", "/") or filename == __file__


def _is_clean_exit(failure: BaseException) -> bool:
    return isinstance(failure, SystemExit) and failure.code in (None, 0)


def _print_nothing(*_args: object, **_options: object) -> None:
    """Stands in for IPython's own printing of tracebacks."""
