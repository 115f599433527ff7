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
from fanbench.testing import Fault, SimulatedKaggle
from fanbench.wire.messages import (
    BenchmarkResult,
    CandidateClass,
    DisplayType,
    Leaderboard,
    LeaderboardRow,
    NumericResult,
    QuotaBalance,
    RefillPeriod,
    TaskQuota,
    TaskResult,
    UnevenInterval,
)
from tests.cli.conftest import Cli
from tests.cli.test_task_commands import shown

# --- leaderboard ---


def row(model: str, name: str, **results: BenchmarkResult) -> LeaderboardRow:
    """A row of a leaderboard with one result per task."""
    return LeaderboardRow(
        model_version_slug=model,
        model_version_name=name,
        task_results=[
            TaskResult(
                benchmark_task_slug=task.replace("_", "-"),
                benchmark_task_name=task.replace("_", " ").title(),
                task_version=3,
                result=result,
            )
            for task, result in results.items()
        ],
    )


def value(number: float) -> BenchmarkResult:
    return BenchmarkResult(numeric_result=NumericResult(value=number))


@pytest.fixture
def board(kaggle: SimulatedKaggle) -> None:
    """Numbers, Pass and Fail, a missing result, and a proto3 zero that was left out."""
    rows = [
        row("google/m@default", "Model M", b_task=value(0.5), a_task=BenchmarkResult()),
        row("n", "Model, N", a_task=BenchmarkResult(boolean_result=False), c=value(0.0)),
        row("o", "Model O", a_task=BenchmarkResult(boolean_result=True)),
    ]
    kaggle.leaderboards["me", "bench"] = Leaderboard(rows=rows)


CSV = 'Model,A Task,B Task,C\r\nModel M,N/A,0.5,N/A\r\n"Model, N",Fail,N/A,0.0\r\nModel O,Pass,N/A,N/A\r\n'


@pytest.mark.usefixtures("board")
@pytest.mark.parametrize("start", [[], ["b"], ["benchmarks"]])
def test_a_leaderboard(cli: Cli, kaggle: SimulatedKaggle, start: list[str]) -> None:
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
    assert kaggle.arguments("leaderboard") == [("me", "bench", 3)]
    assert cli(*start, "leaderboard", "me/bench", "-s").stdout == result.stdout


@pytest.mark.usefixtures("board")
def test_a_leaderboard_as_a_file(cli: Cli) -> None:
    """--download writes the same table as CSV, and prints nothing to stdout unless --show is given."""
    result = cli("leaderboard", "me/bench", "-d", "-p", "to/here")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Leaderboard downloaded to to/here/bench_leaderboard.csv\n"
    assert Path("to/here/bench_leaderboard.csv").read_bytes().decode() == CSV
    assert os.listdir("to/here") == ["bench_leaderboard.csv"]
    both = cli("leaderboard", "me/bench", "-d", "-s", "-v")
    assert both.stdout_bytes.decode() == CSV
    assert Path("bench_leaderboard.csv").is_file()


@pytest.mark.usefixtures("board")
def test_a_leaderboard_for_programs(cli: Cli) -> None:
    """JSON has one record per result, with its value, and its text in the Kaggle CLI's fields."""
    rows = json.loads(cli("leaderboard", "me/bench", "--format", "json").stdout)
    assert [(row["Model"], row[row["task_name"]]) for row in rows] == [
        ("Model M", "0.5"),
        ("Model M", "N/A"),
        ("Model, N", "Fail"),
        ("Model, N", "0.0"),
        ("Model O", "Pass"),
    ]
    assert [(row["model"], row["task"], row["value"], row["passed"]) for row in rows] == [
        ("m-default", "b-task", 0.5, None),
        ("m-default", "a-task", None, None),
        ("n", "a-task", None, False),
        ("n", "c", 0.0, None),
        ("o", "a-task", None, True),
    ]


def contestant(kind: str, number: int, value: float, scale: str = "", **slugs: str) -> LeaderboardRow:
    """A row of the model `m` with a name and slugs of its own, and a result on a scale."""
    result = BenchmarkResult(numeric_result=NumericResult(value=value))
    return LeaderboardRow(
        model_version_name="Model M",
        model_version_slug="google/m",
        candidate_class=CandidateClass(f"BENCHMARK_CANDIDATE_CLASS_{kind}"),
        task_results=[
            TaskResult(
                benchmark_task_slug=f"t{number}",
                result=result,
                display_type=DisplayType(scale) if scale else DisplayType.UNSPECIFIED,
            )
        ],
        **slugs,
    )


