"""Whole files, and the task that is meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from fanbench import TaskFileError, UsageError
from fanbench.tasks import choose_task, read_task_file, refuse_errors

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
    """Names are compared as slugs, without the owner."""
    assert choose_task(read_task_file(write(tmp_path, TWO)), name).function == "a"


def test_a_task_that_is_not_there_is_an_error_with_the_closest(tmp_path: Path) -> None:
    """The error lists what is there."""
    with pytest.raises(TaskFileError) as caught:
        choose_task(read_task_file(write(tmp_path, TWO)), "blue-wale")
    assert caught.value.hint == "Tasks in it: red-fox, blue-whale. Did you mean 'blue-whale'?"


def test_without_a_name_one_task_is_chosen_and_several_are_not(tmp_path: Path) -> None:
    """Of several the user has to name one; a helper does not count."""
    with pytest.raises(UsageError, match="red-fox, blue-whale"):
        choose_task(read_task_file(write(tmp_path, TWO)), None)
    assert choose_task(read_task_file(write(tmp_path, HELPED)), None).slug == "main"


def test_a_helper_cannot_be_chosen(tmp_path: Path) -> None:
    """A task that stores no run would leave a push without a result."""
    file = read_task_file(write(tmp_path, HELPED))
    with pytest.raises(TaskFileError, match="store_run=False"):
        choose_task(file, "helper")
    assert [task.slug for task in file.pushable] == ["main"]


def test_a_file_of_helpers_alone_has_nothing_to_push(tmp_path: Path) -> None:
    """Where every task is a helper, the error says what is there."""
    file = read_task_file(write(tmp_path, HELPED.replace('name="Main"', 'name="Main", store_run=False')))
    with pytest.raises(TaskFileError) as caught:
        choose_task(file, None)
    assert caught.value.hint == "Tasks in it: helper, main."


def test_a_name_that_is_none_is_a_usage_error(tmp_path: Path) -> None:
    """`///` is the caller's mistake, not the file's."""
    with pytest.raises(UsageError):
        choose_task(read_task_file(write(tmp_path, TWO)), "///")


def test_a_push_is_refused_for_the_first_error(tmp_path: Path) -> None:
    """With its place and its fix, and the number of the others."""
    file = read_task_file(write(tmp_path, TWO.partition("for task")[0]))
    with pytest.raises(TaskFileError) as caught:
        refuse_errors(file)
    assert (caught.value.line, caught.value.column) == (3, 1)
    assert "a.run(kbench.llm)" in (caught.value.hint or "")
    assert "1 more" in caught.value.message
    refuse_errors(file, allow_no_run=True)


def test_a_sound_file_is_not_refused(tmp_path: Path) -> None:
    """No finding, no refusal; line and column are those of the `def`."""
    file = read_task_file(write(tmp_path, TWO))
    refuse_errors(file)
    assert [(task.slug, task.line, task.column, task.has_run) for task in file.tasks] == [
        ("red-fox", 3, 1, True),
        ("blue-whale", 5, 1, True),
    ]


def test_a_file_is_never_run(tmp_path: Path) -> None:
    """Reading leaves no trace of what the file would do."""
    marker = tmp_path / "ran"
    read_task_file(write(tmp_path, f"open({str(marker)!r}, 'w')\n{TWO}"))
    assert not marker.exists()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_the_examples_are_without_findings(path: Path) -> None:
    """What we hand out is what we ask for: one task to push, named like its file."""
    file = read_task_file(path)
    assert file.findings == ()
    assert choose_task(file, None).slug == path.stem.replace("_", "-")
