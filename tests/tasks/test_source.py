"""Reading task files, replacing magics, and locating errors."""

from __future__ import annotations

import ast
import gc
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fanbench import TaskFileError
from fanbench.tasks.source import MAX_BYTES, blank_magics, char_column, parse, parse_python, read_text


def read_error(path: Path) -> TaskFileError:
    with pytest.raises(TaskFileError) as caught:
        read_text(path)
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
    """Every form of IPython's own syntax is replaced by Python that does nothing, in the same place."""
    assert blank_magics(line) == plain


def test_commented_magics_count_as_the_push_restores_them() -> None:
    """`# %time f()` runs in the notebook that is pushed, and the body of `# %%writefile` does not."""
    source = "# %%\n# %time f.run(llm)\n# %%\n# %%writefile other.py\nnot python\n# %%\nx = 1\n"
    assert ast.unparse(parse(source, "f.py")).split("\n") == ["None", "f.run(llm)", "x = 1"]


def test_a_commented_magic_of_a_notebook_is_a_comment() -> None:
    """A magic that is commented out in a notebook does not run, and so is no code."""
    assert parse("# %time f()\nx = 1", "f.ipynb", cell=1).body[0].lineno == 2


def test_an_indented_magic_keeps_its_block() -> None:
    """A magic that is the whole body of an `if` is replaced by `pass`."""
    assert isinstance(parse("if True:\n    !pip install x\n", "f.py").body[0], ast.If)


def test_a_foreign_cell_is_blank_up_to_the_next_marker() -> None:
    """A `%%bash` cell is blanked, blank lines included, up to the next cell marker."""
    source = "# %%\n%%bash\necho (\n\nfor x in *; do\n# %% next\nx = 1\n"
    assert blank_magics(source) == "# %%\n\n\n\n\n# %% next\nx = 1\n"


@pytest.mark.parametrize("magic", ["%%time", "%%capture out", "%%timeit -n 1", "%%prun"])
def test_a_cell_magic_that_runs_python_keeps_its_body(magic: str) -> None:
    """The body of a cell magic such as `%%time` is kept as Python."""
    assert blank_magics(f"{magic}\ntask.run(llm)\n") == "\ntask.run(llm)\n"


def test_a_shell_command_may_span_lines() -> None:
    """The lines that continue a magic after a backslash are blanked, too."""
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
def test_what_only_looks_like_a_magic_is_kept(inside: str) -> None:
    """Strings and expressions that span lines are kept, also next to real magics."""
    assert blank_magics(f"{inside}\n!ls") == f"{inside}\npass"
    assert parse(f"!ls\n{inside}\n", "f.py")


def test_a_syntax_error_has_its_place_and_a_hint() -> None:
    """A syntax error has the file, line and column in the original text, and its hint shows the line."""
    with pytest.raises(TaskFileError) as caught:
        parse("!pip install x\n%%time\n\ndef f(:\n", "dir/f.py")
    assert str(caught.value).startswith("dir/f.py:4:7: Not valid Python")
    assert caught.value.hint == "The line is: def f(:"


@pytest.mark.parametrize(
    ("source", "hint"),
    [("pip install x\n", "%pip install x"), ("```python\nx\n```\n", "fence")],
)
def test_common_mistakes_get_their_own_hint(source: str, hint: str) -> None:
    """A shell command without `!` and a Markdown fence each get a hint of their own."""
    with pytest.raises(TaskFileError) as caught:
        parse(source, "f.py")
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("source", ["x\0 = 1", "(" * 3000, "-" * 300_000 + "1", "a" + ".b" * 100_000])
def test_hostile_text_is_a_task_file_error_or_parses(source: str) -> None:
    """Null bytes and very deep nesting raise TaskFileError at most."""
    try:
        tree = parse(source, "f.py")
    except TaskFileError:
        return
    assert isinstance(tree, ast.Module)


def test_an_invalid_escape_is_not_reported() -> None:
    """Python's warning about "\\d" in a string is neither raised nor printed."""
    assert parse('x = "\\d"\n', "f.py").body


def test_columns_count_characters() -> None:
    """Columns count characters, as editors do, rather than bytes."""
    source = "'éé'; x"
    node = parse(source, "f.py").body[1]
    assert char_column([source], node.lineno, node.col_offset) == 7


def test_windows_line_ends_are_normalized(tmp_path: Path) -> None:
    """A byte order mark is dropped, and CRLF becomes a newline."""
    (path := tmp_path / "a.py").write_bytes(b"\xef\xbb\xbfx = 1\r\ny = 2\r\n")
    assert read_text(path) == "x = 1\ny = 2\n"


def test_each_unusable_file_has_its_own_error(tmp_path: Path) -> None:
    """The error states whether a file is missing, a folder, no task file, too large, not UTF-8, or empty."""
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "task.md").write_text("x = 1")
    (tmp_path / "big.py").write_bytes(b"#" * (MAX_BYTES + 1))
    (tmp_path / "latin.py").write_bytes(b"x = 1\ny = '\xe9'\n")
    (tmp_path / "empty.py").write_text(" \n\n")
    assert "does not exist" in str(read_error(tmp_path / "missing.py"))
    assert "directory" in str(read_error(tmp_path / "folder.py"))
    assert "must end in .py or .ipynb" in str(read_error(tmp_path / "task.md"))
    assert "larger than 5 MB" in str(read_error(tmp_path / "big.py"))
    assert str(read_error(tmp_path / "latin.py")) == f"{tmp_path}/latin.py:2: The file is not UTF-8 text."
    assert "empty" in str(read_error(tmp_path / "empty.py"))


def test_a_file_at_the_limit_is_read(tmp_path: Path) -> None:
    """A file of exactly 5 MB is accepted."""
    (path := tmp_path / "a.py").write_bytes(b"#" * MAX_BYTES)
    assert len(read_text(path)) == MAX_BYTES


def test_an_impossible_path_is_an_error() -> None:
    """A path with a null byte raises TaskFileError, not ValueError."""
    assert read_error(Path("a\0.py")).file == "a\0.py"


@pytest.fixture
def threads_take_turns() -> Iterator[None]:
    """Lets another thread run at every garbage collection, that is, every few nodes of a tree."""

    def turn(phase: str, info: dict[str, int]) -> None:
        time.sleep(0)

    before = gc.get_threshold()
    gc.callbacks.append(turn)
    gc.set_threshold(20)
    yield
    gc.set_threshold(*before)
    gc.callbacks.remove(turn)


@pytest.mark.usefixtures("threads_take_turns")
def test_threads_may_parse_at_once() -> None:
    """Parsing in several threads at once does not raise SystemError, as it does in Python 3.11.7 without a lock."""
    source = "\n".join(f"x{line} = f({line}, [a, b + {line}])" for line in range(200))
    with ThreadPoolExecutor(4) as threads:
        trees = list(threads.map(parse_python, [source] * 40))
    assert {len(tree.body) for tree in trees} == {200}
