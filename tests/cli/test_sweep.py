"""`fanbench sweep` on a real socket: what is asked and touched, what is shown, how it ends and goes on."""

from __future__ import annotations

import csv
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fanbench.sweeps.lock import FolderLock
from fanbench.sweeps.state import CellState, SweepState, read_event
from fanbench.sweeps.summary import FIELDS
from tests.api.fake_server import Answer, FakeServer, problem
from tests.cli.conftest import TASK, Cli, program
from tests.cli.terminal import Session, session
from tests.cli.world import World, bodies
from tests.results.build import number, passed

CHANGING = {
    "CreateBenchmarkTask",
    "BatchScheduleBenchmarkTaskRuns",
    "DownloadBenchmarkTaskRunOutput",
    "GetBenchmarkTaskRunLogs",
}


@pytest.fixture
def world() -> World:
    """Three models, of which the last one's runs error, and a task that is there."""
    world = World(ends={"c": "ERRORED"})
    for model in "abc":
        world.add_model(model, model.upper())
    world.add_task("there")
    world.results = {"a": passed(name="First"), "b": number(0.5, name="First")}
    return world


@pytest.fixture
def files(folder: Path) -> list[Path]:
    made = [folder / f"{name}.py" for name in ("first", "second")]
    for path in made:
        path.write_text(TASK.replace("My Task", path.stem.title()))
    return made


@pytest.fixture
def sweep(cli: Cli, files: list[Path]) -> Callable[..., Any]:
    """Of one file and the task that is there, if nothing is said; without a question."""

    def call(*words: str) -> Any:
        return cli("sweep", *(words or ("first.py", "there", "-m", "a", "-m", "b")), "-y")

    return call


def changes(server: FakeServer) -> int:
    """How many calls have changed something, or fetched results."""
    return sum(len(server.calls(call)) for call in CHANGING)


def plain(text: str) -> str:
    """A table with single spaces."""
    return "\n".join(" ".join(line.split()) for line in text.splitlines())


# --- The whole chain ----------------------------------------------------------------------------------------


def test_every_task_on_every_model(sweep: Callable[..., Any], server: FakeServer, folder: Path) -> None:
    """Pushed if it is a file, run, downloaded with its log; one table, what was used, and two summaries."""
    result = sweep()
    assert result.exit_code == 0
    assert plain(result.stdout).startswith("task a b\nfirst ✓ 0.5\nthere ✓ 0.5\n")
    assert "4 of 4 runs completed" in result.stdout
    assert len(server.calls("CreateBenchmarkTask")) == 1
    assert [body["modelVersionSlugs"] for body in bodies(server, "BatchScheduleBenchmarkTaskRuns")] == [
        ["a", "b"],
        ["a", "b"],
    ]
    logs = sorted(str(path.relative_to(folder)) for path in (folder / "results").rglob("run.log"))
    assert [path.split("/")[1:4] for path in logs] == [
        ["first", "2", "a"],
        ["first", "2", "b"],
        ["there", "2", "a"],
        ["there", "2", "b"],
    ]
    assert Path(logs[0]).read_text() == "hello from a\n"
    assert json.loads(Path("results/summary.json").read_text())["ok"] is True
    assert len(Path("results/summary.csv").read_text().splitlines()) == 5


def test_a_line_for_each_change(sweep: Callable[..., Any]) -> None:
    """On stderr, below the plan; lines of logs only with -v, nothing at all with -q."""
    said = sweep().stderr
    assert said.index("2 tasks × 2 models: 4 runs") < said.index("first: pushed as version 2")
    for line in ("first a: scheduled", "first b: completed", "there b: log of 1 lines"):
        assert line in said
    assert "hello" not in said
    assert "first a | hello from a" in sweep("first.py", "-m", "a", "-o", "other", "-v").stderr
    assert sweep("first.py", "-m", "a", "-o", "third", "-q").stderr == ""


def test_the_same_again(sweep: Callable[..., Any], server: FakeServer) -> None:
    """Asks what is there, touches nothing, and prints the same table; without tasks as well."""
    table = sweep().stdout.splitlines()[:3]
    before = changes(server)
    for words in ([], ["-o", "results"]):
        again = sweep(*words)
        assert again.exit_code == 0
        assert again.stdout.splitlines()[:3] == table
        assert "Everything is done" in again.stderr
    assert changes(server) == before


