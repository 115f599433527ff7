"""The task commands on a real socket: what they send, what they show, how they end."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.world import World, bodies
from tests.wire.fake_server import CUT, Answer, FakeServer, problem


def shown(text: str) -> str:
    """Return a table with single spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


# --- push ---


@pytest.mark.parametrize("start", [["tasks"], ["t"], ["b", "t"], ["benchmarks", "tasks"]])
def test_push_in_every_spelling(cli: Cli, server: FakeServer, task_file: Path, start: list[str]) -> None:
    """A push uploads once, prints the URLs to stdout, and the next commands to stderr."""
    result = cli(*start, "push", "my-task", "-f", "task.py")
    assert result.exit_code == 0
    assert result.stdout == (
        "\nPushed my-task\n"
        "   Task Details:  https://www.kaggle.com/benchmarks/tasks/me/my-task/2\n"
        "   Model Output:  https://www.kaggle.com/benchmarks/tasks/me/my-task?compare=true\n"
    )
    assert "$ fanbench tasks run my-task\n" in result.stderr
    assert [body["slug"] for body in bodies(server, "CreateBenchmarkTask")] == ["my-task"]


def test_push_again_with_wait(cli: Cli, world: World, task_file: Path) -> None:
    """A second push says that it is a new version, waits for its creation, and warns about the name on
    stderr.
    """
    world.seconds = 0.2
    world.add_task("my-task", options={"datasetDataSources": ["o/d"]})
    result = cli("tasks", "push", "My Task", "-f", "task.py", "--wait", "--poll-interval", "0.1")
    assert result.exit_code == 0, result.stderr
    assert "Pushed new version of my-task" in result.stdout
    assert "\nCompleted\n" in result.stdout
    assert "'My Task' was normalized to slug 'my-task'" in result.stderr
    assert "To keep them, add: -d o/d" in result.stderr


def test_push_whose_creation_fails(cli: Cli, world: World, task_file: Path) -> None:
    """A push whose creation fails is exit 1, with the server's reason."""
    world.ends["creation"] = "KERNEL_WITHOUT_RUN"
    result = cli("tasks", "push", "my-task", "-f", "task.py", "--wait")
    assert result.exit_code == 1
    assert "creation failed (status: KERNEL_WITHOUT_RUN).\n  Error: It went wrong." in result.stderr


def test_push_of_several_files(cli: Cli, server: FakeServer, task_file: Path) -> None:
    """Several files are pushed, and shown in the order of the flags."""
    for name in "bca":
        Path(f"{name}.py").write_text(task_file.read_text().replace("My Task", f"Task {name}"))
    result = cli("tasks", "push", "-f", "b.py", "-f", "c.py", "-f", "a.py", "--format", "json")
    assert result.exit_code == 0
    assert [row["task"] for row in json.loads(result.stdout)] == ["task-b", "task-c", "task-a"]


def test_push_of_several_files_with_wait(cli: Cli, world: World, task_file: Path) -> None:
    """With --wait the ends of pushes are shown in the order of the flags, too."""
    world.seconds = 0.1
    Path("a.py").write_text(task_file.read_text().replace("My Task", "A"))
    result = cli("tasks", "push", "-f", "task.py", "-f", "a.py", "--wait", "--poll-interval", "0.1")
    assert result.exit_code == 0
    heads = [line for line in result.stdout.splitlines() if line and not line.startswith(" ")]
    assert heads == ["Pushed my-task", "Pushed a", "Completed: my-task", "Completed: a"]


def test_push_sends_nothing_if_a_file_has_an_error(cli: Cli, server: FakeServer, task_file: Path) -> None:
    """If one file has an error, none is pushed."""
    Path("bad.py").write_text("def (:\n")
    result = cli("tasks", "push", "-f", "task.py", "-f", "bad.py")
    assert result.exit_code == 1
    assert result.stderr.startswith("error: bad.py:1:")
    assert server.requests == []


def test_one_of_several_pushes_fails(cli: Cli, world: World, task_file: Path) -> None:
    """If one of several pushes fails, the other is pushed, the error names it, and the exit code is 1."""
    Path("other.py").write_text(task_file.read_text().replace("My Task", "Other"))
    world.add_task("other", "QUEUED")
    result = cli("tasks", "push", "-f", "other.py", "-f", "task.py")
    assert result.exit_code == 1
    assert "Pushed my-task" in result.stdout
    assert "error: Task 'other' is still being created" in result.stderr
    assert "error: 1 of 2 pushes failed." in result.stderr


