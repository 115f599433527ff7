"""What is wrong gets one line that says what to do, the right exit code, no traceback, nothing half-written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from fanbench.cli.root import root
from tests.api.fake_server import Answer, FakeServer, problem
from tests.cli.conftest import Cli
from tests.cli.world import World

RUN = ["tasks", "run", "t"]
PUSH = ["tasks", "push", "my-task", "-f", "task.py"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["taks"], 2, "Did you mean 'tasks'?"),
        (["tasks", "psuh"], 2, "Did you mean 'push'?"),
        (["tasks", "run"], 2, "Missing argument 'TASK...'"),
        (["tasks", "push", "my-task"], 2, "Missing option '-f'"),
        ([*RUN, "-m", "a", "b"], 2, "Repeat the flag: -m a -m b"),
        ([*RUN, "--model=a", "b"], 2, "Repeat the flag: -m a -m b"),
        (["tasks", "status", "t", "-m", "a", "b"], 2, "Repeat the flag: -m a -m b"),
        ([*PUSH, "other.py"], 2, "Repeat the flag: -f task.py -f other.py"),
        ([*PUSH, "-d", "a/b", "c/d"], 2, "Repeat the flag: -d a/b -d c/d"),
        ([*RUN, "-m", "m", "--wait", "-1"], 2, "negative"),
        ([*RUN, "-m", "m", "--wait", "--poll-interval", "0"], 2, "--poll-interval"),
        ([*RUN, "-m", "m", "--all-models"], 2, "exclude each other"),
        ([*RUN, "-m", "nope"], 2, "Unknown model:\n  nope"),
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
        (["tasks", "list", "--page-size", "0"], 2, "--page-size"),
        (["tasks", "list", "--format", "xml"], 2, "--format"),
        (["tasks", "list", "--concurrency", "0"], 2, "--concurrency"),
        (["tasks", "list", "--local"], 2, "two servers"),
        (["tasks", "list", "--data", "x"], 2, "--local"),
        (["tasks", "list", "--endpoint", "nonsense"], 2, "not an endpoint"),
        (["tasks", "list", "--endpoint", "http://127.0.0.1:9"], 1, "error: "),
        (["tasks", "list", "--token", "two words"], 3, "--token"),
        (["tasks", "download", "t", "-o", "task.py"], 1, "Cannot write to"),
        (["init", "-y", "--env-file", "sub"], 1, "is a folder"),
        (["auth", "-y", "--env-file", "no/.env"], 1, "Cannot use"),
    ],
)
def test_bad_input(cli: Cli, world: World, task_file: Path, words: list[str], code: int, says: str) -> None:
    """The table."""
    world.add_task("t")
    world.add_run("t", "m")
    world.add_model("m", "Em")
    Path("notes.txt").write_text("x")
    Path("empty.py").write_text("")
    Path("latin.py").write_bytes(b"# \xe9\n")
    Path("sub").mkdir()
    before = sorted(os.listdir())
    extra = ["--endpoint", "http://x"] if "--local" in words else []
    result = cli(*words, *extra)
    assert (result.exit_code, result.stdout) == (code, "")
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert sum(line.startswith("error: ") for line in result.stderr.splitlines()) == 1
    assert sorted(os.listdir()) == before


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
def test_what_servers_answer(
    folder: Path, monkeypatch: pytest.MonkeyPatch, answer: Answer, code: int
) -> None:
    """Each kind of refusal has its exit code, and names the call."""
    with FakeServer({"ListBenchmarkTasks": [answer]}) as server:
        monkeypatch.setenv("FANBENCH_ENDPOINT", server.url)
        result = CliRunner().invoke(root, ["tasks", "list"])
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert "ListBenchmarkTasks" in result.stderr


def test_no_credentials(folder: Path) -> None:
    """For Kaggle itself: exit 3, and where to get some."""
    result = CliRunner().invoke(root, ["tasks", "list"])
    assert result.exit_code == 3
    assert "hint: " in result.stderr


def test_a_token_is_never_shown(folder: Path) -> None:
    """Whatever goes wrong with it."""
    result = CliRunner().invoke(root, ["tasks", "list", "--token", "sec ret", "-v"])
    assert "sec ret" not in result.output