def test_a_changed_file(sweep: Callable[..., Any], server: FakeServer, folder: Path) -> None:
    """Is pushed and run again; a task that is there is not."""
    sweep()
    (folder / "first.py").write_text((folder / "first.py").read_text() + "# changed\n")
    again = sweep()
    assert again.exit_code == 0
    assert "changed" in again.stderr
    assert len(server.calls("CreateBenchmarkTask")) == 2
    assert len(server.calls("DownloadBenchmarkTaskRunOutput")) == 6
    assert (folder / "results" / "first" / "3").is_dir()


def test_what_is_gone_is_fetched_again(sweep: Callable[..., Any], server: FakeServer, folder: Path) -> None:
    """And nothing else."""
    sweep()
    (lost,) = folder.glob("results/first/2/a/*/one.run.json")
    lost.unlink()
    before = changes(server)
    assert sweep("-o", "results").exit_code == 0
    assert lost.exists()
    assert changes(server) == before + 2  # output and log


# --- What fails ---------------------------------------------------------------------------------------------


def test_errored_runs(sweep: Callable[..., Any], folder: Path) -> None:
    """Are kept, named with their reason, and counted; exit 1, with the command that runs them again."""
    result = sweep("there", "--all-models")
    assert result.exit_code == 1
    assert plain(result.stdout).startswith("task a b c\nthere ✓ 0.5 errored\n")
    assert "there c (Run 12): ValueError: no answer" in result.stderr
    assert "error: 2 of 3 runs completed, 1 errored." in result.stderr
    assert "fanbench sweep -o results --retry-errored 1" in result.stderr
    assert list(folder.glob("results/there/2/c/*/run.log"))


def test_errored_runs_again(sweep: Callable[..., Any], world: World, server: FakeServer) -> None:
    """Only these, each as often as was said; then the hint says more."""
    sweep("there", "--all-models")
    result = sweep("--retry-errored", "1")
    assert result.exit_code == 1
    assert bodies(server, "BatchScheduleBenchmarkTaskRuns")[-1]["modelVersionSlugs"] == ["c"]
    assert "--retry-errored 2" in result.stderr
    world.ends.clear()
    assert sweep("--retry-errored", "2").exit_code == 0
    assert len(server.calls("BatchScheduleBenchmarkTaskRuns")) == 3
    row = json.loads(Path("results/summary.json").read_text())["runs"][2]
    assert (row["attempt"], row["attempts"], row["status"]) == (3, 3, "completed")


def test_a_task_that_cannot_be_created(sweep: Callable[..., Any], world: World) -> None:
    """Its runs are missing, the others go on, and the next time it is pushed again."""
    world.ends["creation"] = "KERNEL_WITHOUT_RUN"
    world.seconds = 0.1
    result = sweep()
    assert result.exit_code == 1
    assert "2 of 4 runs completed, 2 missing" in result.stderr
    assert "first a: push:" in result.stderr
    assert "To do what is left: fanbench sweep -o results" in result.stderr
    del world.ends["creation"]
    assert sweep("-o", "results").exit_code == 0


def test_too_many_failures(sweep: Callable[..., Any], server: FakeServer, world: World) -> None:
    """Nothing more is scheduled: of three repeats on a model that errors, the third is not."""
    world.ends["a"] = "ERRORED"
    result = sweep("there", "-m", "a", "--repeats", "3", "--max-failures", "1")
    assert result.exit_code == 1
    assert "Too many failures" in result.stderr
    assert len(server.calls("BatchScheduleBenchmarkTaskRuns")) < 3


def test_the_deadline(sweep: Callable[..., Any], world: World) -> None:
    """Is exit 5, and what runs goes on: the next time it is waited for."""
    world.seconds = 60
    result = sweep("there", "-m", "a", "--deadline", "0.5")
    assert result.exit_code == 5
    assert "The deadline is over: 0 of 1 runs completed" in result.stderr
    world.seconds = 0
    assert sweep("-o", "results", "--deadline", "60").exit_code == 0
    assert len(world.runs) == 1


