"""What the page shows of results."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import msgspec
import pytest

from fanbench import read_results
from fanbench.results import KnownRun
from fanbench.results.ranking import rank_models
from fanbench.sweeps.history import History, RunPlace, RunTimes
from fanbench.view import details, document, live, timeline
from fanbench.view.bundle import page_file
from fanbench.view.columns import unpack
from fanbench.view.document import Shown, build
from fanbench.wire.messages import RunState
from tests.results.build import passed, write
from tests.results.folders import add_run
from tests.results.items import passes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models on two tasks; one of them errored in part, and the other lacks a task."""
    add_run(tmp_path, "google/good", passes(38, 40), task="quiz", usd=0.01)
    add_run(tmp_path, "google/good", passes(30, 40), task="sums", usd=0.01)
    add_run(tmp_path, "mirror/bad", [*passes(8, 36), *[None] * 4], task="quiz", usd=0.001)
    return tmp_path


def shown(folder: Path, known: tuple[KnownRun, ...] = ()) -> Shown:
    return build(read_results(folder), known, title="results")


def test_the_types_of_the_page_are_those_of_the_document() -> None:
    """Each structure has the same fields in document.d.ts, and there is no other one."""
    declared = {
        name: re.findall(r"^  (\w+)\??:", body, re.MULTILINE)
        for name, body in re.findall(
            r"^export interface (\w+) \{\n(.*?)^\}", page_file("document.d.ts"), re.S | re.M
        )
    }
    written = {
        name: list(kind.__struct_fields__)
        for module in (document, details, live, timeline)
        for name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, msgspec.Struct)
        and kind.__module__ == module.__name__
        and not name.startswith(("_", "Moment"))
    }
    assert declared == written


def test_the_states_of_the_page_are_those_of_the_document() -> None:
    """The page has a sign and a color for each state."""
    page = page_file("states.js")
    for name in ("SIGNS", "CLASSES"):
        found = re.search(rf"export const {name} = \[(.*)\];", page)
        assert found is not None
        assert len(found[1].split(", ")) == len(document.STATES)


def test_the_breaks_of_the_timeline_are_those_of_the_document() -> None:
    """The page draws no break that the duration in its header has, and the other way round."""
    found = re.search(r"LONG = ([\d.]+), SHARE = ([\d.]+);", page_file("span.js"))
    assert found is not None
    assert (float(found[1]), float(found[2])) == (document._LONG, document._SHARE)


def test_numbers_are_those_of_the_engine(folder: Path) -> None:
    """Each cell and each row of the leaderboard has the numbers of the results engine."""
    found, page = read_results(folder), shown(folder).document
    scores = found.scores()
    assert [task.name for task in page.tasks] == ["quiz", "sums"]
    assert page.models == ["bad", "good"]
    for entry in page.cells:
        cell = scores.cells[scores.tasks[entry.task], ("mirror/bad", "google/good")[entry.model]]
        assert (entry.value, entry.planned, entry.scored, entry.errored) == (
            cell.mean,
            cell.planned,
            cell.scored,
            cell.errored,
        )
        assert cell.interval is not None
        assert (entry.low, entry.high) == (cell.interval.low, cell.interval.high)
    ranking = rank_models(scores)
    assert [(row.score, row.rank_low, row.cost_usd) for row in page.board.rows] == [
        (row.score, row.ranks and row.ranks[0], row.cost_usd) for row in ranking.models
    ]
    assert page.board.rows[1].lacking == [1]
    assert "mirror/bad is not ranked: it has no score on sums." in page.board.remarks


def test_comparisons_have_each_pair_once(folder: Path) -> None:
    """The difference is that of the second model to the first, and has the items that changed."""
    (pair,) = shown(folder).comparisons()
    assert (pair.first, pair.second, pair.items) == (0, 1, 36)
    comparison = read_results(folder).compare("bad", "good")
    assert pair.difference == comparison.mean
    assert len(pair.flips) == comparison.pairs[0].better + comparison.pairs[0].worse
    assert pair.remarks == ["Not compared, because only good has it: sums."]
    assert pair.like_these is None


def test_a_comparison_has_the_difference_over_tasks_like_these(folder: Path) -> None:
    """Once two tasks are compared, the difference over tasks like them is that of the results engine."""
    add_run(folder, "mirror/bad", [0.5, 0.25], task="new")
    add_run(folder, "google/good", [1.0, 0.75], task="new")
    (pair,) = shown(folder).comparisons()
    like = read_results(folder).compare("bad", "good").like_these
    assert pair.like_these is not None
    assert like is not None
    assert (pair.like_these.difference, pair.like_these.p) == (like.mean, like.p)


