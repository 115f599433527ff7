"""The page in a browser while a sweep writes its journal: without a reload, it ends as the report begins."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from fanbench import read_results
from fanbench.sweeps.folder import lock_folder
from fanbench.sweeps.journal import Journal
from fanbench.view.report import report
from fanbench.wire.messages import RunState
from tests.results.items import passes
from tests.view.conftest import PATIENCE
from tests.view.sweeps import collect, schedule

pytestmark = pytest.mark.e2e

TASKS, MODELS = ("quiz", "sums"), ("good", "middle", "bad")
VIEWS = ("matrix", "leaderboard", "runs", "compare/bad/good", "cost", "run/quiz/good/1")


@contextmanager
def serving(folder: Path, *more: str) -> Iterator[str]:
    """The address of the page of `fanbench view`."""
    command = [sys.executable, "-m", "fanbench", "view", str(folder), "--no-open", *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


@pytest.fixture(scope="module")
def context(browser: Browser) -> BrowserContext:
    """A browser's window. What pages keep in it is theirs alone: the server of each test has a port of its own."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE)
    return context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    yield context.new_page()
    for page in context.pages:
        page.close()


def steps(root: Path, journal: Journal) -> Iterator[Callable[[], object]]:
    """What a sweep does, one change at a time: it schedules all runs, and collects one after the other."""
    runs = [(task, model) for task in TASKS for model in MODELS]
    for run_id, (task, model) in enumerate(runs, 1):
        yield lambda run_id=run_id, task=task, model=model: schedule(root, journal, task, model, run_id)  # type: ignore[misc]
    for run_id, (task, model) in enumerate(runs, 1):
        share = {"good": 9, "middle": 5, "bad": 2}[model]
        values = [*passes(share, 9), None] if model == "bad" else passes(share, 10)
        yield lambda run_id=run_id, task=task, model=model, values=values: collect(  # type: ignore[misc]
            root, journal, task, model, values, RunState.COMPLETED, run_id
        )


def show(page: Page, address: str) -> None:
    page.evaluate("(address) => { location.hash = `#/${address}`; }", address)
    expect(page.locator("main > section")).to_be_visible()


def shown(page: Page, address: str) -> str:
    """What a view says, in one line."""
    show(page, address)
    # A grid draws its cells once the browser has told it how large it is, which takes a frame.
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    expect(page.get_by_text("Reading…")).to_have_count(0)
    return re.sub(r"\s+", " ", page.locator("main").inner_text())


def test_the_live_page_ends_as_the_report(page: Page, tmp_path: Path) -> None:
    """A page that was open from the first run on shows in each view what a report of the ended sweep shows."""
    with Journal.open(tmp_path) as journal:
        todo = steps(tmp_path, journal)
        with lock_folder(tmp_path):
            next(todo)()
            with serving(tmp_path) as address:
                page.goto(address)
                expect(page.locator(".badge.running")).to_be_visible()
                page.evaluate("() => { window.stays = true; }")
                for step in todo:
                    step()
                expect(page.locator("header a.done")).to_have_text("✓ 6 done")
                # The numbers follow the states.
                show(page, "leaderboard")
                expect(page.locator("main")).to_contain_text("18/20")
                live = {view: shown(page, view) for view in VIEWS}
                assert page.evaluate("window.stays"), "the page was loaded anew"
    (file := tmp_path / "report.html").write_bytes(report([tmp_path], read_results(tmp_path)))
    page.goto(file.as_uri())
    expect(page.locator("main > section")).to_be_visible()
    assert live == {view: shown(page, view) for view in VIEWS}


@pytest.mark.parametrize("view", ["run/quiz/good/1", "side/quiz/good/middle/"])
def test_details_that_failed_are_read_again(page: Page, tmp_path: Path, view: str) -> None:
    """After an answer that all must be read again, the next change brings the details of the run that is shown."""
    with Journal.open(tmp_path) as journal:
        for run_id, model in enumerate(MODELS, 1):
            schedule(tmp_path, journal, "quiz", model, run_id)
        for run_id, model in enumerate(("good", "middle"), 1):
            collect(tmp_path, journal, "quiz", model, passes(9, 10), RunState.COMPLETED, run_id)
        with serving(tmp_path) as address:
            page.route("**/api/details*", lambda route: route.fulfill(status=409, body="again"), times=1)
            page.goto(address)
            expect(page.locator("main > section")).to_be_visible()
            show(page, view)
            expect(page.locator("main")).to_contain_text("cannot be shown: 409 again")
            collect(tmp_path, journal, "quiz", "bad", passes(2, 10), RunState.COMPLETED, 3)
            expect(page.locator("details.part")).to_have_count(10)


