"""`fanbench sweep` on a real socket: what it does, what it shows, how it ends and resumes."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from fanbench.sweeps.decide import RunStatus
from fanbench.sweeps.folder import lock_folder
from fanbench.sweeps.report import FIELDS
from fanbench.sweeps.state import SweepState, read_event
from fanbench.testing import ApiCall, Fault, SimulatedKaggle
from fanbench.wire import retry
from fanbench.wire.messages import CreationState, QuotaBalance, RefillPeriod
from tests.cli.conftest import FOREVER, scripts
from tests.cli.sweeps import RESULTS, Sweep, changes, plain
from tests.cli.sweeps import files as files
from tests.cli.sweeps import kaggle as kaggle
from tests.cli.sweeps import sweep as sweep

# --- The whole chain -----------------------------------------------------------------------------------------


def test_every_task_on_every_model(sweep: Sweep, kaggle: SimulatedKaggle, folder: Path) -> None:
    """Files are pushed, every task runs on every model, outputs and logs are downloaded, and tables and
    summaries are made.
    """
    result = sweep()
    assert result.exit_code == 0
    assert plain(result.stdout).startswith("task a b\nfirst 1 0.5\nthere 1 0.5\n")
    assert "4 of 4 runs completed" in result.stdout
    assert kaggle.calls["create_task"] == 1
    assert [models for _, models in kaggle.arguments("schedule_runs")] == [("a", "b"), ("a", "b")]
    assert not kaggle.calls["task_quota"]
    logs = sorted(str(path.relative_to(folder)) for path in (folder / "results").rglob("*.log"))
    assert [path.split("/")[1:4] for path in logs] == [
        ["first", "1", "a"],
        ["first", "1", "b"],
        ["there", "1", "a"],
        ["there", "1", "b"],
    ]
    assert Path(logs[0]).read_text() == "hello from a\n"
    assert json.loads(Path("results/summary.json").read_text())["ok"] is True
    assert len(Path("results/summary.csv").read_text().splitlines()) == 5


def test_a_line_for_each_change(sweep: Sweep) -> None:
    """Each change is a line on stderr, log lines only with -v, and nothing with -q."""
    said = sweep().stderr
    assert said.index("2 tasks × 2 models: 4 runs") < said.index("first: pushed as version 1")
    for line in ("first a: scheduled", "first b: completed", "there b: log of 1 lines"):
        assert line in said
    assert "hello" not in said
    assert "first a | hello from a" in sweep("first.py", "-m", "a", "-o", "other", "-v").stderr
    assert sweep("first.py", "-m", "a", "-o", "third", "-q").stderr == ""


def test_the_same_command_again(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """The same command again changes nothing and prints the same table, also without tasks."""
    table = sweep().stdout.splitlines()[:3]
    before = changes(kaggle)
    for words in ([], ["-o", "results"]):
        again = sweep(*words)
        assert again.exit_code == 0
        assert again.stdout.splitlines()[:3] == table
        assert "Everything is done" in again.stderr
    assert changes(kaggle) == before


def test_a_changed_file(sweep: Sweep, kaggle: SimulatedKaggle, folder: Path) -> None:
    """A changed file is pushed and run again, and the other task is not."""
    sweep()
    (folder / "first.py").write_text((folder / "first.py").read_text() + "# changed\n")
    again = sweep()
    assert again.exit_code == 0
    assert "changed" in again.stderr
    assert kaggle.calls["create_task"] == 2
    # One of them is to see whether the server has a version with this content.
    assert kaggle.calls["download_output"] == 7
    assert (folder / "results" / "first" / "2").is_dir()


def test_missing_files_are_downloaded_again(sweep: Sweep, kaggle: SimulatedKaggle, folder: Path) -> None:
    """Missing files are downloaded again, and nothing else."""
    sweep()
    (lost,) = folder.glob("results/first/1/a/*/first.run.json")
    lost.unlink()
    before = changes(kaggle)
    assert sweep("-o", "results").exit_code == 0
    assert lost.exists()
    assert changes(kaggle) == before + 1


@pytest.mark.parametrize("call", ["list_models", "get_task"])
def test_a_bad_answer_before_the_plan(
    sweep: Sweep, kaggle: SimulatedKaggle, call: ApiCall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page instead of the models or of a task is said and asked for again, before the plan as after it."""
    monkeypatch.setattr(retry, "_UNREADABLE_PAUSE", 0.0)
    kaggle.change(faults=(Fault(call, 200, times=2),))
    result = sweep("there", "-m", "a*")
    assert result.exit_code == 0
    assert "is not an answer of Kaggle's API" in result.stderr
    assert "retrying in" in result.stderr
    kaggle.change(faults=(Fault(call, 200, times=3),))
    result = sweep("there", "-m", "a*", "-o", "other")
    assert result.exit_code == 1


