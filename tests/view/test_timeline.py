"""How a sweep went, as the page shows it: from the history in its journal, or else from its runs."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from playwright.sync_api import expect

from fanbench import read_results
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.events import (
    BudgetRead,
    Draining,
    DrainReason,
    LimitChanged,
    RetryPlanned,
    RunMissing,
    RunScheduled,
    RunSkipped,
    RunStateChanged,
    SweepEnded,
    SweepEvent,
    SweepStarted,
)
from fanbench.sweeps.history import History, HistoryWriter, Invocation, LimitStep, Mark
from fanbench.sweeps.journal import JOURNAL, Journal
from fanbench.view.live import Live
from fanbench.view.report import report
from fanbench.view.timeline import Timeline, timeline
from fanbench.wire.messages import RunState
from tests.view.sweeps import collect, schedule
from tests.view.test_page import AXE, BAD, Open
from tests.view.test_page import open_page as open_page
from tests.view.test_page import tabs as tabs

#: Ten seconds before the start that the run file names.
BEGAN = 1_767_225_590.0
QUIZ, SUMS = PlannedRun("quiz", "good"), PlannedRun("sums", "good")


def at(seconds: float) -> datetime:
    return datetime.fromtimestamp(BEGAN + seconds, UTC)


def started(limit: int = 16) -> SweepStarted:
    return SweepStarted("results", "http://s", ("quiz", "sums"), ("good",), 1, 2, 0, limit=limit)


#: What an interrupted sweep and the one that continued it an hour later have said, and when.
FIRST: list[tuple[float, SweepEvent]] = [
    (0, started()),
    (1, RunScheduled(QUIZ, 1)),
    (2, RunScheduled(SUMS, 1)),
    (4, RunSkipped(PlannedRun("sums", "bad"), 1, BAD)),
    (10, LimitChanged(8, 16, "HTTP 429", 5.0)),
    (11, LimitChanged(4, 8, "timed out")),
    (30, LimitChanged(5, 4, "4 good answers")),
    (40, RunStateChanged(SUMS, 1, 2, RunState.ERRORED, "no", at(20), at(35))),
    (41, RetryPlanned(SUMS, 1)),
    (50, Draining(DrainReason.INTERRUPTED, 0)),
]
SECOND: list[tuple[float, SweepEvent]] = [
    (3600, started(12)),
    (3601, BudgetRead(9.0, 1.25, 0.5)),
    (3650, RunMissing(SUMS, 2, "schedule", "no")),
    (3660, SweepEnded(2, 1, 0, 1, 0, 60.0)),
]


def record(journal: Journal, said: list[tuple[float, SweepEvent]]) -> None:
    now = 0.0
    writer = HistoryWriter(journal, lambda: BEGAN + now, lambda: 70)
    for now, event in said:  # noqa: B007 - the writer reads it
        writer.record(event)
    writer.close()


@pytest.fixture
def swept(tmp_path: Path) -> Path:
    """A sweep of two invocations: a run that left its files, and one of which only the server told."""
    with Journal.open(tmp_path) as journal:
        collect(tmp_path, journal, "quiz", "good", [True], RunState.COMPLETED)
        sums = schedule(tmp_path, journal, "sums", "good", 2)
        journal.save_attempts([sums.with_(intended_at=BEGAN + 2)])
        record(journal, FIRST)
        record(journal, SECOND)
    return tmp_path


def timeline_of(root: Path) -> Timeline | None:
    _, shown, _ = Live([root]).now()
    return shown.document.timeline


# --- What the page is told ----------------------------------------------------------------------------------


def test_the_timeline_has_all_that_happened(swept: Path) -> None:
    """Both invocations, each limit with its reason, the budget, and each mark are part of the document."""
    found = timeline_of(swept)
    assert found is not None
    assert [(one.began - BEGAN, one.ended, one.stopped) for one in found.invocations] == [
        (0, BEGAN + 50, ""),
        (3600, BEGAN + 3660, ""),
    ]
    assert [(step.at - BEGAN, step.limit, step.pause, step.reason) for step in found.limits] == [
        (0, 16, 0, ""),
        (10, 8, 5, "HTTP 429"),
        (11, 4, 0, "timed out"),
        (30, 5, 0, ""),
        (3600, 12, 0, ""),
    ]
    assert [(one.cap, one.spent, one.reserved) for one in found.budget] == [(9.0, 1.25, 0.5)]
    assert [(mark.kind, mark.what, mark.count) for mark in found.marks] == [
        ("skipped", "sums on bad", 1),
        ("retry", "sums on good", 1),
        ("draining", "", 1),
        ("missing", "sums on good, attempt 2", 1),
    ]


def test_a_run_without_files_has_the_times_of_the_server(swept: Path) -> None:
    """The times of a run file come first; where there is none, those of the server's list are there."""
    _, shown, _ = Live([swept]).now()
    (quiz, sums) = shown.runs
    assert quiz.result is not None
    assert quiz.started == datetime.fromisoformat(quiz.result.started or "").timestamp()
    assert (sums.started, sums.ended) == (BEGAN + 20, BEGAN + 35)


