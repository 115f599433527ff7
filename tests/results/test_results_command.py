"""The command `fanbench results`."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pyarrow import parquet

from fanbench.cli.app import root
from fanbench.results import FIELDS, Item, read_results
from fanbench.results.scales import Scale
from fanbench.results.selection import Selection
from fanbench.sweeps.folder import lock_folder
from tests.cli.terminal import session
from tests.results.build import errored, number, write
from tests.results.folders import add_run
from tests.results.items import item, passes

DATA = Path(__file__).parent / "data"


def results(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["results", *map(str, arguments)])


def test_the_table_of_the_examples() -> None:
    """Without a terminal, the results and each model's usage are printed as aligned text."""
    result = results(DATA)
    assert (result.exit_code, result.stderr.split("`")[1::2]) == (
        0,
        [f"fanbench view {DATA}", f"fanbench report {DATA}"],
    )
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


# --- What is shown, and in which order ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two tasks and two models: one passes a part, and errors at the item that only the other knows."""
    add_run(tmp_path, "google/weak", [True, False, None], usd=0.01)
    add_run(tmp_path, "mirror/strong", passes(4, 4), usd=0.02)
    add_run(tmp_path, "google/weak", [0.25, 0.5], task="sums")
    add_run(tmp_path, "mirror/strong", [0.5, 0.75], task="sums")
    return tmp_path


