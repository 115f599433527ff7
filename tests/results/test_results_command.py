"""`fanbench results`."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.results import FIELDS
from tests.results.build import errored, number, write

DATA = Path(__file__).parent / "data"


def results(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["results", *map(str, arguments)])


def test_the_table_of_the_examples() -> None:
    """Aligned text where there is no terminal: what each task made of each model, then what they used."""
    result = results(DATA)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "task            gemma-3-270m  smollm2-135m-instruct",
        "arithmetic      0.4           0.8",
        "capital-cities  ✗ 1/4         ✓ 4/4",
        "word-table      0 ± 0.25      0.6667 ± 0.3",
        "",
        "model                  runs  tokens in  tokens out  seconds",
        "gemma-3-270m           3     303        223         5.9",
        "smollm2-135m-instruct  3     663        148         3.1",
    ]


def test_the_newest_run_is_shown_or_all(tmp_path: Path) -> None:
    """By default one run a task and model, the one with the highest number; `--all` has every one."""
    write(tmp_path / "my-task/1/gemma-3/9/a.run.json", number(0.5))
    write(tmp_path / "my-task/1/gemma-3/10/a.run.json", errored())
    assert results(tmp_path).stdout.splitlines()[1].split() == ["my-task", "errored"]
    assert results(tmp_path, "--all").stdout.splitlines()[1].split() == ["my-task", "errored,", "0.5"]


def test_programs_get_records() -> None:
    """JSON, JSON lines and CSV hold the same rows under the same names."""
    rows = json.loads(results(DATA, "--format", "json").stdout)
    lines = results(DATA, "--format", "jsonl").stdout.splitlines()
    table = list(csv.DictReader(io.StringIO(results(DATA, "--format", "csv").stdout)))
    assert [json.loads(line) for line in lines] == rows
    assert [tuple(row) for row in table] == [FIELDS] * 6
    assert [(row["task"], int(row["run_id"])) for row in table] == [
        (row["task"], row["run_id"]) for row in rows
    ]


def test_what_cannot_be_read_is_said_and_passed_over(tmp_path: Path) -> None:
    """On stderr, with its path; the rest is shown and the exit code is 0."""
    write(tmp_path / "my-task/1/gemma-3/9/a.run.json", number(0.5))
    bad = write(tmp_path / "my-task/1/gemma-3/10/a.run.json", "{")
    result = results(tmp_path)
    assert result.exit_code == 0
    assert result.stderr.startswith(f"skipped {bad}: damaged")
    assert "0.5" in result.stdout


def test_nothing_found_is_exit_4(tmp_path: Path) -> None:
    """An empty folder and a missing one: the error says how to get results."""
    for folder in (tmp_path, tmp_path / "missing"):
        result = results(folder)
        assert (result.exit_code, result.stdout) == (4, "")
        assert "fanbench tasks download" in result.stderr
