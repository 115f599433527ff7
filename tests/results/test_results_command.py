"""The command `fanbench results`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.results import FIELDS, Item
from fanbench.sweeps.folder import lock_folder
from tests.results.build import errored, number, write

DATA = Path(__file__).parent / "data"


def results(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["results", *map(str, arguments)])


def test_the_table_of_the_examples() -> None:
    """Without a terminal, the results and each model's usage are printed as aligned text."""
    result = results(DATA)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "task            gemma-3-270m  smollm2-135m-instruct",
        "arithmetic      0.4           0.8",
        "capital-cities  ✗ 1/4         ✓ 4/4",
        "word-table      0 [0, 0.39]   0.6667 [0.3, 0.9]",
        "",
        "model                  runs  tokens in  tokens out  seconds",
        "gemma-3-270m           3     303        223         5.9",
        "smollm2-135m-instruct  3     663        148         3.1",
    ]


def test_all_runs_are_pooled_or_shown(tmp_path: Path) -> None:
    """By default all runs of a task and model are one mean, and `--all` shows every run."""
    write(tmp_path / "my-task/1/gemma-3/9/a.run.json", number(0.5))
    write(tmp_path / "my-task/1/gemma-3/10/a.run.json", errored())
    assert results(tmp_path).stdout.splitlines()[1].split() == ["my-task", "0.5", "1/2"]
    assert results(tmp_path, "--all").stdout.splitlines()[1].split() == ["my-task", "errored,", "0.5"]


def test_a_running_sweep_is_mentioned(tmp_path: Path) -> None:
    """While a sweep holds the folder, one line on stderr says so, and the records are those so far."""
    write(tmp_path / "my-task/1/gemma-3/9/a.run.json", number(0.5))
    with lock_folder(tmp_path):
        running = results(tmp_path, "--format", "jsonl")
    assert running.stderr == f"A sweep is running in {tmp_path}: these are its results so far.\n"
    ended = results(tmp_path, "--format", "jsonl")
    assert (ended.stdout, ended.stderr) == (running.stdout, "")


def test_records_are_the_same_in_every_format() -> None:
    """JSON, JSON lines and CSV contain the same records under the same field names."""
    rows = json.loads(results(DATA, "--format", "json").stdout)
    lines = results(DATA, "--format", "jsonl").stdout.splitlines()
    table = list(csv.DictReader(io.StringIO(results(DATA, "--format", "csv").stdout)))
    assert [json.loads(line) for line in lines] == rows
    assert [tuple(row) for row in table] == [FIELDS] * 6
    assert [(row["task"], int(row["run_id"])) for row in table] == [
        (row["task"], row["run_id"]) for row in rows
    ]


def test_unreadable_files_are_reported_and_skipped(tmp_path: Path) -> None:
    """A damaged file is reported on stderr with its path; the rest is shown, and the exit code is 0."""
    write(tmp_path / "my-task/1/gemma-3/9/a.run.json", number(0.5))
    bad = write(tmp_path / "my-task/1/gemma-3/10/a.run.json", "{")
    result = results(tmp_path)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"Skipped {bad}: damaged")
    assert "0.5" in result.stdout


def test_a_sweep_without_results_is_continued(tmp_path: Path) -> None:
    """If a sweep has collected nothing yet, the error names the command that continues it."""
    (tmp_path / "my sweep/.fanbench").mkdir(parents=True)
    result = results(tmp_path / "my sweep")
    assert result.exit_code == 4
    assert f"fanbench sweep -o '{tmp_path}/my sweep'" in result.stderr


def test_no_results_exits_with_4(tmp_path: Path) -> None:
    """An empty and a missing folder exit with 4, and the error shows how to download results."""
    for folder in (tmp_path, tmp_path / "missing"):
        result = results(folder)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "fanbench tasks download" in result.stderr


def test_items_are_shown_or_printed_as_records(tmp_path: Path) -> None:
    """`--items` has a line, or a record with all fields, for each item of each run, and why it has no score."""
    for row, content in enumerate((number(0.5), errored())):
        write(tmp_path / f"my-task/1/gemma-3/9/a-run_param_id_{row}.run.json", content)
    assert [line.split() for line in results(tmp_path, "--items").stdout.splitlines()] == [
        ["task", "version", "model", "repeat", "item", "state", "value", "error"],
        ["my-task", "v1", "google/gemma-3", "1", "0", "scored", "0.5"],
        ["my-task", "v1", "google/gemma-3", "1", "1", "errored", "ValueError:", "no"],
    ]
    first, second = json.loads(results(tmp_path, "--items", "--format", "json").stdout)
    assert tuple(first) == Item.__struct_fields__
    assert (first["value"], first["run_id"], second["state"]) == (0.5, 9, "errored")
