"""Reading folders of run files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from fanbench.results import ItemState, KnownRun, ResultSet, RunResult, read_results
from fanbench.wire.messages import RunState
from tests.results.build import STATUS, errored, number, passed, run, talk, write

DATA = Path(__file__).parent / "data"


def only(found: ResultSet) -> RunResult:
    assert found.problems == ()
    (row,) = found.runs
    return row


def read_one(folder: Path, *runs: dict[str, Any], at: str = "my-task/1/gemma-3/7") -> RunResult:
    """The single result of `runs` in the run folder `at`."""
    for index, content in enumerate(runs):
        write(folder / at / f"{index}.run.json", content)
    return only(read_results([folder]))


def test_paths_are_given_as_text_or_one_alone(tmp_path: Path) -> None:
    """A folder may be a string or a path, alone or in a list."""
    expected = read_one(tmp_path, number(0.5))
    for paths in (str(tmp_path), tmp_path, [str(tmp_path)], iter([tmp_path])):
        assert only(read_results(paths)) == expected


def test_real_run_files_are_read() -> None:
    """The run files of three example tasks on two models, as downloaded, give six results."""
    found = read_results([DATA])
    assert found.problems == ()
    assert {(row.task, row.model, row.run_id): (row.kind, row.value) for row in found.runs} == {
        ("arithmetic", "gemma-3-270m", 22): ("numeric", 0.4),
        ("arithmetic", "smollm2-135m-instruct", 12): ("numeric", 0.8),
        ("capital-cities", "gemma-3-270m", 21): ("boolean", False),
        ("capital-cities", "smollm2-135m-instruct", 11): ("boolean", True),
        ("word-table", "gemma-3-270m", 23): ("numeric", 0.0),
        ("word-table", "smollm2-135m-instruct", 13): ("numeric", pytest.approx(2 / 3)),
    }


def test_a_real_run_has_all_figures() -> None:
    """A real run has assertions, tokens (sub-runs included) and wall time, but no cost if none was reported."""
    rows = {(row.task, row.model): row for row in read_results([DATA]).runs}
    cities = rows["capital-cities", "gemma-3-270m"]
    assert (cities.assertions_passed, cities.assertions_total) == (1, 4)
    assert (cities.tokens_in, cities.tokens_out, cities.cost_usd) == (88, 67, None)
    assert (cities.version, cities.state, cities.error) == (1, RunState.COMPLETED, None)
    words = rows["word-table", "gemma-3-270m"]
    assert words.tokens_in == 115
    assert words.interval == pytest.approx(0.248, abs=0.001)
    assert words.seconds == pytest.approx(2.404246)


def test_the_folders_name_the_run(tmp_path: Path) -> None:
    """The version, model and run id are taken from the folders of the download layout."""
    row = read_one(tmp_path, passed(), at="my-task/3/gemma-3/12")
    assert (row.task, row.version, row.model, row.run_id) == ("my-task", 3, "gemma-3", 12)
    assert row.path == tmp_path / "my-task/3/gemma-3/12"


def test_an_unset_version_is_unknown(tmp_path: Path) -> None:
    """The folder name `unset` means that the version is unknown."""
    assert read_one(tmp_path, passed(), at="my-task/unset/gemma-3/12").version is None


@pytest.mark.parametrize("below", ["my-task", "my-task/1/gemma-3", "my-task/1/gemma-3/7"])
def test_any_part_of_the_layout_may_be_named(tmp_path: Path, below: str) -> None:
    """The folders above the one that is named still identify the run."""
    write(tmp_path / "my-task/1/gemma-3/7/deep/a.run.json", passed())
    assert only(read_results([tmp_path / below])).run_id == 7


def test_a_relative_folder_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative path is resolved, so `fanbench results .` works inside a run folder."""
    write(tmp_path / "my-task/1/gemma-3/7/a.run.json", passed())
    monkeypatch.chdir(tmp_path / "my-task/1/gemma-3/7")
    assert only(read_results([Path()])).run_id == 7


def test_other_files_name_their_own_run(tmp_path: Path) -> None:
    """Outside the download layout, the task, version and model are those of the run file."""
    row = only(read_results([write(tmp_path / "a.run.json", passed()).parent]))
    assert (row.task, row.version, row.model, row.run_id) == ("my-task", 1, "gemma-3", None)
    assert row.path == tmp_path / "a.run.json"


def test_one_run_file_may_be_named(tmp_path: Path) -> None:
    """A run file can be given instead of a folder, even under another name."""
    assert only(read_results([write(tmp_path / "run.json", passed())])).value is True


def test_folders_that_overlap_count_once(tmp_path: Path) -> None:
    """A file that is reachable through several of the paths gives one result."""
    path = write(tmp_path / "my-task/1/gemma-3/7/a.run.json", passed())
    assert only(read_results([tmp_path, path.parent, path])).rows == 1


