"""The sweep file: its keys, its schema, and the lines of its mistakes."""

from __future__ import annotations

import importlib
import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanbench import UsageError
from fanbench.results.scales import Scale
from fanbench.sweeps.spec import MaxFailures, SweepSpec, TaskChoice, models_from
from fanbench.sweeps.sweep_file import SCHEMA, Loaded, read_sweep_file, schema_text, sweep_schema
from fanbench.wire.messages import Citation
from fanbench.wire.metadata import Metadata

WHOLE = """\
output = "out"
repeats = 3
models = ["gemini-*"]
models_from = "models.txt"
datasets = ["me/all"]
include_source = true
tasks = [
  "tasks/*.py",
  "My Task",
  { file = "tasks/b.py", task = "one", datasets = [] },
]

[limits]
concurrency = 4
streams = 5
downloads = 6
max_cost = 2.5
timeout = 60
deadline = 600.5
poll_interval = 10

[policy]
retry_errored = 2
max_failures = "10%"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the files that `WHOLE` names."""
    (tmp_path / "tasks").mkdir()
    for name in ("b.py", "a.py", "notes.txt"):
        (tmp_path / "tasks" / name).touch()
    (tmp_path / "models.txt").write_text("claude-haiku-4-5\n")
    return tmp_path


def read(folder: Path, text: str) -> SweepSpec:
    (folder / "sweep.toml").write_text(text)
    return read_sweep_file(folder / "sweep.toml")


# --- The sweep file ---


def test_a_sweep_file_can_set_everything(folder: Path) -> None:
    """Relative paths start at the folder of the file."""
    assert read(folder, WHOLE) == SweepSpec(
        tasks=(
            TaskChoice(file=folder / "tasks/a.py"),
            TaskChoice(file=folder / "tasks/b.py"),
            TaskChoice(slug="my-task"),
            TaskChoice(file=folder / "tasks/b.py", name="one", datasets=()),
        ),
        datasets=("me/all",),
        models=("gemini-*", "claude-haiku-4-5"),
        repeats=3,
        output=folder / "out",
        include_source=True,
        concurrency=4,
        streams=5,
        downloads=6,
        max_cost=2.5,
        timeout=60.0,
        deadline=600.5,
        poll_interval=10.0,
        retry_errored=2,
        max_failures=MaxFailures(10.0, percent=True),
    )