def test_the_budget(sweep: Callable[..., Any], world: World) -> None:
    """One that is used up is exit 6, with the flag for more."""
    world.balances = [{"quotaUsed": 1, "totalQuotaAllowed": 5, "refillPeriod": "DAILY"}]
    world.results["a"] = passed(name="There")
    result = sweep("there", "-m", "a", "--repeats", "2", "--max-cost", "3")
    assert result.exit_code == 0

    world.balances = [{"quotaUsed": 4, "totalQuotaAllowed": 5, "refillPeriod": "DAILY"}]
    result = sweep("there", "-m", "a", "--repeats", "3", "--max-cost", "3")
    assert result.exit_code == 6
    assert "The budget is used up: 2 of 3 runs completed, 1 not scheduled." in result.stderr
    assert "--max-cost USD" in result.stderr


def test_credentials_that_are_refused(sweep: Callable[..., Any], server: FakeServer) -> None:
    """In the middle of a sweep end it with exit 3, and it says how to go on."""
    server.script["BatchScheduleBenchmarkTaskRuns"] = lambda _: problem(401, "Who are you?")
    result = sweep()
    assert result.exit_code == 3
    assert "What is left is done by: fanbench sweep -o results" in result.stderr


# --- Before anything is touched -----------------------------------------------------------------------------


def test_a_dry_run(cli: Cli, server: FakeServer, files: list[Path]) -> None:
    """Shows the plan on stdout, exit 0, and touches nothing: here, or on the server."""
    before = sorted(Path().iterdir())
    result = cli("sweep", "first.py", "there", "--all-models", "--dry-run")
    assert result.exit_code == 0
    assert plain(result.stdout).startswith("first new schedule 3\nthere existing (version 2) schedule 3\n")
    assert "Left of the daily quota: 88 of 100 runs" in result.stdout
    assert sorted(Path().iterdir()) == before
    assert changes(server) == 0


def test_a_dry_run_for_programs(cli: Cli, files: list[Path]) -> None:
    """A record a task."""
    words = ("sweep", "first.py", "there", "-m", "a", "--dry-run", "-d", "o/d", "--format")
    first, there = json.loads(cli(*words, "json").stdout)
    assert (first["push"], first["pushed"], first["schedule"], first["datasets"]) == ("new", True, 1, ["o/d"])
    assert (there["push"], there["version"], there["file"]) == ("existing", 2, None)
    rows = list(csv.DictReader(cli(*words, "csv").stdout.splitlines()))
    assert [row["task"] for row in rows] == ["first", "there"]


def test_nobody_to_ask(cli: Cli, server: FakeServer, files: list[Path]) -> None:
    """Is an error that names -y; unless there is nothing to do."""
    result = cli("sweep", "first.py", "-m", "a")
    assert result.exit_code == 2
    assert "hint: Pass -y to say yes." in result.stderr
    assert not Path("results").exists()
    assert changes(server) == 0
    assert cli("sweep", "first.py", "-m", "a", "-y").exit_code == 0
    assert cli("sweep", "first.py", "-m", "a").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["first.py", "-m", "a", "b"], 2, "Repeat the flag: -m a -m b"),
        (["first.py", "-m", "a", "--all-models"], 2, "-m and --all-models exclude each other"),
        (["first.py"], 2, "No model is given"),
        ([], 2, "No task is given, and results has no sweep that could go on."),
        (["-m", "a", "-d", "o/d"], 2, "-d/--dataset is for tasks that are named"),
        (["first.py", "-m", "aa"], 2, "aa"),
        (["first.py", "-m", "a", "-d", "odd"], 2, "'odd' is not a dataset"),
        (["first.py", "-m", "a", "--max-failures", "many"], 2, "--max-failures takes a number or a percentage"),
        (["first.py", "-m", "a", "--deadline", "nan"], 2, "deadline"),
        (["first.py", "-m", "a", "--repeats", "0"], 2, "repeats"),
        (["gone.py", "-m", "a"], 1, "gone.py"),
        (["gone", "-m", "a"], 4, "gone"),
        (["first.py", "-m", "a", "-o", "first.py"], 2, "is a file"),
        (["first.py", "first.py", "-m", "a"], 2, "twice"),
    ],
)
def test_what_is_refused(
    sweep: Callable[..., Any], server: FakeServer, words: list[str], code: int, message: str
) -> None:
    """With the right exit code, before anything is touched."""
    result = sweep(*(words or ["-o", "results"]))
    assert result.exit_code == code
    assert message in result.stderr
    assert not Path("results").exists()
    assert changes(server) == 0


