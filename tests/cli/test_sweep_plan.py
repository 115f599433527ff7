"""`fanbench sweep` before it changes anything: the plan, refusals, sweep files, stages."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from fanbench.testing import SimulatedKaggle
from fanbench.wire.messages import CreationState
from tests.cli.conftest import Cli
from tests.cli.sweeps import Sweep, changes, plain
from tests.cli.sweeps import files as files
from tests.cli.sweeps import kaggle as kaggle
from tests.cli.sweeps import sweep as sweep

# --- Before anything is touched ------------------------------------------------------------------------------


def test_a_dry_run(cli: Cli, kaggle: SimulatedKaggle, files: list[Path]) -> None:
    """A dry run shows the plan on stdout, and changes nothing, neither here nor on the server."""
    before = sorted(Path().iterdir())
    result = cli("sweep", "first.py", "there", "--all-models", "--dry-run")
    assert result.exit_code == 0
    assert plain(result.stdout).startswith("first new schedule 3\nthere existing (version 1) schedule 3\n")
    assert "Left of the daily quota: 88 of 100 runs" in result.stdout
    assert sorted(Path().iterdir()) == before
    assert changes(kaggle) == 0


def test_a_dry_run_for_programs(cli: Cli, files: list[Path]) -> None:
    """A dry run prints one record per task for programs."""
    words = ("sweep", "first.py", "there", "-m", "a", "--dry-run", "-d", "o/d", "--format")
    first, there = json.loads(cli(*words, "json").stdout)
    assert (first["push"], first["pushed"], first["schedule"], first["datasets"]) == ("new", True, 1, ["o/d"])
    assert (there["push"], there["version"], there["file"]) == ("existing", 1, None)
    rows = list(csv.DictReader(cli(*words, "csv").stdout.splitlines()))
    assert [row["task"] for row in rows] == ["first", "there"]


def test_a_dry_run_warns(cli: Cli, files: list[Path]) -> None:
    """A dry run warns before the quota runs out, on stderr for programs."""
    words = ("sweep", "there", "-m", "a", "--repeats", "100", "--dry-run")
    warning = "100 runs to schedule, and only 88 left of the daily quota."
    assert warning in cli(*words).stdout
    for_programs = cli(*words, "--format", "json")
    assert warning in for_programs.stderr
    assert len(json.loads(for_programs.stdout)) == 1


def test_the_plan_warns_about_the_files(cli: Cli, files: list[Path]) -> None:
    """The plan has what `check` warns about in the files to push, once each, and names a push that will fail."""
    task = "@kbench.task()\ndef {0}(llm): return llm.prompt('x') == 'y'\n{0}.run(kbench.llm)\n"
    text = f"import kaggle_benchmarks as kbench\n{task.format('one')}{task.format('two')}%choose one\n"
    Path("both.py").write_text(text)
    words = ("sweep", "first.py", "both.py", "there", "-m", "a", "--dry-run")
    lines = plain(cli(*words).stdout).splitlines()
    assert [line for line in lines if "will fail" in line] == ["two new (will fail) schedule 1"]
    warning = "both.py:8:1: %choose keeps only the run of one, so a push of two fails."
    assert [line for line in lines if "%choose" in line] == [f"Warning: {warning}"]
    records = cli(*words, "--format", "json")
    assert [record["fails"] for record in json.loads(records.stdout)] == [False, False, True, False]
    assert records.stderr.count(warning) == 1


def test_a_dry_run_of_another_sweep(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A dry run in the folder of another sweep is refused, as the sweep would be."""
    sweep("there", "-m", "a", "-m", "b")
    result = sweep("there", "-m", "a", "--dry-run")
    assert result.exit_code == 1
    assert "results holds another sweep" in result.stderr


def test_no_terminal_to_ask_on(cli: Cli, kaggle: SimulatedKaggle, files: list[Path]) -> None:
    """Without a terminal, a sweep is an error that names -y, unless there is nothing to do."""
    result = cli("sweep", "first.py", "-m", "a")
    assert result.exit_code == 2
    assert "hint: Use -y to answer yes." in result.stderr
    assert not Path("results").exists()
    assert changes(kaggle) == 0
    assert cli("sweep", "first.py", "-m", "a", "-y").exit_code == 0
    assert cli("sweep", "first.py", "-m", "a").exit_code == 0


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["first.py", "-m", "a", "b"], 2, "Repeat the flag: -m a -m b"),
        (["first.py", "-m", "a", "--all-models"], 2, "-m and --all-models cannot be used together"),
        (["first.py"], 2, "No model is given"),
        ([], 2, "No task is given, and results has no sweep to continue."),
        (["-m", "a", "-d", "o/d"], 2, "-d/--dataset can only be used with named tasks"),
        (["first.py", "-m", "aa*"], 4, "aa* (did you mean a?)"),
        (["first.py", "-m", "a", "-d", "odd"], 2, "'odd' is not a dataset"),
        (
            ["first.py", "-m", "a", "--max-failures", "many"],
            2,
            "--max-failures takes a number or a percentage",
        ),
        (["first.py", "-m", "a", "--deadline", "nan"], 2, "deadline"),
        (["first.py", "-m", "a", "--repeats", "0"], 2, "repeats"),
        (["there", "me/there", "-m", "a"], 2, "twice"),
        (["first.py", "./first.py", "first", "-m", "a"], 2, "only the slug to run the version"),
        (["gone.py", "-m", "a"], 1, "gone.py"),
        (["gone", "-m", "a"], 4, "gone"),
        (["first.py", "-m", "a", "-o", "first.py"], 2, "is a file"),
        (["no*.py", "-m", "a"], 1, "no*.py"),
    ],
)
def test_refusals(sweep: Sweep, kaggle: SimulatedKaggle, words: list[str], code: int, message: str) -> None:
    """Mistakes have the right exit code, before anything is changed."""
    result = sweep(*(words or ["-o", "results"]))
    assert result.exit_code == code
    assert message in result.stderr
    assert not Path("results").exists()
    assert changes(kaggle) == 0


