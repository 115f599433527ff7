"""Folders of run files."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fanbench.results import ResultSet, RunResult, read_results
from fanbench.wire.messages import RunState
from tests.results.build import STATUS, errored, number, passed, run, talk, write

DATA = Path(__file__).parent / "data"


def only(found: ResultSet) -> RunResult:
    assert found.problems == ()
    (row,) = found.rows
    return row


def read_one(folder: Path, *runs: dict[str, Any], at: str = "my-task/1/gemma-3/7") -> RunResult:
    """The one row that `runs` make in the run folder `at`."""
    for index, content in enumerate(runs):
        write(folder / at / f"{index}.run.json", content)
    return only(read_results([folder]))


def test_real_run_files_are_read() -> None:
    """Six runs of the example tasks on two models, as the SDK and a download left them."""
    found = read_results([DATA])
    assert found.problems == ()
    assert {(row.task, row.model, row.run_id): (row.kind, row.value) for row in found.rows} == {
        ("arithmetic", "gemma-3-270m", 22): ("numeric", 0.4),
        ("arithmetic", "smollm2-135m-instruct", 12): ("numeric", 0.8),
        ("capital-cities", "gemma-3-270m", 21): ("boolean", False),
        ("capital-cities", "smollm2-135m-instruct", 11): ("boolean", True),
        ("word-table", "gemma-3-270m", 23): ("numeric", 0.0),
        ("word-table", "smollm2-135m-instruct", 13): ("numeric", pytest.approx(2 / 3)),
    }


def test_a_real_run_has_all_its_figures() -> None:
    """Assertions, tokens (those of sub-runs as well), wall time; no cost, as nobody told one."""
    rows = {(row.task, row.model): row for row in read_results([DATA]).rows}
    cities = rows["capital-cities", "gemma-3-270m"]
    assert (cities.assertions_passed, cities.assertions_total) == (1, 4)
    assert (cities.tokens_in, cities.tokens_out, cities.cost_usd) == (88, 67, None)
    assert (cities.version, cities.state, cities.error) == (1, RunState.COMPLETED, None)
    words = rows["word-table", "gemma-3-270m"]
    assert words.tokens_in == 115
    assert words.interval == pytest.approx(0.248, abs=0.001)
    assert words.seconds == pytest.approx(2.404246)


def test_the_layout_names_the_run(tmp_path: Path) -> None:
    """Version, model and run id are those of the folders."""
    row = read_one(tmp_path, passed(), at="my-task/3/gemma-3/12")
    assert (row.task, row.version, row.model, row.run_id) == ("my-task", 3, "gemma-3", 12)
    assert row.path == tmp_path / "my-task/3/gemma-3/12"


def test_an_unset_version_is_unknown(tmp_path: Path) -> None:
    """The layout's word for a task without a version."""
    assert read_one(tmp_path, passed(), at="my-task/unset/gemma-3/12").version is None


@pytest.mark.parametrize("below", ["my-task", "my-task/1/gemma-3", "my-task/1/gemma-3/7"])
def test_any_part_of_the_layout_may_be_named(tmp_path: Path, below: str) -> None:
    """The folders above DIR count, too."""
    write(tmp_path / "my-task/1/gemma-3/7/deep/a.run.json", passed())
    assert only(read_results([tmp_path / below])).run_id == 7


