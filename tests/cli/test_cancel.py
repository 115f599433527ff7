"""`fanbench tasks cancel` on sockets: what it shows, asks, cancels, and says of what is left."""

from __future__ import annotations

import json

import pytest

from fanbench.operations import cancel
from fanbench.testing import Fault, RunScript, SimulatedKaggle
from tests.cli.conftest import FOREVER, Cli


@pytest.fixture(autouse=True)
def two(kaggle: SimulatedKaggle, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks a and b, each with a running run on `m` (ids 10 and 12) and a queued one on `late` (11 and 13)."""
    monkeypatch.setattr(cancel, "PAUSES", (0.01, 0.01, 0.01))
    kaggle.change(runs={"m": RunScript(running=FOREVER), "late": RunScript(queued=FOREVER)})
    for slug in "ab":
        kaggle.add_task(slug)
        assert cli("tasks", "run", slug, "-m", "m", "-m", "late").exit_code == 0


def cancelled(kaggle: SimulatedKaggle) -> list[int]:
    return [run.id for run in kaggle.runs.values() if run.cancelled]


def test_all_runs_of_several_tasks_take_one_call(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The queued and running runs of all tasks are cancelled in one call, by their ids."""
    result = cli("tasks", "cancel", "a", "b", "-y")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == "4 runs cancelled\n"
    assert cancelled(kaggle) == [10, 11, 12, 13]
    assert kaggle.arguments("cancel_runs") == [((), (11, 10, 13, 12), True)]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["-m", "la*"], [11]),
        (["--run", "10", "--run", "11"], [10, 11]),
        (["--run", "10", "-m", "m"], [10]),
        (["--queued-only"], [11]),
    ],
)
def test_runs_are_chosen(cli: Cli, kaggle: SimulatedKaggle, words: list[str], expected: list[int]) -> None:
    """Models, ids and the state narrow down what is cancelled."""
    assert cli("tasks", "cancel", "a", *words, "-y").exit_code == 0
    assert cancelled(kaggle) == expected


def test_the_question_shows_the_runs(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The runs are listed above the question; without a yes, nothing is cancelled, and the exit code is 1."""
    refused = cli("tasks", "cancel", "a", input="n\n")
    assert refused.exit_code == 1
    for word in ("m", "late", "10", "11", "Running", "Queued", "Cancel 2 runs? n", "Nothing was cancelled"):
        assert word in refused.stderr
    assert cli("tasks", "cancel", "a").exit_code == 2
    assert cancelled(kaggle) == []
    assert cli("tasks", "cancel", "a", input="yes\n").exit_code == 0
    assert cancelled(kaggle) == [10, 11]


def test_a_dry_run_changes_nothing(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """With --dry-run the runs are printed, as a table or as records, and no call to cancel is made."""
    assert "late" in cli("tasks", "cancel", "a", "--dry-run").stdout
    records = json.loads(cli("tasks", "cancel", "a", "b", "--dry-run", "--format", "json").stdout)
    assert [(one["task"], one["run_id"], one["state"], one["outcome"]) for one in records] == [
        ("a", 11, "QUEUED", None),
        ("a", 10, "RUNNING", None),
        ("b", 13, "QUEUED", None),
        ("b", 12, "RUNNING", None),
    ]
    assert kaggle.calls["cancel_runs"] == 0


def test_it_asks_again_until_the_lists_agree(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A run whose session the server does not reach at first is asked for again, and no other."""
    kaggle.runs[10].script = RunScript(running=FOREVER, unreachable=2)
    result = cli("tasks", "cancel", "a", "-y")
    assert result.exit_code == 0, result.stderr
    assert "1 run could not be reached yet; asking again in" in result.stderr
    assert [ids for _, ids, _ in kaggle.arguments("cancel_runs")] == [(11, 10), (10,), (10,)]


def test_what_is_left_is_an_error_with_the_next_command(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Runs that are still there after all tries are named, with the command that tries them again; exit code 1."""
    kaggle.runs[10].script = RunScript(running=FOREVER, unreachable=99)
    kaggle.add_run("a", "theirs", RunScript(running=FOREVER))
    result = cli("tasks", "cancel", "a", "-y", "--format", "json")
    assert result.exit_code == 1
    outcomes = {one["run_id"]: one["outcome"] for one in json.loads(result.stdout)}
    assert outcomes == {10: "left", 11: "cancelled", 14: "left"}
    assert "2 runs of 3 could not be cancelled: theirs (Run 14), m (Run 10)." in result.stderr
    assert "fanbench tasks cancel a --run 14 --run 10" in result.stderr


def test_runs_that_ended_meanwhile_are_not_called_cancelled(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A run that the next list shows as completed has ended by itself, and is no failure."""
    kaggle.change(faults=(Fault("cancel_runs", delay=0.2),))
    kaggle.runs[10].script = RunScript(running=kaggle.now() - kaggle.runs[10].begins + 0.2)
    result = cli("tasks", "cancel", "a", "-y", "--format", "json")
    assert result.exit_code == 0
    outcomes = {one["run_id"]: (one["state"], one["outcome"]) for one in json.loads(result.stdout)}
    assert outcomes == {10: ("COMPLETED", "ended"), 11: ("QUEUED", "cancelled")}


def test_nothing_to_cancel(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Without runs in progress nothing is asked; ids of other tasks are an error."""
    kaggle.finish()
    result = cli("tasks", "cancel", "a", "b")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "There are no runs to cancel." in result.stderr
    wrong = cli("tasks", "cancel", "a", "--run", "12", "-y")
    assert wrong.exit_code == 2
    assert "There is no run 12 of a." in wrong.stderr


def test_runs_of_earlier_versions_are_named(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Those in progress, of any of the last versions, with the command that cancels them; ended ones are not."""
    kaggle.change(lists_newest_version=True)
    for _ in range(2):
        kaggle.add_task("a")
    note = "Version 1 of a has 2 runs in progress: fanbench tasks cancel a --version 1"
    for words in (["-y"], ["--dry-run"]):
        result = cli("tasks", "cancel", "a", *words)
        assert result.exit_code == 0
        assert result.stderr.splitlines() == [note, "There are no runs to cancel."]
    assert cli("tasks", "cancel", "a", "--version", "1", "-y").stdout == "2 runs cancelled\n"
    assert cli("tasks", "cancel", "a", "-y").stderr.splitlines() == ["There are no runs to cancel."]


def test_a_server_without_the_call(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A server that lacks the call is named as the reason, and the command fails after one try."""
    kaggle.change(can_cancel=False)
    result = cli("tasks", "cancel", "a", "-y")
    assert result.exit_code == 1
    assert "This server cannot cancel runs" in result.stderr
    assert kaggle.calls["cancel_runs"] == 1


def test_one_task_that_fails_does_not_keep_the_others(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A task that does not exist is an error, and the runs of the others are cancelled."""
    result = cli("tasks", "cancel", "none", "a", "-y")
    assert result.exit_code == 1
    assert "'none' not found" in result.stderr
    assert cancelled(kaggle) == [10, 11]
    assert cli("tasks", "cancel", "none", "-y").stderr.count("'none' not found") == 1
