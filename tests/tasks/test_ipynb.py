"""Notebooks as task files: what is uploaded of them, and where in them problems are."""

from __future__ import annotations

import json
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from fanbench import TaskFileError
from fanbench.tasks import TaskFile, notebook_of, raise_for_errors, read_task_file
from fanbench.tasks.source import MAX_BYTES

TASK = "import kaggle_benchmarks as kb\n@kb.task(name='Red Fox')\ndef f(llm): ...\n"
RUN = "f.run(kb.llm)"

Cell = dict[str, Any]


def code(source: str | list[str], **fields: Any) -> Cell:
    return {"cell_type": "code", "metadata": {}, "source": source, "outputs": [], **fields}


def text(source: str, kind: str = "markdown", **fields: Any) -> Cell:
    return {"cell_type": kind, "metadata": {}, "source": source, **fields}


def write(folder: Path, *cells: Cell, **fields: Any) -> Path:
    path = folder / "task.ipynb"
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 2, "metadata": {}, "cells": cells} | fields))
    return path


def read(folder: Path, *cells: Cell, **fields: Any) -> TaskFile:
    return read_task_file(write(folder, *cells, **fields))


def uploaded(file: TaskFile) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(notebook_of(file))
    return notebook


# --- What is uploaded ---------------------------------------------------------------------------------------


def test_all_cells_are_kept(tmp_path: Path) -> None:
    """Code, Markdown and raw cells keep their order, text, tags and attachments, magics and markers included."""
    image = {"dot.png": {"image/png": "iVBORw0KGgo="}}
    cells = [
        text("# Title\n\n![](attachment:dot.png)", attachments=image),
        text("---\nraw: yes\n---", "raw"),
        code(["%%time\n", TASK], metadata={"tags": ["parameters"], "_kg_hide-input": True}),
        code("%%bash\n# %%\necho 'it"),
        code(f"{RUN}\n# %% [markdown]\n%choose red-fox"),
        code(""),
    ]
    file = read(tmp_path, *cells, metadata={"kaggle": {"isInternetEnabled": False}})
    kept = uploaded(file)
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in kept["cells"]] == [
        (cell["cell_type"], "".join(cell["source"])) for cell in cells
    ]
    assert kept["cells"][0]["attachments"] == image
    assert kept["cells"][2]["metadata"] == {"tags": ["parameters"], "_kg_hide-input": True}
    assert kept["metadata"]["kaggle"] == {"isInternetEnabled": False}
    assert ([task.slug for task in file.tasks], file.errors(["red-fox"])) == (["red-fox"], ())


def test_running_a_notebook_does_not_change_its_upload(tmp_path: Path) -> None:
    """Outputs, execution counts, ids, the kernel and what tools write into the metadata leave the upload the same."""
    fresh = read(tmp_path, text("# Title"), code(TASK), code(RUN))
    output = {"output_type": "stream", "name": "stdout", "text": ["secret\n"]}
    executed = read(
        tmp_path,
        text("# Title", id="b1c2", metadata={"papermill": {"status": "completed"}}),
        code(
            TASK.splitlines(keepends=True),
            id="9f",
            outputs=[output],
            execution_count=7,
            metadata={"execution": {"iopub.status.busy": "2026-01-01T00:00:00Z"}, "scrolled": True},
        ),
        code(RUN, execution_count=8, metadata={"ExecuteTime": {"start_time": "now"}}),
        metadata={
            "kernelspec": {"name": "my-venv", "language": "python", "display_name": "mine"},
            "language_info": {"name": "python", "version": "3.12.1"},
            "jupytext": {"text_representation": {"jupytext_version": "1.16.4"}},
            "widgets": {"application/vnd.jupyter.widget-state+json": {"state": {}}},
        },
        nbformat_minor=5,
    )
    assert notebook_of(executed) == notebook_of(fresh)
    assert "secret" not in notebook_of(executed)


