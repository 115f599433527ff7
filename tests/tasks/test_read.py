"""Reading task files and choosing a task by its name."""

from __future__ import annotations

import cProfile
from pathlib import Path

import pytest

from fanbench import TaskFileError, UsageError
from fanbench.tasks import choose_task, raise_for_errors, read_task_file

EXAMPLES = Path(__file__).parents[2] / "examples" / "tasks"

TWO = """\
import kaggle_benchmarks as kbench
@kbench.task(name="Red Fox")
def a(llm): ...
@kbench.task(name="blue_whale")
def b(llm): ...
for task in (a, b):
    task.run(kbench.llm)
"""

HELPED = """\
import kaggle_benchmarks as kbench
@kbench.task(name="Helper", store_run=False)
def a(llm): ...
@kbench.task(name="Main")
def b(llm): return a.run(llm).result
b.run(kbench.llm)
"""


def write(folder: Path, source: str) -> Path:
    (path := folder / "task.py").write_text(source)
    return path


@pytest.mark.parametrize("name", ["red-fox", "Red Fox", "red_fox", "me/red-fox", "Me/Red Fox"])
def test_a_task_is_chosen_by_any_spelling(tmp_path: Path, name: str) -> None:
    """A task is found by its name in any spelling, with or without an owner."""
    assert choose_task(read_task_file(write(tmp_path, TWO)), name).function == "a"


def test_a_missing_task_is_an_error_with_the_closest_slug(tmp_path: Path) -> None:
    """The error for an unknown task lists the file's tasks and suggests the closest."""
    with pytest.raises(TaskFileError) as caught:
        choose_task(read_task_file(write(tmp_path, TWO)), "blue-wale")
    assert caught.value.hint == "Tasks in it: red-fox, blue-whale. Did you mean 'blue-whale'?"


def test_without_a_name_only_a_single_task_is_chosen(tmp_path: Path) -> None:
    """Without a name, the only pushable task is chosen; if there are several, the user has to name one."""
    with pytest.raises(UsageError, match="red-fox, blue-whale"):
        choose_task(read_task_file(write(tmp_path, TWO)), None)
    assert choose_task(read_task_file(write(tmp_path, HELPED)), None).slug == "main"


def test_a_helper_cannot_be_chosen(tmp_path: Path) -> None:
    """A task whose runs are not stored cannot be chosen, because pushing it would give no results."""
    file = read_task_file(write(tmp_path, HELPED))
    with pytest.raises(TaskFileError, match="store_run=False"):
        choose_task(file, "helper")
    assert [task.slug for task in file.pushable] == ["main"]


def test_a_file_with_only_helpers_has_nothing_to_push(tmp_path: Path) -> None:
    """If no task in the file stores its runs, the error lists the tasks that it has."""
    file = read_task_file(write(tmp_path, HELPED.replace('name="Main"', 'name="Main", store_run=False')))
    with pytest.raises(TaskFileError) as caught:
        choose_task(file, None)
    assert caught.value.hint == "Tasks in it: helper, main."


def test_a_name_without_a_slug_is_a_usage_error(tmp_path: Path) -> None:
    """A name like `///`, from which no slug can be derived, raises UsageError rather than TaskFileError."""
    with pytest.raises(UsageError):
        choose_task(read_task_file(write(tmp_path, TWO)), "///")


def test_the_first_error_is_raised(tmp_path: Path) -> None:
    """The exception has the first error's place and fix, and the number of further errors."""
    file = read_task_file(write(tmp_path, TWO.partition("for task")[0]))
    with pytest.raises(TaskFileError) as caught:
        raise_for_errors(file, ["red-fox", "blue-whale"])
    assert (caught.value.line, caught.value.column) == (3, 1)
    assert "a.run(kbench.llm)" in (caught.value.hint or "")
    assert "1 more" in caught.value.message
    raise_for_errors(file, ["red-fox"], allow_no_run=True)


def test_errors_in_other_tasks_do_not_refuse_a_push(tmp_path: Path) -> None:
    """A task that is never run, or shares its slug, is only refused itself; an error at import refuses all."""
    more = TWO + (
        "@kbench.task(name='idle')\ndef c(llm): ...\n@kbench.task(name='red fox')\ndef d(llm): ...\nd.run(1)\n"
    )
    file = read_task_file(write(tmp_path, more))
    raise_for_errors(file, ["blue-whale"])
    for slug in ("idle", "red-fox"):
        with pytest.raises(TaskFileError):
            raise_for_errors(file, ["blue-whale", slug])
    broken = read_task_file(write(tmp_path, more.replace("def c(llm)", "def c(llm) -> str")))
    with pytest.raises(TaskFileError, match="str"):
        raise_for_errors(broken, ["blue-whale"])


def test_a_valid_file_passes(tmp_path: Path) -> None:
    """A file without errors passes, and its tasks have the line and column of their `def`."""
    file = read_task_file(write(tmp_path, TWO))
    raise_for_errors(file, ["red-fox", "blue-whale"])
    assert [(task.slug, task.line, task.column, task.has_run) for task in file.tasks] == [
        ("red-fox", 3, 1, True),
        ("blue-whale", 5, 1, True),
    ]


def test_a_file_is_never_executed(tmp_path: Path) -> None:
    """Reading a file does not execute its code."""
    marker = tmp_path / "ran"
    read_task_file(write(tmp_path, f"open({str(marker)!r}, 'w')\n{TWO}"))
    assert not marker.exists()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_have_no_findings(path: Path) -> None:
    """Each example file passes the check and has one task to push, named like the file."""
    file = read_task_file(path)
    assert file.findings == ()
    assert choose_task(file, None).slug == path.stem.replace("_", "-")


def test_a_line_of_data_costs_little(tmp_path: Path) -> None:
    """Each further line of data costs the same number of calls, and few of them, so that 5 MB take seconds."""

    def count_calls(lines: int) -> int:
        (path := tmp_path / f"data{lines}.py").write_text("".join(f"x{n} = {n}\n" for n in range(lines)))
        profile = cProfile.Profile()
        profile.runcall(read_task_file, path, with_imports=True)
        return sum(entry.callcount for entry in profile.getstats())

    calls = [count_calls(lines) for lines in (1000, 1500, 2000)]
    assert calls[2] - calls[1] < 500 * 140
    assert calls[2] - calls[1] < 1.1 * (calls[1] - calls[0])