def test_a_sweep_file(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A sweep file can contain everything, and flags override it."""
    Path("sweep.toml").write_text(
        'tasks = ["there", {file = "first.py", datasets = ["o/d"]}]\nmodels_from = "models.txt"\n'
        'repeats = 2\noutput = "out"\n[limits]\nconcurrency = 3\n'
    )
    Path("models.txt").write_text("a # the first\n\nb\n")
    result = sweep("sweep.toml", "--repeats", "1")
    assert result.exit_code == 0
    assert plain(result.stdout).startswith("task a b\nthere")
    assert Path("out/summary.json").exists()
    assert kaggle.arguments("create_task") == [("first", ("o/d",))]
    listed = sweep("there", "--models-from", "models.txt", "-o", "listed")
    assert listed.exit_code == 0
    assert json.loads(Path("listed/summary.json").read_text())["models"] == ["a", "b"]
    Path("models.txt").write_text("b\n")
    assert sweep("there", "-m", "a", "--models-from", "models.txt", "-o", "more").exit_code == 0
    assert json.loads(Path("more/summary.json").read_text())["models"] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('tasks = ["there"]\nmodel = ["a"]\n', "sweep.toml:2: Unknown key 'model'"),
        ('models = ["a"]\n', "sweep.toml names no tasks"),
        ("tasks = [\n", "sweep.toml:1:"),
    ],
)
def test_a_mistake_in_a_sweep_file(sweep: Sweep, text: str, message: str) -> None:
    """A mistake in a sweep file is exit 2, with its line."""
    Path("sweep.toml").write_text(text)
    result = sweep("sweep.toml")
    assert result.exit_code == 2
    assert message in result.stderr


def test_the_schema(cli: Cli) -> None:
    """--schema prints the schema without asking a server."""
    assert json.loads(cli("sweep", "--schema").stdout)["$defs"]["SweepFile"]


# --- Stages --------------------------------------------------------------------------------------------------


def test_one_stage_at_a_time(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """Each stage ends with its results and the next command, and the last one with the table."""
    pushed = sweep("first.py", "-m", "a", "--step")
    assert pushed.exit_code == 0
    assert pushed.stdout == "first: version 1 is ready\n"
    assert "Next: fanbench sweep -o results --step" in pushed.stderr
    assert changes(kaggle) == 1
    scheduled = sweep("-o", "results", "--step")
    assert scheduled.exit_code == 0
    assert scheduled.stdout.startswith("Runs: 1 ")
    assert changes(kaggle) == 2
    collected = sweep("-o", "results", "--step")
    assert collected.exit_code == 0
    assert plain(collected.stdout).startswith("task a\nfirst 1\n")


def test_no_stages_with_a_budget(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """--step cannot be used with a budget."""
    result = sweep("first.py", "-m", "a", "--step", "--max-cost", "1")
    assert result.exit_code == 2
    assert "--step cannot be used with --max-cost" in result.stderr
    assert changes(kaggle) == 0


def test_a_stage_that_fails(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A stage that fails is exit 1."""
    kaggle.change(creation_end=CreationState.ERRORED)
    result = sweep("first.py", "-m", "a", "--step")
    assert result.exit_code == 1
    assert "first: failed:" in result.stdout
    assert "error: 1 task failed, 1 run missing." in result.stderr


def test_a_model_that_the_server_does_not_list_is_in_the_plan(
    cli: Cli, kaggle: SimulatedKaggle, files: list[Path]
) -> None:
    """The plan warns of it, and a sweep that goes ahead reports what the scheduler says, with a suggestion."""
    suggestion = "aa (did you mean a?)"
    plan = cli("sweep", "there", "-m", "aa", "-m", "b", "--dry-run")
    assert f"Warning: The server does not list the model {suggestion}; it decides" in plan.stdout
    result = cli("sweep", "there", "-m", "aa", "-m", "b", "-y")
    assert result.exit_code == 1
    assert "No such model: aa" in result.stderr
    assert [run.model for run in kaggle.our_runs()] == ["b"]


# --- Benchmarks ----------------------------------------------------------------------------------------------


def test_a_benchmark_is_swept_and_resumed(cli: Cli, kaggle: SimulatedKaggle, folder: Path) -> None:
    """Its tasks are run without a push, whoever owns them, and later the sweep has the same tasks."""
    there = [kaggle.add_task(slug).version_slug(1) for slug in ("them/x", "mine")]
    kaggle.benchmarks["them", "bench"] = there
    result = cli("sweep", "--benchmark", "them/bench", "-m", "a", "-y", "--format", "json")
    assert result.exit_code == 0, result.stderr
    assert [one["task"] for one in json.loads(result.stdout)] == ["them/x", "me/mine"]
    kaggle.benchmarks["them", "bench"] = there[:1]
    again = cli("sweep", "-y", "--format", "json")
    assert [one["task"] for one in json.loads(again.stdout)] == ["them/x", "me/mine"]
    assert (kaggle.calls["create_task"], kaggle.calls["schedule_runs"]) == (0, 2)


@pytest.mark.parametrize(
    ("later", "line"),
    [
        (
            ["them/x", "them/new"],
            "has changed since this sweep was planned (them/new added, me/mine removed)",
        ),
        ([], "has changed since this sweep was planned (them/x, me/mine removed)"),
        (None, "cannot be listed now: "),
        (["them/x", "mine"], None),
    ],
)
def test_a_benchmark_that_has_changed_is_resumed_as_it_was(
    cli: Cli, kaggle: SimulatedKaggle, folder: Path, later: list[str] | None, line: str | None
) -> None:
    """The same command continues with the tasks that were planned, and says what has become of the benchmark."""
    there = {slug: kaggle.add_task(slug).version_slug(1) for slug in ("them/x", "mine", "them/new")}
    kaggle.benchmarks["them", "bench"] = [there["them/x"], there["mine"]]
    command = ("sweep", "--benchmark", "them/bench", "-m", "a", "-y", "--format", "json")
    assert cli(*command).exit_code == 0
    del kaggle.benchmarks["them", "bench"]
    if later is not None:
        kaggle.benchmarks["them", "bench"] = [there[slug] for slug in later]
    for _ in range(2):
        again = cli(*command)
        assert again.exit_code == 0, again.stderr
        assert [one["task"] for one in json.loads(again.stdout)] == ["them/x", "me/mine"]
        assert (line is None and "bench" not in again.stderr) or (line and line in again.stderr)
    assert kaggle.calls["schedule_runs"] == 2
    if later:
        afresh = cli(*command, "--fresh")
        assert [one["task"] for one in json.loads(afresh.stdout)] == [
            f"me/{one}" if one == "mine" else one for one in later
        ]


def test_a_task_of_the_benchmark_that_is_gone(cli: Cli, kaggle: SimulatedKaggle, folder: Path) -> None:
    """The other tasks are finished, its results stay, and --fresh takes the tasks of today."""
    there = {slug: kaggle.add_task(slug).version_slug(1) for slug in ("x", "y")}
    kaggle.benchmarks["me", "bench"] = [there["x"], there["y"]]
    assert cli("sweep", "--benchmark", "me/bench", "-m", "a", "-y").exit_code == 0
    kaggle.benchmarks["me", "bench"] = [there["x"]]
    del kaggle.tasks["y"]
    again = cli("sweep", "-y", "--format", "json")
    assert again.exit_code == 0
    assert "me/y is not on the server any more" in again.stderr
    more = cli("sweep", "-y", "-m", "a", "-m", "b", "--format", "json")
    assert more.exit_code == 1
    found = [(one["task"], one["model"], one["status"]) for one in json.loads(more.stdout)]
    assert found == [
        ("me/x", "a", "completed"),
        ("me/x", "b", "completed"),
        ("me/y", "a", "completed"),
        ("me/y", "b", "missing"),
    ]
    afresh = cli("sweep", "-y", "--fresh", "--format", "json")
    assert {one["task"] for one in json.loads(afresh.stdout)} == {"me/x"}
    assert Path("results.1").is_dir()


def test_a_benchmark_in_a_sweep_file(cli: Cli, kaggle: SimulatedKaggle, folder: Path) -> None:
    """The key `benchmark` of a sweep file is enough, and a server that cannot list its tasks says so."""
    kaggle.benchmarks["them", "bench"] = [kaggle.add_task("them/x").version_slug(1)]
    Path("sweep.toml").write_text('benchmark = "them/bench"\nmodels = ["a"]\n')
    (task,) = json.loads(cli("sweep", "sweep.toml", "--dry-run", "--format", "json").stdout)
    assert (task["task"], task["push"]) == ("them/x", "existing")
    kaggle.change(has_benchmarks=False)
    refused = cli("sweep", "sweep.toml", "--dry-run")
    assert refused.exit_code == 1
    assert "This server cannot list the tasks of a benchmark: its ListBenchmarkTasks does" in refused.stderr
    assert changes(kaggle) == 0
