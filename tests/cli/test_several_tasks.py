"""Several tasks in one command: concurrent, and shown in the order in which they were typed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from fanbench.testing import SimulatedKaggle
from tests.cli.conftest import FOREVER, Cli, script, scripts


@pytest.fixture(autouse=True)
def three(kaggle: SimulatedKaggle) -> None:
    """Tasks a, b and c with one run each."""
    kaggle.change(can_delete=True)
    for slug in "abc":
        kaggle.add_task(slug)
        kaggle.add_run(slug, f"model-{slug}")


def test_download(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """There is one table per task and one summary, and a task that is named twice is downloaded once."""
    result = cli("tasks", "download", "c", "a", "A", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert re.findall(r"model-\w/\d+/", result.stdout) == ["model-c/12/", "model-a/10/"]
    assert result.stdout.endswith("\nDone: 2 run(s) downloaded.\n")
    assert Path("out/a/1/model-a/10/one.run.json").is_file()
    rows = json.loads(cli("tasks", "download", "c", "a", "-o", "out", "--format", "json").stdout)
    assert [(row["task"], row["outcome"]) for row in rows] == [("c", "Cached"), ("a", "Cached")]


def test_log(cli: Cli) -> None:
    """The headers name the task as well."""
    result = cli("tasks", "log", "b", "a")
    assert result.exit_code == 0
    assert re.findall(r"Logs for (.*?) \(", result.stdout) == ["b model-b", "a model-a"]
    assert "Showed logs for 2 run(s) across 2 model(s)." in result.stderr


def test_log_together(cli: Cli) -> None:
    """The prefixes name the task as well."""
    result = cli("tasks", "log", "b", "a", "--interleave")
    assert sorted(result.stdout.splitlines()) == [
        "a model-a | hello from model-a",
        "b model-b | hello from model-b",
    ]


def test_status(cli: Cli) -> None:
    """There is one block per task, and a list in JSON."""
    result = cli("tasks", "status", "c", "b")
    assert re.findall(r"Task: +(\w)", result.stdout) == ["c", "b"]
    assert "\n\nTask:     b" in result.stdout
    found = json.loads(cli("tasks", "status", "c", "b", "--format", "json").stdout)
    assert [(one["task"], one["runs"][0]["model"]) for one in found] == [("c", "model-c"), ("b", "model-b")]
    lines = cli("tasks", "status", "c", "b", "--format", "csv").stdout.splitlines()
    assert [line[:4] for line in lines] == ["task", "c,12", "b,11"]


def test_publish(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Each task's result is printed."""
    kaggle.tasks["b"].is_public = kaggle.tasks["b"].is_notebook_public = True
    result = cli("tasks", "publish", "c", "b", "--no-publish-backing-notebook")
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if "'" in line] == [
        "Task 'c' published successfully.",
        "Task 'b' is already public.",
    ]


def test_delete(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """There is one question for all tasks."""
    assert cli("tasks", "delete", "a", "b").exit_code == 2
    result = cli("tasks", "delete", "a", "b", "-y")
    assert result.exit_code == 0
    assert result.stderr == "Task 'a' deleted.\nTask 'b' deleted.\n"
    assert list(kaggle.tasks) == ["c"]


@pytest.mark.parametrize("verb", ["download", "log", "status", "publish", "delete"])
def test_a_missing_task_does_not_end_the_others(cli: Cli, kaggle: SimulatedKaggle, verb: str) -> None:
    """A missing task is reported, the others are done, and the exit code is 1; a single missing task is exit
    4.
    """
    yes = ["-y"] if verb == "delete" else []
    result = cli("tasks", verb, "a", "nope", "c", *yes)
    assert result.exit_code == 1
    assert result.stderr.count("error: Task 'nope' not found") == 1
    assert "error: 1 of 3 tasks failed." in result.stderr
    assert set(kaggle.arguments("get_task")) == {"a", "nope", "c"}
    alone = cli("tasks", verb, "nope", *yes)
    assert alone.exit_code == 4
    assert alone.stderr.count("not found") == 1


@pytest.mark.parametrize("verb", ["download", "log", "status", "publish", "delete"])
def test_no_task_is_a_usage_error(cli: Cli, verb: str) -> None:
    """A command without a task is a usage error that names the argument."""
    result = cli("tasks", verb)
    assert result.exit_code == 2
    assert "Missing argument 'TASK...'" in result.stderr


def test_watch_prints_each_change_and_ends_with_the_last_run(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Without a terminal, --watch prints each change on stderr, and the last status on stdout."""
    kaggle.change(runs=scripts(errored=["late"], running=0.5))
    kaggle.add_run("a", "late")
    result = cli("tasks", "status", "a", "--watch", "--poll-interval", "0.1")
    assert result.exit_code == 0
    assert result.stderr.startswith("  a late (Run 13): RUNNING\n  a late (Run 13): ERRORED\n")
    assert "[late] ValueError: no answer" in result.stdout
    assert result.stdout.count("Task:") == 1


def test_watch_of_ended_runs_polls_once(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """--watch of a task whose runs have ended polls once, and shows its status."""
    assert cli("tasks", "status", "a", "b", "--watch").exit_code == 0
    assert kaggle.calls["list_runs"] == 2


def test_log_keeps_files(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """-o saves one file per run in the layout of downloads, and none for a run without a log."""
    kaggle.add_run("a", "google/m@default", script("google/m@default", queued=FOREVER))
    result = cli("tasks", "log", "a", "b", "-o", "logs")
    assert result.exit_code == 0
    files = sorted(str(path) for path in Path("logs").rglob("*") if path.is_file())
    assert files == ["logs/a/1/model-a/10.log", "logs/b/1/model-b/11.log"]
    assert Path(files[0]).read_text() == "hello from model-a\n"
    assert "Saved 2 complete logs in logs/" in result.stderr
    (row, *_) = json.loads(cli("tasks", "log", "b", "-o", "logs", "--format", "json").stdout)
    assert row["path"] == "logs/b/1/model-b/11.log"
