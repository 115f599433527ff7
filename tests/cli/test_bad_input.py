"""Wrong input gets one line with a hint and the right exit code, no traceback, and no partial file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from fanbench.cli.app import root
from fanbench.testing import SimulatedKaggle, serve
from fanbench.wire.messages import BenchmarkResult, Leaderboard
from tests.cli.conftest import Cli, script
from tests.cli.test_account_commands import row
from tests.wire.fake_server import Answer, FakeServer, problem

RUN = ["tasks", "run", "t"]
PUSH = ["tasks", "push", "my-task", "-f", "task.py"]


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["taks"], 2, "Did you mean 'tasks'?"),
        (["tasks", "psuh"], 2, "Did you mean 'push'?"),
        (["push", "-f", "a.py"], 2, "Did you mean 'tasks push'?"),
        (["b", "logs"], 2, "Did you mean 'tasks logs'?"),
        (["tasks", "run"], 2, "Missing argument 'TASK...'"),
        (["tasks", "push", "my-task"], 2, "Missing option '-f'"),
        (["tasks", "push", "my.ipynb"], 2, "Run `fanbench tasks push -f my.ipynb`"),
        ([*RUN, "-m", "a", "b"], 2, "Repeat the flag: -m a -m b"),
        ([*RUN, "--model=a", "b"], 2, "Repeat the flag: -m a -m b"),
        (["tasks", "status", "t", "-m", "a", "b"], 2, "Repeat the flag: -m a -m b"),
        ([*PUSH, "other.py"], 2, "Repeat the flag: -f task.py -f other.py"),
        ([*PUSH, "-d", "a/b", "c/d"], 2, "Repeat the flag: -d a/b -d c/d"),
        ([*RUN, "-m", "m", "--wait", "-1"], 2, "negative"),
        ([*RUN, "-m", "m", "--wait", "--poll-interval", "0"], 2, "--poll-interval"),
        ([*RUN, "-m", "m", "--all-models"], 2, "cannot be used together"),
        ([*RUN, "-m", "nope"], 4, "No such model: nope"),
        ([*PUSH, "-d", "no-owner"], 2, "OWNER/DATASET"),
        (["tasks", "push", "my-task", "-f", "missing.py"], 1, "missing.py"),
        (["tasks", "push", "my-task", "-f", "."], 1, "error: "),
        (["tasks", "push", "my-task", "-f", "notes.txt"], 1, "notes.txt"),
        (["tasks", "push", "my-task", "-f", "empty.py"], 1, "empty.py"),
        (["tasks", "push", "my-task", "-f", "latin.py"], 1, "latin.py"),
        (["tasks", "push", "other", "-f", "task.py"], 1, "my-task"),
        (["tasks", "status", "missing"], 4, "'missing' not found"),
        (["tasks", "status", "///"], 2, "is not a task name"),
        (["tasks", "status", "owner/"], 2, "is not a task name"),
        *(
            ([*words, "a/b/c"], 2, "Write TASK or OWNER/TASK")
            for words in (
                ["tasks", "status"],
                ["tasks", "status", "--watch"],
                ["tasks", "cancel", "-y"],
                ["tasks", "edit", "--tag", "x"],
                ["tasks", "run", "-m", "m"],
                ["benchmarks", "add", "bench", "-y"],
            )
        ),
        ([*RUN, "-m", "m@"], 2, "no effort after the @"),
        (["tasks", "list", "--name-regex", "("], 1, "'(' is not a regular expression"),
        (["tasks", "list", "--page-size", "0"], 2, "--page-size"),
        (["tasks", "list", "--format", "xml"], 2, "--format"),
        (["tasks", "list", "--concurrency", "0"], 2, "--concurrency"),
        (["tasks", "list", "--local"], 2, "two different servers"),
        (["tasks", "list", "--data", "x"], 2, "--local"),
        (["tasks", "list", "--endpoint", "nonsense"], 2, "not an endpoint"),
        (["tasks", "list", "--endpoint", "http://127.0.0.1:9"], 1, "error: "),
        (["tasks", "list", "--token", "two words"], 3, "--token"),
        (["tasks", "download", "t", "-o", "task.py"], 2, "is a file"),
        (["tasks", "log", "t", "-o", "task.py"], 2, "is a file"),
        (["init", "-y", "--env-file", "sub"], 2, "is a directory"),
        (["auth", "-y", "--env-file", "sub"], 2, "is a directory"),
        (["auth", "-y", "--env-file", "no/.env"], 1, "Cannot use"),
        (["auth", "-y", "--env-file", "locked.env"], 1, "locked.env is read-only"),
        (["init", "-y", "--env-file", "latin.py"], 1, "not UTF-8"),
        (["init", "-y", "--example-file", "no/x.ipynb"], 1, "Cannot write no/x.ipynb"),
        ([*RUN, "-m", "gemini-2.5-prp"], 4, "gemini-2.5-prp (did you mean gemini-2.5-pro?); run"),
        ([*RUN, "-m", "nope*"], 4, "Unknown model:\n  nope*"),
        (["tasks", "status", "t", "-m", "nope"], 4, "no run on nope. Its runs are on m."),
        (["tasks", "log", "t", "-m", "nope*"], 4, "no run on nope*. Its runs are on m."),
        (["tasks", "download", "t", "-m", "x/nope"], 4, "no run on x/nope. Its runs are on m."),
        (["sweep", "t", "-m", "nope*", "-y"], 4, "Unknown model:\n  nope*"),
        ([*RUN, "-m", "m", "--poll-interval", "-2"], 2, "--poll-interval"),
        ([*RUN], 2, "-m/--model"),
        (["tasks", "push", "///", "-f", "task.py"], 2, "is not a task name"),
        (["tasks", "push", "🚀", "-f", "task.py"], 2, "is not a task name"),
        (["tasks", "push", "émoji 🚀", "-f", "task.py"], 1, "my-task"),
        (["tasks", "push", "my-task", "-f", "big.py"], 1, "big.py"),
        (["tasks", "push", "my-task", "-f", "broken.py"], 1, "broken.py:2:"),
        (["tasks", "push", "my-task", "-f", "task.py", "--wait", "-1"], 2, "negative"),
        (["tasks", "status", "émoji 🚀"], 4, "'emoji' not found"),
        (["tasks", "status", "t", "--watch", "--poll-interval", "0"], 2, "--poll-interval"),
        (["tasks", "status", "t", "///"], 2, "is not a task name"),
        (["tasks", "log", "missing", "-o", "logs"], 4, "'missing' not found"),
        (["tasks", "download", "missing"], 4, "'missing' not found"),
        (["tasks", "download", "t", "-o", "/sys/none"], 1, "Cannot write to"),
        (["tasks", "publish", "missing"], 4, "'missing' not found"),
        (["tasks", "delete", "missing", "-y"], 4, "'missing' not found"),
        (["tasks", "delete", "t"], 2, "Use -y"),
        (["tasks", "list", "--token", ""], 2, "--token is empty"),
        (["tasks", "list", "--token", "/no/such/file"], 3, "does not exist"),
        (["tasks", "list", "--log-file", "sub"], 2, "Cannot write the log file"),
        (["leaderboard", "a/b/c"], 2, "OWNER/BENCHMARK"),
        (["leaderboard", "../b", "--download"], 2, "OWNER/BENCHMARK"),
        (["leaderboard", "mine"], 2, "no owner"),
        (["leaderboard", "me/b", "--version", "0"], 2, "--version"),
        (["leaderboard", "me/b", "-p", "sub"], 2, "Add --download"),
        (["leaderboard", "me/b", "--download", "-p", "task.py"], 2, "is a file"),
        (["leaderboard", "me/b", "--download", "-p", "/sys/none"], 1, "Cannot write"),
        (["completion", "csh"], 2, "bash"),
        (["doctor", "extra"], 2, "unexpected extra argument"),
        (["results", ""], 2, "The path is empty"),
        (["results", "missing"], 4, "No run files found"),
        (["report", "task.py"], 2, "Add -o FILE"),
        (["models", "remove", "nope", "--data", "sub"], 4, "There is no model 'nope'"),
        (["models", "list", "--data", "task.py"], 2, "is a file"),
        (["models", "add", "missing.gguf", "--data", "sub"], 2, "does not exist"),
        (["stop", "--data", "task.py"], 2, "is a file"),
        (["serve", "--data", "task.py"], 2, "is a file"),
        (["check", "--run", "task.py", "-o", "task.py"], 2, "is a file"),
        (["sweep", "missing.py", "-m", "m"], 1, "does not exist"),
        (["sweep", "z*.py", "-m", "m"], 1, "No task file matches"),
        (["sweep", "missing.toml"], 2, "does not exist"),
        (["sweep", "./missing", "-m", "m"], 2, "end in .py or .ipynb"),
        (["sweep", "t", "--models-from", "missing"], 2, "does not exist"),
        (["sweep", "t", "--models-from", "sub"], 2, "is a folder"),
        (["sweep", "t", "-m", "m", "-o", "task.py"], 2, "is a file"),
        (["tasks", "download", "t", "-o", ""], 2, "The path is empty"),
        (["init", "-y", "--example-file", ""], 2, "The path is empty"),
        (["init", "-y", "--skill", ""], 2, "The path is empty"),
        ([*RUN, "-m", ""], 2, "The name of a model is empty"),
        (["tasks", "push", "my-task", "-f", "pipe.py"], 1, "not a regular file"),
        (["auth", "-y", "--env-file", "pipe.py"], 1, "not a regular file"),
        (["init", "-y", "--env-file", "/dev/zero"], 1, "not a regular file"),
    ],
)
def test_bad_input(
    cli: Cli, kaggle: SimulatedKaggle, task_file: Path, words: list[str], code: int, says: str
) -> None:
    """Each mistake has its exit code and exactly one error, and leaves no files."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m")
    kaggle.add_model("m", "Em")
    Path("notes.txt").write_text("x")
    Path("empty.py").write_text("")
    Path("latin.py").write_bytes(b"# \xe9\n")
    Path("big.py").write_text("# x\n" * (6 << 18))
    Path("broken.py").write_text("import os\ndef (:\n")
    Path("locked.env").write_text("")
    Path("locked.env").chmod(0o400)
    Path("sub").mkdir()
    os.mkfifo("pipe.py")
    kaggle.add_model("gemini-2.5-pro", "Gemini 2.5 Pro")
    kaggle.leaderboards["me", "b"] = Leaderboard(
        rows=[row("m", "Em", t=BenchmarkResult(boolean_result=True))]
    )
    before = sorted(os.listdir())
    extra = ["--endpoint", "http://x"] if "--local" in words else []
    result = cli(*words, *extra)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert sum(line.startswith("error: ") for line in result.stderr.splitlines()) == 1
    assert sorted(os.listdir()) == before


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem(401, "Unauthenticated."), 3),
        (problem(403, "Verify your phone."), 1),
        (problem(404, "What?"), 4),
        (problem(400, "Bad regex."), 1),
        (Answer(b"<html>", headers={"Content-Type": "text/html"}), 1),
        (Answer(b"{"), 1),
    ],
)
def test_refusals_of_the_server(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, code: int
) -> None:
    """Each kind of refusal has its exit code, and the error names the call."""
    with FakeServer({"ListBenchmarkTasks": [answer]}) as server:
        monkeypatch.setenv("FANBENCH_ENDPOINT", server.url)
        result = CliRunner().invoke(root, ["tasks", "list"])
    assert result.exit_code == code
    assert next(line for line in result.stderr.splitlines() if "retrying" not in line).startswith("error: ")
    assert "ListBenchmarkTasks" in result.stderr