# --- run ---


def test_run_prints_one_line_per_model(cli: Cli, world: World) -> None:
    """Each model's line says whether its run was scheduled, or why it was skipped."""
    world.seconds = 99
    world.add_task("t")
    world.add_model("m", "Em")
    world.add_model("n", "En")
    world.add_run("t", "n", "RUNNING")
    result = cli("tasks", "run", "t", "-m", "google/m", "-m", "n")
    assert result.exit_code == 0
    assert result.stdout == (
        "Submitted run(s) for task 't'.\n  m: Scheduled\n  n: Skipped (already in flight)\n"
    )
    assert "$ fanbench tasks status t\n" in result.stderr


def test_run_and_wait(cli: Cli, world: World, server: FakeServer) -> None:
    """With --wait the final states are on stdout, and with --logs the log lines are on stderr."""
    world.add_task("t")
    world.add_model("m", "Em")
    world.add_run("t", "m", "ERRORED", errorMessage="old")
    result = cli("tasks", "run", "t", "-m", "m", "--wait", "--logs")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.endswith("All runs completed:\n  m: COMPLETED\n")
    assert "m | hello from m\n" in result.stderr


def test_run_and_wait_with_an_errored_run(cli: Cli, world: World) -> None:
    """An errored run is exit 1, with its message and the states of all runs."""
    world.ends["n"] = "ERRORED"
    world.add_task("t")
    world.add_model("m", "Em")
    world.add_model("n", "En")
    result = cli("tasks", "run", "t", "-m", "m", "-m", "n", "--wait")
    assert result.exit_code == 1
    assert "m: COMPLETED" in result.stdout
    assert "1 run(s) failed. Details below:\n  [n]\n    Traceback\n    ValueError: no answer" in result.stderr


def test_run_that_times_out(cli: Cli, world: World) -> None:
    """A timeout is exit 5, and names the runs in progress."""
    world.seconds = 60
    world.add_task("t")
    world.add_model("m", "Em")
    result = cli("tasks", "run", "t", "-m", "m", "--wait", "1", "--poll-interval", "0.3")
    assert result.exit_code == 5
    assert "Timed out after 1s" in result.stderr
    assert "t: m (Run 10) Running" in result.stderr


def test_run_that_times_out_in_json(cli: Cli, world: World) -> None:
    """After a timeout, JSON contains every record with its state at that time."""
    world.seconds = 60
    world.add_task("t")
    world.add_model("m", "Em")
    result = cli(
        "tasks", "run", "t", "-m", "m", "--wait", "0.3", "--poll-interval", "0.1", "--format", "json"
    )
    assert result.exit_code == 5
    (row,) = json.loads(result.stdout)
    assert (row["model"], row["state"]) == ("m", "RUNNING")
    assert row["run_id"]


def test_a_missing_task_is_reported_once(cli: Cli, world: World) -> None:
    """The error of a single task is printed once."""
    world.add_model("m", "Em")
    result = cli("tasks", "run", "missing", "-m", "m")
    assert result.exit_code == 4
    assert result.stderr.count("'missing' not found") == 1


def test_run_without_a_model_reads_one_answer(cli: Cli, world: World, server: FakeServer) -> None:
    """Without -m, the models are listed on stderr page by page, and the answer is read from stdin."""
    world.add_task("t")
    for number in range(1, 26):
        world.add_model(f"m{number}", f"Model {number}")
    result = cli("tasks", "run", "t", input="n\n21, 3\n")
    assert result.exit_code == 0, result.stderr
    assert [body["modelVersionSlugs"] for body in bodies(server, "BatchScheduleBenchmarkTaskRuns")] == [
        ["m21", "m3"]
    ]
    assert "Showing 21-25 of 25 models" in result.stderr
    assert "\n1. Model 1 m1 Image-Text-to-Text\n" in shown(result.stderr)
    assert len(server.calls("ListBenchmarkModels")) == 1