@pytest.fixture
def siblings(kaggle: SimulatedKaggle) -> None:
    """A model, two of its configurations, and two agents of one name on one of them."""
    low = {"model_version_config_name": "M Low", "model_version_config_slug": "m-low-reasoning-effort"}
    high = {"model_version_config_name": "M High", "model_version_config_slug": "m-high-reasoning-effort"}
    agent = {"agent_name": "Coder", **high, "harness_name": "H", "harness_slug": "h"}
    kaggle.leaderboards["me", "bench"] = Leaderboard(
        rows=[
            contestant("MODEL_VERSION", 1, 0.85, "PERCENTAGES"),
            contestant("MODEL_VERSION_CONFIG", 1, 0.5, "PERCENTAGES", **low),
            contestant("MODEL_VERSION_CONFIG", 2, 85, "RAW_PERCENTAGES", **high),
            contestant("AGENT", 2, 12.345, "RAW_PERCENTAGES", agent_slug="coder-1", **agent),
            contestant("AGENT", 1, 1, agent_slug="coder-2", **agent),
        ]
    )


@pytest.mark.usefixtures("siblings")
def test_siblings_have_names_of_their_own(cli: Cli) -> None:
    """Configurations and agents of one model are told apart, people see their labels, and values are on their scale."""
    lines = shown(cli("leaderboard", "me/bench").stdout).splitlines()
    assert lines[2:] == [
        "Model M 85.0% N/A",
        "M Low (m@low) 50.0% N/A",
        "M High (m@high) N/A 85.0%",
        "Coder (coder-1) N/A 12.3%",
        "Coder (coder-2) 1 N/A",
    ]
    written = cli("leaderboard", "me/bench", "--format", "csv").stdout_bytes.decode().split("\r\n")
    assert written[:4] == [
        "model,Model,t1,t2",
        "m,Model M,0.85,N/A",
        "m@low,M Low,0.5,N/A",
        "m@high,M High,N/A,85",
    ]
    as_kaggle = cli("leaderboard", "me/bench", "-v").stdout_bytes.decode().split("\r\n")
    assert as_kaggle[:2] == ["Model,t1,t2", "Model M,0.85,N/A"]


@pytest.mark.usefixtures("siblings")
def test_siblings_for_programs(cli: Cli) -> None:
    """A record has the label that runs have, the slugs behind it, the value as it is stored, and its scale."""
    rows = json.loads(cli("leaderboard", "me/bench", "--format", "json").stdout)
    fields = ("model", "candidate_class", "config", "agent", "harness", "value", "display_type")
    high = "m-high-reasoning-effort"
    assert [tuple(row[field] for field in fields) for row in rows] == [
        ("m", "MODEL_VERSION", None, None, None, 0.85, "PERCENTAGES"),
        ("m@low", "MODEL_VERSION_CONFIG", "m-low-reasoning-effort", None, None, 0.5, "PERCENTAGES"),
        ("m@high", "MODEL_VERSION_CONFIG", high, None, None, 85, "RAW_PERCENTAGES"),
        ("coder-1", "AGENT", high, "coder-1", "h", 12.345, "RAW_PERCENTAGES"),
        ("coder-2", "AGENT", high, "coder-2", "h", 1, None),
    ]
    assert {row["model_version"] for row in rows} == {"m"}