def test_a_copy_of_a_run_counts_once(tmp_path: Path) -> None:
    """The same run in another folder is a problem, and other runs with the same value are not."""
    for place in ("a/my-task/1/gemma-3/7", "a/my-task/1/gemma-3/8", "b/my-task/1/gemma-3/7", "c"):
        write(tmp_path / place / "a.run.json", passed(pyRunId="Run #1"))
    write(tmp_path / "d/a.run.json", passed(pyRunId="Run #1", endTime="2026-01-01T00:00:03Z"))
    found = read_results(tmp_path)
    assert [run.path.relative_to(tmp_path).parts[0] for run in found.runs] == ["a", "a", "d"]
    same = f"the same run as {tmp_path / 'a/my-task/1/gemma-3/7'}"
    assert [(problem.path, problem.what) for problem in found.problems] == [
        (tmp_path / "b/my-task/1/gemma-3/7", same),
        (tmp_path / "c/a.run.json", same),
    ]


def test_a_copy_of_a_sweep_lacks_nothing(tmp_path: Path) -> None:
    """What the journal of a copied sweep has of its runs counts once, as they do."""
    known = []
    for sweep in (tmp_path / "a", tmp_path / "b"):
        path = write(sweep / "my-task/1/gemma-3/7/a.run.json", passed(pyRunId="Run #1"))
        names: dict[str, Any] = {
            "task": "my-task",
            "model": "gemma-3",
            "content": "c",
            "version": 1,
            "run_id": 7,
        }
        known.append(KnownRun(sweep=sweep, folder=path.parent, **names))
    assert [item.state for item in read_results(tmp_path, known=known).items] == [ItemState.SCORED]


def test_a_link_to_a_folder_is_said(tmp_path: Path) -> None:
    """Links to folders are not followed, and said, unless they lead to what is read anyway."""
    write(tmp_path / "elsewhere/my-task/1/gemma-3/7/a.run.json", passed())
    (tmp_path / "given").mkdir()
    (tmp_path / "given/my-task").symlink_to(tmp_path / "elsewhere/my-task")
    (tmp_path / "given/itself").symlink_to(tmp_path / "given")
    (problem,) = read_results(tmp_path / "given").problems
    assert problem.path == tmp_path / "given/my-task"
    assert str(tmp_path / "elsewhere/my-task") in problem.what
    assert not read_results([tmp_path / "given", tmp_path / "elsewhere"]).problems
    assert only(read_results(tmp_path / "given/my-task")).run_id == 7


def test_the_file_of_the_folders_task_is_chosen(tmp_path: Path) -> None:
    """If sub-tasks left run files in the folder, the file of the folder's task is used."""
    row = read_one(tmp_path, passed(False, "Helper"), number(0.7), passed(False, "Other"))
    assert (row.value, row.rows, row.name) == (0.7, 1, "My Task")


def test_sub_runs_are_not_rows(tmp_path: Path) -> None:
    """The inner runs of a task that runs itself are not counted as rows of the outer run."""
    inner = number(0.0, pyRunId="My Task-Run #2", startTime="2026-01-01T00:00:01Z")
    outer = number(0.8, pyRunId="My Task-Run #1", subruns=[run("Middle", subruns=[inner])])
    row = read_one(tmp_path, inner, outer)
    assert (row.value, row.rows) == (0.8, 1)


def test_the_file_of_the_folders_model_is_chosen(tmp_path: Path) -> None:
    """If the task file also ran another model, only the file of the folder's model is used."""
    other = number(0.1, modelVersion={"slug": "openai/judge"})
    assert read_one(tmp_path, other, number(0.9, modelVersion={"slug": "google/gemma@3"})).value == 0.9


def test_another_name_is_accepted_if_it_is_the_only_one(tmp_path: Path) -> None:
    """Run files of a single task are used even if its slug is not the folder's."""
    assert read_one(tmp_path, number(0.9, "Ma tâche")).task == "my-task"


def test_a_folder_without_its_task_is_a_problem(tmp_path: Path) -> None:
    """A folder that only has run files of several other tasks is reported as a problem."""
    for name in ("Other", "Helper"):
        write(tmp_path / f"my-task/1/gemma-3/7/{name}.run.json", number(0.9, name))
    found = read_results([tmp_path])
    assert found.runs == ()
    assert found.problems[0].what == "no run file of task my-task, only of helper, other"


def test_rows_with_numbers_become_their_mean(tmp_path: Path) -> None:
    """Several rows give the mean, their count, the sums of tokens and assertions, and the wall time over all."""
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


