"""The command `queue`."""

from __future__ import annotations

import csv
import io
import json

import anyio
import pytest

from fanbench.testing import Fault, RunScript, SimulatedKaggle
from fanbench.wire.messages import QueueSettings, RunState, SkipPolicy
from fanbench.wire.queue import Enqueue
from tests.cli.conftest import FOREVER, Cli

ALL = Enqueue(skip=SkipPolicy.ALL)


@pytest.fixture
def busy(kaggle: SimulatedKaggle) -> SimulatedKaggle:
    """A queue that runs one run at a time: one of `m` runs for ever, and two others wait."""
    kaggle.change(
        queue=QueueSettings(enabled=True, max_concurrency=1, max_concurrency_per_candidate_model=1),
        runs={"m": RunScript(running=FOREVER), "n": RunScript(running=0.1)},
    )
    for model in ("m", "n"):
        kaggle.add_model(model)
    for task in ("t", "u"):
        kaggle.add_task(task)
    kaggle.benchmarks["me", "board"] = []

    async def enqueue() -> None:
        await kaggle.add_tasks("board", ["u"])
        await kaggle.schedule_runs("t", ["m", "n"], enqueue=ALL)
        await kaggle.schedule_runs("u", ["n"], enqueue=ALL)

    anyio.run(enqueue)
    return kaggle


def test_the_queue(cli: Cli, busy: SimulatedKaggle) -> None:
    """People see what is queued and running, the limits, and the models by their names; programs get the same."""
    text = cli("queue").stdout
    assert "Now:        2 queued, 1 running" in text
    assert "Limits:     1 run at a time, 1 run per model" in text
    rows = [line.split() for line in text.splitlines() if line.endswith(" 0")]
    assert rows == [
        ["m", "0", "1", "0", "0"],
        ["n", "2", "0", "0", "0"],
        ["-", "1", "1", "0", "0"],
        ["board", "1", "0", "0", "0"],
    ]
    first, *others = json.loads(cli("queue", "--format", "json").stdout)
    assert (first["scope"], first["queued"], first["running"]) == ("all", 2, 1)
    assert (first["enabled"], first["limit"], first["limit_per_model"]) == (True, 1, 1)
    assert [one["name"] for one in others] == ["m", "n", None, "board"]
    table = list(csv.DictReader(io.StringIO(cli("queue", "--format", "csv").stdout)))
    assert [one["queued"] for one in table] == ["2", "0", "2", "1", "1"]


def test_a_watched_queue(cli: Cli, busy: SimulatedKaggle) -> None:
    """`--watch` ends when nothing is queued or running, and says on stderr what has changed until then."""
    busy.finish(model="m")
    result = cli("queue", "--watch", "--poll-interval", "0.1")
    assert result.exit_code == 0
    assert "Now:        0 queued, 0 running" in result.stdout
    assert "3 completed, 0 errored" in result.stdout
    assert "  0 queued, 0 running" in result.stderr.splitlines()


def test_a_queue_that_is_switched_off(cli: Cli, busy: SimulatedKaggle) -> None:
    """The command says that nothing leaves the queue."""
    busy.change(queue=QueueSettings())
    assert "it is switched off" in cli("queue").stdout


def test_a_server_without_a_status(cli: Cli, busy: SimulatedKaggle) -> None:
    """A server that lacks the call is named as the reason, in one line with its words."""
    busy.change(faults=(Fault("queue_status", status=404, message="<html>"),))
    result = cli("queue")
    assert result.exit_code == 1
    why = "<html> (ApiGetBenchmarkSchedulerStatus: HTTP 404)"
    assert result.stderr.splitlines() == [f"error: This server does not say what is in its queue: {why}"]


# --- Putting runs into it ---


def test_runs_are_put_into_the_queue(cli: Cli, busy: SimulatedKaggle) -> None:
    """`tasks run --enqueue` schedules a run although one of the same model is in flight, which is skipped otherwise."""
    assert "m: Skipped" in cli("tasks", "run", "t", "-m", "m").stdout
    for when in ("auto", "always"):
        result = cli("tasks", "run", "t", "-m", "m", "--enqueue", when)
        assert "m: Scheduled" in result.stdout
        assert "queue" not in result.stderr
    assert len(busy.our_runs("t", "m")) == 3


@pytest.mark.parametrize(
    ("words", "scheduled"),
    [
        ("", "abcd"),
        ("--skip any", "d"),
        ("--skip completed", "bd"),
        ("--stale-after 50", "abd"),
        ("--skip completed --stale-after 5000", "bd"),
    ],
)
def test_the_queue_leaves_models_alone(cli: Cli, kaggle: SimulatedKaggle, words: str, scheduled: str) -> None:
    """`--skip` and `--stale-after` choose by the latest run: here one completed, one errored, one in progress, none."""
    kaggle.change(queue=QueueSettings(enabled=True), runs=RunScript(running=FOREVER))
    kaggle.add_task("t")
    for model in "abcd":
        kaggle.add_model(model)
    kaggle.add_run("t", "a", RunScript(running=1.0), age=1000.0)
    kaggle.add_run("t", "b", RunScript(running=1.0, end=RunState.ERRORED), age=1000.0)
    kaggle.add_run("t", "c")
    result = cli("tasks", "run", "t", "--all-models", "--enqueue", "always", *words.split())
    assert result.exit_code == 0, result.stderr
    assert {model for model in "abcd" if f"{model}: Scheduled" in result.stdout} == {*scheduled}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--skip any", "Add --enqueue always"),
        ("--enqueue auto --stale-after 5", "Add --enqueue always"),
        ("--enqueue always --skip any --stale-after 5", "no run is stale"),
        ("--enqueue always --stale-after nan", "nan is not a number of seconds"),
    ],
)
def test_models_that_cannot_be_left_alone(cli: Cli, busy: SimulatedKaggle, words: str, said: str) -> None:
    """Without the queue, nothing would be left alone, so nothing is scheduled."""
    before = len(busy.runs)
    result = cli("tasks", "run", "t", "-m", "m", *words.split())
    assert (result.exit_code, len(busy.runs)) == (2, before)
    assert said in result.stderr


@pytest.mark.parametrize(
    "words", ["tasks run a b -m m", "sweep a b -m m --repeats 2 -y", "sweep a b -m m -y --format jsonl"]
)
def test_without_the_queue_one_line_says_so(cli: Cli, kaggle: SimulatedKaggle, words: str) -> None:
    """An account without the queue is told once, and everything runs; with `always`, nothing does."""
    kaggle.change(queue=None)
    for task in ("a", "b"):
        kaggle.add_task(task)
    kaggle.add_model("m")
    refused = cli(*words.split(), "--enqueue", "always")
    assert refused.exit_code == 1
    assert "Runs cannot be put into the server's queue" in refused.stderr
    assert "--enqueue auto" in refused.stderr
    assert not kaggle.runs
    result = cli(*words.split(), "--enqueue", "auto")
    assert result.exit_code == 0
    assert result.stderr.count("without the server's queue") == 1
    assert result.stdout.count('"not_enqueued"') == ("jsonl" in words)
    assert {run.task for run in kaggle.our_runs()} == {"a", "b"}