def test_intervals_of_a_leaderboard(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """An interval reaches as far above as below the value, unless the server has sent another one, which counts."""
    uneven = UnevenInterval(plus=0.1, minus=0.3)
    results = [
        NumericResult(value=0.5, confidence_interval=0.2),
        NumericResult(value=0.5, confidence_interval=0.2, uneven_confidence_interval=uneven),
        NumericResult(value=0.5),
    ]
    rows = [
        row("m", "M", **{f"t{at}": BenchmarkResult(numeric_result=each)}) for at, each in enumerate(results)
    ]
    kaggle.leaderboards["me", "bench"] = Leaderboard(rows=rows)
    found = json.loads(cli("leaderboard", "me/bench", "--format", "json").stdout)
    fields = ("confidence_interval", "confidence_plus", "confidence_minus")
    expected = [(0.2, 0.2, 0.2), (0.2, 0.1, 0.3), (None, None, None)]
    assert [tuple(each[field] for field in fields) for each in found] == expected


@pytest.mark.usefixtures("board")
def test_a_leaderboard_of_ones_own(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A benchmark without an owner belongs to the user whose token it is."""
    assert cli("leaderboard", "bench", "--token", "kg-secret").exit_code == 0
    assert kaggle.arguments("leaderboard")[0] == ("me", "bench", None)
    assert cli("leaderboard", "bench").exit_code == 2


def test_an_empty_leaderboard(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """An empty leaderboard is reported, and no file is written."""
    kaggle.leaderboards["me", "bench"] = Leaderboard()
    result = cli("leaderboard", "me/bench", "--download")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "No results found.\n")
    assert os.listdir() == []
    assert cli("leaderboard", "me/bench", "--format", "json").stdout == "[]\n"


# --- quota ---


def test_quota(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Runs are shown as numbers, the Model Proxy in dollars, both with the time of the refill."""
    soon = datetime.now(UTC) + timedelta(hours=5, seconds=20)
    kaggle.run_quota = TaskQuota(daily_quota_used=12, total_daily_quota_allowed=100)
    kaggle.balances = [
        QuotaBalance(
            quota_used=1.5, total_quota_allowed=50, refill_period=RefillPeriod.DAILY, refill_time=soon
        ),
        QuotaBalance(quota_used=70, total_quota_allowed=50, refill_period=RefillPeriod.MONTHLY),
    ]
    for start in ([], ["b"]):
        lines = shown(cli(*start, "quota").stdout).splitlines()
        assert lines[2:] == [
            "Task runs Daily 12 88 100",
            f"Model Proxy Daily $1.50 $48.50 $50.00 {soon:%Y-%m-%d %H:%M:%S} UTC (in 5 hours)",
            "Model Proxy Monthly $70.00 $0.00 $50.00",
        ]


@pytest.mark.parametrize(("status", "hint"), [(404, "Ask for access"), (403, "Verify your phone number")])
def test_quotas_that_are_refused(cli: Cli, kaggle: SimulatedKaggle, status: int, hint: str) -> None:
    """Without the Model Proxy's quota, that of runs is printed, and the error says what to do."""
    kaggle.change(faults=(Fault("proxy_quotas", status, message="Not here.", times=9),))
    result = cli("quota")
    assert result.exit_code == 1
    assert "Task runs" in result.stdout
    assert "error: No quota of the Model Proxy: Not here." in result.stderr
    assert hint in result.stderr
    kaggle.change(faults=(Fault("task_quota", status, message="Not here."),))
    result = cli("quota", "--format", "json")
    assert result.exit_code == 0
    assert {one["quota"] for one in json.loads(result.stdout)} == {"model_proxy"}
    assert "No quota of task runs: Not here." in result.stderr


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


@pytest.mark.parametrize("flag", ["-v", "--csv", "--cs"])
def test_the_vendors_csv_flag(cli: Cli, kaggle: SimulatedKaggle, flag: str) -> None:
    """`quota -v` prints the Kaggle CLI's CSV, and `--verbose` still prints debug messages."""
    refill = datetime(2030, 5, 1, 2, 3, 4, tzinfo=UTC)
    kaggle.balances = [
        QuotaBalance(quota_used=70, total_quota_allowed=50, refill_period=RefillPeriod.MONTHLY),
        QuotaBalance(total_quota_allowed=1.5, refill_period=RefillPeriod.DAILY, refill_time=refill),
    ]
    result = cli("quota", flag)
    assert result.exit_code == 0, result.stderr
    assert result.stdout_bytes.decode().split("\r\n") == [
        "period,used,remaining,total,refillAt",
        "Monthly,$70.00,$0.00,$50.00,",
        "Daily,$0.00,$1.50,$1.50,2030-05-01T02:03:04",
        "",
    ]
    assert next(csv.reader(io.StringIO(cli("quota", "--format", "csv").stdout)))[0] == "quota"
    assert result.stderr == ""
    assert "GetBenchmarkTaskQuota" in cli("quota", flag, "--verbose").stderr
    assert cli("quota", flag, "--format", "json").exit_code == 2