# --- What fails ----------------------------------------------------------------------------------------------


def test_errored_runs(sweep: Sweep, folder: Path) -> None:
    """Errored runs are kept, listed and counted, and exit 1 has a hint that repeats them."""
    result = sweep("there", "--all-models")
    assert result.exit_code == 1
    assert plain(result.stdout).startswith("task a b c\nthere 1 0.5 errored\n")
    assert "there c (Run 12): ValueError: no answer" in result.stderr
    assert "error: 2 of 3 runs completed, 1 errored." in result.stderr
    assert "fanbench sweep -o results --retry-errored 1" in result.stderr
    assert list(folder.glob("results/there/1/c/*.log"))


def test_errored_runs_again(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """--retry-errored repeats only errored runs, up to that number of times."""
    sweep("there", "--all-models")
    result = sweep("--retry-errored", "1")
    assert result.exit_code == 1
    assert kaggle.arguments("schedule_runs")[-1] == ("there", ("c",))
    assert "--retry-errored 2" in result.stderr
    kaggle.change(runs=scripts(results=RESULTS))
    assert sweep("--retry-errored", "2").exit_code == 0
    assert kaggle.calls["schedule_runs"] == 3
    row = json.loads(Path("results/summary.json").read_text())["runs"][2]
    assert (row["attempt"], row["attempts"], row["status"]) == (3, 3, "completed")


def test_a_task_that_cannot_be_created(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """The runs of a task that cannot be created are missing, which is said once for all of them; the others continue,
    and the same content is only pushed again with --retry-errored.
    """
    kaggle.change(creation_end=CreationState.KERNEL_WITHOUT_RUN)
    result = sweep()
    assert result.exit_code == 1
    assert "2 of 4 runs completed, 2 missing" in result.stderr
    assert "first: failed, so its runs are missing: Task 'first' creation failed" in result.stderr
    assert "\n  first (2 runs): push: Task 'first' creation failed" in result.stderr
    assert result.stderr.count("It broke.") == 2
    assert "To do what is left" not in result.stderr
    assert "To push it unchanged: fanbench sweep -o results --retry-errored 1" in result.stderr
    kaggle.change(creation_end=CreationState.COMPLETED)
    again = sweep("-o", "results")
    assert again.exit_code == 1
    assert "first failed (version 1) 2 blocked" in plain(again.stderr)
    assert "Change " in again.stderr
    assert "add --retry-errored 1 to push it unchanged. Task 'first' creation failed" in again.stderr
    assert kaggle.calls["create_task"] == 1
    assert sweep("-o", "results", "--retry-errored", "1").exit_code == 0
    assert kaggle.calls["create_task"] == 2


def test_changed_content_is_pushed_after_a_failed_creation(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A file that was changed since its creation failed is pushed without a flag."""
    kaggle.change(creation_end=CreationState.KERNEL_WITHOUT_RUN)
    assert sweep("first.py", "-m", "a").exit_code == 1
    kaggle.change(creation_end=CreationState.COMPLETED)
    Path("first.py").write_text(f"{Path('first.py').read_text()}# better\n")
    assert sweep("-o", "results").exit_code == 0


def test_too_many_failures(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """--max-failures stops scheduling: of three repeats on a model that errors, the third is not scheduled."""
    kaggle.change(runs=scripts(errored=["a"], running=0.1))
    result = sweep("there", "-m", "a", "--repeats", "3", "--max-failures", "1")
    assert result.exit_code == 1
    assert "Too many failures" in result.stderr
    assert kaggle.calls["schedule_runs"] < 3


def test_the_deadline(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """The deadline is exit 5, and the next sweep waits for the runs that were in progress."""
    kaggle.change(runs=scripts(running=FOREVER))
    result = sweep("there", "-m", "a", "--deadline", "0.5")
    assert result.exit_code == 5
    assert "The deadline has passed: 0 of 1 runs completed" in result.stderr
    kaggle.finish()
    assert sweep("-o", "results", "--deadline", "60").exit_code == 0
    assert len(kaggle.runs) == 1


def test_the_budget(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A used-up budget is exit 6, with a hint that names the flag."""
    kaggle.balances = [QuotaBalance(quota_used=1, total_quota_allowed=5, refill_period=RefillPeriod.DAILY)]
    result = sweep("there", "-m", "a", "--repeats", "2", "--max-cost", "3")
    assert result.exit_code == 0

    kaggle.balances = [QuotaBalance(quota_used=4, total_quota_allowed=5, refill_period=RefillPeriod.DAILY)]
    result = sweep("there", "-m", "a", "--repeats", "3", "--max-cost", "3")
    assert result.exit_code == 6
    assert "The budget is used up: 2 of 3 runs completed, 1 not scheduled." in result.stderr
    assert "--max-cost USD" in result.stderr


def test_credentials_that_are_refused(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """Credentials that are refused during a sweep end it with exit 3 and the command that resumes it."""
    kaggle.change(faults=(Fault("schedule_runs", 401, message="Who are you?", times=math.inf),))
    result = sweep()
    assert result.exit_code == 3
    assert "To resume: fanbench sweep -o results" in result.stderr


def test_a_summary_that_cannot_be_written(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A summary that cannot be written is exit 1 after the table."""
    Path("results/summary.json").mkdir(parents=True)
    result = sweep()
    assert result.exit_code == 1
    assert plain(result.stdout).startswith("task a b\nfirst 1 0.5\n")
    assert "Cannot write the summary to results" in result.stderr


# --- The folder ----------------------------------------------------------------------------------------------


def test_another_sweep_in_the_folder(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A folder with another sweep is refused with both ways out, unless the new one only adds to it."""
    sweep("there", "-m", "a", "-m", "b")
    before = changes(kaggle)
    result = sweep("there", "-m", "a")
    assert result.exit_code == 1
    assert "results holds another sweep: this one lacks its model b" in result.stderr
    assert changes(kaggle) == before
    assert sweep("there", "first.py", "-m", "a", "-m", "b").exit_code == 0


def test_fresh(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """--fresh moves the old folder aside, also that of another sweep; a dry run does not."""
    sweep("there", "-m", "a", "-m", "b")
    assert sweep("there", "-m", "a", "--fresh", "--dry-run").exit_code == 0
    assert not Path("results.1").exists()
    result = sweep("there", "-m", "a", "--fresh")
    assert result.exit_code == 0
    assert "Moved the contents of results to" in result.stderr
    assert Path("results.1/summary.json").exists()
    assert kaggle.calls["schedule_runs"] == 2


def test_a_folder_that_is_in_use(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A folder in use is refused before the plan with the process that uses it; `--dry-run` is not refused."""
    Path("results").mkdir()
    with lock_folder(Path("results")):
        assert sweep("first.py", "-m", "a", "--dry-run").exit_code == 0
        kaggle.calls.clear()
        result = sweep()
    assert result.exit_code == 1
    assert f"in use by another sweep: process {os.getpid()}" in result.stderr
    assert sum(kaggle.calls.values()) == 0


def test_a_damaged_journal(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """A damaged journal is an error."""
    sweep()
    Path("results/.fanbench/journal.sqlite").write_bytes(b"no journal" * 1000)
    before = changes(kaggle)
    result = sweep()
    assert result.exit_code == 1
    assert "--fresh" in result.stderr
    assert changes(kaggle) == before


# --- For programs --------------------------------------------------------------------------------------------


def test_records(sweep: Sweep) -> None:
    """JSON and CSV have one record per planned run, with the same CSV as the summary: an error is one line of it."""
    rows = json.loads(sweep("there", "--all-models", "--format", "json").stdout)
    assert [tuple(row) for row in rows] == [FIELDS] * 3
    assert [row["status"] for row in rows] == ["completed", "completed", "errored"]
    assert rows[2]["error"] == "Traceback\nValueError: no answer"
    printed = sweep("-o", "results", "--format", "csv").stdout
    assert ",ValueError: no answer," in printed
    assert printed == Path("results/summary.csv").read_text()


def test_events(sweep: Sweep) -> None:
    """JSON lines have one event each, enough to know the whole state, including what was done before."""
    for words in (["there", "--all-models"], ["-o", "results"]):
        state = SweepState()
        lines = sweep(*words, "--format", "jsonl").stdout.splitlines()
        for line in lines:
            state.absorb(*read_event(line))
        assert json.loads(lines[0])["event"] == "sweep_started"
        assert json.loads(lines[-1])["event"] == "sweep_ended"
        assert state.ended is not None
        assert (state.counts[RunStatus.COMPLETED], state.counts[RunStatus.ERRORED]) == (2, 1)
        rows = json.loads(Path("results/summary.json").read_text())["runs"]
        known = {
            (planned_run.model, cell.run_id, cell.output, cell.log)
            for planned_run, cell in state.cells.items()
        }
        assert known == {(row["model"], row["run_id"], row["output"], row["log"]) for row in rows}


def test_credentials_that_a_server_repeats_are_hidden(sweep: Sweep, kaggle: SimulatedKaggle) -> None:
    """Credentials that a server repeats are not printed."""
    secret = "KGAT_0123456789abcdef"
    kaggle.change(faults=(Fault("create_task", 400, message=f"Bad token {secret}", times=math.inf),))
    result = sweep("first.py", "-m", "a", "--format", "jsonl", "--token", secret)
    assert result.exit_code == 1
    assert "task_failed" in result.stdout
    assert secret not in result.stdout + result.stderr
