"""What attackers found, and must not find again."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.world import World
from tests.wire.fake_server import FakeServer, problem


def test_the_vendors_csv_flag(cli: Cli, world: World) -> None:
    """`quota --csv` prints CSV."""
    result = cli("quota", "--csv")
    assert result.exit_code == 0, result.stderr
    assert next(csv.reader(io.StringIO(result.stdout)))[0] == "quota"


def test_an_unknown_task_is_not_waited_for(cli: Cli, world: World) -> None:
    """No word of waiting where nothing was scheduled."""
    world.add_model("m", "Em")
    assert "Waiting" not in cli("tasks", "run", "nope", "-m", "m").stderr


@pytest.mark.parametrize(
    "words", [("run", "t", "-m", "m", "--wait=nan"), ("run", "t", "-m", "m", "--wait=-1")]
)
def test_a_wait_of_no_length_is_refused_before_anything_is_done(
    cli: Cli, world: World, server: FakeServer, words: tuple[str, ...]
) -> None:
    """Exit 2, and the server has not heard of it."""
    world.add_task("t")
    world.add_model("m", "Em")
    assert cli("tasks", *words).exit_code == 2
    assert world.runs == []


def test_a_password_in_an_endpoint_is_not_said(cli: Cli, tmp_path: Path) -> None:
    """Neither on stderr nor in the log file."""
    log = tmp_path / "log.jsonl"
    bad = ("--endpoint", "http://u:PASSWORD9@127.0.0.1:1", "--token", "x", "--log-file", str(log))
    result = cli("tasks", "list", *bad)
    assert result.exit_code == 2
    assert "PASSWORD9" not in result.stderr + (log.read_text() if log.exists() else "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_stdout() -> None:
    """One line, and no talk of a bug."""
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "fanbench", "completion", "bash"]
        result = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert result.returncode == 1
    assert "Cannot write the output: No space left" in result.stderr
    assert "bug" not in result.stderr


def test_retries_are_said(cli: Cli, server: FakeServer) -> None:
    """Who waits for a server that fails should know why; -q is silent."""
    busy = problem(503, "busy", Retry_After="0")
    server.script["ListBenchmarkModels"] = [busy, problem(403, "no"), busy, problem(403, "no")]
    assert "busy" in (said := cli("tasks", "models").stderr)
    assert "retrying" in said
    assert "retrying" not in cli("tasks", "models", "-q").stderr