def test_rows_with_booleans_become_the_share_that_passed(tmp_path: Path) -> None:
    """If one of four rows passed, the value is 0.25."""
    row = read_one(tmp_path, passed(), *[passed(False)] * 3)
    assert (row.kind, row.value, row.rows) == ("numeric", 0.25, 4)


def test_rows_with_dicts_become_the_means_of_their_numbers(tmp_path: Path) -> None:
    """Each key gives the mean over the rows in which it is a number; other keys are omitted."""
    row = read_one(
        tmp_path,
        run(result={"dictResult": {"a": 1, "b": "x", "c": True}}),
        run(result={"dictResult": {"a": 2, "b": "y", "c": False, "d": 1}}),
    )
    assert (row.kind, row.value) == ("dict", {"a": 1.5, "c": 0.5, "d": 1.0})


def test_errored_rows_are_counted_separately(tmp_path: Path) -> None:
    """Errored rows do not enter the mean, and their number is reported."""
    row = read_one(tmp_path, number(0.5), errored(), number(0.7))
    assert (row.state, row.rows, row.rows_errored) == (RunState.COMPLETED, 3, 1)
    assert row.value == pytest.approx(0.6)
    assert row.error == "ValueError: no"


def test_an_errored_run_has_no_value(tmp_path: Path) -> None:
    """An errored run has no value, although the SDK writes false, and its error is the traceback's last line."""
    row = read_one(tmp_path, errored())
    assert (row.state, row.errored, row.kind, row.value) == (RunState.ERRORED, True, None, None)
    assert row.error == "ValueError: no"


def test_rows_that_are_not_finite_have_no_value(tmp_path: Path) -> None:
    """NaN and the infinities are left out of the mean, and counted; the largest numbers have a mean."""
    rows = [run(result={"numericResult": {"value": value}}) for value in ("Infinity", "-Infinity", "NaN")]
    row = read_one(tmp_path, *rows)
    assert (row.value, row.figures.items_scored, row.figures.items_no_value) == (None, 0, 3)
    large = sys.float_info.max
    row = read_one(tmp_path / "more", *rows, number(large), number(large))
    assert (row.value, row.figures.items_scored, row.figures.items_no_value) == (large, 2, 3)


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
    """The cost is the sum over all requests, and unknown if a request that used tokens has no cost."""
    row = read_one(tmp_path, passed(conversations=[talk(**each) for each in metrics]))
    assert row.cost_usd == (None if cost is None else pytest.approx(cost))


def test_unknown_tokens_and_latency_are_none(tmp_path: Path) -> None:
    """Tokens that were not reported are None rather than 0, and the latency is in seconds."""
    row = read_one(tmp_path, passed(conversations=[talk(totalBackendLatencyMs="1500")]))
    assert (row.tokens_in, row.tokens_out, row.latency) == (None, None, 1.5)


def test_a_conversation_without_requests_has_a_total(tmp_path: Path) -> None:
    """If the requests of a conversation are missing, its total is used."""
    row = read_one(tmp_path, passed(conversations=[{"metrics": {"inputTokens": 4}}]))
    assert row.tokens_in == 4


def test_problems_do_not_hide_results(tmp_path: Path) -> None:
    """A damaged file and a missing folder are reported next to the valid runs, and other files are ignored."""
    write(tmp_path / "my-task/1/gemma-3/7/a.run.json", passed())
    bad = write(tmp_path / "my-task/1/gemma-3/8/a.run.json", "{")
    write(tmp_path / "my-task/1/gemma-3/8/a.task.json", "{")
    found = read_results([tmp_path, tmp_path / "missing"])
    assert [(row.run_id, row.value) for row in found.runs] == [(8, None), (7, True)]
    assert [(problem.path, problem.what.split(":")[0]) for problem in found.problems] == [
        (tmp_path / "missing", "no such file or folder"),
        (bad, "damaged"),
    ]


def test_rows_that_cannot_be_read_are_planned(tmp_path: Path) -> None:
    """A row whose file is damaged is an item without a value, in the layout and in a flat folder."""
    for place in ("my-task/1/gemma-3/7", "flat"):
        for row in range(4):
            name = f"My_Task-run_id_Run_1_run_param_id_{row}_google_gemma-3.run.json"
            write(tmp_path / place / name, passed(row < 2) if row < 3 else "{")
        # Neither a row of this task nor one of this model.
        write(tmp_path / place / "Part-run_id_Run_1_run_param_id_7_google_gemma-3.run.json", "{")
        write(tmp_path / place / "My_Task-run_id_Run_1_run_param_id_8_google_flash.run.json", "{")
        found = read_results(tmp_path / place)
        assert [(item.item, item.state, item.value) for item in found.items] == [
            *(("0", ItemState.SCORED, 1.0), ("1", ItemState.SCORED, 1.0), ("2", ItemState.SCORED, 0.0)),
            ("3", ItemState.NO_VALUE, None),
        ]
        (figures,) = (run.figures for run in found.runs)
        assert (figures.items_scored, figures.items_no_value, figures.items_planned) == (3, 1, 4)
        assert str(found.items[3].error).startswith("the run file cannot be read: damaged")
        assert found.items[3].path.endswith("run_param_id_3_google_gemma-3.run.json")