def test_the_upload_is_a_valid_notebook(tmp_path: Path) -> None:
    """The uploaded text follows the schema of Jupyter's own library, although ids were missing or doubled."""
    file = read(tmp_path, text("a", id="same"), text("b", "raw", id="same"), code(TASK), code(RUN))
    schema = json.loads(files("nbformat").joinpath("v4/nbformat.v4.5.schema.json").read_text())
    import_module("jsonschema").validate(uploaded(file), schema)
    assert [cell["id"] for cell in uploaded(file)["cells"]] == ["cell-0", "cell-1", "cell-2", "cell-3"]


def test_large_outputs_do_not_count(tmp_path: Path) -> None:
    """A notebook may have more output than the limit for a task file, but not more cells."""
    big = {"output_type": "stream", "name": "stdout", "text": "x" * (MAX_BYTES + 1)}
    assert len(notebook_of(read(tmp_path, code(TASK, outputs=[big]), code(RUN)))) < 2000
    with pytest.raises(TaskFileError, match="larger than 5 MB without its outputs"):
        read(tmp_path, text("x" * (MAX_BYTES + 1)), code(TASK), code(RUN))


def test_a_byte_order_mark_and_windows_lines_are_accepted(tmp_path: Path) -> None:
    """A byte order mark, `\\r\\n` in the file and `\\r\\n` in the cells leave the upload the same."""
    path = write(tmp_path, code(TASK), code(RUN))
    plain = notebook_of(read_task_file(path))
    content = path.read_text().replace("\\n", "\\r\\n").replace(", ", ",\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + content.encode())
    assert notebook_of(read_task_file(path)) == plain


# --- Places -------------------------------------------------------------------------------------------------


def test_findings_name_the_cell(tmp_path: Path) -> None:
    """A finding has the number of the cell among all cells and the line within it, and so has the task."""
    file = read(tmp_path, text("one"), code("import kaggle_benchmarks as kb"), text("three"), code(TASK))
    (finding,) = file.findings
    assert (finding.cell, finding.line, finding.column) == (4, 3, 1)
    assert finding.text("a.ipynb").startswith("a.ipynb:cell 4:3:1: error: Task 'Red Fox' is never run")
    assert (file.tasks[0].cell, file.tasks[0].line) == (4, 3)
    with pytest.raises(TaskFileError, match=r"task\.ipynb:cell 4:3:1: Task"):
        raise_for_errors(file, ["red-fox"])


def test_a_message_about_another_task_names_its_cell(tmp_path: Path) -> None:
    """A message that refers to a second place in a notebook names the cell of that place."""
    file = read(tmp_path, code(TASK), code("\n" + TASK.replace("def f", "def g") + RUN))
    duplicate = next(finding for finding in file.findings if finding.rule == "duplicate")
    assert (duplicate.cell, duplicate.line) == (2, 4)
    assert "as the task in cell 1, line 3:" in duplicate.message


def test_findings_of_all_rules_are_in_the_order_of_the_notebook(tmp_path: Path) -> None:
    """Warnings about imports come in their place among the others."""
    (tmp_path / "helper.py").touch()
    path = write(tmp_path, code("import helper"), text("two"), code(TASK), code("import helper"))
    found = read_task_file(path, with_imports=True).findings
    assert [(finding.cell, finding.rule) for finding in found] == [(1, "local-import"), (3, "no-run")]


@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (code("x = 1\ny = = 2"), "cell 3:2:5"),
        (code("!ls\n%time f()\ny = = 2"), "cell 3:3:5"),
        (code("call("), "cell 3:1:5"),
        (code("pip install x"), "cell 3:1:5"),
    ],
)
def test_a_syntax_error_names_the_cell(tmp_path: Path, broken: Cell, place: str) -> None:
    """A syntax error is in its own cell, even if the next cell would complete the code."""
    with pytest.raises(TaskFileError, match=f"task.ipynb:{place}: Not valid Python"):
        read(tmp_path, text("one"), code(TASK), broken, code(")"), code(RUN))


