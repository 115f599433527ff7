"""Properties of the check that hold for generated task files."""

from __future__ import annotations

import json
import keyword
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanbench import TaskFileError
from fanbench.tasks import notebook_of, read_task_file, to_notebook
from fanbench.tasks.source import blank_magics

SLOW_DISK = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=80
)

IMPORTS = {
    "import kaggle_benchmarks as kb": "kb.task",
    "import kaggle_benchmarks": "kaggle_benchmarks.task",
    "from kaggle_benchmarks import task": "task",
    "from kaggle_benchmarks import task as t": "t",
}
MAGICS = st.sampled_from(
    [
        "%pip install x",
        "!ls",
        "!pip install a \\\n   b",
        "files = !ls",
        "x?",
        "??x",
        "%time 1 + 1",
        "# prose?",
        "",
    ]
)
FOREIGN_CELLS = st.sampled_from(["# %%\n%%bash\nfor (\n\ndone 'x", "# %%\n%%html\n<b>it's</b>"])
WORDS = st.text(alphabet="abcdefgh", min_size=1, max_size=6).filter(lambda word: not keyword.iskeyword(word))


@dataclass
class Written:
    """A generated file and the tasks in it: name to (line, column, has a run)."""

    source: str
    tasks: dict[str, tuple[int, int, bool]]


@st.composite
def task_files(draw: st.DrawFn) -> Written:
    statement, decorator = draw(st.sampled_from(sorted(IMPORTS.items())))
    lines, expected = ["# %%", statement], {}
    for number, word in enumerate(draw(st.lists(WORDS, min_size=1, max_size=5, unique=True))):
        lines += draw(MAGICS).split("\n")
        if draw(st.booleans()):
            lines += [*draw(FOREIGN_CELLS).split("\n"), "# %%"]
        function, indent = f"{word}_{number}", ""
        match draw(st.sampled_from(["plain", "class", "nested", "if"])):
            case "class":
                lines, indent = [*lines, f"class C{number}:"], "    "
            case "nested":
                lines, indent = [*lines, f"def outer{number}():", "    !ls"], "    "
            case "if":
                lines, indent = [*lines, "if True:"], "    "
        call, name = _form(draw, function, number)
        lines.append(f"{indent}@{decorator}{call}")
        lines += [f"{indent}@other"] * draw(st.integers(0, 1))
        head = draw(st.sampled_from(["def", "async def"]))
        lines.append(f"{indent}{head} {function}(llm):")
        expected[name] = (len(lines), len(indent) + 1, run := draw(st.booleans()))
        lines.append(f'{indent}    return """\n!text\n%text\n# %%"""'.replace("\n", "\n"))
        lines = "\n".join(lines).split("\n")
        if run:
            lines += draw(
                st.sampled_from(
                    [
                        [f"{function}.run(kb.llm)"],
                        [f"for x in [{function}]:", "    x.evaluate(llm=[1])"],
                        ["# %%", "%%time", f"{function}.run(1)"],
                        [f"%time {function}.run(1)"],
                        [f"# %time {function}.run(1)"],
                    ]
                )
            )
    return Written("\n".join(lines) + "\n", expected)