@pytest.mark.parametrize(
    ("state", "run_id", "error", "status"),
    [
        (None, None, "", "planned"),
        (None, 7, "", "scheduled"),
        (None, None, "push: refused", "missing"),
        (RunState.COMPLETED, 7, "", "missing"),
        (RunState.ERRORED, 7, "it broke", "errored"),
    ],
)
def test_runs_that_left_nothing_have_the_state_of_the_journal(
    folder: Path, state: RunState | None, run_id: int | None, error: str, status: str
) -> None:
    """Of a planned run that has left nothing, there is what the journal has; none runs while no sweep does."""
    run = KnownRun(
        sweep=folder,
        task="sums",
        model="bad",
        content="v1",
        run_id=run_id,
        state=state,
        error=error,
        version=1,
    )
    found = build(read_results(folder), [run], title="results")
    columns, texts = unpack(found.packed())
    places = [(task, model) for task, model in zip(columns["task"], columns["model"], strict=True)]
    sums = [task.name for task in found.document.tasks].index("sums")
    at = places.index((sums, found.document.models.index("bad")))
    assert found.document.states[int(columns["status"][at])] == status
    assert texts[int(columns["error"][at])] == error


@pytest.mark.parametrize(
    ("times", "state", "status"),
    [
        (RunTimes(scheduled=1.0), None, "queued"),
        (RunTimes(scheduled=1.0, started=2.0), None, "running"),
        (RunTimes(scheduled=1.0, started=2.0, ended=3.0), RunState.COMPLETED, "collecting"),
        (RunTimes(), None, "running"),
    ],
)
def test_a_sweep_that_runs_knows_what_is_queued(
    folder: Path, times: RunTimes, state: RunState | None, status: str
) -> None:
    """While a sweep runs, its history tells how far a run is; without one, a run that is there counts as running."""
    run = KnownRun(sweep=folder, task="sums", model="bad", content="v1", run_id=7, version=1, state=state)
    history = History(runs={RunPlace("sums", "bad", 1, 1): times})
    found = build(read_results(folder), [run], title="results", running=True, histories={folder: history})
    (at,) = (number for number, each in enumerate(found.runs) if each.known is run)
    assert found.document.states[int(found.columns["status"][at])] == status


def test_long_breaks_are_no_time_of_a_sweep(tmp_path: Path) -> None:
    """Folders of different months took as long as each of them did, and a pause of seconds belongs to a sweep."""
    for name, day, starts in (("old", "01-05", ("00:00", "00:01")), ("new", "06-05", ("00:10",))):
        for run_id, start in enumerate(starts, 1):
            times = {"startTime": f"2026-{day}T{start}:00Z", "endTime": f"2026-{day}T{start}:30Z"}
            file = tmp_path / name / f"quiz/1/good/{run_id}/a.run.json"
            write(file, passed(True, modelVersion={"slug": "google/good"}, pyRunId=start, **times))
    for folders, seconds in ((["old"], 90.0), (["new"], 30.0), (["old", "new"], 120.0)):
        found = read_results([tmp_path / name for name in folders])
        assert build(found, title="").document.seconds == seconds


def test_of_many_pairs_there_is_the_whole(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With very many differences, the page has those over all tasks, which are the same."""
    add_run(folder, "acme/middle", [0.5, None, 0.75], task="sums")
    add_run(folder, "acme/middle", passes(5, 20), task="quiz")
    whole = list(shown(folder).comparisons())
    monkeypatch.setattr(document, "MOST_DIFFERENCES", 0)
    for one, other in zip(shown(folder).comparisons(), whole, strict=True):
        assert (one.pairs, one.flips, one.items) == (None, [], other.items)
        for name in ("first", "second", "difference", "low", "high", "p"):
            assert getattr(one, name) == pytest.approx(getattr(other, name)), name


def test_the_order_is_that_of_the_plan(folder: Path) -> None:
    """Tasks and models are in the order of the plan, and what it does not have is behind them."""
    plan = tuple(
        KnownRun(sweep=folder, task=task, model=model, content="v1")
        for task in ("sums", "quiz")
        for model in ("good",)
    )
    page = shown(folder, plan).document
    assert [task.name for task in page.tasks] == ["sums", "quiz"]
    assert page.models == ["good", "bad"]


def test_an_earlier_sweep_is_compared(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What changed since then, with the verdict of the gate, is that of the results engine."""
    old = tmp_path_factory.mktemp("old")
    add_run(old, "google/good", passes(40, 40), task="quiz")
    before, now = read_results(old), read_results(folder)
    page = build(now, title="now", against=("old", before), margin=0.01).document
    assert page.before is not None
    decided = before.gate(now, margin=0.01)
    assert page.before.conclusion == decided.conclusion
    assert (page.before.title, page.before.verdict) == ("old", decided.verdict.value)
    assert page.before.comparison.difference == decided.comparison.mean
    assert page.before.only_now == ["sums"]
