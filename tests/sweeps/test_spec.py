"""What a user asks for: arguments, flags and lists of models, and the errors for mistakes in them."""

from __future__ import annotations

import io
import math
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench import TaskFileError, UsageError
from fanbench.sweeps.spec import (
    MaxFailures,
    Rules,
    SweepSpec,
    TaskChoice,
    classify,
    merge,
    models_from,
    rules_of,
    to_json,
    to_path,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the command."""
    (tmp_path / "tasks").mkdir()
    for name in ("b.py", "a.py", "notes.txt"):
        (tmp_path / "tasks" / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


# --- Arguments ---


def test_words_are_files_slugs_or_the_sweep_file(folder: Path) -> None:
    """The meaning of an argument depends on its ending, or on what exists."""
    (folder / "plain").touch()
    (folder / "empty").mkdir()
    words = classify(
        ["x.py", "x.ipynb", "My Task", "me/x", "empty", "plain", "a.py::one", Path("tasks/a.py"), "my.toml"]
    )
    assert words.tasks == (
        TaskChoice(file=Path("x.py")),
        TaskChoice(file=Path("x.ipynb")),
        TaskChoice(slug="my-task"),
        TaskChoice(slug="me/x"),
        TaskChoice(slug="empty"),
        TaskChoice(file=Path("plain")),
        TaskChoice(file=Path("a.py"), name="one"),
        TaskChoice(file=Path("tasks/a.py")),
    )
    assert words.sweep_file == Path("my.toml")


def test_a_folder_stands_for_its_task_files(folder: Path) -> None:
    """A folder gives the Python files and notebooks directly in it, sorted, without hidden ones."""
    (folder / "tasks/c.ipynb").touch()
    (folder / "tasks/.hidden.py").touch()
    (folder / "tasks/deep").mkdir()
    (folder / "tasks/deep/d.py").touch()
    expected = [Path("tasks/a.py"), Path("tasks/b.py"), Path("tasks/c.ipynb")]
    for word in ("tasks", "tasks/", "./tasks", Path("tasks")):
        found = classify([word]).tasks
        assert [choice.file for choice in found] == expected
        assert all(choice.in_folder for choice in found)


def test_a_folder_that_cannot_be_read_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder without permission is not taken for an empty one, nor for the name of a task."""

    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    for word in ("tasks", "tasks/"):
        with pytest.raises(
            TaskFileError, match=r"tasks: The folder cannot be read: Permission denied\."
        ) as caught:
            classify([word])
        assert str(caught.value.hint).startswith("Run `chmod u+rx tasks`")
    assert classify(["elsewhere"]).tasks[0].slug == "elsewhere"


def test_patterns_are_expanded_where_no_shell_does_it(folder: Path) -> None:
    """Patterns give Python files and notebooks, sorted, and a file named like a pattern is itself."""
    (folder / "c[1].py").touch()
    (folder / "tasks/c.ipynb").touch()
    (folder / "tasks/.ipynb_checkpoints").mkdir()
    (folder / "tasks/.ipynb_checkpoints/c-checkpoint.ipynb").touch()
    files = [choice.file for choice in classify(["tasks/*", "**/a.py", "c[1].py"]).tasks]
    assert files == [
        Path("tasks/a.py"),
        Path("tasks/b.py"),
        Path("tasks/c.ipynb"),
        Path("tasks/a.py"),
        Path("c[1].py"),
    ]
    assert [choice.file for choice in classify(["**/*.ipynb"]).tasks] == [Path("tasks/c.ipynb")]


def test_patterns_reach_as_deep_as_they_say(folder: Path) -> None:
    """`**` stands for any number of folders, and the files are sorted."""
    names = [f"{name}{number}.py" for name in "zyxwv" for number in range(9, 0, -1)]
    (folder / "tasks/deep/er").mkdir(parents=True)
    for at, name in enumerate(names):
        (folder / ("tasks", "tasks/deep", "tasks/deep/er")[at % 3] / name).touch()
    found = [str(choice.file) for choice in classify(["tasks/**/*.py"]).tasks]
    assert found == sorted(found)
    assert {Path(each).name for each in found} == {"a.py", "b.py", *names}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["tasks/*.txt"], "tasks/\\*.txt: No task file matches"),
        (["no*"], "no\\*: No task file matches"),
        (["a.toml", "b.toml"], "Give one sweep file"),
        (["."], "\\.: There are no task files in this folder"),
        (["./x"], "neither a task file nor"),
        (["a.py::"], "names no task"),
        (["~nobody-is-called-so/a.py"], "home folder"),
        ([""], "not a task name"),
        (["\0"], "not a task name"),
    ],
)
def test_words_that_mean_nothing_are_refused(folder: Path, words: list[str], message: str) -> None:
    """Arguments that can be neither files nor tasks are refused."""
    with pytest.raises((UsageError, TaskFileError), match=message):
        classify(words)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="*?["), max_size=20), max_size=3))
