"""Every number that fanbench tells of a sweep of the SDK's own examples is what an independent script counts."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import recount
from tests.e2e.answering_model import answering_model
from tests.e2e.command_lines import Fanbench
from tests.e2e.sdk_files import NotFetched, sdk_task_files
from tests.local.server_process import run_server

pytestmark = pytest.mark.e2e

#: One model that answers in the form that is asked for, always wrong, and one that knows half of the answers, and
#: fails where a form is asked for.
MODELS = """
default = "test/answering"

[[model]]
slug = "test/answering"
kind = "upstream"
url = "{url}"
input_price = 1.0
output_price = 2.0

[[model]]
slug = "test/knowing"
kind = "scripted"
input_price = 0.5
output_price = 0.25
rules = [
    {{ match = "2025-02-13|1989-10-27|2024-02-15", reply = "2025-02-26, or 1989-11-09, or 2024-02-28" }},
    {{ match = "igits of [Pp]i", reply = "3.14159" }},
]
reply = "My name is Alan Turing, and I am from Singapore."
"""

#: Values that are stated with an interval, sub-runs, rows, a judge, an error, and numbers without a scale.
TASKS = {
    "dataset_evaluation": ["multi_qa_task"],
    "simple_task": ["root_task"],
    "calendar_conversion": ["julian-to-gregorian-conversion"],
    "assess_with_a_judge": ["critique-short-story"],
    "anagrams": ["anagram-writing"],
    "digits_of_pi": ["decimal-precision"],
}
A, B = "test/answering", "test/knowing"
#: Fields that are no numbers, or that the run files do not tell.
SUMMARY_ONLY = {"attempt", "attempts", "status", "error", "output", "log", "model", "server_result"}


@pytest.fixture(scope="module")
def fanbench(tmp_path_factory: pytest.TempPathFactory) -> Fanbench:
    """The command line in the folder of a sweep of the tasks on both models, twice."""
    try:
        files = {path.stem: path for path in sdk_task_files(Path(sys.prefix) / "sdk-files")}
    except NotFetched as reason:
        pytest.skip(str(reason))
    top = tmp_path_factory.mktemp("recount")
    tables = [
        f"[[tasks]]\nfile = {json.dumps(str(files[f'examples-{name}']))}\ntask = {json.dumps(task)}\n"
        for name, tasks in TASKS.items()
        for task in tasks
    ]
    (top / "sweep.toml").write_text("\n".join(tables))
    options = ["-m", A, "-m", B, "--repeats", "2", "--judge", A, "-y", "-q", "-o", "out"]
    with answering_model() as url, run_server(top / "data", models=MODELS.format(url=url)) as server:
        fanbench = Fanbench(server.address, top)
        # Of each repeat, one run errored.
        fanbench("sweep", "sweep.toml", *options, code=1)
    return fanbench


@pytest.fixture(scope="module")
def folder(fanbench: Fanbench) -> Path:
    return fanbench.folder / "out"


@pytest.fixture(scope="module")
def counted(folder: Path) -> recount.Recount:
    return recount.Recount(folder)


def records(fanbench: Fanbench, *words: str) -> list[dict[str, Any]]:
    shown = fanbench.run(*words, "--format", "json")
    assert shown.code == 0, shown.err
    found: list[dict[str, Any]] = json.loads(shown.out)
    return found


def same(record: dict[str, Any], expected: dict[str, Any], *besides: str) -> None:
    """Each field of a record is as expected, to the last digits, and none is left out, except for those `besides`."""
    assert record.keys() == expected.keys() | set(besides)
    for name, value in expected.items():
        exact = value is None or isinstance(value, str | bool | list)
        assert record[name] == (value if exact else pytest.approx(value, rel=1e-9, abs=1e-12)), (name, record)


def result(counted: recount.Recount, found: dict[str, Any]) -> dict[str, Any]:
    """What the record of a run has in `results` and in the summary."""
    names = ["task", "version", "run_id", "repeat", "seconds", "assertions_passed", "assertions_total"]
    kind, value, interval = recount.result(found)
    return (
        {name: found[name] for name in (*names, *recount.USAGE)}
        | counted.figures(found)
        | {
            "kind": kind,
            "value": value,
            "interval": interval,
        }
    )


def test_the_summary(folder: Path, counted: recount.Recount) -> None:
    """Every run and every total of summary.json is that of the run files."""
    summary = json.loads((folder / "summary.json").read_text())
    rows = {row["run_id"]: row for row in summary["runs"]}
    assert rows.keys() == {found["run_id"] for found in counted.runs}
    for found in counted.runs:
        row = rows[found["run_id"]]
        same(row, result(counted, found), *SUMMARY_ONLY)
        assert (row["status"], row["model"]) == (found["state"].lower(), found["model"].removeprefix("test/"))
    errored = sum(found["state"] == "ERRORED" for found in counted.runs)
    totals = {"planned": 24, "completed": 24 - errored, "errored": errored, "missing": 0, "running": 0}
    totals |= {name: counted.total(name) for name in ("tokens_in", "tokens_out")}
    totals |= {
        "cost_usd": None,
        "cost_usd_at_least": counted.total("cost_usd"),
        "ok": False,
        "complete": False,
    }
    same({name: summary[name] for name in totals}, totals)


def test_results(fanbench: Fanbench, folder: Path, counted: recount.Recount) -> None:
    """Every record of `results` is that of the run files."""
    found = {record["run_id"]: record for record in records(fanbench, "results", "out")}
    assert len(found) == len(counted.runs) == 24
    for one in counted.runs:
        expected = result(counted, one) | {name: one[name] for name in ("rows", "rows_errored", "state")}
        expected |= {"model_owner": "test", "model": one["model"].removeprefix("test/"), "name": one["name"]}
        expected |= {"started": one["started"], "latency": one["latency"], "attempt": 1, "superseded": False}
        expected["total_cost_usd"] = recount.known_sum(one["cost_usd"], one["judge_cost_usd"])
        expected["path"] = str(folder / one["path"])
        same(found[one["run_id"]], expected, "content", "definition", "error", "server_result")


def test_items(fanbench: Fanbench, folder: Path, counted: recount.Recount) -> None:
    """Every item of `results --items` is that of the run files."""
    found: dict[int, list[dict[str, Any]]] = {}
    for record in records(fanbench, "results", "out", "--items"):
        found.setdefault(record["run_id"], []).append(record)
    for one in counted.runs:
        shown = sorted(found[one["run_id"]], key=lambda record: record["started"])
        expected = sorted(one["items"], key=lambda item: item["started"])
        for record, item in zip(shown, expected, strict=True):
            names = {name: one[name] for name in ("task", "model", "version", "run_id", "repeat")}
            names |= {"sweep": "out", "attempt": 1, "superseded": False}
            names |= {f"run_{name}": one[name] for name in ("cost_usd", "seconds")}
            same(
                record,
                {**item, **names} | {"item": record["item"]},
                "content",
                "error",
                "part",
                "path",
                "server_value",
            )
            file = json.loads((folder / record["path"]).read_text())
            part = file if record["part"] is None else file["subruns"][record["part"]]
            assert part["startTime"][:23] == record["started"][:23]
    # Fanbench names items after rows and digests, and means the same ones.
    named = {(record["task"], record["item"]) for its in found.values() for record in its}
    assert len(named) == len({(one["task"], item["item"]) for one in counted.runs for item in one["items"]})


def test_the_leaderboard(fanbench: Fanbench, counted: recount.Recount) -> None:
    """Scores, intervals, coverage, costs, times and pass rates are those of the items."""
    found = {record["model"]: record for record in records(fanbench, "leaderboard", "out", "-k", "2")}
    for expected in counted.leaderboard([*filter(counted.bounded, counted.tasks)], 2):
        same(found[expected["model"]], expected, "rank_low", "rank_high", "efficient", "by_server")
    assert (found[A]["rank_low"], found[A]["rank_high"], found[B]["rank_low"]) == (1, 1, None)


def test_ranks(fanbench: Fanbench, counted: recount.Recount) -> None:
    """On the tasks of which both models have scores, they are ranked as their comparison says."""
    compared, whole = counted.compare(A, B)
    tasks = [record["task"] for record in compared]
    found = records(fanbench, "leaderboard", *(f"out/{task}" for task in tasks))
    assert [record["model"] for record in found] == [B, A]
    for expected in counted.leaderboard(tasks):
        record = found[expected["model"] == A]
        same(record, expected, "rank_low", "rank_high", "efficient", "by_server")
    assert whole["p"] > 0.05
    assert {(record["rank_low"], record["rank_high"]) for record in found} == {(1, 2)}


def test_compare(fanbench: Fanbench, counted: recount.Recount) -> None:
    """The differences of both models, task by task and overall, are those of the items."""
    *tasks, overall = (
        record
        for record in records(fanbench, "compare", "out", A, B)
        if record["status"] in ("compared", "overall")
    )
    expected, whole = counted.compare(A, B)
    assert [record["task"] for record in tasks] == [record["task"] for record in expected]
    for record, one in zip(tasks, expected, strict=True):
        record["flips"] = sorted((flip["before"], flip["after"]) for flip in record["flips"])
        same(record, one, "content", "model", "status")
    same({name: overall[name] for name in whole}, whole)