def test_a_relative_folder_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fanbench results .` within a run folder knows where it is."""
    write(tmp_path / "my-task/1/gemma-3/7/a.run.json", passed())
    monkeypatch.chdir(tmp_path / "my-task/1/gemma-3/7")
    assert only(read_results([Path()])).run_id == 7


def test_files_anywhere_else_name_themselves(tmp_path: Path) -> None:
    """The folder in which `python task.py` ran: task, version and model are those of the file."""
    row = only(read_results([write(tmp_path / "a.run.json", passed()).parent]))
    assert (row.task, row.version, row.model, row.run_id) == ("my-task", 1, "gemma-3", None)
    assert row.path == tmp_path / "a.run.json"


def test_one_run_file_may_be_named(tmp_path: Path) -> None:
    """A file in place of a folder, also under another name."""
    assert only(read_results([write(tmp_path / "run.json", passed())])).value is True


def test_folders_that_overlap_count_once(tmp_path: Path) -> None:
    """The same file is one run, however often it is named."""
    path = write(tmp_path / "my-task/1/gemma-3/7/a.run.json", passed())
    assert only(read_results([tmp_path, path.parent, path])).rows == 1


def test_the_file_of_the_folders_task_is_chosen(tmp_path: Path) -> None:
    """Sub-tasks leave run files of their own in the same folder."""
    row = read_one(tmp_path, passed(False, "Helper"), number(0.7), passed(False, "Other"))
    assert (row.value, row.rows, row.name) == (0.7, 1, "My Task")


def test_a_part_of_a_run_is_no_row_of_it(tmp_path: Path) -> None:
    """A task that runs itself has its inner runs within the outer one; they do not enter the mean."""
    inner = number(0.0, pyRunId="My Task-Run #2", startTime="2026-01-01T00:00:01Z")
    outer = number(0.8, pyRunId="My Task-Run #1", subruns=[run("Middle", subruns=[inner])])
    row = read_one(tmp_path, inner, outer)
    assert (row.value, row.rows) == (0.8, 1)


def test_the_file_of_the_folders_model_is_chosen(tmp_path: Path) -> None:
    """A task file that runs a second model by itself does not blur the first one's value."""
    other = number(0.1, modelVersion={"slug": "openai/judge"})
    assert read_one(tmp_path, other, number(0.9, modelVersion={"slug": "google/gemma@3"})).value == 0.9


def test_another_name_is_taken_if_there_is_but_one(tmp_path: Path) -> None:
    """Slugs made elsewhere may differ; a folder of one task leaves no doubt."""
    assert read_one(tmp_path, number(0.9, "Ma tâche")).task == "my-task"


def test_a_folder_without_its_task_is_a_problem(tmp_path: Path) -> None:
    """With two others in it nobody can tell which one is meant."""
    for name in ("Other", "Helper"):
        write(tmp_path / f"my-task/1/gemma-3/7/{name}.run.json", number(0.9, name))
    found = read_results([tmp_path])
    assert found.rows == ()
    assert found.problems[0].what == "no run file of task my-task, only of helper, other"


def test_rows_of_numbers_become_their_mean(tmp_path: Path) -> None:
    """A task evaluated row by row: mean, count, sums of tokens and assertions, wall time over all."""
    later = {"startTime": "2026-01-01T00:00:01Z", "endTime": "2026-01-01T00:00:05Z"}
    held: dict[str, Any] = {"assertions": [{"status": f"{STATUS}PASSED"}, {"status": f"{STATUS}FAILED"}, {}]}
    row = read_one(
        tmp_path,
        number(0.5, conversations=[talk(inputTokens=2, outputTokens=1)], **held),
        number(1.0, conversations=[talk(inputTokens=3)], **later),
    )
    assert (row.kind, row.value, row.interval, row.rows) == ("numeric", 0.75, None, 2)
    assert (row.tokens_in, row.tokens_out, row.seconds) == (5, 1, 5.0)
    assert (row.assertions_passed, row.assertions_total) == (1, 3)


def test_rows_of_passes_become_their_share(tmp_path: Path) -> None:
    """One of four passed: 0.25."""
    row = read_one(tmp_path, passed(), *[passed(False)] * 3)
    assert (row.kind, row.value, row.rows) == ("numeric", 0.25, 4)


def test_rows_of_dicts_become_the_means_of_their_numbers(tmp_path: Path) -> None:
    """What is not a number in every row is left out."""
    row = read_one(
        tmp_path,
        run(result={"dictResult": {"a": 1, "b": "x", "c": True}}),
        run(result={"dictResult": {"a": 2, "b": "y", "c": False, "d": 1}}),
    )
    assert (row.kind, row.value) == ("dict", {"a": 1.5, "c": 0.5})


def test_errored_rows_are_counted_apart(tmp_path: Path) -> None:
    """They have no value, and the others' mean says how many it lacks."""
    row = read_one(tmp_path, number(0.5), errored(), number(0.7))
    assert (row.state, row.rows, row.rows_errored) == (RunState.COMPLETED, 3, 1)
    assert row.value == pytest.approx(0.6)
    assert row.error == "ValueError: no"


def test_an_errored_run_has_no_value(tmp_path: Path) -> None:
    """The `false` that the SDK writes for it is none; the last line of the traceback is the error."""
    row = read_one(tmp_path, errored())
    assert (row.state, row.errored, row.kind, row.value) == (RunState.ERRORED, True, None, None)
    assert row.error == "ValueError: no"


def test_opposite_infinities_have_no_mean(tmp_path: Path) -> None:
    """No arithmetic error gets out."""
    rows = [run(result={"numericResult": {"value": value}}) for value in ("Infinity", "-Infinity")]
    value = read_one(tmp_path, *rows).value
    assert isinstance(value, float)
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("metrics", "cost"),
    [
        ([], None),
        ([{"inputTokens": 1}], None),
        ([{"inputTokens": 1, "inputTokensCostNanodollars": "1500000000"}], 1.5),
        ([{"outputTokens": 1, "outputTokensCostNanodollars": 250}], 2.5e-7),
        (
            [{"inputTokens": 1, "inputTokensCostNanodollars": "1", "outputTokensCostNanodollars": "2"}] * 2,
            6e-9,
        ),
        ([{"inputTokens": 1, "inputTokensCostNanodollars": "1"}, {"inputTokens": 1}], None),
        ([{"inputTokens": 1, "inputTokensCostNanodollars": "1"}, {}], 1e-9),
    ],
)
def test_cost_is_known_or_unknown_but_never_half(
    tmp_path: Path, metrics: list[dict[str, Any]], cost: float | None
) -> None:
    """64-bit numbers are text; a request that used tokens and tells no price makes the sum unknown."""
    row = read_one(tmp_path, passed(conversations=[talk(**each) for each in metrics]))
    assert row.cost_usd == (None if cost is None else pytest.approx(cost))


def test_unknown_tokens_and_latency_are_none(tmp_path: Path) -> None:
    """Nothing told is not 0; latency is in seconds."""
    row = read_one(tmp_path, passed(conversations=[talk(totalBackendLatencyMs="1500")]))
    assert (row.tokens_in, row.tokens_out, row.latency) == (None, None, 1.5)


def test_a_conversation_without_requests_has_its_own_sum(tmp_path: Path) -> None:
    """A file that was cut down keeps its totals."""
    row = read_one(tmp_path, passed(conversations=[{"metrics": {"inputTokens": 4}}]))
    assert row.tokens_in == 4


def test_problems_stand_beside_the_rows(tmp_path: Path) -> None:
    """A damaged file and a missing folder do not hide a good run; what is no run file is not looked at."""
    write(tmp_path / "my-task/1/gemma-3/7/a.run.json", passed())
    bad = write(tmp_path / "my-task/1/gemma-3/8/a.run.json", "{")
    write(tmp_path / "my-task/1/gemma-3/8/a.task.json", "{")
    found = read_results([tmp_path, tmp_path / "missing"])
    assert [row.run_id for row in found.rows] == [7]
    assert [(problem.path, problem.what.split(":")[0]) for problem in found.problems] == [
        (tmp_path / "missing", "there is no such file or folder"),
        (bad, "damaged"),
    ]


def test_a_download_under_way_is_not_read(tmp_path: Path) -> None:
    """Hidden folders hold what is not finished."""
    write(tmp_path / "my-task/1/gemma-3/.7.part/a.run.json", passed())
    assert read_results([tmp_path]) == ResultSet()


def test_times_without_a_zone_do_not_harm(tmp_path: Path) -> None:
    """A writer that leaves the zone out is taken to mean UTC."""
    row = read_one(tmp_path, passed(startTime="2026-01-01T00:00:00"), passed())
    assert (row.seconds, row.started) == (2.5, "2026-01-01T00:00:00+00:00")


def test_the_newest_run_has_the_highest_number(tmp_path: Path) -> None:
    """Run 10 is newer than run 9, whatever the version; one row a task and model is left."""
    for place, value in {"1/gemma-3/9": 0.1, "2/gemma-3/10": 0.2, "1/other/3": 0.3}.items():
        write(tmp_path / "my-task" / place / "a.run.json", number(value))
    found = read_results([tmp_path])
    assert [(row.model, row.run_id) for row in found.rows] == [("gemma-3", 10), ("gemma-3", 9), ("other", 3)]
    assert [(row.model, row.value) for row in found.newest()] == [("gemma-3", 0.2), ("other", 0.3)]


def test_without_numbers_the_last_start_is_the_newest(tmp_path: Path) -> None:
    """Two folders of local runs."""
    write(tmp_path / "b/a.run.json", number(0.1, startTime="2026-01-01T00:00:00Z"))
    write(tmp_path / "a/a.run.json", number(0.2, startTime="2026-01-02T00:00:00Z"))
    assert [row.value for row in read_results([tmp_path]).newest()] == [0.2]