def test_any_words_are_sorted_or_refused(words: list[str]) -> None:
    """Any text gives tasks or a usage error. (Patterns are left out, as one might match the whole disk.)"""
    try:
        meant = classify(words)
    except (UsageError, TaskFileError):
        return
    assert all((choice.file is None) != (choice.slug is None) for choice in meant.tasks)


# --- Models ---


def test_models_come_one_per_line(tmp_path: Path) -> None:
    """Comments and empty lines are skipped."""
    path = tmp_path / "models.txt"
    path.write_text("# all of them\ngemini-*  # the fast ones\n\n  google/gemma@2  \na#b\n")
    assert models_from(path) == ["gemini-*", "google/gemma@2", "a#b"]


def test_models_may_come_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    """`-` reads the models from stdin."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\n\nb\n")))
    assert models_from("-") == ["a", "b"]


def test_models_from_stdin_that_are_not_text(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that are not UTF-8, which Python reads as surrogates, are an error with the line; a mark is skipped."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbfa\nb\xff\n")))
    with pytest.raises(UsageError, match="stdin:2: The file is not UTF-8"):
        models_from("-")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb c\n", ":2: The line has more than one word"),
        ("a,b", ":1: The line has"),
        ("# a\n", " names no model"),
    ],
)
def test_an_invalid_list_of_models_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """The error has the line of the mistake."""
    path = tmp_path / "models.txt"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        models_from(path)
    assert str(caught.value).startswith(f"{path}{message}")


# --- Flags ---

BASE = SweepSpec(
    tasks=(TaskChoice(slug="a"),), models=("m",), repeats=3, retry_errored=2, timeout=5.0, include_source=True
)


def test_flags_override_the_file_where_they_are_given() -> None:
    """Zero counts as given; None, empty and False do not."""
    merged = merge(
        BASE,
        tasks=[],
        models=(),
        all_models=False,
        include_source=False,
        repeats=None,
        retry_errored=0,
        timeout=9.0,
        output="out",
        max_failures="5",
    )
    assert merged == SweepSpec(
        tasks=(TaskChoice(slug="a"),),
        models=("m",),
        repeats=3,
        retry_errored=0,
        timeout=9.0,
        include_source=True,
        output=Path("out"),
        max_failures=MaxFailures(5.0),
    )


def test_models_and_all_models_replace_each_other() -> None:
    """A flag for one of them replaces the other in the file."""
    assert merge(BASE, all_models=True).models == ()
    named = merge(SweepSpec(all_models=True), models=["m"])
    assert (named.models, named.all_models) == (("m",), False)
    with pytest.raises(UsageError, match="cannot be used together"):
        merge(None, models=["m"], all_models=True)


def test_an_unknown_flag_is_a_bug() -> None:
    """An unknown name raises TypeError, as it is a mistake in the program."""
    with pytest.raises(TypeError):
        merge(None, modles=["m"])


# --- Rules ---


def test_the_maximum_of_repeats() -> None:
    """There may be a thousand repeats."""
    assert rules_of(SweepSpec(repeats=1000)) == Rules()


def test_rules_have_defaults() -> None:
    """What was not given has the default of `Rules`."""
    assert rules_of(SweepSpec()) == Rules()
    assert rules_of(SweepSpec(timeout=3, streams=2)) == Rules(timeout=3, streams=2)


@pytest.mark.parametrize("name", ["timeout", "deadline", "max_cost", "poll_interval"])
@pytest.mark.parametrize("value", [0, -1, -0.0, math.nan, math.inf, -math.inf])
def test_times_and_costs_are_above_zero_and_finite(name: str, value: float) -> None:
    """Times and costs must be positive and finite."""
    with pytest.raises(UsageError, match=f"{name} must be more than 0"):
        rules_of(merge(None, **{name: value}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, value) for name in ("repeats", "concurrency", "streams", "downloads") for value in (0, -1)),
        ("retry_errored", -1),
        ("repeats", 1001),
    ],
)
def test_numbers_are_in_their_range(name: str, value: int) -> None:
    """Counts below one, negative retries and too many repeats are refused."""
    with pytest.raises(UsageError, match=f"{name} must be"):
        rules_of(merge(None, **{name: value}))


# --- For the journal ---


def from_json(text: str) -> SweepSpec:
    return msgspec.json.decode(text, type=SweepSpec, dec_hook=to_path)


def test_a_spec_comes_back_from_the_journal(tmp_path: Path) -> None:
    """Every field of a spec survives JSON."""
    tasks = (TaskChoice(file=tmp_path / "a.py", name="a", datasets=("me/d",)), TaskChoice(slug="x"))
    limits = {
        "concurrency": 4,
        "streams": 5,
        "downloads": 6,
        "max_cost": 2.5,
        "timeout": 6.0,
        "deadline": 7.5,
    }
    policy = {
        "poll_interval": 9.0,
        "confirm_within": 8.0,
        "retry_errored": 2,
        "max_failures": "10%",
        "include_source": True,
        "cancel": "queued",
        "cancel_on_interrupt": True,
        "adopt": True,
        "enqueue": "auto",
    }
    more = {"datasets": ["a/b"], "models": ["m"], "judge": "j", "output": tmp_path / "out", "repeats": 3}
    more |= {
        "rerun": "t:m",
        "benchmark": "a/b",
        "benchmark_tasks": ("a/t",),
        "efforts": ["low"],
        "agents": ["coder-1"],
    }
    spec = merge(SweepSpec(tasks=tasks), **limits, **policy, **more)
    assert not [name for name in spec.__struct_fields__ if getattr(spec, name) in (None, ())]
    assert from_json(to_json(spec)) == spec


def test_paths_in_the_journal_are_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saved paths do not depend on the current folder."""
    monkeypatch.chdir(tmp_path)
    spec = SweepSpec(tasks=(TaskChoice(file=Path("a.py")),), output=Path("out"))
    saved = from_json(to_json(spec))
    assert (saved.tasks[0].file, saved.output) == (tmp_path / "a.py", tmp_path / "out")


def test_a_path_that_is_not_unicode_is_refused() -> None:
    """A path that JSON cannot hold raises a usage error."""
    with pytest.raises(UsageError, match="not Unicode"):
        to_json(SweepSpec(output=Path("out\udcff")))


@pytest.mark.parametrize("name", ["", " "])
def test_an_empty_benchmark_is_refused(name: str) -> None:
    """An empty name, such as from an unset variable, does not mean that the sweep of the folder continues."""
    with pytest.raises(UsageError, match="The name of a benchmark is empty"):
        merge(None, benchmark=name)


def test_an_empty_output_name_is_refused() -> None:
    """An empty name, such as from an unset variable, does not mean the current folder."""
    with pytest.raises(UsageError, match="empty"):
        merge(None, output="")
    assert merge(None, output=".").output == Path()