def test_a_run_whose_files_cannot_be_read_has_no_value(tmp_path: Path) -> None:
    """Where no file of a run's own task can be read, it stands for all items of its task, without a value."""
    for run_id, text in ((1, None), (2, "{")):
        for row in range(3):
            path = tmp_path / f"my-task/1/gemma-3/{run_id}/My_Task-run_id_Run_1_run_param_id_{row}.run.json"
            write(path, text or passed())
    write(tmp_path / "my-task/1/gemma-3/2/Part-run_id_Run_1_run_param_id_0.run.json", passed(name="Part"))
    cell = next(iter(read_results(tmp_path).scores().cells.values()))
    assert (cell.scored, cell.no_value, cell.planned) == (3, 3, 6)


def test_a_download_in_progress_is_ignored(tmp_path: Path) -> None:
    """Hidden folders, which hold unfinished downloads, are skipped."""
    write(tmp_path / "my-task/1/gemma-3/.7.part/a.run.json", passed())
    assert read_results([tmp_path]) == ResultSet()


def test_times_without_a_zone_are_utc(tmp_path: Path) -> None:
    """A time without a zone is read as UTC."""
    row = read_one(tmp_path, passed(startTime="2026-01-01T00:00:00"), passed())
    assert (row.seconds, row.started) == (2.5, "2026-01-01T00:00:00.000Z")


def test_the_newest_run_has_the_highest_number(tmp_path: Path) -> None:
    """Run 10 is newer than run 9 whatever their versions, and `newest` keeps one run per task and model."""
    for place, value in {"1/gemma-3/9": 0.1, "2/gemma-3/10": 0.2, "1/other/3": 0.3}.items():
        write(tmp_path / "my-task" / place / "a.run.json", number(value))
    found = read_results([tmp_path])
    assert [(row.model, row.run_id) for row in found.runs] == [("gemma-3", 10), ("gemma-3", 9), ("other", 3)]
    assert [(row.model, row.value) for row in found.newest()] == [("gemma-3", 0.2), ("other", 0.3)]


def test_without_ids_the_last_start_is_the_newest(tmp_path: Path) -> None:
    """Of two runs without an id, the one that started last is the newest."""
    write(tmp_path / "b/a.run.json", number(0.1, startTime="2026-01-01T00:00:00Z"))
    write(tmp_path / "a/a.run.json", number(0.2, startTime="2026-01-02T00:00:00Z"))
    assert [row.value for row in read_results([tmp_path]).newest()] == [0.2]


def test_files_of_the_same_row_are_those_of_several_runs(tmp_path: Path) -> None:
    """In a folder outside the layout, the n-th file of a row by its time belongs to the n-th run."""
    values = {"1": (True, False), "2": (False, False), "3": (True, True)}
    for day, (first, second) in values.items():
        for row, value in enumerate((first, second)):
            name = f"My_Task-run_id_Run_{9 - int(day)}_run_param_id_{row}.run.json"
            at = {"startTime": f"2026-01-0{day}T00:00:0{row}Z", "endTime": f"2026-01-0{day}T00:00:09Z"}
            write(tmp_path / name, passed(value, **at))
    found = read_results(tmp_path)
    assert [run.value for run in reversed(found.runs)] == [0.5, 0.0, 1.0]
    assert [(item.repeat, item.item, item.value) for item in found.items] == [
        (1, "0", 1.0),
        (1, "1", 0.0),
        (2, "0", 0.0),
        (2, "1", 0.0),
        (3, "0", 1.0),
        (3, "1", 1.0),
    ]


def test_what_another_task_ran_is_no_row(tmp_path: Path) -> None:
    """Of the run files of a task, those that are also within a run of another task are no rows of its run."""
    part = {"taskVersion": {"name": "My Task"}, "pyRunId": "2", "startTime": "2026-01-01T00:00:01Z"}
    folder = tmp_path / "my-task/1/gemma-3/7"
    write(folder / "a.run.json", passed(pyRunId="1"))
    write(folder / "b.run.json", passed(False) | part)
    write(folder / "c.run.json", number(0.0, "Whole", subruns=[passed(False) | part], pyRunId="3"))
    (found,) = read_results(tmp_path).runs
    assert (found.value, found.rows) == (True, 1)
    (folder / "a.run.json").unlink()
    (found,) = read_results(tmp_path).runs
    assert (found.value, found.rows) == (False, 1)