def test_a_sweep_file(sweep: Callable[..., Any], server: FakeServer) -> None:
    """Says it all; flags go before it."""
    Path("sweep.toml").write_text(
        'tasks = ["there", {file = "first.py", datasets = ["o/d"]}]\nmodels_from = "models.txt"\n'
        'repeats = 2\noutput = "out"\n[limits]\nconcurrency = 3\n'
    )
    Path("models.txt").write_text("a # the first\n\nb\n")
    result = sweep("sweep.toml", "--repeats", "1")
    assert result.exit_code == 0
    assert plain(result.stdout).startswith("task a b\nthere")
    assert Path("out/summary.json").exists()
    (pushed,) = bodies(server, "CreateBenchmarkTask")
    assert pushed["options"] == {"datasetDataSources": ["o/d"]}
    listed = sweep("there", "--models-from", "models.txt", "-o", "listed")
    assert listed.exit_code == 0
    assert json.loads(Path("listed/summary.json").read_text())["models"] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tasks = ["there"]\nmodel = ["a"]\n', "sweep.toml:2: unknown key 'model'"),
        ('models = ["a"]\n', "sweep.toml names no tasks"),
        ("tasks = [\n", "sweep.toml:1:"),
    ],
)
def test_a_mistake_in_a_sweep_file(sweep: Callable[..., Any], text: str, message: str) -> None:
    """Is told with its line, exit 2."""
    Path("sweep.toml").write_text(text)
    result = sweep("sweep.toml")
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_schema(cli: Cli) -> None:
    """Is printed without asking anybody."""
    assert json.loads(cli("sweep", "--schema").stdout)["$defs"]["SweepFile"]


# --- The folder ---------------------------------------------------------------------------------------------


def test_another_sweep_in_the_folder(sweep: Callable[..., Any], server: FakeServer) -> None:
    """Is refused, with both ways out; one that only adds to it is not."""
    sweep("there", "-m", "a", "-m", "b")
    before = changes(server)
    result = sweep("there", "-m", "a")
    assert result.exit_code == 1
    assert "results holds another sweep: this one lacks its model b" in result.stderr
    assert changes(server) == before
    assert sweep("there", "first.py", "-m", "a", "-m", "b").exit_code == 0


def test_fresh(sweep: Callable[..., Any], server: FakeServer) -> None:
    """The old folder is kept aside, also one of another sweep; a dry run leaves it where it is."""
    sweep("there", "-m", "a", "-m", "b")
    assert sweep("there", "-m", "a", "--fresh", "--dry-run").exit_code == 0
    assert not Path("results.1").exists()
    result = sweep("there", "-m", "a", "--fresh")
    assert result.exit_code == 0
    assert "What was in results is in" in result.stderr
    assert Path("results.1/summary.json").exists()
    assert len(server.calls("BatchScheduleBenchmarkTaskRuns")) == 2


def test_a_folder_that_is_in_use(sweep: Callable[..., Any], server: FakeServer) -> None:
    """Is refused with the process that uses it, and nothing is touched."""
    Path("results").mkdir()
    with FolderLock(Path("results")):
        result = sweep()
    assert result.exit_code == 1
    assert f"in use by another sweep: process {os.getpid()}" in result.stderr
    assert changes(server) == 0


def test_a_damaged_journal(sweep: Callable[..., Any], server: FakeServer) -> None:
    """Is never ignored."""
    sweep()
    Path("results/.fanbench/journal.sqlite").write_bytes(b"no journal" * 1000)
    before = changes(server)
    result = sweep()
    assert result.exit_code == 1
    assert "--fresh" in result.stderr
    assert changes(server) == before


# --- Stages -------------------------------------------------------------------------------------------------


def test_one_stage_at_a_time(sweep: Callable[..., Any], server: FakeServer) -> None:
    """Each ends with what came out and the next command; the last one with the table."""
    pushed = sweep("first.py", "-m", "a", "--step")
    assert pushed.exit_code == 0
    assert pushed.stdout == "first: version 2 is ready\n"
    assert "Next: fanbench sweep -o results --step" in pushed.stderr
    assert changes(server) == 1
    scheduled = sweep("-o", "results", "--step")
    assert scheduled.exit_code == 0
    assert scheduled.stdout.startswith("Runs: 1 ")
    assert changes(server) == 2
    collected = sweep("-o", "results", "--step")
    assert collected.exit_code == 0
    assert plain(collected.stdout).startswith("task a\nfirst ✓\n")