def test_an_indented_cell_is_read_as_ipython_runs_it(tmp_path: Path) -> None:
    """IPython removes the indentation of a whole cell, so such a cell is no error."""
    indented = "".join(f"    {line}\n" for line in ["# pasted", *TASK.splitlines(), "", RUN])
    file = read(tmp_path, code(f"\n{indented}"))
    assert ([(task.cell, task.line) for task in file.tasks], file.findings) == ([(1, 5)], ())


@pytest.mark.parametrize(
    ("first", "following"), [(">>> ", "... "), ("  >>> ", "  ... "), ("In [12]: ", "   ...: ")]
)
def test_pasted_prompts_are_read_as_ipython_runs_them(tmp_path: Path, first: str, following: str) -> None:
    """IPython removes the prompts from a cell that begins with one, so such a cell is no error."""
    lines = [*TASK.splitlines(), RUN]
    pasted = "\n".join([first + lines[0], *(following + line for line in lines[1:])])
    file = read(tmp_path, code(pasted))
    assert ([task.line for task in file.tasks], file.findings) == ([3], ())


def test_what_is_written_into_files_is_no_code(tmp_path: Path) -> None:
    """The body of `%%writefile` is no code, even with cell markers in it, and neither are skipped and raw cells."""
    file = read(
        tmp_path,
        code(f"%%writefile other.py\n# %%\n{TASK.replace('Red Fox', 'Other')}"),
        code(f"not python, but {TASK}", metadata={"tags": ["skip-execution"]}),
        text("def broken(", "raw"),
        code(TASK + RUN),
    )
    assert [task.slug for task in file.tasks] == ["red-fox"]
    assert [(task.cell, task.line) for task in file.tasks] == [(4, 3)]


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("import os\n", "Not a notebook: the JSON cannot be read"),
        ('{"cells": [\n<<<<<<< HEAD\n', "task.ipynb:2:1: Not a notebook"),
        ("[" * 100_000, "Not a notebook: the JSON cannot be read .it is nested too deeply"),
        ('{"nbformat": ' + "9" * 5000 + "}", "Not a notebook: .* number in it is too long"),
        ("[]", "Not a notebook: Expected `object`, got `array`"),
        ('{"nbformat": 3, "worksheets": []}', "in format 3; Kaggle takes format 4"),
        ('{"nbformat": 4}', "Not a notebook: .*`cells`"),
        ('{"nbformat": 4, "cells": [{"cell_type": "code", "source": 5}]}', r"Not a notebook: .*cells\[0\]"),
        ('{"nbformat": 4, "cells": [{"cell_type": "heading", "source": ""}]}', "Not a notebook: .*heading"),
        ('{"nbformat": 4, "cells": []}', "no code to run"),
        ('{"nbformat": 4, "cells": [{"cell_type": "code", "source": [" \\n"]}]}', "no code to run"),
        ('{"nbformat": 4, "cells": [{"cell_type": "raw", "source": "x = 1"}]}', "no code to run"),
        (
            '{"nbformat": 4, "cells": [{"cell_type": "code", "source": "x = \'\\ud800\'"}]}',
            "Not valid Python",
        ),
        (
            '{"nbformat": 4, "cells": [{"cell_type": "markdown", "source": "\\ud800"},'
            '{"cell_type": "code", "source": "x = 1"}]}',
            "not Unicode",
        ),
        ("", "The file is empty"),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str, message: str) -> None:
    """Broken JSON, other formats and notebooks without code each have an error that says what is wrong."""
    (path := tmp_path / "task.ipynb").write_text(content)
    with pytest.raises(TaskFileError, match=message):
        read_task_file(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"kernelspec": {"name": "ir", "language": "R", "display_name": "R"}},
        {"kernelspec": {"name": "ir"}, "language_info": {"name": "R"}},
    ],
)
def test_other_languages_are_refused(tmp_path: Path, metadata: dict[str, Any]) -> None:
    """A notebook for another kernel than Python's is refused by the name of its language."""
    with pytest.raises(TaskFileError, match="The notebook is in R; tasks are in Python"):
        read(tmp_path, code("x <- 1"), metadata=metadata)
