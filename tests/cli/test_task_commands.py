"""The task commands on a real socket: what they send, what they show, how they end."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fanbench.testing import Fault, RunScript, SimulatedKaggle, SimulatedServer
from fanbench.testing.state import wall_time
from fanbench.wire import retry
from fanbench.wire.messages import CreationState, Modality, ModelProxyToken, RunState
from tests.cli.conftest import FOREVER, Cli, script, scripts

#: When tasks and runs were created whose age is infinite.
CREATED = "1995-05-09 06:13:20"


def shown(text: str) -> str:
    """Return a table with single spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


# --- push ---


@pytest.mark.parametrize("start", [["tasks"], ["t"], ["b", "t"], ["benchmarks", "tasks"]])
def test_push_in_every_spelling(cli: Cli, kaggle: SimulatedKaggle, task_file: Path, start: list[str]) -> None:
    """A push uploads once, prints the URLs to stdout, and the next commands to stderr."""
    result = cli(*start, "push", "my-task", "-f", "task.py")
    assert result.exit_code == 0
    assert result.stdout == (
        "\nPushed my-task\n"
        "   Task Details:  https://www.kaggle.com/benchmarks/tasks/me/my-task/1\n"
        "   Model Output:  https://www.kaggle.com/benchmarks/tasks/me/my-task?compare=true\n"
    )
    assert "$ fanbench tasks run my-task\n" in result.stderr
    assert kaggle.arguments("create_task") == [("my-task", ())]


def test_push_again_with_wait(cli: Cli, kaggle: SimulatedKaggle, task_file: Path) -> None:
    """A second push says that it is a new version, waits for its creation, and warns about the name on
    stderr.
    """
    kaggle.change(creation=0.2)
    kaggle.add_task("my-task", datasets=["o/d"])
    result = cli("tasks", "push", "My Task", "-f", "task.py", "--wait", "--poll-interval", "0.1")
    assert result.exit_code == 0, result.stderr
    assert "Pushed new version of my-task" in result.stdout
    assert "\nCompleted\n" in result.stdout
    assert "'My Task' was normalized to slug 'my-task'" in result.stderr
    assert "To keep them, add: -d o/d" in result.stderr


def test_push_whose_creation_fails(cli: Cli, kaggle: SimulatedKaggle, task_file: Path) -> None:
    """A push whose creation fails is exit 1, with the server's reason."""
    kaggle.change(creation_end=CreationState.KERNEL_WITHOUT_RUN)
    result = cli("tasks", "push", "my-task", "-f", "task.py", "--wait")
    assert result.exit_code == 1
    assert "creation failed (status: KERNEL_WITHOUT_RUN).\n  Error: It broke." in result.stderr


BLOCK = '# /// fanbench\n# tags = ["reasoning", "no\\u001b[2Jsuch"]\n# description = "D"\n# ///\n'


def test_push_changes_the_page(cli: Cli, kaggle: SimulatedKaggle, task_file: Path) -> None:
    """With --wait, what has changed on the page is said, and which tags are unknown; without it, that nothing has."""
    task_file.write_text(BLOCK + task_file.read_text())
    result = cli("tasks", "push", "-f", "task.py")
    assert "The page of my-task is left as it is: what its file says is sent with --wait." in result.stderr
    assert kaggle.calls["update_task"] == 0
    result = cli("tasks", "push", "-f", "task.py", "--wait")
    assert (result.exit_code, kaggle.tasks["my-task"].tags) == (0, ("reasoning",))
    assert "Page:          description, tags changed" in result.stdout
    assert r"The server does not know these tags: no\u001b[2Jsuch" in result.stderr
    result = cli("tasks", "push", "-f", "task.py", "--wait")
    assert "changed" not in result.stdout
    assert r"The server does not know these tags: no\u001b[2Jsuch" in result.stderr
    kaggle.change(can_update=False)
    Path("b.py").write_text(task_file.read_text().replace("My Task", "B"))
    Path("c.py").write_text(task_file.read_text().replace("My Task", "C"))
    words = ["-f", "b.py", "-f", "c.py", "--wait", "--format", "json"]
    result = cli("tasks", "push", *words)
    assert result.exit_code == 0
    assert json.loads(result.stdout)[0]["page_changed"] == []
    assert result.stderr.count("This server cannot change what the page of a task says") == 1


def test_push_says_once_that_a_finding_is_a_warning(cli: Cli, task_file: Path) -> None:
    """A warning of the check is printed with its place and what to do about it."""
    task_file.write_text(task_file.read_text() + "\nopen('/kaggle/input/words/words.csv')\n")
    line = len(task_file.read_text().splitlines())
    result = cli("tasks", "push", "my-task", "-f", "task.py")
    assert result.exit_code == 0
    assert f"⚠ Warning: task.py:{line}:6: The file reads the dataset words" in result.stderr
    assert "\n  Push it with -d OWNER/words.\n" in result.stderr


