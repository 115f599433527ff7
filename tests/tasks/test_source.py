"""Reading, magics and places."""

from __future__ import annotations

import ast
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fanbench import TaskFileError
from fanbench.tasks.source import MAX_BYTES, blank_magics, char_column, parse, parse_python, read_source


def read_error(path: Path) -> TaskFileError:
    with pytest.raises(TaskFileError) as caught:
        read_source(path)
    return caught.value


@pytest.mark.parametrize(
    ("line", "plain"),
    [
        ("%matplotlib inline", "pass"),
        ("!pip install x", "pass"),
        ("! ls", "pass"),
        ("?len", "pass"),
        ("len?", "pass"),
        ("np.mean??", "pass"),
        ("%time?", "pass"),
        ("files = !ls", "files = None"),
        ("here = %pwd", "here = None"),
        ("%time task.run(llm)", "None; task.run(llm)"),
        ("%timeit -n 1 -r 1 f(x)", "None;" + 13 * " " + "f(x)"),
        ("%time no python", "pass"),
        ("%%time", ""),
    ],
)
def test_a_magic_line_becomes_harmless_python(line: str, plain: str) -> None:
    """Every form of IPython's own syntax gives way to Python that does nothing, in place."""
    assert blank_magics(line) == plain


def test_an_indented_magic_keeps_its_block() -> None:
    """A magic that is all an `if` has does not leave the `if` empty."""
    assert isinstance(parse("if True:\n    !pip install x\n", "f.py").body[0], ast.If)


def test_a_foreign_cell_is_blank_up_to_the_next_marker() -> None:
    """Shell in a `%%bash` cell is not read as Python, blank lines in it or not; the next cell is."""
    source = "# %%\n%%bash\necho (\n\nfor x in *; do\n# %% next\nx = 1\n"
    assert blank_magics(source) == "# %%\n\n\n\n\n# %% next\nx = 1\n"


@pytest.mark.parametrize("magic", ["%%time", "%%capture out", "%%timeit -n 1", "%%prun"])
def test_a_cell_magic_that_runs_python_keeps_its_body(magic: str) -> None:
    """What stands under `%%time` is code of the task file."""
    assert blank_magics(f"{magic}\ntask.run(llm)\n") == "\ntask.run(llm)\n"


def test_a_shell_command_may_go_on_over_lines() -> None:
    """A backslash carries a magic to the next line, which is no Python either."""
    assert blank_magics("!pip install a \\\n    b \\\n    c\nx = 1") == "pass\n\n\nx = 1"


@pytest.mark.parametrize(
    "inside",
    [
        'text = """\n!important\n%s of %s\nwhy?\n"""',
        "text = '''\n# %%\n!important'''",
        "x = (5\n%files)",
        "x = 5 \\\n  % 3",
        "print('a', '''b''', \"it's\", 'it\\'s')  # don't",
    ],
)
def test_what_only_looks_like_a_magic_stays(inside: str) -> None:
    """Long texts and expressions that go over lines are left as they are, also beside real magics."""
    assert blank_magics(f"{inside}\n!ls") == f"{inside}\npass"
    assert parse(f"!ls\n{inside}\n", "f.py")


def test_a_syntax_error_has_its_place_and_a_hint() -> None:
    """The error says file, line and column, counted with the magics in place, and shows the line."""
    with pytest.raises(TaskFileError) as caught:
        parse("!pip install x\n%%time\n\ndef f(:\n", "dir/f.py")
    assert str(caught.value).startswith("dir/f.py:4:7: not valid Python")
    assert caught.value.hint == "The line is: def f(:"


@pytest.mark.parametrize(
    ("source", "hint"),
    [("pip install x\n", "%pip install x"), ("```python\nx\n```\n", "fence")],
)
def test_common_mistakes_get_their_own_hint(source: str, hint: str) -> None:
    """A command without its magic and a pasted Markdown fence are named as such."""
    with pytest.raises(TaskFileError) as caught:
        parse(source, "f.py")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("source", ["x\0 = 1", "(" * 3000, "-" * 300_000 + "1", "a" + ".b" * 100_000])
def test_hostile_text_is_a_task_file_error_or_parses(source: str) -> None:
    """Null bytes and bottomless nesting end in the one error that callers know."""
    try:
        tree = parse(source, "f.py")
    except TaskFileError:
        return
    assert isinstance(tree, ast.Module)


def test_an_invalid_escape_in_a_text_is_no_affair_of_the_check() -> None:
    """Python's warning about "\\d" is not raised or printed."""
    assert parse('x = "\\d"\n', "f.py").body


def test_columns_count_characters() -> None:
    """A column after accented text is that of the editor, not of the bytes."""
    source = "'éé'; x"
    node = parse(source, "f.py").body[1]
    assert char_column([source], node.lineno, node.col_offset) == 7


def test_windows_text_reads_like_any_other(tmp_path: Path) -> None:
    """A byte order mark and CRLF lines do not show."""
    (path := tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfx = 1\r\ny = 2\r\n")
    assert read_source(path) == "x = 1\ny = 2\n"


def test_unusable_files_say_what_is_wrong(tmp_path: Path) -> None:
    """Missing, a folder, another suffix, too large, not UTF-8, empty: each has its own words."""
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "task.ipynb").write_text("{}")
    (tmp_path / "big.py").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "latin.py").write_bytes(b"x = 1\ny = '\xe9'\n")
    (tmp_path / "empty.py").write_text(" \n\n")
    assert "no such file" in str(read_error(tmp_path / "missing.py"))
    assert "directory" in str(read_error(tmp_path / "folder.py"))
    assert "jupytext" in (read_error(tmp_path / "task.ipynb").hint or "")
    assert "larger than 5 MB" in str(read_error(tmp_path / "big.py"))
    assert str(read_error(tmp_path / "latin.py")) == f"{tmp_path}/latin.py:2: the file is not UTF-8 text."
    assert "empty" in str(read_error(tmp_path / "empty.py"))


def test_a_file_at_the_limit_is_read(tmp_path: Path) -> None:
    """5 MB exactly is allowed."""
    (path := tmp_path / "a.py").write_bytes(b"#" * MAX_BYTES)
    assert len(read_source(path)) == MAX_BYTES


def test_a_name_that_no_file_can_have_is_an_error() -> None:
    """A null byte in the path does not get out as ValueError."""
    assert read_error(Path("a\0.py")).file == "a\0.py"


@pytest.fixture
def threads_take_turns() -> Iterator[None]:
    """Every collection of garbage, so every few nodes of a tree, is a moment for another thread."""

    def turn(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(turn)
    gc.set_threshold(20)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(turn)


@pytest.mark.usefixtures("threads_take_turns")
def test_threads_that_parse_at_once() -> None:
    """Python 3.11.7 makes a SystemError of it."""
    source = "\n".join(f"x{line} = f({line}, [a, b + {line}])" for line in range(200))
    with ThreadPoolExecutor(4) as threads:
        trees = list(threads.map(parse_python, [source] * 40))
    assert {len(tree.body) for tree in trees} == {200}
