"""The commands leaderboard, quota and completion."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fanbench.cli.app import root
from tests.cli.conftest import Cli
from tests.cli.test_task_commands import shown
from tests.cli.world import World, bodies
from tests.wire.fake_server import FakeServer, problem

# --- leaderboard ---


@pytest.fixture
def board(world: World) -> None:
    """Numbers, Pass and Fail, a missing result, and a proto3 zero that was left out."""
    world.add_row("google/m@default", "Model M", b_task={"numericResult": {"value": 0.5}}, a_task={})
    world.add_row("n", "Model, N", a_task={"booleanResult": False}, c={"numericResult": {}})
    world.add_row("o", "Model O", a_task={"booleanResult": True})


CSV = 'Model,A Task,B Task,C\r\nModel M,N/A,0.5,N/A\r\n"Model, N",Fail,N/A,0.0\r\nModel O,Pass,N/A,N/A\r\n'


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("start", [[], ["b"], ["benchmarks"]])
def test_a_leaderboard(cli: Cli, server: FakeServer, start: list[str]) -> None:
    """A leaderboard has one row per model and one column per task, sorted by the tasks' slugs, with or
    without --show.
    """
    result = cli(*start, "leaderboard", "me/bench", "--version", "3")
    assert result.exit_code == 0
    lines = shown(result.stdout).splitlines()
    assert [lines[0], *lines[2:]] == [
        "Model A Task B Task C",
        "Model M N/A 0.5 N/A",
        "Model, N Fail N/A 0.0",
        "Model O Pass N/A N/A",
    ]
    assert bodies(server, "GetBenchmarkLeaderboard") == [
        {"ownerSlug": "me", "benchmarkSlug": "bench", "versionNumber": 3}
    ]
    assert cli(*start, "leaderboard", "me/bench", "-s").stdout == result.stdout


@pytest.mark.usefixtures("board")
def test_a_leaderboard_as_a_file(cli: Cli) -> None:
    """--download writes the same table as CSV, and prints nothing to stdout unless --show is given."""
    result = cli("leaderboard", "me/bench", "-d", "-p", "to/here")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Leaderboard downloaded to to/here/bench_leaderboard.csv\n"
    assert Path("to/here/bench_leaderboard.csv").read_bytes().decode() == CSV
    assert os.listdir("to/here") == ["bench_leaderboard.csv"]
    both = cli("leaderboard", "me/bench", "-d", "-s", "--format", "csv")
    assert both.stdout_bytes.decode() == CSV
    assert Path("bench_leaderboard.csv").is_file()


@pytest.mark.usefixtures("board")
def test_a_leaderboard_for_programs(cli: Cli) -> None:
    """JSON has one record per result, with its value rather than its text."""
    rows = json.loads(cli("leaderboard", "me/bench", "--format", "json").stdout)
    assert [(row["model"], row["task"], row["value"], row["passed"]) for row in rows] == [
        ("m-default", "b-task", 0.5, None),
        ("m-default", "a-task", None, None),
        ("n", "a-task", None, False),
        ("n", "c", 0.0, None),
        ("o", "a-task", None, True),
    ]


def test_a_leaderboard_of_ones_own(cli: Cli, server: FakeServer) -> None:
    """A benchmark without an owner belongs to the user whose token it is."""
    assert cli("leaderboard", "bench", "--token", "kg-secret").exit_code == 0
    assert bodies(server, "GetBenchmarkLeaderboard")[0]["ownerSlug"] == "me"
    assert cli("leaderboard", "bench").exit_code == 2


def test_an_empty_leaderboard(cli: Cli) -> None:
    """An empty leaderboard is reported, and no file is written."""
    result = cli("leaderboard", "me/bench", "--download")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No results found.\n")
    assert os.listdir() == []
    assert cli("leaderboard", "me/bench", "--format", "json").stdout == "[]\n"


# --- quota ---


def test_quota(cli: Cli, world: World) -> None:
    """Runs are shown as numbers, the Model Proxy in dollars, both with the time of the refill."""
    soon = datetime.now(UTC) + timedelta(hours=5, seconds=20)
    world.balances = [
        {
            "quotaUsed": 1.5,
            "totalQuotaAllowed": 50,
            "refillPeriod": "DAILY",
            "refillTime": f"{soon:%Y-%m-%dT%H:%M:%S}.000Z",
        },
        {"quotaUsed": 70, "totalQuotaAllowed": 50, "refillPeriod": "MONTHLY"},
    ]
    for start in ([], ["b"]):
        lines = shown(cli(*start, "quota").stdout).splitlines()
        assert lines[2:] == [
            "Task runs Daily 12 88 100",
            f"Model Proxy Daily $1.50 $48.50 $50.00 {soon:%Y-%m-%d %H:%M:%S} UTC (in 5 hours)",
            "Model Proxy Monthly $70.00 $0.00 $50.00",
        ]


def test_quota_of_a_server_that_knows_only_one(cli: Cli, server: FakeServer) -> None:
    """A quota that the server does not know is reported as missing."""
    server.script["GetModelProxyQuotas"] = [problem(404, "No such call.")]
    result = cli("quota")
    assert result.exit_code == 0
    assert "Task runs" in result.stdout
    assert "No quota of the Model Proxy: No such call." in result.stderr
    server.script["GetBenchmarkTaskQuota"] = [problem(404, "No such call.")]
    assert cli("quota").exit_code == 4


# --- completion ---


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli: Cli, shell: str) -> None:
    """The scripts contain the program's name and variable, and the help says where to install them."""
    script = cli("completion", shell).stdout
    assert "_FANBENCH_COMPLETE" in script
    assert "fanbench" in script
    assert f"fanbench completion {shell} > ~/." in cli("completion", "--help").stdout


def test_the_bash_script_can_be_read_by_bash(cli: Cli) -> None:
    """bash can parse its script."""
    done = subprocess.run(["bash", "-n"], input=cli("completion", "bash").stdout, text=True, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("fanbench tasks st", ["status"]),
        ("fanbench t p", ["push", "publish"]),
        ("fanbench b t down", ["download"]),
        ("fanbench tasks status --wa", ["--watch"]),
        ("fanbench tasks list --format js", ["json", "jsonl"]),
    ],
)
def test_words_are_completed(line: str, found: list[str]) -> None:
    """Commands, flags and their values are completed."""
    from click.shell_completion import ShellComplete

    *words, last = line.split()[1:]
    complete = ShellComplete(root, {}, "fanbench", "_FANBENCH_COMPLETE")
    assert [item.value for item in complete.get_completions(words, last)] == found


def test_the_vendors_csv_flag(cli: Cli, world: World) -> None:
    """`quota --csv` prints CSV, as the Kaggle CLI does."""
    result = cli("quota", "--csv")
    assert result.exit_code == 0, result.stderr
    assert next(csv.reader(io.StringIO(result.stdout)))[0] == "quota"