def test_an_older_journal_has_no_timeline_but_its_runs(swept: Path) -> None:
    """Without a history, the document has none, and the runs have the times of their files."""
    with closing(sqlite3.connect(swept / JOURNAL)) as journal:
        journal.execute("DROP TABLE history")
    assert timeline_of(swept) is None
    _, shown, _ = Live([swept]).now()
    assert [run.started is not None for run in shown.runs] == [True, False]


def test_what_happened_at_once_is_one_mark() -> None:
    """Marks of a kind with the same reason are counted where they could not be told apart, and no others."""
    history = History([Invocation(0, 16, 9, 0, last=2000)])
    history.marks = [Mark(5.0, "missing", "watch", "t")] * 7 + [
        Mark(5.1, "missing", "timeout", "t"),
        Mark(900.0, "missing", "watch", "t"),
    ]
    found = timeline([history])
    assert found is not None
    assert [(mark.count, mark.text) for mark in found.marks] == [(7, "watch"), (1, "timeout"), (1, "watch")]


def test_no_fall_of_the_limit_is_left_out() -> None:
    """Of limits that rose at once, the last one is kept, and each that fell."""
    history = History([Invocation(0, 16, 9, 0, last=2000)])
    falls = [LimitStep(1.0 + at / 100, 8, 0.0, "HTTP 429") for at in range(5)]
    rises = [LimitStep(7.0 + at / 100, at, 0.0, "") for at in range(5)]
    history.limits = falls + rises
    found = timeline([history])
    assert found is not None
    assert [(step.limit, step.reason) for step in found.limits] == [
        (16, ""),
        *[(8, "HTTP 429")] * 5,
        (4, ""),
    ]