def test_push_of_several_files(cli: Cli, task_file: Path) -> None:
    """Several files are pushed, and shown in the order of the flags."""
    for name in "bca":
        Path(f"{name}.py").write_text(task_file.read_text().replace("My Task", f"Task {name}"))
    result = cli("tasks", "push", "-f", "b.py", "-f", "c.py", "-f", "a.py", "--format", "json")
    assert result.exit_code == 0
    assert [row["task"] for row in json.loads(result.stdout)] == ["task-b", "task-c", "task-a"]


def test_push_of_several_files_with_wait(cli: Cli, kaggle: SimulatedKaggle, task_file: Path) -> None:
    """With --wait the ends of pushes are shown in the order of the flags, too."""
    kaggle.change(creation=0.1)
    Path("a.py").write_text(task_file.read_text().replace("My Task", "A"))
    result = cli("tasks", "push", "-f", "task.py", "-f", "a.py", "--wait", "--poll-interval", "0.1")
    assert result.exit_code == 0
    heads = [line for line in result.stdout.splitlines() if line and not line.startswith(" ")]
    assert heads == ["Pushed my-task", "Pushed a", "Completed: my-task", "Completed: a"]


def test_push_sends_nothing_if_a_file_has_an_error(
    cli: Cli, kaggle: SimulatedKaggle, task_file: Path
) -> None:
    """If one file has an error, none is pushed."""
    Path("bad.py").write_text("def (:\n")
    result = cli("tasks", "push", "-f", "task.py", "-f", "bad.py")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: bad.py:1:")
    assert not kaggle.calls


def test_one_of_several_pushes_fails(cli: Cli, kaggle: SimulatedKaggle, task_file: Path) -> None:
    """If one of several pushes fails, the other is pushed, the error names it, and the exit code is 1."""
    Path("other.py").write_text(task_file.read_text().replace("My Task", "Other"))
    kaggle.change(creation=lambda slug: FOREVER if slug == "other" else 0.0)
    kaggle.add_task("other", age=0.0)
    result = cli("tasks", "push", "-f", "other.py", "-f", "task.py")
    assert result.exit_code == 1
    assert "Pushed my-task" in result.stdout
    assert "error: Task 'other' is still being created" in result.stderr
    assert "error: 1 of 2 pushes failed." in result.stderr


# --- run ---