def test_no_credentials(folder: Path) -> None:
    """Kaggle without credentials is exit 3, with a hint where to get some, and how to do without."""
    result = CliRunner().invoke(root, ["tasks", "list"])
    assert result.exit_code == 3
    assert "KAGGLE_API_TOKEN" in result.stderr
    assert "--local" in result.stderr


def test_a_token_is_never_shown(folder: Path) -> None:
    """A token is never shown, whatever is wrong with it."""
    result = CliRunner().invoke(root, ["tasks", "list", "--token", "sec ret", "-v"])
    assert "sec ret" not in result.output


# Runs the program in a folder with a file system `here` that is small, or read-only.
_ELSEWHERE = """
mkdir here && mount -t tmpfs -o size=64k none here || exit 99
if [ "$1" = ro ]; then mount -o remount,ro here || exit 99; fi
shift
"$@"
code=$?
find here -type f
exit $code
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "ro"])
@pytest.mark.parametrize(
    "words",
    [
        "tasks download t -o here",
        "tasks log t -q -o here",
        "leaderboard me/b --download -p here",
        "init -y --env-file here/.env --example-file here/task.py",
    ],
)
def test_a_full_or_read_only_disk(folder: Path, kaggle: SimulatedKaggle, kind: str, words: str) -> None:
    """A disk that is full or read-only is one error with exit 1, and no partial file stays."""
    kaggle.add_task("t")
    lines = [(0.0, "x" * 99 + "\n")] * 2000
    kaggle.add_run("t", "m", script("m", log=lines, output={"big": os.urandom(200_000)}))
    name = "A name that is rather long, so that it takes its room"
    rows = [row(f"model-{number}", name, t=BenchmarkResult()) for number in range(2000)]
    kaggle.leaderboards["me", "b"] = Leaderboard(rows=rows)
    for number in range(3000):
        kaggle.add_model(f"a-model-with-a-rather-long-name-{number}", "Em")
    with serve(kaggle) as server:
        program = [sys.executable, "-m", "fanbench", *words.split(), "--endpoint", server.url]
        shell = ["unshare", "-rm", "sh", "-c", _ELSEWHERE, "sh", kind, *program]
        try:
            done = subprocess.run(shell, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            pytest.skip("there is no unshare here")
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip(f"no mounts here: {done.stderr}")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search("No space left|Read-only file system|read-only", done.stderr)
    assert [line for line in done.stdout.splitlines() if line.startswith("here/")] == []


def test_a_log_file_on_a_full_disk(cli: Cli) -> None:
    """A log file on a full disk is reported once, and the command continues."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    result = cli("tasks", "list", "--log-file", "/dev/full")
    assert result.exit_code == 0
    assert result.stderr.count("Stopped writing the log file: No space left on device.") == 1


def test_credentials_that_have_expired(folder: Path) -> None:
    """Expired credentials are exit 3, and the error says that they have expired."""
    (folder.parent / ".kaggle").mkdir()
    stale = '{"access_token": "kg-stale", "access_token_expiration": "2020-01-01T00:00:00Z"}'
    (folder.parent / ".kaggle/credentials.json").write_text(stale)
    result = CliRunner().invoke(root, ["tasks", "list"])
    assert result.exit_code == 3
    assert "has expired" in result.stderr
    assert "kg-stale" not in result.stderr


@pytest.mark.parametrize(
    "words", [("run", "t", "-m", "m", "--wait=nan"), ("run", "t", "-m", "m", "--wait=-1")]
)
def test_a_negative_wait_is_refused_before_scheduling(
    cli: Cli, kaggle: SimulatedKaggle, words: tuple[str, ...]
) -> None:
    """A --wait that is not a number or negative is exit 2 before anything is scheduled."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    assert cli("tasks", *words).exit_code == 2
    assert kaggle.runs == {}