def test_paths_of_a_sweep_file_are_absolute(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are absolute even if the file was named by a relative path."""
    (folder / "sweep.toml").write_text('tasks = ["tasks/a.py"]\noutput = "out"\n')
    monkeypatch.chdir(folder)
    spec = read_sweep_file(Path("sweep.toml"))
    assert (spec.tasks[0].file, spec.output) == (folder / "tasks/a.py", folder / "out")


def test_tasks_may_be_tables(folder: Path) -> None:
    """Each `[[tasks]]` is one task, and its datasets apply to all files of its pattern."""
    spec = read(folder, '[[tasks]]\nfile = "tasks/*.py"\ndatasets = ["a/b"]\n[[tasks]]\nslug = "Me/x"\n')
    assert spec.tasks == (
        TaskChoice(file=folder / "tasks/a.py", datasets=("a/b",)),
        TaskChoice(file=folder / "tasks/b.py", datasets=("a/b",)),
        TaskChoice(slug="me/x"),
    )


def test_scales_may_be_declared(folder: Path) -> None:
    """A scale applies to all files of its pattern, or to a slug; each of its two keys has a default."""
    spec = read(
        folder,
        '[[tasks]]\nfile = "tasks/*.py"\nscale = [0, 100]\n'
        '[[tasks]]\nslug = "x"\nscale = [-1.5, 2]\nhigher_is_better = false\n'
        '[[tasks]]\nslug = "y"\nhigher_is_better = false\n',
    )
    assert spec.tasks == (
        TaskChoice(file=folder / "tasks/a.py", scale=Scale(0, 100)),
        TaskChoice(file=folder / "tasks/b.py", scale=Scale(0, 100)),
        TaskChoice(slug="x", scale=Scale(-1.5, 2, higher_is_better=False)),
        TaskChoice(slug="y", scale=Scale(0, 1, higher_is_better=False)),
    )


def test_pages_may_be_declared(folder: Path) -> None:
    """What a table says about pages is for all files of its pattern; keys that are not there say nothing."""
    spec = read(
        folder,
        '[[tasks]]\nfile = "tasks/*.py"\ntags = ["a", "b"]\nprovenance = ""\n'
        '[[tasks.citations]]\nurl = "https://a.org"\n'
        '[[tasks]]\nfile = "tasks/b.py"\ndescription = " D. "\n',
    )
    page = Metadata(tags=("a", "b"), provenance="", citations=(Citation(url="https://a.org"),))
    assert spec.tasks == (
        TaskChoice(file=folder / "tasks/a.py", page=page),
        TaskChoice(file=folder / "tasks/b.py", page=page),
        TaskChoice(file=folder / "tasks/b.py", page=Metadata(description="D.")),
    )


def test_an_empty_sweep_file_is_valid(folder: Path) -> None:
    """Flags may give everything."""
    assert read(folder, "") == SweepSpec()


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("repeats = 3", "repeats = 0", 2, "repeats takes a whole number >= 1"),
        ("repeats = 3", "repeats = 1001", 2, "repeats takes a whole number <= 1000"),
        ("repeats = 3", "repeats = 3.0", 2, "repeats takes a whole number, not a number"),
        ("repeats = 3", "repeats = true", 2, "repeats takes a whole number, not true or false"),
        ("repeats = 3", "repeats = '''\n'''", 2, "repeats takes a whole number, not text in quotes"),
        ("repeats = 3", "repeats = 3 4", 2, "Expected newline"),
        ("repeats = 3", "repeats = [", 3, "Invalid value"),
        ("repeats = 3", "repeats", 2, "Expected '='"),
        ("repeats", "repeat", 2, "Unknown key 'repeat'; did you mean 'repeats'?"),
        ("repeats = 3", "timeout = 3", 2, r"'timeout' belongs in the table \[limits\]"),
        ("repeats = 3", "all_models = true", 3, "models and all_models = true cannot be used together"),
        ('output = "out"', "output = 2020-01-01", 1, "output takes text in quotes, not a date"),
        ('["gemini-*"]', "[]", 3, "models is empty"),
        ('"gemini-*"', '" "', 3, "models is empty"),
        ('["gemini-*"]', '"gemini-*"', 3, "models takes a list, not text in quotes"),
        ("models.txt", "no.txt", 4, "no.txt: The file does not exist"),
        ("models.txt", "tasks", 4, "tasks: This is a folder"),
        ("me/all", "all", 5, "datasets takes names of the form OWNER/DATASET"),
        ('"My Task"', '"+"', 9, "'\\+' is not a task name"),
        ('"My Task"', '"no/*.py"', 9, r"no/\*\.py: No task file matches"),
        ('"My Task"', "7", 9, "tasks takes text in quotes or a table, not a whole number"),
        ('task = "one", ', "name = 1, ", 10, "Unknown key 'name'"),
        ('task = "one", ', 'slug = "x", ', 10, "The task has both file and slug"),
        ('file = "tasks/b.py", task = "one", ', "", 10, "The task has neither file nor slug"),
        ('file = "tasks/b.py", task', 'slug = "x", task', 10, "task can be used with file only"),
        ('file = "tasks/b.py", task = "one", ', 'slug = "x", ', 10, "datasets can be used with file only"),
        ("datasets = [] }", 'datasets = ["x"] }', 10, "datasets takes names of the form OWNER/DATASET"),
        (
            "datasets = [] }",
            "scale = [1, 0] }",
            10,
            "scale takes two finite numbers, the lower one first, not 1 and 0",
        ),
        ("datasets = [] }", "scale = [1, 1] }", 10, "the lower one first, not 1 and 1"),
        ("datasets = [] }", "scale = [nan, 1] }", 10, "the lower one first, not nan and 1"),
        ("datasets = [] }", "scale = [0, inf] }", 10, "the lower one first, not 0 and inf"),
        ("datasets = [] }", "scale = [-1e308, 1e308] }", 10, "scale takes two finite numbers"),
        ("datasets = [] }", 'scale = ["0", 1] }', 10, "scale takes a number, not text in quotes"),
        (
            "datasets = [] }",
            "scale = [0, 1, 2] }",
            10,
            "scale takes two numbers, the lowest and the highest value",
        ),
        ("datasets = [] }", "scale = 100 }", 10, "scale takes a list, not a whole number"),
        ("datasets = [] }", "higher_is_better = 0 }", 10, "higher_is_better takes true or false"),
        ("datasets = [] }", "tags = [' '] }", 10, "tags is empty"),
        (
            "datasets = [] }",
            f"provenance = '{'x' * 4001}' }}",
            10,
            "The provenance has more than 4,000 charac",
        ),
        ("datasets = [] }", "citations = ['a.org'] }", 10, "citations takes a table, not text in quotes"),
        (
            "datasets = [] }",
            "citations = [{ title = 'A' }] }",
            10,
            "citations: Object missing required field",
        ),
        ("datasets = [] }", "citations = [{ url = 'x:y' }] }", 10, "The citation 'x:y' is not an http"),
        ("datasets = [] }", "citations = [{ urk = 'a.org' }] }", 10, "did you mean 'url'?"),
        (
            'file = "tasks/b.py", task = "one", datasets',
            'slug = "x", tags',
            10,
            "tags can be used with file only",
        ),
        ("concurrency = 4", "concurrency = -1", 14, "concurrency takes a whole number >= 1"),
        ("concurrency = 4", "concurency = 4", 14, "did you mean 'concurrency'?"),
        ("concurrency = 4", "concurrency = 1" + "0" * 5000, 24, "digits"),
        ("timeout = 60", "timeout = nan", 18, "timeout takes a number > 0"),
        ("timeout = 60", "timeout = inf", 18, "timeout takes a number, not inf"),
        ("timeout = 60", "timeout = 0", 18, "timeout takes a number > 0"),
        ("timeout = 60", "timeout.seconds = 60", 18, "timeout takes a number, not a table"),
        ("[limits]", "[[limits]]", 13, "limits takes a table, not a list"),
        ("[policy]", "[police]", 22, "did you mean 'policy'?"),
        ("retry_errored = 2", 'cancel = "some"', 23, 'cancel takes "all", "never" or "queued", not \'some\''),
        ('"10%"', '"101%"', 24, "max_failures takes a whole number, or a percentage"),
        ('"10%"', "0.5", 24, "max_failures takes a whole number or text in quotes, not a number"),
        ('"10%"', '"10%', 24, "Illegal character"),
    ],
)
def test_a_mistake_is_reported_with_its_line(
    folder: Path, old: str, new: str, line: int, message: str
) -> None:
    """The error names the line and the mistake."""
    assert WHOLE.count(old) == 1
    with pytest.raises(UsageError, match=message) as caught:
        read(folder, WHOLE.replace(old, new))
    assert str(caught.value).startswith(f"{folder / 'sweep.toml'}:{line}: ")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("repeats = 0", "repeats = 3"),
        ("[limits]\ntimeout = 0", "timeout = 600"),
        ("[policy]\nmax_failures = -1", 'max_failures = 5 or max_failures = "10%"'),
        ('[[tasks]]\nfile = "a.py"\ndatasets = [1]', 'datasets = ["owner/dataset"]'),
        (
            '[[tasks]]\nfile = "a.py"\ncitations = [{ url = 1 }]',
            'citations = [{ title = "A paper", url = "https://example.org/paper" }]',
        ),
        ("limits = 1", "[limits] on a line, and below it concurrency = 16"),
        ("tasks = []", 'tasks = ["tasks/*.py", "my-task"]'),
    ],
)
def test_a_mistake_comes_with_an_example(folder: Path, text: str, hint: str) -> None:
    """The hint has the examples of the schema."""
    with pytest.raises(UsageError) as caught:
        read(folder, text)
    assert caught.value.hint == f"Write for example: {hint}"


@pytest.mark.parametrize("name", ["sweep.toml", "models.txt"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, ": The file does not exist"),
        (b"# \n\n\xff", ":3: The file is not UTF-8"),
        ("folder", ": This is a folder"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: bytes | str | None, message: str
) -> None:
    """The error names the file and the reason."""
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content:
        path.mkdir()
    with pytest.raises(UsageError) as caught:
        _ = read_sweep_file(path) if name == "sweep.toml" else models_from(path)
    assert str(caught.value).startswith(f"{path}{message}")


def test_byte_order_marks_and_windows_lines_are_accepted(folder: Path) -> None:
    """Lines are counted as an editor shows them."""
    (folder / "sweep.toml").write_bytes(b"\xef\xbb\xbfrepeats = 2\r\n\r\nmodels = 1\r\n")
    with pytest.raises(UsageError, match=":3: models takes a list"):
        read_sweep_file(folder / "sweep.toml")


def test_all_models_and_a_list_of_some(folder: Path) -> None:
    """`all_models` and a list of models cannot be used together."""
    with pytest.raises(UsageError, match=":2: models_from and all_models = true cannot be used together"):
        read(folder, 'all_models = true\nmodels_from = "models.txt"\n')


def test_deep_nesting_is_an_error(folder: Path) -> None:
    """Deep nesting raises a usage error, not a RecursionError."""
    with pytest.raises(UsageError, match="nested too deeply"):
        read(folder, "models = " + "[" * 10_000 + "]" * 10_000)


@given(st.text(st.characters(exclude_characters="*?[", codec="utf-8"), max_size=60))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_is_read_or_refused(tmp_path: Path, text: str) -> None:
    """Any text is accepted or refused with the name of the file."""
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8", newline="")
    try:
        read_sweep_file(path)
    except UsageError as error:
        assert str(error).startswith(f"{path}:")  # noqa: PT017 - most texts are refused, not all


# --- The schema ---


def test_the_shipped_schema_is_up_to_date() -> None:
    """The shipped schema is what `schema_text` returns."""
    assert SCHEMA.read_text(encoding="utf-8") == schema_text()


# The package has no type hints.
VALIDATOR = importlib.import_module("jsonschema").Draft202012Validator(sweep_schema())


def accepts(content: Any) -> bool:
    return bool(VALIDATOR.is_valid(content))


def test_a_sweep_file_can_name_the_judge(folder: Path) -> None:
    """The judge is one name, and an empty one is a mistake."""
    assert read(folder, 'judge = "my-judge"\n').judge == "my-judge"
    with pytest.raises(UsageError, match=r"sweep\.toml:1: judge"):
        read(folder, 'judge = ""\n')


def test_the_schema_accepts_a_whole_file() -> None:
    """A file with every key is valid by the schema."""
    assert accepts(tomllib.loads(WHOLE))


# Good, nearly good and odd values, of types that TOML has. (JSON's schemas take 3.0 for a whole number.)
TEXTS = st.sampled_from(["", " ", "x", "a.py", "a/b", "a/b/c", "10%", "100.0%", "101%", "1e1%", "*.py"])
FLAT = st.one_of(
    st.booleans(),
    st.integers(-2, 1002),
    st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer()),
    TEXTS,
)
TASKS = st.dictionaries(
    st.sampled_from(["file", "slug", "task", "datasets", "tags", "x"]),
    FLAT | st.lists(TEXTS, max_size=2),
    max_size=3,
)
VALUES = st.one_of(FLAT, st.lists(TEXTS, max_size=3), st.lists(FLAT | TASKS, max_size=3), TASKS)
KEYS = {
    (): [
        "tasks",
        "datasets",
        "models",
        "models_from",
        "all_models",
        "efforts",
        "agents",
        "judge",
        "repeats",
        "output",
        "include_source",
        "x",
    ],
    ("limits",): [
        *("concurrency", "streams", "downloads", "max_cost", "timeout", "deadline", "poll_interval", "x")
    ],
    ("policy",): ["retry_errored", "max_failures", "x"],
}


def tables(*place: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(KEYS[place]), VALUES, max_size=2)


def nested(name: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({name: tables(name)})


def read_well(content: dict[str, Any]) -> bool:
    """Return True if the reader accepts the content, as far as can be seen without its folders."""
    try:
        Loaded(Path("sweep.toml"), as_toml(content))
    except UsageError:
        return False
    return True


@settings(deadline=None)
@given(tables() | nested("limits") | nested("policy") | st.fixed_dictionaries({"tasks": st.lists(TASKS)}))
def test_the_schema_and_the_reader_agree(content: dict[str, Any]) -> None:
    """The schema accepts exactly the files that the reader accepts."""
    assert accepts(content) == read_well(content)


def as_toml(content: dict[str, Any]) -> str:
    return "".join(f"{key} = {in_line(value)}\n" for key, value in content.items())


def in_line(value: Any) -> str:
    match value:
        case dict():
            return "{" + ", ".join(f"{key} = {in_line(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(in_line, value)) + "]"
        case _:
            return json.dumps(value)