@pytest.mark.parametrize(
    ("answer", "words"),
    [("", "-m/--model"), ("0\n", "not a valid choice"), ("x\n", "not a valid"), ("2\n", "not a")],
)
def test_run_without_an_answer(cli: Cli, world: World, answer: str, words: str) -> None:
    """No answer, or a wrong one, is a usage error with a hint."""
    world.add_task("t")
    world.add_model("m", "Em")
    result = cli("tasks", "run", "t", input=answer)
    assert result.exit_code == 2
    assert words in result.stderr


def test_run_of_several_tasks_of_which_one_is_missing(cli: Cli, world: World) -> None:
    """If one of several tasks is missing, the others run, and the exit code is 1."""
    world.add_task("a")
    world.add_model("m", "Em")
    result = cli("tasks", "run", "a", "b", "-m", "m", "--wait", "--format", "json")
    assert result.exit_code == 1
    assert [(row["task"], row["state"]) for row in json.loads(result.stdout)] == [("a", "COMPLETED")]
    assert "error: Task 'b' not found" in result.stderr


def test_run_and_wait_for_a_run_in_flight(cli: Cli, world: World) -> None:
    """If a model was skipped because its run is in flight, the command says that it waits for that run."""
    world.seconds = 1
    world.add_task("t")
    world.add_model("m", "Em")
    world.add_run("t", "m", "RUNNING", since=time.monotonic())
    result = cli("tasks", "run", "t", "-m", "m", "--wait")
    assert result.exit_code == 0
    assert "m: Skipped (already in flight)" in result.stdout
    assert result.stdout.endswith("  m: COMPLETED\n")
    assert "waiting for those as well (Run 10)" in result.stderr


# --- list, status, models ---


def test_list(cli: Cli, world: World) -> None:
    """The list has the columns and words of the Kaggle CLI."""
    world.add_task("first", "KERNEL_WITHOUT_RUN")
    world.add_task("second")
    result = cli("t", "list", "--name-regex", "x", "--status", "completed")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["Task", "Status", "Created"],
        ["─" * 40, "─" * 20, "─" * 20],
        ["first", "Kernel_Without_Run", "2030-01-02", "03:04:05"],
        ["second", "Completed", "2030-01-02", "03:04:05"],
    ]
    assert "Showing 1-2 of 2 tasks (https://www.kaggle.com/benchmarks/tasks/me/)" in result.stderr


def test_list_of_nothing(cli: Cli) -> None:
    """An empty list is reported on stderr, and a CSV still has its header."""
    assert "No tasks found." in cli("t", "list").stderr
    assert cli("t", "list", "--format", "csv").stdout.startswith("task,owner,version")


def test_status(cli: Cli, world: World) -> None:
    """The status shows the task, its runs, and the last line of each error."""
    world.add_task("t", options={"datasetDataSources": ["o/d"]})
    world.add_run("t", "google/m@default", "ERRORED", errorMessage="Traceback\n  File\nValueError: no\n")
    world.add_run("t", "n", "SCORE_PENDING", endTime="2030-01-02T03:05:06Z")
    result = cli("tasks", "status", "T")
    assert shown(result.stdout) == shown(
        "Task: t\nVersion: 2\nStatus: Completed\nCreated: 2030-01-02 03:04:05\nPublic: False\n"
        "Task URL: https://www.kaggle.com/benchmarks/tasks/me/t/2\nDatasets: o/d\n\n"
        "Model Status Started Ended\n"
        f"{'─' * 20} {'─' * 15} {'─' * 19} {'─' * 19}\n"
        "n Score_Pending 2030-01-02 03:04:06 2030-01-02 03:05:06\n"
        "m-default Errored 2030-01-02 03:04:06\n\n"
        "Errors:\n [m-default] ValueError: no"
    )
    assert "fanbench tasks log t" in result.stderr


def test_status_for_programs(cli: Cli, world: World) -> None:
    """JSON is one object with its runs."""
    world.add_task("t")
    world.add_run("t", "m")
    found = json.loads(cli("tasks", "status", "t", "--format", "json").stdout)
    assert (found["state"], found["version"], found["created"]) == (
        "COMPLETED",
        2,
        "2030-01-02T03:04:05.678Z",
    )
    assert [(run["run_id"], run["state"]) for run in found["runs"]] == [(10, "COMPLETED")]
    lines = cli("tasks", "status", "t", "--format", "csv").stdout.splitlines()
    assert lines == [
        "task,run_id,model,state,started,ended,error",
        "t,10,m,COMPLETED,2030-01-02T03:04:06.000Z,,",
    ]


