"""`fanbench benchmarks add|remove` and `tasks list --benchmark` on sockets."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fanbench.testing import SimulatedKaggle
from fanbench.wire.slugs import join_task
from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def three(kaggle: SimulatedKaggle, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks a and b of ours, c of somebody else, and our empty benchmark `me/bench`."""
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_simulated")
    for slug in ("a", "b", "them/c"):
        kaggle.add_task(slug)
    kaggle.benchmarks["me", "bench"] = []


def tasks_in(kaggle: SimulatedKaggle, owner: str = "me") -> list[str]:
    return [join_task(slug) for slug in kaggle.benchmarks[owner, "bench"]]


@pytest.mark.parametrize("group", ["benchmarks", "b"])
def test_tasks_are_added_and_removed(cli: Cli, kaggle: SimulatedKaggle, group: str) -> None:
    """Tasks of anybody are added in one call, and removed; what needed no change is named."""
    result = cli(group, "add", "me/bench", "a", "them/c", "-y")
    assert (result.exit_code, result.stdout) == (0, "2 tasks added to me/bench\n")
    result = cli(group, "add", "bench", "A", "b", "-y")
    assert result.stdout == "1 task added to me/bench\n1 task in it already: me/a\n"
    assert tasks_in(kaggle) == ["me/a", "them/c", "me/b"]
    result = cli(group, "remove", "bench", "b", "them/d", "--version", "1", "-y", "--format", "json")
    assert [(one["task"], one["outcome"]) for one in json.loads(result.stdout)] == [
        ("b", "removed"),
        ("d", "skipped"),
    ]
    assert tasks_in(kaggle) == ["me/a", "them/c"]


def test_it_asks(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Without -y, the tasks are in the question, and without a yes nothing is changed."""
    refused = cli("b", "add", "me/bench", "a", "b", input="n\n")
    assert refused.exit_code == 1
    assert "Add 2 tasks (a, b) to me/bench? n" in refused.stderr
    assert cli("b", "remove", "me/bench", "a").exit_code == 2
    assert kaggle.calls["add_tasks"] == kaggle.calls["remove_tasks"] == 0
    assert cli("b", "add", "me/bench", "a", input="y\n").exit_code == 0


def test_benchmarks_of_others_are_refused_before_the_call(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The API looks for benchmarks among one's own, so that of another owner is refused, whoever has the same name."""
    result = cli("b", "add", "them/bench", "a", "-y")
    assert result.exit_code == 2
    assert "Benchmark 'them/bench' belongs to them, and you are me." in result.stderr
    assert kaggle.calls["add_tasks"] == 0


@pytest.mark.parametrize("words", [("bench", "none"), ("none", "a"), ("bench", "a", "--version", "2")])
def test_what_does_not_exist(cli: Cli, words: tuple[str, ...]) -> None:
    """A benchmark, a version of it or a task that does not exist is exit code 4 with the server's words."""
    result = cli("b", "add", *words, "-y")
    assert result.exit_code == 4
    assert "No such" in result.stderr
    assert "benchmarks are made on Kaggle's site" in result.stderr


def test_a_server_without_the_call(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A server that lacks the call is named as the reason."""
    kaggle.change(has_benchmarks=False)
    result = cli("b", "add", "bench", "a", "-y")
    assert result.exit_code == 1
    assert "This server cannot change the tasks of a benchmark" in result.stderr


# --- tasks list ---


@pytest.fixture
def theirs(kaggle: SimulatedKaggle) -> None:
    """A benchmark of somebody else with tasks of two owners."""
    kaggle.benchmarks["them", "bench"] = [kaggle.tasks[slug].version_slug(1) for slug in ("them/c", "b")]


@pytest.mark.usefixtures("theirs")
def test_the_tasks_of_a_benchmark(cli: Cli) -> None:
    """They are listed with their owners, in the order of the benchmark, and filters apply."""
    lines = cli("tasks", "list", "--benchmark", "them/bench").stdout.splitlines()
    assert [line.split()[0] for line in lines[2:]] == ["them/c", "me/b"]
    found = cli("tasks", "list", "--benchmark", "them/bench", "--name-regex", "b", "--format", "json")
    assert [(one["owner"], one["task"]) for one in json.loads(found.stdout)] == [("me", "b")]
    assert cli("tasks", "list", "--benchmark", "bench").stdout == ""
    assert cli("tasks", "list", "--benchmark", "them/none").exit_code == 4
    assert cli("tasks", "list", "--benchmark", "them/bench", "--benchmark-version", "2").exit_code == 4


def test_the_tasks_of_an_owner(cli: Cli) -> None:
    """--owner lists the tasks of one owner."""
    found = json.loads(cli("tasks", "list", "--owner", "them", "--format", "json").stdout)
    assert [(one["owner"], one["task"]) for one in found] == [("them", "c")]


@pytest.mark.usefixtures("theirs")
@pytest.mark.parametrize("words", [("--benchmark", "them/bench"), ("--owner", "them")])
def test_a_server_that_ignores_what_it_does_not_know(
    cli: Cli, kaggle: SimulatedKaggle, words: tuple[str, ...]
) -> None:
    """A server that answers with all tasks of the user is found out, and none of them is taken for a benchmark's."""
    kaggle.change(has_benchmarks=False)
    result = cli("tasks", "list", *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert re.search(
        "This server cannot list the tasks of an? [a-z]+: its ListBenchmarkTasks does not", result.stderr
    )


def test_options_that_do_not_go_together(cli: Cli) -> None:
    """The owner of a benchmark is in its name, and a version needs a benchmark."""
    assert cli("tasks", "list", "--benchmark", "a/b", "--owner", "c").exit_code == 2
    assert cli("tasks", "list", "--benchmark-version", "2").exit_code == 2


@pytest.mark.parametrize("flag", ["--benchmark", "--owner"])
def test_an_empty_name_does_not_list_ones_own_tasks(cli: Cli, flag: str) -> None:
    """The name of a benchmark or an owner from a variable that is not set is refused, as it may go into a pipe."""
    result = cli("tasks", "list", flag, "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"leave {flag} out" in result.stderr