def hide(page: Page, hidden: bool) -> None:
    """Put a page into the background, or back: without windows, a browser itself does neither."""
    page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true});"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def test_tabs_in_the_background_leave_their_connections_to_others(page: Page, tmp_path: Path) -> None:
    """However many tabs are open, another one is shown; one that was hidden catches up once it is seen."""
    with Journal.open(tmp_path) as journal, lock_folder(tmp_path):
        todo = steps(tmp_path, journal)
        for _ in range(len(TASKS) * len(MODELS)):
            next(todo)()
        with serving(tmp_path) as address:
            pages = [page, *(page.context.new_page() for _ in range(6))]
            for each in pages:
                each.goto(address)
                expect(each.locator("header a.running")).to_have_text("● 6 running")
                hide(each, True)
            for step in todo:
                step()
            hide(page, False)
            expect(page.locator("header a.done")).to_have_text("✓ 6 done")


def test_an_address_is_opened_in_another_tab(page: Page, tmp_path: Path) -> None:
    """An address without its token is shown as long as another tab has it; the token may also come with a view."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good")
    with serving(tmp_path) as address:
        page.goto(f"{address}&/runs/errored")
        page.wait_for_url("**/#/runs/errored")
        expect(page.get_by_label("State")).to_have_value("✗ errored")
        other = page.context.new_page()
        other.goto(page.url)
        expect(other.get_by_label("State")).to_have_value("✗ errored")


def test_a_new_token_is_taken_by_an_old_tab(page: Page, tmp_path: Path) -> None:
    """A tab that was opened without the token is shown once the whole address is pasted into it."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good")
    with serving(tmp_path) as address:
        page.goto(address.partition("#")[0])
        expect(page.locator("body")).to_contain_text("with its token")
        page.goto(address)
        expect(page.locator("main > section")).to_contain_text("good")


def test_a_tab_with_an_old_token_gives_it_to_none(page: Page, tmp_path: Path) -> None:
    """A token that the server refuses is forgotten, and the tab gets that of another one once it is loaded again."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good")
    with serving(tmp_path) as address:
        page.goto(f"{address}-old")
        expect(page.locator("body")).to_contain_text("with its token")
        other = page.context.new_page()
        other.goto(address.partition("#")[0])
        expect(other.locator("body")).to_contain_text("with its token")
        other.goto(address)
        expect(other.locator("main > section")).to_contain_text("good")
        page.reload()
        expect(page.locator("main > section")).to_contain_text("good")


def test_a_page_that_slept_catches_up(page: Page, tmp_path: Path) -> None:
    """A page whose server could not be reached for a while shows what happened meanwhile, and said that it waits."""
    with Journal.open(tmp_path) as journal, lock_folder(tmp_path):
        todo = steps(tmp_path, journal)
        for _ in range(len(TASKS) * len(MODELS)):
            next(todo)()
        with serving(tmp_path) as address:
            page.goto(address)
            expect(page.locator("header a.running")).to_have_text("● 6 running")
            page.context.set_offline(True)
            for step in todo:
                step()
            page.context.set_offline(False)
            expect(page.locator("header a.done")).to_have_text("✓ 6 done")


def test_a_server_that_has_gone_is_said(page: Page, tmp_path: Path) -> None:
    """Once the server has ended, the page says that it is not updated, and shows what it has."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good")
    with serving(tmp_path) as address:
        page.goto(address)
        expect(page.locator("main > section")).to_be_visible()
    expect(page.locator("html.waiting")).to_have_count(1)
    assert "good" in page.locator("main").inner_text()


def test_without_the_token_nothing_is_shown(page: Page, tmp_path: Path) -> None:
    """A page that is opened without its token says what to open."""
    with Journal.open(tmp_path) as journal:
        schedule(tmp_path, journal, "quiz", "good")
    with serving(tmp_path) as address:
        page.goto(address.partition("#")[0])
        expect(page.locator("body")).to_contain_text("with its token")
        assert "quiz" not in page.content()