def test_models(cli: Cli, world: World) -> None:
    """The list has the slug that -m accepts, the name, and the modalities."""
    world.add_model("m-1", "Model One")
    assert shown(cli("tasks", "models").stdout).splitlines()[-1] == "m-1 Model One Image-Text-to-Text"
    (row,) = json.loads(cli("tasks", "models", "--format", "json").stdout)
    assert (row["model"], row["inputs"]) == ("m-1", ["text", "image"])


# --- log ---


def test_log(cli: Cli, world: World) -> None:
    """Logs have the headers and footers of the Kaggle CLI, and a missing log is noted on stderr."""
    world.add_task("t")
    world.add_run("t", "google/m@default")
    world.add_run("t", "n", "QUEUED")
    world.add_run("t", "n", "RUNNING")
    result = cli("tasks", "logs", "t")
    assert result.exit_code == 0
    assert result.stdout == (
        "\n═══ Logs for n (Run 12) [RUNNING] ═══\nhello from n\n═══ (1 lines) ═══\n"
        "\n═══ Logs for n (Run 11) [QUEUED] ═══\n═══ (0 lines) ═══\n"
        "\n═══ Logs for m-default (Run 10) [COMPLETED] ═══\nhello from google/m@default\n═══ (1 lines) ═══\n"
    )
    assert "  (No logs available — server returned 404)\n" in result.stderr
    assert "Showed logs for 3 run(s) across 2 model(s)." in result.stderr


def test_log_together(cli: Cli, world: World) -> None:
    """Interleaved lines have the model in front, and the run's id if a model has two runs."""
    world.add_task("t")
    world.add_run("t", "m")
    world.add_run("t", "m")
    result = cli("tasks", "log", "t", "--interleave")
    assert sorted(result.stdout.splitlines()) == ["m #10 | hello from m", "m #11 | hello from m"]


def test_log_for_programs(cli: Cli, world: World) -> None:
    """There is one record per run, with its text."""
    world.add_task("t")
    world.add_run("t", "m")
    (row,) = json.loads(cli("tasks", "log", "t", "--format", "json").stdout)
    assert (row["run_id"], row["lines"], row["text"], row["error"]) == (10, 1, "hello from m\n", None)


# --- download ---


def test_download(cli: Cli, world: World) -> None:
    """Files have the documented layout, a second download is cached, and a tip names -s for sources."""
    world.add_task("t")
    world.add_run("t", "google/m@default")
    world.add_run("t", "n", "RUNNING")
    result = cli("tasks", "download", "t", "-o", "out")
    assert result.exit_code == 0, result.stderr
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["Model", "File", "Size", "Progress"],
        ["─" * 20, "─" * 40, "─" * 10, "─" * 10],
        ["m-default", "m-default/10/", "2B", "Done"],
        [],
        ["Done:", "1", "run(s)", "downloaded."],
    ]
    assert Path("out/t/2/m-default/10/one.run.json").read_text() == "{}"
    again = cli("tasks", "download", "t", "-o", "out", "-s")
    assert "Cached" in again.stdout
    assert "1 cached run(s) lack source notebooks. Run again with -f -s" in again.stderr
    assert cli("tasks", "download", "t", "-o", "out", "-s", "-f").exit_code == 0
    assert Path("out/t/2/m-default/10/__notebook__.ipynb").is_file()


def test_download_of_which_one_fails(cli: Cli, world: World) -> None:
    """If one download fails, the others complete, its earlier copy stays, and the exit code is 1."""
    world.add_task("t")
    world.add_run("t", "a")
    world.add_run("t", "b")
    cli("tasks", "download", "t")
    world.outputs = {
        10: Answer(b"no zip", headers={"Content-Type": "application/zip"}),
        11: problem(403, "Not yours."),
    }
    world.add_run("t", "c")
    result = cli("tasks", "download", "t", "-f")
    assert result.exit_code == 1
    assert [line.split()[-1] for line in result.stdout.splitlines()[2:5]] == ["Done", "Failed", "zip"]
    assert "Done: 1 run(s) downloaded, 2 run(s) failed." in result.stdout
    assert "2 of 3 run(s) could not be downloaded" in result.stderr
    assert Path("t/2/a/10/one.run.json").is_file()