def test_a_stage_that_fails(sweep: Callable[..., Any], world: World) -> None:
    """Is exit 1."""
    world.ends["creation"] = "ERRORED"
    world.seconds = 0.1
    result = sweep("first.py", "-m", "a", "--step")
    assert result.exit_code == 1
    assert "first: failed:" in result.stdout
    assert "error: 1 task(s) failed, 1 run(s) are missing." in result.stderr


# --- For programs -------------------------------------------------------------------------------------------


def test_records(sweep: Callable[..., Any]) -> None:
    """A record a planned run, in JSON and CSV."""
    rows = json.loads(sweep("there", "--all-models", "--format", "json").stdout)
    assert [tuple(row) for row in rows] == [FIELDS] * 3
    assert [row["status"] for row in rows] == ["completed", "completed", "errored"]
    assert rows[2]["error"].endswith("ValueError: no answer")
    printed = sweep("-o", "results", "--format", "csv").stdout
    assert printed == Path("results/summary.csv").read_text()


def test_events(sweep: Callable[..., Any]) -> None:
    """One JSON object a line, enough to know the whole state; also of what was there already."""
    for words in (["there", "--all-models"], ["-o", "results"]):
        state = SweepState()
        lines = sweep(*words, "--format", "jsonl").stdout.splitlines()
        for line in lines:
            state.absorb(*read_event(line))
        assert json.loads(lines[0])["event"] == "sweep_started"
        assert json.loads(lines[-1])["event"] == "sweep_ended"
        assert state.ended is not None
        assert (state.counts[CellState.DONE], state.counts[CellState.ERRORED]) == (2, 1)
        rows = json.loads(Path("results/summary.json").read_text())["runs"]
        known = {(unit.model, cell.run_id, cell.output, cell.log) for unit, cell in state.cells.items()}
        assert known == {(row["model"], row["run_id"], row["output"], row["log"]) for row in rows}


def test_what_a_server_says_back(sweep: Callable[..., Any], server: FakeServer) -> None:
    """Is never our credentials."""
    secret = "KGAT_0123456789abcdef"
    server.script["CreateBenchmarkTask"] = lambda _: problem(400, f"Bad token {secret}")
    result = sweep("first.py", "-m", "a", "--format", "jsonl", "--token", secret)
    assert result.exit_code == 1
    assert "task_failed" in result.stdout
    assert secret not in result.stdout + result.stderr


# --- Signals and pipes --------------------------------------------------------------------------------------


def wait_for(path: Path, seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} never came"
        time.sleep(0.01)