def test_a_live_page_is_told_of_a_new_limit(tmp_path: Path) -> None:
    """A change of the limit comes with the next numbers, though no run has changed."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good")
        writer = HistoryWriter(journal, lambda: BEGAN, lambda: 1)
        writer.record(started())
        live = Live([tmp_path])
        moment, _, _ = live.now()
        writer.record(LimitChanged(8, 16, "HTTP 503"))
        live._due = 0.0
        live.refresh()
        patches = live.since(moment)
    assert patches
    patch = patches[-1]
    assert [step.reason for step in patch.document["timeline"].limits] == ["", "HTTP 503"]
    assert msgspec.json.encode(patch)


# --- In a browser -------------------------------------------------------------------------------------------


@pytest.fixture
def file(swept: Path) -> Path:
    return written(swept)


def written(root: Path) -> Path:
    (path := root / "report.html").write_bytes(report([root], read_results(root)))
    return path


@pytest.mark.e2e
def test_the_slider_reads_the_chart(file: Path, open_page: Open) -> None:
    """By keyboard or pointer, the chart says what was under way at a time, and what happened then."""
    page = open_page(file, "timeline")
    slider, reading = page.get_by_label("Time", exact=True), page.locator(".panels ~ .reading")
    expect(page.locator("main .hint")).to_contain_text("2 invocations, 140 calls")
    expect(page.locator("main .hint")).to_contain_text("without 1 break")
    slider.focus()
    page.keyboard.press("Home")
    expect(reading).to_contain_text("+0.0 s · 0 running")
    page.keyboard.press("ArrowRight")
    assert slider.input_value() == "1"
    said = slider.evaluate(
        "(slider) => Array.from({length: 900}, (_, at) => {"
        " slider.value = at; slider.dispatchEvent(new Event('input'));"
        " return slider.getAttribute('aria-valuetext'); }).join()"
    )
    for words in ("▼ HTTP 429, pause of 5.0 s", "▼ timed out", "limit of calls 5", "1 waiting", "1 running"):
        assert words in said
    box = page.locator(".panels svg").bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.99, box["y"] + 60)
    expect(reading).to_contain_text("$1.25")


@pytest.mark.e2e
def test_the_table_has_what_the_chart_has(file: Path, open_page: Open) -> None:
    """All that happened is in a table, and what strangers wrote in it is text of which every sign can be seen."""
    page = open_page(file, "timeline")
    page.get_by_text("As a table").click()
    table = page.get_by_role("region", name="What happened")
    for words in (
        "HTTP 429, pause of 5.0 s",
        "timed out",
        "$0.5000 reserved",
        "interrupted",
        "given up",
        "70 calls",
    ):
        expect(table).to_contain_text(words)
    expect(table).to_contain_text("<img src=x onerror=alert(2)>")
    expect(table).to_contain_text("⟨U+202E⟩")
    assert page.locator("main img, main script").count() == 0


@pytest.mark.e2e
def test_runs_are_chosen_with_arrows_and_opened(file: Path, open_page: Open) -> None:
    """Arrows choose a planned run and say how its attempts went, + and - zoom, and Enter opens it."""
    page = open_page(file, "timeline")
    gantt, said = page.locator(".gantt"), page.locator(".gantt ~ .reading")
    gantt.focus()
    page.keyboard.press("End")
    expect(said).to_contain_text("good")
    page.keyboard.press("Home")
    width = page.locator(".gantt > div").evaluate("(inner) => inner.clientWidth")
    page.keyboard.press("+")
    assert page.locator(".gantt > div").evaluate("(inner) => inner.clientWidth") > width
    page.keyboard.press("-")
    page.keyboard.press("Enter")
    page.wait_for_url("**#/run/**")


@pytest.mark.e2e
def test_runs_are_drawn_where_their_row_is(file: Path, open_page: Open) -> None:
    """The canvas has the size of its window, and what is not empty on it."""
    page = open_page(file, "timeline")
    drawn = page.locator(".gantt canvas").evaluate(
        "(canvas) => new Set(new Uint32Array(canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height)"
        ".data.buffer)).size"
    )
    assert drawn > 3


@pytest.mark.e2e
def test_a_page_of_an_older_sweep_shows_its_runs(swept: Path, open_page: Open) -> None:
    """Without a history, there is one panel, and the page says why."""
    with closing(sqlite3.connect(swept / JOURNAL)) as journal:
        journal.execute("DROP TABLE history")
    page = open_page(written(swept), "timeline")
    expect(page.locator("main .hint")).to_contain_text("has no history, only its runs")
    expect(page.locator(".panels")).to_contain_text("runs under way")
    expect(page.locator(".panels")).not_to_contain_text("limit of calls")


@pytest.mark.e2e
@pytest.mark.parametrize(
    "options",
    [{}, {"media": {"color_scheme": "dark"}}, {"size": (390, 800)}],
    ids=["light", "dark", "phone"],
)
def test_axe_finds_nothing_in_a_timeline(file: Path, open_page: Open, options: dict[str, Any]) -> None:
    """axe-core has no findings in a timeline with everything in it, and its table open."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: run scripts/check_page.sh")
    page = open_page(file, "timeline", bypass_csp=True, **options)
    page.get_by_text("As a table").click()
    page.evaluate(AXE.read_text())
    found = page.evaluate(
        "axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>"
        " violations.map((each) => [each.id, each.nodes.map((node) => node.html).slice(0, 3)]))"
    )
    assert found == []


@pytest.mark.e2e
def test_no_sign_covers_another(swept: Path, open_page: Open) -> None:
    """Signs of what happened at the same time are each in the row of their kind."""
    with closing(sqlite3.connect(swept / JOURNAL)) as journal, journal:
        journal.execute("UPDATE history SET at = ?", (BEGAN + 10,))
    signs = open_page(written(swept), "timeline").locator(".label.mark")
    boxes = signs.evaluate_all(
        "(all) => all.map((one) => one.getBoundingClientRect()).map(({x, y}) => [x, y])"
    )
    assert len(boxes) == 4
    assert len({y for _, y in boxes}) == 4


@pytest.mark.e2e
def test_a_phone_scrolls_the_chart_and_not_the_page(file: Path, open_page: Open) -> None:
    """At a width of 390 pixels, the page has no more than that."""
    page = open_page(file, "timeline", size=(390, 800))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