def table_of(*arguments: str | Path) -> list[list[str]]:
    """The rows of the first table, with the cells that are separated by two spaces or more."""
    result = results(*arguments, "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    return [re.split("  +", line) for line in result.stdout.split("\n\n")[0].splitlines()]


def cells_of(rows: list[list[str]]) -> dict[tuple[str, str], str]:
    return {(row[0], name): text for row in rows[1:] for name, text in zip(rows[0][1:], row[1:], strict=True)}


@pytest.mark.parametrize(
    ("arguments", "places"),
    [
        (["--task", "quiz"], 2),
        (["--task", "q*", "--task", "sums"], 4),
        (["--model", "weak"], 2),
        (["-m", "google/*", "--task", "Quiz"], 1),
        (["--failed"], 1),
        (["--sort", "score"], 4),
        (["--sort", "cost", "-m", "*"], 4),
    ],
)
def test_what_is_left_out_counts(folder: Path, arguments: list[str], places: int) -> None:
    """Whatever is shown, each cell of the table is the same as in the table of everything."""
    everything = cells_of(table_of(folder))
    shown = cells_of(table_of(folder, *arguments))
    assert everything["quiz", "weak"] == "0.5 [0.095, 0.91] 2/4"
    assert len(shown) == places
    assert shown.items() <= everything.items()


def test_records_of_some_results(folder: Path) -> None:
    """Records are those of the tasks and models that were asked for, with the same fields as among all."""
    everything = json.loads(results(folder, "--format", "json").stdout)
    some = json.loads(results(folder, "--task", "quiz", "-m", "weak", "--format", "json").stdout)
    assert some == [record for record in everything if (record["task"], record["model"]) == ("quiz", "weak")]
    assert (some[0]["items_scored"], some[0]["items_planned"]) == (2, 4)


def test_what_failed(folder: Path) -> None:
    """Items failed if they errored, or are false; a run failed if one of its own items did."""
    add_run(folder / "again", "mirror/strong", passes(4, 4))
    items = json.loads(results(folder, "--items", "--failed", "--format", "json").stdout)
    assert [(item["task"], item["item"], item["state"]) for item in items] == [
        ("quiz", "1", "scored"),
        ("quiz", "2", "errored"),
    ]
    (run,) = json.loads(results(folder, "--failed", "--format", "json").stdout)
    assert (run["task"], run["model"]) == ("quiz", "weak")


def test_failed_runs_are_found_by_any_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether the folder is absolute, relative, `.` or within another one, the same runs failed."""
    monkeypatch.chdir(folder)
    for place in (folder, Path(), Path("quiz"), Path("quiz/../quiz/1")):
        (run,) = json.loads(results(place, "--failed", "--format", "json").stdout)
        assert (run["task"], run["model"]) == ("quiz", "weak")
    # The journal of a sweep has absolute paths, where the folder given may be a part of it.
    (run,) = (run for run in read_results("quiz").runs if run.model == "weak")
    errored = item(None, sweep=str(folder), path=f"{run.path}/a.run.json")
    assert Selection(failed=True).runs([run], [errored], {}, every=False) == [run]


def test_failed_runs_outside_the_layout_are_found(tmp_path: Path) -> None:
    """Of runs whose files are in one folder, those failed of which any row did, whichever it is."""
    loose = tmp_path / "loose"
    loose.mkdir()
    for model, values in (
        ("google/a", [True, False]),
        ("google/b", [True, None]),
        ("google/c", [True, True]),
    ):
        for file in add_run(tmp_path / "layout", model, values).iterdir():
            file.rename(loose / file.name)
    found = json.loads(results(loose, "--failed", "--format", "json").stdout)
    assert [run["model"] for run in found] == ["a", "b"]


def test_nothing_failed(folder: Path) -> None:
    """If there is nothing to show, that is said, and the exit code is 0."""
    for extra in ([], ["--items"]):
        result = results(folder, "--failed", "-m", "strong", *extra)
        assert result.exit_code == 0
        assert result.stderr.startswith("There are no such results.\n")
        assert "quiz" not in result.stdout


def test_the_order(folder: Path) -> None:
    """The highest score, cost or time is first, and what is unknown last: models, tasks, runs and items."""
    assert table_of(folder)[0] == ["task", "strong", "weak"]
    assert [row[0] for row in table_of(folder, "--sort", "score")] == ["task", "quiz", "sums"]
    add_run(folder, "google/cheap", [0.7], task="sums", usd=0.001, run_id=2)
    assert table_of(folder, "--sort", "score")[0] == ["task", "strong", "cheap", "weak"]
    for flag, field in (("score", "value"), ("cost", "cost_usd"), ("time", "seconds")):
        for extra in ([], ["--items"]):
            found = json.loads(results(folder, "--sort", flag, "--format", "json", *extra).stdout)
            known = [record[field] for record in found if record[field] is not None]
            assert known == sorted(known, reverse=True)
            assert [record[field] for record in found[len(known) :]] == [None] * (len(found) - len(known))
    usage = results(folder, "--sort", "cost").stdout.split("\n\n")[1]
    assert [line.split()[0] for line in usage.splitlines()] == ["model", "strong", "weak", "cheap"]


def test_where_lower_is_better(folder: Path) -> None:
    """A lower value is the higher score if the scale of the task says so."""
    scales, only = {"sums": Scale(higher_is_better=False)}, Selection(tasks=["sums"], order="score")
    values = [item.value for item in only.items(read_results(folder).items, scales, every=False)]
    assert values == [0.25, 0.5, 0.5, 0.75]


def test_unknown_names_are_refused(folder: Path) -> None:
    """A task or a model of which there are no results is an error that names those that there are."""
    for flag, names in (("--task", "quiz, sums"), ("--model", "google/weak, mirror/strong")):
        for name in ("other", "other-*"):
            result = results(folder, flag, name)
            assert (result.exit_code, result.stdout) == (4, "")
            assert names in result.stderr


# --- Parquet ---


@pytest.mark.parametrize("extra", [[], ["--items"], ["--failed", "--items"]])
def test_parquet_has_the_records(folder: Path, tmp_path: Path, extra: list[str]) -> None:
    """Parquet has the rows and values of the other formats, on stdout and in a file, with types for its columns."""
    records = json.loads(results(folder, "--format", "json", *extra).stdout)
    file = tmp_path / "out.parquet"
    written = results(folder, "--format", "parquet", "-o", file, *extra)
    assert (written.exit_code, written.output) == (0, "")
    for to_stdout in ([], ["-o", "-"]):
        assert results(folder, "--format", "parquet", *to_stdout, *extra).stdout_bytes == file.read_bytes()
    rows = parquet.read_table(file).to_pylist()
    assert [{name: row[name] for name in records[0]} for row in rows] == records
    assert str(parquet.read_schema(file).field("cost_usd").type) == "double"


def test_parquet_without_rows_has_its_columns(folder: Path) -> None:
    """If nothing is to be shown, the file has no rows, and all columns with their types."""
    found = results(folder, "--failed", "-m", "strong", "--items", "--format", "parquet")
    table = parquet.read_table(io.BytesIO(found.stdout_bytes))
    assert (table.num_rows, table.column_names) == (0, [*Item.__struct_fields__])


def test_parquet_is_refused_where_it_cannot_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without pyarrow, in a missing folder, and as the file of another format, an error says what to do."""
    for arguments, code, hint in (
        (["--format", "csv", "-o", "x"], 2, "> FILE"),
        (["--format", "parquet", "-o", folder / "none/x"], 1, "permissions"),
    ):
        result = results(folder, *arguments)
        assert (result.exit_code, result.stdout) == (code, "")
        assert hint in result.stderr
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = results(folder, "--format", "parquet")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "pip install pyarrow" in result.stderr


def test_parquet_may_be_asked_for_before_the_command(folder: Path) -> None:
    """`--format parquet` may stand before `results`, and there as well, it is refused by other commands."""
    before = CliRunner().invoke(root, ["--format", "parquet", "results", str(folder)])
    assert before.stdout_bytes == results(folder, "--format", "parquet").stdout_bytes
    refused = CliRunner().invoke(root, ["--format", "parquet", "leaderboard", str(folder)])
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert "'parquet' is not one of" in refused.stderr


def test_parquet_is_not_for_a_terminal(folder: Path) -> None:
    """On a terminal, nothing is printed but an error that names `-o`."""
    with session("results", str(folder), "--format", "parquet", size=(80, 24)) as terminal:
        assert terminal.end() == 2
        assert "-o FILE" in terminal.screen.text
        assert "PAR1" not in terminal.screen.text


def test_the_plot(folder: Path) -> None:
    """`--plot` draws each model's score within its interval, on an axis from 0 to 1."""
    result = results(folder, "--plot", "-q")
    *_, plot = result.stdout.split("\n\n")
    axis, *lines = plot.splitlines()
    zero, one = axis.index("0"), axis.rindex("1")
    ranking = read_results(folder).leaderboard()
    assert len(lines) == len(ranking.models)
    for line, row in zip(lines, ranking.models, strict=True):
        assert row.score is not None
        assert line.startswith(row.model)
        assert abs((line.index("●") - zero) / (one - zero) - row.score) <= 0.51 / (one - zero)
        if row.interval is not None:
            ends = [(line.index(sign) - zero) / (one - zero) for sign in "├┤" if sign in line]
            assert all(
                abs(end - low) < 0.03
                for end, low in zip(ends, (row.interval.low, row.interval.high), strict=False)
            )


def test_the_plot_of_some_models(folder: Path) -> None:
    """With `--model`, only these models are drawn; where there is no table, there is no plot."""
    everything = results(folder, "--plot", "-q").stdout.splitlines()
    *_, axis, line = results(folder, "--plot", "-q", "-m", "weak").stdout.splitlines()
    assert line.split() == everything[-1].split()
    assert axis.split() == ["score", "0", "1"]
    for extra in (["--items"], ["--format", "json"]):
        refused = results(folder, "--plot", *extra)
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "Leave out --items and --format." in refused.stderr
