"""The command `fanbench compare`."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.cli.views.compare import FIELDS, Side
from fanbench.results.scores import TaskKey
from tests.results.folders import add_run
from tests.results.items import item, passes


def compare(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["compare", *map(str, arguments)])


@pytest.fixture(autouse=True)
def sweeps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sweeps: a model that fell by four of twenty items, one that did not change, and tasks of other kinds."""
    monkeypatch.chdir(tmp_path)
    before, after = Path("before"), Path("after")
    add_run(before, "google/a", passes(20, 20))
    add_run(after, "google/a", passes(16, 20), run_id=2)
    for folder in (before, after):
        add_run(folder, "mirror/b", passes(10, 20))
        add_run(folder, "google/a", [0.5, 70.0], task="points")
    add_run(before, "google/a", [True], task="changed")
    add_run(after, "google/a", [True], task="changed", version=2)
    add_run(before, "google/a", [True], task="gone")
    add_run(before, "google/a", [True, None], task="half")
    add_run(after, "google/a", [None, True], task="half")
    add_run(after, "mirror/new", passes(10, 20))


LEFT_OUT = [
    "Not compared, because the content differs: changed (v1), changed (v2).",
    "Not compared, because only A has it: gone.",
    "Not compared, because some values are not between 0 and 1: points.",
    "Not compared, because no item has a score on both sides: half on google/a.",
    "To count these, declare `scale = [LOW, HIGH]` for them in sweep.toml, and sweep again with it: "
    "what has been run is not run again.",
]


def test_two_sweeps() -> None:
    """The same models are compared task by task, and what cannot be compared is named with the reason."""
    result = compare("before", "after", "--flips", "1")
    assert (result.exit_code, result.stderr) == (0, "")
    table, sentences, flips = result.stdout.split("\n\n")
    header, a, b, overall = (re.split("  +", line) for line in table.splitlines())
    assert header[:6] == ["task", "model", "items", "better", "worse", "difference"]
    assert a[:6] == ["quiz", "google/a", "20", "0", "4", "-0.200"]
    assert a[7:9] == ["0.104", "0.209"]
    assert b[:6] == ["quiz", "mirror/b", "20", "0", "0", "+0.000"]
    assert overall[:5] == ["all tasks", "40", "0", "4", "-0.100"]
    first, *others = sentences.splitlines()
    assert first == "A is before, B is after; a difference above 0 means that B scored higher."
    assert sorted(others[:-1]) == sorted(LEFT_OUT)
    assert others[-1] == "Not compared, because only after has results of it: mirror/new."
    assert flips.splitlines() == [
        "4 items changed, A → B:",
        "  quiz google/a 16: 1 → 0",
        "    A before/quiz/1/a/1/quiz-run_id_Run_1_run_param_id_16_google_a.run.json",
        "    B after/quiz/1/a/2/quiz-run_id_Run_1_run_param_id_16_google_a.run.json",
        "  and 3 more: --flips 4 shows all",
    ]


def test_models_may_be_chosen() -> None:
    """With -m, only the models that match are compared."""
    result = compare("before", "after", "-m", "mirror/*")
    assert [line.split()[:2] for line in result.stdout.splitlines()[1:2]] == [["quiz", "mirror/b"]]
    assert "mirror/new" not in result.stdout


def test_two_models() -> None:
    """Two models of one folder are found by their names, with or without owner."""
    result = compare("before", "a", "mirror/b", "--flips", "0")
    assert result.exit_code == 0
    line = re.split("  +", result.stdout.splitlines()[1])
    assert line[:5] == ["quiz", "20", "0", "10", "-0.500"]
    assert "A is google/a, B is mirror/b;" in result.stdout


def test_records() -> None:
    """One record per task and model, per task that is left out, and one for all together, with every flip."""
    result = compare("before", "after", "--format", "json")
    records = json.loads(result.stdout)
    assert {tuple(record) for record in records} == {FIELDS}
    by_place = {(record["task"], record["content"], record["model"]): record for record in records}
    fallen = by_place["quiz", "v1", "google/a"]
    assert (fallen["status"], fallen["worse"], fallen["p"]) == (
        "compared",
        4,
        pytest.approx(0.10426, abs=1e-5),
    )
    assert len(fallen["flips"]) == 4
    for flip in fallen["flips"]:
        for path in (*flip["before_paths"], *flip["after_paths"]):
            assert Path(path).is_file()
    statuses = {(record["task"], record["status"]) for record in records if record["status"] != "compared"}
    assert statuses == {
        ("changed", "other_content"),
        ("gone", "only_first"),
        ("points", "unbounded"),
        ("half", "nothing_in_common"),
        (None, "overall"),
    }
    overall = records[-1]
    assert overall["difference"] == pytest.approx(-0.1)
    assert overall["low"] < -0.1 < 0 < overall["high"]
    rows = list(csv.DictReader(io.StringIO(compare("before", "after", "--format", "csv").stdout)))
    assert [row["status"] for row in rows] == [record["status"] for record in records]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["before"], 2, "Two sides are compared."),
        (["before", "nothing"], 2, "'nothing' is no folder."),
        (["before", "a", "b", "c"], 2, "Two sides are compared."),
        (["before", "a", "google/a"], 2, "are the same model"),
        (["before", "a", "b", "-m", "a"], 2, "-m is for two folders"),
        (
            ["before", "a", "mirror/a"],
            4,
            "There are no results of mirror/a. The models are google/a, mirror/b.",
        ),
        (["before/quiz/1/a", "after/quiz/1/new"], 8, "No model is in both folders"),
        (["before/half", "after/half"], 8, "Nothing can be compared"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments: list[str], code: int, message: str) -> None:
    """Each mistake has its exit code and its message; results that have nothing in common cannot tell."""
    result = compare(*arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_a_name_that_may_be_two_models_is_refused() -> None:
    """Two owners may have models of the same name: the error names both."""
    add_run(Path("before"), "mirror/a", [True], run_id=9)
    result = compare("before", "a", "b")
    assert result.exit_code == 2
    assert "a may be google/a or mirror/a" in result.stderr


def test_paths_are_of_attempts_that_count() -> None:
    """The run files of an item are those of its repeats on that model, without attempts that were made again."""
    items = [
        item(model="m", item="1", path="first", superseded=True),
        item(model="m", item="1", path="second", attempt=2),
        item(model="n", item="1", path="other"),
    ]
    place = TaskKey("t", "c"), "m", "1"
    assert Side(items).paths()[place] == ["s/second"]
    assert Side(items, "m").paths() == {(TaskKey("t", "c"), "", "1"): ["s/second"]}