def _form(draw: st.DrawFn, function: str, number: int) -> tuple[str, str]:
    """The call part of a decorator, and the name that comes of it."""
    title = function.title().replace("_", " ")
    return draw(
        st.sampled_from(
            [
                ("", title),
                ("()", title),
                (f'("Given {number}")', f"Given {number}"),
                (f'(name="Given {number}", version=2)', f"Given {number}"),
                (f'(description="d", name="Given" " {number}")', f"Given {number}"),
                ("(name=None)", title),
            ]
        )
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "task.py"


@SLOW_DISK
@given(written=task_files())
def test_every_task_is_found_in_its_place(path: Path, written: Written) -> None:
    """The name, line, column and reachability of every task are correct, also among magics."""
    path.write_text(written.source)
    file = read_task_file(path)
    assert {task.name: (task.line, task.column, task.has_run) for task in file.tasks} == written.tasks
    flagged = {finding.line for finding in file.findings if finding.rule == "no-run"}
    assert flagged == {line for line, _, run in written.tasks.values() if not run}


@settings(SLOW_DISK, max_examples=40)
@given(written=task_files())
def test_a_notebook_is_read_like_the_file_that_it_was_made_of(path: Path, written: Written) -> None:
    """The notebook made of a file has the same tasks and findings, each in its cell, and uploads the same text."""
    notebook = path.with_suffix(".ipynb")
    path.write_text(written.source)
    notebook.write_text(to_notebook(written.source))
    python, read = read_task_file(path), read_task_file(notebook)
    assert notebook_of(read) == notebook_of(python)
    assert [finding.rule for finding in read.findings] == [finding.rule for finding in python.findings]
    cells = [None, *json.loads(notebook.read_text())["cells"]]
    lines = written.source.split("\n")
    for ours, theirs in zip(read.tasks, python.tasks, strict=True):
        assert (ours.name, ours.has_run, ours.column) == (theirs.name, theirs.has_run, theirs.column)
        assert cells[ours.cell or 0]["source"][ours.line - 1].rstrip("\n") == lines[theirs.line - 1]


@SLOW_DISK
@given(written=task_files(), data=st.data())
def test_a_syntax_error_is_located(path: Path, written: Written, data: st.DataObject) -> None:
    """A syntax error is reported in its own line and column, whatever magics come before it."""
    broken = f"{written.source}# %%\nbroken = = 1\n"
    path.write_text(broken)
    with pytest.raises(TaskFileError) as caught:
        read_task_file(path)
    assert caught.value.line == broken.count("\n")
    assert caught.value.column == 10


@SLOW_DISK
@given(written=task_files(), data=st.data())
def test_a_damaged_file_raises_task_file_error_at_most(
    path: Path, written: Written, data: st.DataObject
) -> None:
    """A file that is cut or altered anywhere is either read or raises TaskFileError."""
    cut = data.draw(st.integers(0, len(written.source)))
    put = data.draw(st.text(max_size=5))
    path.write_bytes((written.source[:cut] + put + written.source[cut + 3 :]).encode(errors="surrogatepass"))
    try:
        file = read_task_file(path)
    except TaskFileError:
        return
    assert all(task.line <= file.source.count("\n") + 1 for task in file.tasks)


@SLOW_DISK
@given(content=st.binary(max_size=200))
def test_any_bytes_raise_task_file_error_at_most(path: Path, content: bytes) -> None:
    """A file of arbitrary bytes is either read or raises TaskFileError."""
    path.write_bytes(content)
    try:
        findings = read_task_file(path).findings
    except TaskFileError:
        return
    assert all(finding.message for finding in findings)


@given(st.lists(st.text(alphabet="%!?#'\"()[]{}\\ \tab=\n", max_size=20), max_size=10))
def test_blanking_keeps_every_line_in_its_place(lines: list[str]) -> None:
    """Blanking magics never changes the number of lines."""
    source = "\n".join(lines)
    assert blank_magics(source).count("\n") == source.count("\n")


CODE_LINES = st.sampled_from(
    [
        "x = 1",
        "",
        "def f(a):\n    return a",
        "!ls -l",
        "%time f(1)",
        "files = !ls",
        "# cat comments",
        "# why?",
        's = """\n# %%\n# !no\n"""',
        "print('#', \"it's\")",
        "x?",
    ]
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(CODE_LINES, min_size=1, max_size=5), min_size=1, max_size=5))
def test_code_cells_survive_the_notebook(written: list[list[str]]) -> None:
    """The code of every cell is unchanged in the notebook, except for blank lines around it."""
    code = [stripped for cell in written if (stripped := "\n".join(cell).strip("\n"))]
    source = "".join(f"# %%\n{cell}\n\n" for cell in code)
    cells = json.loads(to_notebook(source or "# %%\n"))["cells"]
    assert [text for cell in cells if (text := "".join(cell["source"]))] == code