def test_download_of_nothing(cli: Cli, world: World) -> None:
    """A task without finished runs is not a failure, and a note says what to do."""
    world.add_task("t")
    assert "fanbench tasks run t" in cli("tasks", "download", "t").stderr
    world.add_run("t", "m", "QUEUED")
    result = cli("tasks", "download", "t")
    assert (result.exit_code, result.stdout) == (0, "\nDone: 0 runs downloaded.\n")
    assert "1 run(s) still in progress" in result.stderr


# --- publish, delete ---


def test_publish_twice(cli: Cli, world: World, server: FakeServer) -> None:
    """Publishing a public task changes nothing."""
    world.add_task("t")
    first = cli("tasks", "publish", "t")
    assert first.stdout.splitlines()[0] == "Task 't' published successfully."
    assert "Backing notebook also published." in first.stdout
    second = cli("tasks", "publish", "t")
    assert second.stdout == "Task 't' is already public.\nBacking notebook is already published.\n"
    assert len(server.calls("PublishBenchmarkTask")) == 1


def test_delete_is_not_supported(cli: Cli, world: World) -> None:
    """A server without the call gives the Kaggle CLI's error."""
    world.add_task("t")
    result = cli("tasks", "delete", "t", "-y")
    assert result.exit_code == 1
    assert result.stderr == "error: Delete is not supported by the server yet.\n"


def test_delete_asks(cli: Cli, world: World, server: FakeServer) -> None:
    """Without a terminal and -y, nothing is deleted, and the error names the flag."""
    result = cli("tasks", "delete", "t")
    assert result.exit_code == 2
    assert "-y" in result.stderr
    assert server.requests == []


# --- init, auth ---


def test_init(cli: Cli, world: World) -> None:
    """init writes the file, the example and the reference, and shows only the end of the key."""
    world.add_model("a-x", "X", "a/x")
    world.add_model("b-y", "Y", "b/y")
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
    assert "fanbench tasks push what-is-kaggle -f example_task.py --wait" in result.stderr
    assert "unchanged" in cli("init", "-y").stderr


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


def test_auth_asks(cli: Cli) -> None:
    """Without a terminal and -y, nothing is written."""
    result = cli("auth")
    assert result.exit_code == 2
    assert "Use -y" in result.stderr
    assert not Path(".env").exists()


@pytest.mark.parametrize("verb", ["init", "auth"])
@pytest.mark.parametrize("file", ["sub", "locked.env", "no/.env"])
def test_no_token_is_created_for_an_unwritable_file(
    cli: Cli, server: FakeServer, verb: str, file: str
) -> None:
    """No token is requested if the file cannot be written, because that would end the previous token."""
    Path("sub").mkdir()
    Path("locked.env").touch(mode=0o400)
    assert cli(verb, "-y", "--env-file", file).exit_code == 1
    assert server.requests == []


def test_a_broken_stream_is_resumed(cli: Cli, world: World) -> None:
    """A log stream that breaks is resumed without losing or repeating a line."""
    world.add_task("t")
    run = world.add_run("t", "m", "RUNNING")
    one, two = (
        f'data: {{"stream_name": "stdout", "time": 1, "data": "{word}\\n"}}\n\n' for word in ("one", "two")
    )
    kind = {"Content-Type": "text/event-stream"}
    answers = iter([Answer([one.encode(), CUT], headers=kind, length=False)])
    whole = Answer([one.encode(), two.encode()], headers=kind, length=False)

    class Cutting(dict[int, Answer]):
        def __getitem__(self, key: int) -> Answer:
            return next(answers, whole)

    world.logs = Cutting({run: whole})
    assert "\none\ntwo\n═══ (2 lines) ═══" in cli("tasks", "log", "t").stdout


def test_an_unknown_task_is_not_awaited(cli: Cli, world: World) -> None:
    """The command does not say that it waits if nothing was scheduled."""
    world.add_model("m", "Em")
    assert "Waiting" not in cli("tasks", "run", "nope", "-m", "m").stderr