def test_run_prints_one_line_per_model(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Each model's line says whether its run was scheduled, or why it was skipped."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    kaggle.add_model("n", "En")
    kaggle.add_run("t", "n", script("n", running=FOREVER))
    result = cli("tasks", "run", "t", "-m", "google/m", "-m", "n")
    assert result.exit_code == 0
    assert result.stdout == (
        "Submitted run(s) for task 't'.\n  m: Scheduled\n  n: Skipped (A run of this model is in flight already.)\n"
    )
    assert "$ fanbench tasks status t\n" in result.stderr


def test_run_and_wait(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """With --wait the final states are on stdout, and with --logs the log lines are on stderr."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    kaggle.add_run("t", "m", RunScript.errored("old"), age=60.0)
    result = cli("tasks", "run", "t", "-m", "m", "--wait", "--logs")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("All runs completed:\n  m: COMPLETED\n")
    assert "m | hello from m\n" in result.stderr


def test_run_and_wait_with_an_errored_run(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """An errored run is exit 1, with its message and the states of all runs."""
    kaggle.change(runs=scripts(errored=["n"]))
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    kaggle.add_model("n", "En")
    result = cli("tasks", "run", "t", "-m", "m", "-m", "n", "--wait")
    assert result.exit_code == 1
    assert "m: COMPLETED" in result.stdout
    assert "1 run(s) failed. Details below:\n  [n]\n    Traceback\n    ValueError: no answer" in result.stderr


def test_run_that_times_out(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A timeout is exit 5, and names the runs in progress."""
    kaggle.change(runs=scripts(running=FOREVER))
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    result = cli("tasks", "run", "t", "-m", "m", "--wait", "1", "--poll-interval", "0.3")
    assert result.exit_code == 5
    assert "Timed out after 1s" in result.stderr
    assert "t: m (Run 10) Running" in result.stderr


def test_run_that_times_out_in_json(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """After a timeout, JSON contains every record with its state at that time."""
    kaggle.change(runs=scripts(running=FOREVER))
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    result = cli(
        "tasks", "run", "t", "-m", "m", "--wait", "0.3", "--poll-interval", "0.1", "--format", "json"
    )
    assert result.exit_code == 5
    (row,) = json.loads(result.stdout)
    assert (row["model"], row["state"]) == ("m", "RUNNING")
    assert row["run_id"]


def test_run_at_efforts(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Each model runs at each --effort, and the runs are named MODEL@EFFORT in every command."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em", efforts=["low", "high"])
    result = cli("tasks", "run", "t", "-m", "m", "--effort", "low", "--effort", "high", "--wait")
    assert result.stdout.endswith("All runs completed:\n  m@low: COMPLETED\n  m@high: COMPLETED\n")
    (row,) = json.loads(cli("tasks", "status", "t", "-m", "m@low", "--format", "json").stdout)["runs"]
    assert row["model"] == "m@low"
    assert "Logs for m@high" in cli("tasks", "log", "t", "-m", "m@high").stdout
    cli("tasks", "download", "t", "-m", "*@high", "-o", "out")
    assert [path.name for path in Path("out/t/1").iterdir()] == ["m@high"]
    refused = cli("tasks", "run", "t", "-m", "m", "--effort", "extreme")
    assert refused.exit_code == 2
    assert "m does not take extreme: it takes low, high" in refused.stderr


def test_run_at_efforts_on_an_older_server(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A server that would ignore the effort is asked for nothing, and one line says why; other runs go on as before."""
    kaggle.change(has_configs=False)
    kaggle.add_task("t")
    kaggle.add_model("m", "Em", efforts=["high"])
    refused = cli("tasks", "run", "t", "-m", "m", "--effort", "high")
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        "error: The server does not know the reasoning efforts of models: No such call."
    )
    assert kaggle.calls["schedule_runs"] == 0
    assert cli("tasks", "run", "t", "-m", "m", "--wait").stdout.endswith("  m: COMPLETED\n")


def test_run_on_agents(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """--agent runs a task on an agent without asking for models, and the run has the agent's name."""
    kaggle.add_task("t")
    kaggle.agents = {"coder-1": "m"}
    result = cli("tasks", "run", "t", "--agent", "coder-1", "--wait")
    assert result.stdout.endswith("All runs completed:\n  coder-1: COMPLETED\n")
    both = cli("tasks", "run", "t", "--agent", "coder-1", "--effort", "low")
    assert both.exit_code == 2
    assert "An agent has a reasoning effort of its own." in both.stderr


def test_a_missing_task_is_reported_once(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The error of a single task is printed once."""
    kaggle.add_model("m", "Em")
    result = cli("tasks", "run", "missing", "-m", "m")
    assert result.exit_code == 4
    assert result.stderr.count("'missing' not found") == 1


def test_run_without_a_model_reads_one_answer(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Without -m, the models are listed on stderr page by page, and the answer is read from stdin."""
    kaggle.add_task("t")
    for number in range(1, 26):
        kaggle.add_model(f"m{number}", f"Model {number}", inputs=[Modality.TEXT, Modality.IMAGE])
    result = cli("tasks", "run", "t", input="n\n21, 3\n")
    assert result.exit_code == 0, result.stderr
    assert kaggle.arguments("schedule_runs") == [("t", ("m21", "m3"))]
    assert "Showing 21-25 of 25 models" in result.stderr
    assert "\n1. Model 1 m1 Image-Text-to-Text\n" in shown(result.stderr)
    assert kaggle.calls["list_models"] == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("", "-m/--model"),
        ("0\n", "-m/--model"),
        ("0\nx\n2\n", "'2' is not a valid choice"),
        ("p\nn\n\n", "valid"),
    ],
)
def test_run_without_an_answer(cli: Cli, kaggle: SimulatedKaggle, answer: str, words: str) -> None:
    """No answer, or a third wrong one, is a usage error with a hint."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    result = cli("tasks", "run", "t", input=answer)
    assert result.exit_code == 2
    assert words in result.stderr


def test_run_asks_again_after_a_mistake(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A wrong answer is named, and the question is asked again; `all` picks every model."""
    kaggle.add_task("t")
    for number in (1, 2):
        kaggle.add_model(f"m{number}", f"Model {number}")
    result = cli("tasks", "run", "t", input="3\nAll\n")
    assert result.exit_code == 0, result.stderr
    assert "'3' is not a valid choice. Enter numbers from the list, such as 1,3,4, or 'all'." in result.stderr
    assert kaggle.arguments("schedule_runs") == [("t", ("m1", "m2"))]


def test_list_in_a_state_that_does_not_exist(cli: Cli) -> None:
    """A state that no task can be in is exit 2, and the hint names all states; those pass in any spelling."""
    result = cli("tasks", "list", "--status", "bogus")
    assert result.exit_code == 2
    assert "'bogus' is not a state of a task" in result.stderr
    assert "queued, running, completed, errored, kernel_without_run, validation_failed" in result.stderr
    assert ", no_model_specified, validating.\n" in result.stderr
    assert cli("tasks", "list", "--status", "Kernel-Without-Run").exit_code == 0


def test_run_of_several_tasks_of_which_one_is_missing(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """If one of several tasks is missing, the others run, and the exit code is 1."""
    kaggle.add_task("a")
    kaggle.add_model("m", "Em")
    result = cli("tasks", "run", "a", "b", "-m", "m", "--wait", "--format", "json")
    assert result.exit_code == 1
    assert [(row["task"], row["state"]) for row in json.loads(result.stdout)] == [("a", "COMPLETED")]
    assert "error: Task 'b' not found" in result.stderr


def test_run_and_wait_for_a_run_in_flight(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """If a model was skipped because its run is in flight, the command says that it waits for that run."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    kaggle.add_run("t", "m", script("m", running=1.0))
    result = cli("tasks", "run", "t", "-m", "m", "--wait")
    assert result.exit_code == 0
    assert "m: Skipped (A run of this model is in flight already.)" in result.stdout
    assert result.stdout.endswith("  m: COMPLETED\n")
    assert "waiting for those as well (Run 10)" in result.stderr


# --- list, status, models ---


def test_list(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The list has the columns and words of the Kaggle CLI."""
    kaggle.change(creation_end=CreationState.KERNEL_WITHOUT_RUN)
    kaggle.add_task("first")
    kaggle.change(creation_end=CreationState.COMPLETED)
    kaggle.add_task("second")
    result = cli("t", "list")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["Task", "Status", "Created"],
        ["─" * 40, "─" * 20, "─" * 20],
        ["first", "Kernel_Without_Run", *CREATED.split()],
        ["second", "Completed", *CREATED.split()],
    ]
    assert "Showing 1-2 of 2 tasks (https://www.kaggle.com/benchmarks/tasks/me/)" in result.stderr
    chosen = cli("t", "list", "--name-regex", "^[fs]", "--status", "completed", "--format", "json")
    assert [row["task"] for row in json.loads(chosen.stdout)] == ["second"]


def test_list_of_nothing(cli: Cli) -> None:
    """An empty list is reported on stderr, and a CSV still has its header."""
    assert "No tasks found." in cli("t", "list").stderr
    assert cli("t", "list", "--format", "csv").stdout.startswith("task,owner,version")


def test_status(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The status shows the task, its runs, and the line that names the exception of each error."""
    kaggle.add_task("t", datasets=["o/d"])
    error = "Traceback\n  File\nValueError: no\n"
    kaggle.add_run(
        "t", "google/m@default", script("m", running=60.0, end=RunState.ERRORED, error=error), age=99.0
    )
    kaggle.add_run("t", "n", script("n", scoring=FOREVER), age=30.0)
    result = cli("tasks", "status", "T")
    errored, pending = kaggle.runs[10], kaggle.runs[11]
    moments = (pending.begins, errored.begins, errored.ends)
    scored, started, ended = (f"{wall_time(second):%Y-%m-%d %H:%M:%S}" for second in moments)
    assert shown(result.stdout) == shown(
        f"Task: t\nVersion: 1\nStatus: Completed\nCreated: {CREATED}\nPublic: False\n"
        "Task URL: https://www.kaggle.com/benchmarks/tasks/me/t/1\nDatasets: o/d\n\n"
        "Model Status Started Ended\n"
        f"{'─' * 20} {'─' * 15} {'─' * 19} {'─' * 19}\n"
        f"n Score_Pending {scored}\n"
        f"m-default Errored {started} {ended}\n\n"
        "Errors:\n [m-default] ValueError: no"
    )
    assert "fanbench tasks log t" in result.stderr


def test_runs_with_one_error_share_its_line(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Status shows each error once, by the line with its exception, with all models whose runs ended with it."""
    trace = 'Traceback\n  File "Cell In[1]", line 1\nValueError: 1 mistake\n  See elsewhere.'
    kaggle.add_task("t")
    for model, error in (("a", trace), ("b", "KeyError: 1"), ("c", trace)):
        kaggle.add_run("t", model, script(model, end=RunState.ERRORED, error=error), age=99.0)
    shown_errors = shown(cli("tasks", "status", "t").stdout).partition("Errors:\n")[2]
    assert shown_errors.splitlines() == ["[c, a] ValueError: 1 mistake", "[b] KeyError: 1"]


def test_status_for_programs(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """JSON is one object with its runs."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m", age=math.inf)
    found = json.loads(cli("tasks", "status", "t", "--format", "json").stdout)
    assert (found["state"], found["version"], found["created"]) == (
        "COMPLETED",
        1,
        "1995-05-09T06:13:20.000Z",
    )
    assert [(run["run_id"], run["state"]) for run in found["runs"]] == [(10, "COMPLETED")]
    lines = cli("tasks", "status", "t", "--format", "csv").stdout.splitlines()
    assert lines == [
        "task,run_id,model,state,result,started,ended,error",
        "t,10,m,COMPLETED,,1995-05-09T06:13:20.000Z,1995-05-09T06:13:20.000Z,",
    ]


def test_runs_of_earlier_versions(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """`status` says that the version before has runs; --version shows, reads and downloads them."""
    kaggle.change(lists_newest_version=True)
    kaggle.add_run("t", "m", age=9.0)
    kaggle.add_task("t")
    result = cli("tasks", "status", "t")
    assert "Version: 2" in shown(result.stdout)
    assert "Version 2 has no runs yet. Start one with: fanbench tasks run t\n" in result.stderr
    assert "Version 1 has runs: fanbench tasks status t --version 1\n" in result.stderr
    assert "Version: 1" in shown(cli("tasks", "status", "t", "--version", "1").stdout)
    for words in (("status", "t"), ("log", "t", "--follow"), ("download", "t")):
        for version, found in (("1", 1), ("2", 0)):
            printed = json.loads(cli("tasks", *words, "--version", version, "--format", "json").stdout)
            assert len(printed["runs"] if words[0] == "status" else printed) == found
    assert Path("t/1/m/10/one.run.json").exists()
    missing = cli("tasks", "status", "t", "--version", "3")
    assert missing.exit_code == 4
    assert "Version 3 of task 't' not found" in missing.stderr


def test_an_unchanged_task_is_not_pushed(cli: Cli, kaggle: SimulatedKaggle, task_file: Path) -> None:
    """With --if-changed, the command says which version on the server is the same, and pushes nothing."""
    Path("u.py").write_text(task_file.read_text().replace("My Task", "U"))
    assert cli("tasks", "push", "-f", "u.py", "--wait").exit_code == 0
    kaggle.add_run("u", "m", age=9.0)
    done = cli("tasks", "push", "-f", "u.py", "--if-changed")
    assert "Unchanged: u is version 1 on the server" in done.stdout
    assert "Check creation status" not in done.stderr
    (record,) = json.loads(cli("tasks", "push", "-f", "u.py", "--if-changed", "--format", "json").stdout)
    assert (record["unchanged"], record["version"], record["state"]) == (True, 1, "COMPLETED")
    assert kaggle.calls["create_task"] == 1


def test_status_shows_results(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Where the server sends results, the table has a column of them, and records have the value."""
    kaggle.change(shows_results=True)
    for model, result in (("m", 0.25), ("n", True), ("o", None)):
        kaggle.add_run("t", model, script(model, result=result), age=9.0)
    table = shown(cli("tasks", "status", "t").stdout).splitlines()
    assert "Model Status Result Started Ended" in table
    assert [line.split()[:3] for line in table[-3:]][1:] == [
        ["n", "Completed", "Pass"],
        ["m", "Completed", "0.25"],
    ]
    runs = json.loads(cli("tasks", "status", "t", "--format", "json").stdout)["runs"]
    assert [run["result"] for run in runs] == [None, True, 0.25]


def test_status_has_a_table_of_results(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """With --results, all results of several tasks are in one table, without a download, and each run is a record."""
    kaggle.change(shows_results=True)
    kaggle.add_task("u")
    for task, model, result in (("t", "m", 0.25), ("t", "m", 1.0), ("t", "n", True), ("u", "n", False)):
        kaggle.add_run(task, model, script(model, result=result), age=9.0)
    kaggle.add_run("u", "o", script("o", end=RunState.ERRORED), age=9.0)
    done = cli("tasks", "status", "t", "u", "--results")
    assert [line.split(None, 3) for line in done.stdout.splitlines()] == [
        ["task", "m", "n", "o"],
        ["t", "1,", "0.25", "Pass  –"],
        ["u", "–", "Fail", "errored"],
    ]
    assert not kaggle.calls["download_output"]
    records = json.loads(cli("tasks", "status", "t", "u", "--results", "--format", "json").stdout)
    assert [record["result"] for record in records] == [True, 1.0, 0.25, None, False]


def test_a_server_that_says_no_results_is_named(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """With --results, a server of before gets one line that says so and how to download the outputs."""
    kaggle.add_run("t", "m", script("m"), age=9.0)
    done = cli("tasks", "status", "t", "--results")
    assert "completed" in done.stdout
    assert (
        "The server reports no results for t. To download its outputs: fanbench tasks download t"
        in done.stderr
    )


def test_models(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The list has the slug that -m accepts, the name, and the modalities."""
    kaggle.add_model("m-1", "Model One", inputs=[Modality.TEXT, Modality.IMAGE])
    assert shown(cli("tasks", "models").stdout).splitlines()[-1] == "m-1 Model One Image-Text-to-Text"
    (row,) = json.loads(cli("tasks", "models", "--format", "json").stdout)
    assert (row["model"], row["inputs"]) == ("m-1", ["text", "image"])


def test_the_efforts_of_models(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """With --efforts, each model has the list of its efforts, which is empty for one that takes none."""
    kaggle.add_model("m-1", "Model One", efforts=["low", "high"])
    kaggle.add_model("m-2", "Model Two")
    lines = shown(cli("tasks", "models", "--efforts").stdout).splitlines()
    assert lines[-2:] == ["m-1 Model One low, high", "m-2 Model Two –"]
    rows = json.loads(cli("tasks", "models", "--efforts", "--format", "json").stdout)
    assert [(row["takes_effort"], row["efforts"]) for row in rows] == [(True, ["low", "high"]), (False, [])]


def test_the_efforts_of_models_on_an_older_server(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A server that does not list efforts is said to, and the models are listed."""
    kaggle.change(has_configs=False)
    kaggle.add_model("m-1", "Model One", efforts=["low"])
    found = cli("tasks", "models", "--efforts")
    assert shown(found.stdout).splitlines()[-1] == "m-1 Model One unknown"
    assert found.stderr == "The server does not list the efforts of its models.\n"


# --- log ---


def test_log(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Logs have the headers and footers of the Kaggle CLI, and a missing log is noted on stderr."""
    kaggle.add_task("t")
    kaggle.add_run("t", "google/m@default")
    kaggle.add_run("t", "n", script("n", queued=FOREVER))
    kaggle.add_run("t", "n", script("n", running=0.5))
    result = cli("tasks", "logs", "t")
    assert result.exit_code == 0
    assert result.stdout == (
        "\n═══ Logs for n (Run 12) [RUNNING] ═══\nhello from n\n═══ (1 lines) ═══\n"
        "\n═══ Logs for n (Run 11) [QUEUED] ═══\n═══ (0 lines) ═══\n"
        "\n═══ Logs for m-default (Run 10) [COMPLETED] ═══\nhello from google/m@default\n═══ (1 lines) ═══\n"
    )
    assert "  (No logs available — server returned 404)\n" in result.stderr
    assert "Showed logs for 3 run(s) across 2 model(s)." in result.stderr


def test_log_together(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Interleaved lines have the model in front, and the run's id if a model has two runs."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m")
    kaggle.add_run("t", "m")
    result = cli("tasks", "log", "t", "--interleave")
    assert sorted(result.stdout.splitlines()) == ["m #10 | hello from m", "m #11 | hello from m"]


def test_log_for_programs(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """There is one record per run, with its text."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m")
    (row,) = json.loads(cli("tasks", "log", "t", "--format", "json").stdout)
    assert (row["run_id"], row["lines"], row["text"], row["error"]) == (10, 1, "hello from m\n", None)


# --- download ---


def test_download(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Files have the documented layout, a second download is cached, and a tip names -s for sources."""
    kaggle.add_task("t")
    kaggle.add_run("t", "google/m@default")
    kaggle.add_run("t", "n", script("n", running=FOREVER))
    result = cli("tasks", "download", "t", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["Model", "File", "Size", "Progress"],
        ["─" * 20, "─" * 40, "─" * 10, "─" * 10],
        ["m-default", "m-default/10/", "2B", "Done"],
        [],
        ["Done:", "1", "run(s)", "downloaded."],
    ]
    assert Path("out/t/1/m-default/10/one.run.json").read_text() == "{}"
    assert "Target directory:  out/t/1/\n" in result.stderr  # the folder of what is in the column File
    again = cli("tasks", "download", "t", "-o", "out", "-s")
    assert "Cached" in again.stdout
    assert "1 cached run(s) lack source notebooks. Run again with -f -s" in again.stderr
    assert cli("tasks", "download", "t", "-o", "out", "-s", "-f").exit_code == 0
    assert Path("out/t/1/m-default/10/__notebook__.ipynb").is_file()


def test_download_of_which_one_fails(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """If one download fails, the others complete, its earlier copy stays, and the exit code is 1."""
    kaggle.add_task("t")
    kaggle.add_run("t", "a")
    kaggle.add_run("t", "b")
    cli("tasks", "download", "t")
    kaggle.runs[10].script = script("a", bad_zips=FOREVER)
    kaggle.runs[11].script = script("b", output_delay=math.inf)
    kaggle.add_run("t", "c")
    result = cli("tasks", "download", "t", "-f")
    assert result.exit_code == 1
    assert [line.split()[-1] for line in result.stdout.splitlines()[2:5]] == ["Done", "Failed", "zip"]
    assert "Done: 1 run(s) downloaded, 2 run(s) failed." in result.stdout
    assert "error: 2 of 3 run(s) could not be downloaded:\n  b (Run 11): " in result.stderr
    assert "\n  a (Run 10): The " in result.stderr
    assert Path("t/1/a/10/one.run.json").is_file()


def test_download_of_nothing(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A task without finished runs is not a failure, and a note says what to do."""
    kaggle.add_task("t")
    assert "fanbench tasks run t" in cli("tasks", "download", "t").stderr
    kaggle.add_run("t", "m", script("m", queued=FOREVER))
    result = cli("tasks", "download", "t")
    assert (result.exit_code, result.stdout) == (0, "\nDone: 0 runs downloaded.\n")
    assert "1 run(s) still in progress" in result.stderr


# --- publish, delete ---


def test_publish_twice(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Publishing a public task changes nothing."""
    kaggle.add_task("t")
    first = cli("tasks", "publish", "t")
    assert first.stdout.splitlines()[0] == "Task 't' published successfully."
    assert "Backing notebook also published." in first.stdout
    second = cli("tasks", "publish", "t")
    assert second.stdout == "Task 't' is already public.\nBacking notebook is already published.\n"
    assert kaggle.calls["publish_task"] == 1


def test_delete_is_not_supported(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A server without the call gives the Kaggle CLI's error."""
    kaggle.add_task("t")
    result = cli("tasks", "delete", "t", "-y")
    assert result.exit_code == 1
    assert result.stderr == "error: Delete is not supported by the server yet.\n"


def test_delete_asks(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Without a terminal and -y, nothing is deleted, and the error names the flag."""
    result = cli("tasks", "delete", "t")
    assert result.exit_code == 2
    assert "-y" in result.stderr
    assert not kaggle.calls


# --- init, auth ---


def test_init(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """init writes the file, the example and the reference, and shows only the end of the key."""
    kaggle.proxy_token = ModelProxyToken(
        token="kg-secret-abcd",
        base_uri="https://proxy/models",
        expiry_time=datetime.now(UTC) + timedelta(hours=2, seconds=30),
    )
    kaggle.add_model("a-x", "X", proxy_slug="a/x")
    kaggle.add_model("b-y", "Y", proxy_slug="b/y")
    Path(".env").write_text("# mine\nOTHER=1\nLLM_DEFAULT=b/y\n")
    result = cli("b", "init", "-y")
    assert result.exit_code == 0, result.stderr
    assert (
        Path(".env")
        .read_text()
        .startswith("# mine\nOTHER=1\nLLM_DEFAULT=b/y\nMODEL_PROXY_URL=https://proxy/models\n")
    )
    assert "LLMS_AVAILABLE=a/x,b/y\n" in Path(".env").read_text()
    assert Path("example_task.py").is_file()
    assert Path("kaggle_benchmarks_reference.md").is_file()
    assert "(ends in ...abcd)" in result.stderr
    assert "secret" not in result.stderr
    assert "Expires: in 2 hours" in result.stderr
    steps = [line.strip() for line in result.stderr.splitlines() if line.startswith("  $ ")]
    check = "$ fanbench check example_task.py"
    run = [f"{check} --run"] if importlib.util.find_spec("kaggle_benchmarks") else []
    assert steps == [check, *run, "$ fanbench tasks push what-is-kaggle -f example_task.py --wait"]
    assert "unchanged" in cli("init", "-y").stderr
    assert not list(Path().rglob("SKILL.md"))


@pytest.mark.parametrize(
    ("faults", "problem"),
    [
        ((Fault("list_models", 403, message="Not for you."),), "The models cannot be listed: Not for you."),
        ((Fault("list_models", 404, message="Nothing here."),), "The models cannot be listed: Nothing here."),
        ((Fault("list_models", 200, times=3),), "The models cannot be listed: The answer from"),
        ((), "This server offers no model through its Model Proxy."),
    ],
)
def test_init_without_a_list_of_models(
    cli: Cli,
    kaggle: SimulatedKaggle,
    faults: tuple[Fault, ...],
    problem: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The credentials are written, with a warning, if the models cannot be listed or there are none."""
    monkeypatch.setattr(retry, "_UNREADABLE_PAUSE", 0.0)
    kaggle.change(faults=faults)
    result = cli("init", "-y")
    assert result.exit_code == 0
    assert f"⚠ Warning: {problem}" in result.stderr
    assert "MODEL_PROXY_API_KEY=simulated-token\n" in Path(".env").read_text()
    assert "LLM" not in Path(".env").read_text()
    assert Path("example_task.py").is_file()


def test_init_writes_the_skill(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """init --skill writes the instructions for coding agents and names them among its files."""
    kaggle.add_model("a-x", "X", proxy_slug="a/x")
    result = cli("init", "-y", "--skill", "skills")
    assert result.exit_code == 0, result.stderr
    assert "SKILL.md" in result.stderr
    assert "(Instructions for coding agents)" in result.stderr
    assert Path("skills/fanbench/SKILL.md").read_text("utf-8") == cli("skill").stdout


def test_auth_sets_three_values(cli: Cli) -> None:
    """auth sets three values and nothing else."""
    result = cli("auth", "-y", "--env-file", "x.env")
    assert result.exit_code == 0
    assert [line.partition("=")[0] for line in Path("x.env").read_text().splitlines()] == [
        "MODEL_PROXY_URL",
        "MODEL_PROXY_API_KEY",
        "MODEL_PROXY_EXPIRY_TIME",
    ]
    assert not Path("example_task.py").exists()


@pytest.mark.parametrize("answer", ["", "\n", "perhaps\n"])
def test_auth_asks(cli: Cli, answer: str) -> None:
    """Without a terminal, -y and a clear answer in stdin, nothing is written."""
    result = cli("auth", input=answer)
    assert result.exit_code == 2
    assert "Use -y" in result.stderr
    assert not Path(".env").exists()


@pytest.mark.parametrize(("answer", "written"), [("y\n", True), ("Yes", True), ("n\n", False)])
def test_an_answer_may_come_from_a_pipe(cli: Cli, answer: str, written: bool) -> None:
    """`echo y | fanbench b auth` answers the question, as it does with the Kaggle CLI."""
    result = cli("b", "auth", input=answer)
    assert result.exit_code == (0 if written else 1)
    assert f"Write these settings to .env? {answer.strip().lower()}\n" in result.stderr
    assert Path(".env").exists() is written


def test_an_open_pipe_is_no_answer(server: SimulatedServer, folder: Path) -> None:
    """A pipe that nobody writes to ends in the usual error, not in an endless wait."""
    read, write = os.pipe()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "fanbench", "auth", "--endpoint", server.url],
            stdin=read,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(read)
        os.close(write)
    assert done.returncode == 2
    assert "Use -y" in done.stderr


@pytest.mark.parametrize("verb", ["init", "auth"])
@pytest.mark.parametrize(("file", "code"), [("sub", 2), ("locked.env", 1), ("no/.env", 1)])
def test_no_token_is_created_for_an_unwritable_file(
    cli: Cli, kaggle: SimulatedKaggle, verb: str, file: str, code: int
) -> None:
    """No token is requested if the file cannot be written, because that would end the previous token."""
    Path("sub").mkdir()
    Path("locked.env").touch(mode=0o400)
    assert cli(verb, "-y", "--env-file", file).exit_code == code
    assert not kaggle.calls


def test_a_broken_stream_is_resumed(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A log stream that breaks is resumed without losing or repeating a line."""
    kaggle.add_task("t")
    lines = ((0.0, "one\n"), (0.3, "two\n"))
    kaggle.add_run("t", "m", RunScript(running=0.4, log=lines, log_cuts=(0.2,)))
    assert "\none\ntwo\n═══ (2 lines) ═══" in cli("tasks", "log", "t").stdout


def test_an_unknown_task_is_not_awaited(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The command does not say that it waits if nothing was scheduled."""
    kaggle.add_model("m", "Em")
    assert "Waiting" not in cli("tasks", "run", "nope", "-m", "m").stderr


def test_a_model_that_the_server_does_not_list(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """`run` warns and lets the server decide; its runs are found by the same name, and by a pattern."""
    kaggle.add_task("t")
    kaggle.change(
        faults=(Fault("list_models", 403, message="Not for you."),),
        spell_model=lambda model: f"o/{model}@default",
    )
    result = cli("tasks", "run", "t", "-m", "google/gem", "--wait", "--format", "json")
    assert result.exit_code == 0
    assert "models cannot be listed, so names are sent as written (gem): Not for you." in result.stderr
    (record,) = json.loads(result.stdout)
    assert (record["model"], record["run_id"], record["state"]) == ("gem", 10, "COMPLETED")
    for name in ("gem", "google/gem", "g*", "gem-default"):
        for command in ("status", "log", "download"):
            found = json.loads(cli("tasks", command, "t", "-m", name, "--format", "json").stdout)
            runs = found["runs"] if command == "status" else found
            assert [(run["run_id"], run["model"]) for run in runs] == [(10, "gem-default")]


def test_a_refusal_without_a_list_of_models(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """If the server lists no models and refuses the runs, its own error is shown, without a hint to list them."""
    kaggle.add_task("t")
    faults = [Fault(call, 400, message="models.toml is wrong.") for call in ("list_models", "schedule_runs")]
    kaggle.change(faults=tuple(faults))
    result = cli("tasks", "run", "t", "-m", "gem")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "models.toml is wrong." in result.stderr.splitlines()[-1]


def test_a_run_is_listed_under_another_spelling(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """`run --wait` finds the run on a listed model `m` that the server lists as one on `o/m@default`."""
    kaggle.add_task("t")
    kaggle.add_model("m")
    kaggle.change(spell_model=lambda model: f"o/{model}@default")
    result = cli("tasks", "run", "t", "-m", "m", "--wait", "--format", "json")
    assert result.exit_code == 0
    assert [(record["run_id"], record["state"]) for record in json.loads(result.stdout)] == [
        (10, "COMPLETED")
    ]