@pytest.fixture
def started(folder: Path, server: FakeServer, world: World, files: list[Path]) -> Callable[..., Any]:
    """A sweep whose runs take a second, in a process of its own, once they run."""

    def start(*more: str, seconds: float = 1.0) -> Any:
        world.seconds = seconds
        process = program(
            *("sweep", "there", "-m", "a", "-m", "b", "-y", "--repeats", "2", *more), FANBENCH_ENDPOINT=server.url
        )
        end = time.monotonic() + 30
        while len(world.runs) < 2 or not server.calls("GetBenchmarkTaskRunLogs"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        return process

    return start


def test_ctrl_c_once(started: Callable[..., Any], world: World, sweep: Callable[..., Any]) -> None:
    """Nothing more is scheduled, what runs is followed and fetched; exit 130, and the next time goes on."""
    process = started()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "2 of 4 runs completed, 2 not scheduled" in out.decode()
    assert "Interrupted: nothing more is scheduled" in err.decode()
    assert "What is left is done by: fanbench sweep -o results" in err.decode()
    assert len(world.runs) == 2
    world.seconds = 0.0
    assert sweep("-o", "results").exit_code == 0
    assert len(world.runs) == 4


@pytest.mark.parametrize(
    ("signals", "code"), [([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 143)], ids=["twice", "term"]
)
def test_stopped_now(
    started: Callable[..., Any],
    world: World,
    sweep: Callable[..., Any],
    signals: list[signal.Signals],
    code: int,
) -> None:
    """At once, with nothing lost: the runs go on, and the next time they are taken up."""
    process = started(seconds=60.0)
    for number_ in signals:
        process.send_signal(number_)
        time.sleep(0.2)  # two that come at once would be one
    _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert "Stopped. What is left is done by: fanbench sweep -o results" in err.decode()
    assert not list(Path("results").rglob("*.part"))
    world.seconds = 0.0
    assert sweep("-o", "results").exit_code == 0
    assert len(world.runs) == 4


def test_killed(started: Callable[..., Any], world: World, sweep: Callable[..., Any]) -> None:
    """With -9: no run is scheduled twice, and the lock is free."""
    process = started(seconds=60.0)
    process.kill()
    process.communicate()
    world.seconds = 0.0
    assert sweep("-o", "results").exit_code == 0
    assert len(world.runs) == 4


def test_a_reader_that_goes_away(started: Callable[..., Any]) -> None:
    """Ends it as a shell knows it, and says nothing of it."""
    process = started("--format", "jsonl", "-q", seconds=0.5)
    assert json.loads(process.stdout.readline())["event"] == "sweep_started"
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


# --- On a terminal ------------------------------------------------------------------------------------------


def on_terminal(server: FakeServer, *words: str, size: tuple[int, int] = (100, 24)) -> Any:
    return session("sweep", *words, size=size, FANBENCH_ENDPOINT=server.url)


def answer(terminal: Session, text: str) -> None:
    terminal.until(lambda screen: screen.rstrip().endswith("[Y/n]"))
    terminal.type(f"{text}\n")


def test_a_no(server: FakeServer, folder: Path, files: list[Path]) -> None:
    """Touches nothing, and is no failure."""
    with on_terminal(server, "first.py", "-m", "a") as terminal:
        answer(terminal, "n")
        assert terminal.end() == 0
    assert "Nothing was touched." in terminal.screen.text
    assert not (folder / "results").exists()
    assert changes(server) == 0


def test_ctrl_c_at_the_question(server: FakeServer, folder: Path, files: list[Path]) -> None:
    """Ends it at once."""
    with on_terminal(server, "first.py", "-m", "a") as terminal:
        terminal.until(lambda screen: "Go on?" in screen)
        terminal.type("\x03")
        assert terminal.end(10) == 130
    assert not (folder / "results").exists()


def test_the_screen(server: FakeServer, world: World, files: list[Path]) -> None:
    """A row of cells a task and the last log lines while it goes on; in the end only what was printed."""
    world.seconds = 1.5
    with on_terminal(server, "there", "first.py", "--all-models") as terminal:
        answer(terminal, "")
        shown = terminal.until(lambda screen: "there ●●●" in screen and "| hello from" in screen)
        assert "of 6 runs" in shown
        terminal.resize(40, 6)
        terminal.until(lambda screen: "of 6 runs" in screen)
        terminal.resize(100, 24)
        assert terminal.end() == 1
    left = terminal.screen.history
    assert "●" not in left
    assert "there c: errored: ValueError: no answer" in left
    assert "4 of 6 runs completed, 2 errored" in left
    assert terminal.screen.cursor_shown


def test_ctrl_c_on_the_screen(server: FakeServer, world: World, files: list[Path]) -> None:
    """The screen goes on until all that was in flight is there."""
    world.seconds = 1.5
    with on_terminal(server, "there", "-m", "a", "--repeats", "2", "-y") as terminal:
        terminal.until(lambda screen: "there ●" in screen)
        terminal.type("\x03")
        terminal.until(lambda screen: "stopping: interrupted" in screen)
        assert terminal.end() == 130
    assert "1 of 2 runs completed, 1 not scheduled" in terminal.screen.history


def test_each_stage_is_asked_for(server: FakeServer, files: list[Path]) -> None:
    """By what it will do."""
    with on_terminal(server, "first.py", "-m", "a", "--step") as terminal:
        terminal.until(lambda screen: "push 1 task(s)" in screen)
        answer(terminal, "y")
        assert terminal.end() == 0
    assert changes(server) == 1
    with on_terminal(server, "--step") as terminal:
        terminal.until(lambda screen: "schedule 1 run(s)?" in screen)
        answer(terminal, "n")
        assert terminal.end() == 0
    assert changes(server) == 1
