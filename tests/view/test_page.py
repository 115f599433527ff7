"""The page in a browser: its views, keys and addresses, what strangers wrote, and who can use it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from playwright.sync_api import Browser, Dialog, Page, Request, expect

from fanbench import read_results
from fanbench.view.report import report
from tests.results.build import STATUS, errored, number, passed, write
from tests.results.folders import add_run
from tests.results.items import passes
from tests.view.conftest import PATIENCE

pytestmark = pytest.mark.e2e

AXE = Path(__file__).parents[2] / "scripts/page/node_modules/axe-core/axe.min.js"
VIEWS = ("matrix", "leaderboard", "runs", "compare", "before", "cost", "timeline")
DETAILS = ("run/quiz/good/1", "run/talk/good/1", "run/talk/bad/1", "side/talk/good/bad/", "compare/good/bad")
#: All that markup, terminals and readers of right-to-left scripts act on.
BAD = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)></svg>"
    "\x1b]8;;https://evil.example\x07link\x1b]8;;\x07\u202eevil\u2066"
)
#: What a window has where nothing else is wished.
MEDIA = {
    "media": "screen",
    "color_scheme": "light",
    "reduced_motion": "no-preference",
    "forced_colors": "none",
}
#: An image of one pixel.
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

Open = Callable[..., Page]


class Tabs:
    """One tab of the browser for each kind of window, and what is wrong with what it shows."""

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.pages: dict[str, Page] = {}
        self.complaints: list[str] = []

    def open(
        self,
        file: Path,
        address: str = "matrix",
        *,
        size: tuple[int, int] = (1280, 800),
        media: Mapping[str, Any] = MappingProxyType({}),
        **options: bool,
    ) -> Page:
        """Show an address of a file, in a window with `options`, of this size, and with these media features."""
        if str(options) not in self.pages:
            self.pages[str(options)] = self._new(options)
        page = self.pages[str(options)]
        # Only another page than this one is loaded anew.
        page.goto("about:blank")
        page.set_viewport_size({"width": size[0], "height": size[1]})
        page.emulate_media(**{**MEDIA, **media})
        page.goto(f"{file.as_uri()}#/{address}")
        page.evaluate("localStorage.clear()")
        expect(page.locator("main > *")).to_be_visible()
        return page

    def _new(self, options: dict[str, Any]) -> Page:
        page = self.browser.new_context(**options).new_page()
        page.set_default_timeout(PATIENCE)
        page.on("console", lambda said: self.complaints.append(said.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", self._dismiss)
        page.on("request", self._note)
        return page

    def _dismiss(self, dialog: Dialog) -> None:
        self.complaints.append(dialog.message)
        dialog.dismiss()

    def _note(self, request: Request) -> None:
        if not request.url.startswith(("file:", "data:", "about:")):
            self.complaints.append(request.url)


@pytest.fixture(scope="module")
def tabs(browser: Browser) -> Tabs:
    return Tabs(browser)


@pytest.fixture
def open_page(tabs: Tabs) -> Iterator[Open]:
    """Open a file at an address. At the end, nothing must have been requested, refused, or said in the console."""
    yield tabs.open
    complaints, tabs.complaints[:] = tabs.complaints[:], []
    assert complaints == []


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of three tasks on three models, with errors, costs and conversations, and of what was before."""
    top = tmp_path_factory.mktemp("page")
    results, old = top / "results", top / "old"
    for repeat in (1, 2):
        add_run(results, "google/good", passes(9, 10), task="quiz", usd=0.01, run_id=repeat)
        add_run(results, "mirror/bad", [*passes(2, 8), None, None], task="quiz", usd=0.001, run_id=repeat)
    add_run(results, "acme/middle", passes(5, 10), task="quiz", usd=0.002)
    for model, share in (("google/good", 0.9), ("mirror/bad", 0.1), ("acme/middle", 0.5)):
        add_run(results, model, [share, share + 0.05], task="sums", usd=0.01)
    right = _said("google/good", "42")
    picture = {"inlineData": {"mimeType": "image/png", "data": PIXEL}}
    right["conversations"][0]["requests"][0]["contents"].append(
        {"role": "CONTENT_ROLE_USER", "parts": [picture]}
    )
    write(results / "talk/1/good/7/a.run.json", passed(True, "talk", **right))
    (results / "talk/1/good/7.log").write_text("\x1b[31mred\x1b[0m plain\n")
    wrong = errored("Traceback:\n  x\nValueError: no number\n", **_said("mirror/bad", "forty"))
    write(results / "talk/1/bad/8/a.run.json", wrong | {"taskVersion": {"name": "talk", "versionNumber": 1}})
    add_run(old, "google/good", passes(0, 10), task="quiz")
    add_run(old, "mirror/bad", passes(2, 10), task="quiz")
    page = report([results], read_results(results), against=(old, read_results(old)))
    (path := top / "report.html").write_bytes(page)
    return path


def _said(model: str, answer: str) -> dict[str, Any]:
    def part(role: str, text: str) -> dict[str, Any]:
        return {"role": f"CONTENT_ROLE_{role}", "senderName": role.title(), "parts": [{"text": text}]}

    tool = r'"{\"name\": \"add\", \"arguments\": {\"a\": 40}, \"output\": \"line 1\\nline 2\"}"'
    last = part("ASSISTANT", answer) | {"senderName": model}
    contents = [part("USER", "How many?"), part("CONTEXT", tool), last]
    assertion = {"expectation": "is 42", "lineNumber": 3, "definition": "assert answer == 42"}
    return {
        "modelVersion": {"slug": model},
        "conversations": [
            {"id": "Talk", "requests": [{"contents": contents, "metrics": {"inputTokens": "9"}}]}
        ],
        "assertions": [{**assertion, "status": f"{STATUS}{'PASSED' if answer == '42' else 'FAILED'}"}],
    }


def grid_names(page: Page) -> list[str]:
    return page.locator("[role=rowheader]").all_inner_texts()


def show(page: Page, address: str) -> None:
    """Show a view, with its details."""
    page.evaluate("(hash) => { location.hash = hash; }", f"#/{address}")
    expect(page.get_by_text("Reading…")).to_have_count(0)


def address(page: Page) -> str:
    return page.url.partition("#/")[2]


# --- Views, keys and addresses --------------------------------------------------------------------------------


def test_each_view_has_a_key_and_an_address(file: Path, open_page: Open) -> None:
    """The keys 1 to 7 lead to the views, a reload shows the same one, and the browser's back the one before."""
    page = open_page(file)
    for at, view in enumerate(VIEWS):
        page.keyboard.press(str(at + 1))
        page.wait_for_url(f"**#/{view}")
        current = page.locator(".tabs [aria-current=page]")
        expect(current).to_have_text(view.title())
        page.reload()
        expect(current).to_have_text(view.title())
    page.go_back()
    expect(page.locator(".tabs [aria-current=page]")).to_have_text(VIEWS[-2].title())


def test_the_matrix_opens_a_run_and_is_found_as_it_was_left(file: Path, open_page: Open) -> None:
    """Arrows choose a cell, Enter opens its run, and Escape leads back to the same cell, which has the focus."""
    page = open_page(file)
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    expect(page.locator(".described")).to_contain_text("sums · good: 0.925")
    page.keyboard.press("Enter")
    page.wait_for_url("**#/run/sums/good/1")
    page.keyboard.press("Escape")
    page.wait_for_url("**#/matrix")
    grid = page.locator("[role=grid]")
    expect(grid).to_be_focused()
    expect(grid).to_have_attribute("aria-activedescendant", "cell_1_1")


def test_escape_from_a_run_that_was_opened_by_its_address_leads_to_the_matrix(
    file: Path, open_page: Open
) -> None:
    """Escape does not leave the page for what the browser showed before it."""
    page = open_page(file, "run/quiz/good/1")
    page.keyboard.press("Escape")
    page.wait_for_url("**#/matrix")
    page.keyboard.press("Escape")
    expect(page.locator("[role=grid]")).to_be_visible()
    assert address(page) == "matrix"


def test_escape_leads_from_the_neighbors_of_a_run_to_where_it_was_opened(file: Path, open_page: Open) -> None:
    """One Escape after j leads to the view and the cell that the first run was opened from; so does one back."""
    page = open_page(file)
    for back in (lambda: page.keyboard.press("Escape"), page.go_back):
        page.locator("#cell_0_2").click()
        page.keyboard.press("j")
        page.wait_for_url("**#/run/talk/good/1")
        page.keyboard.press("k")
        page.wait_for_url("**#/run/talk/bad/1")
        back()
        page.wait_for_url("**#/matrix")
        expect(page.locator("[role=grid]")).to_have_attribute("aria-activedescendant", "cell_0_2")


def test_the_matrix_is_sorted_by_a_header(file: Path, open_page: Open) -> None:
    """A click on a header sorts from high to low, another one the other way; the first header sorts by name."""
    page = open_page(file)
    sums = page.get_by_role("columnheader", name="sums")
    assert grid_names(page) == ["bad", "good", "middle"]
    sums.click()
    assert grid_names(page) == ["good", "middle", "bad"]
    expect(sums).to_have_attribute("aria-sort", "descending")
    sums.click()
    assert grid_names(page) == ["bad", "middle", "good"]
    page.get_by_label("Order").select_option("by score")
    assert grid_names(page)[0] == "good"


def test_headers_are_reached_by_keys(file: Path, open_page: Open) -> None:
    """Up from the first row is the header, where Enter sorts."""
    page = open_page(file)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    assert grid_names(page)[0] == "good"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(page.get_by_role("columnheader").first).to_have_attribute("aria-sort", "ascending")


def test_the_matrix_is_filtered_and_swapped(file: Path, open_page: Open) -> None:
    """The filter leaves models or tasks with a name like it, Enter leads from it to the cells, and axes are swapped."""
    page = open_page(file)
    page.keyboard.press("/")
    page.keyboard.type("mid")
    assert grid_names(page) == ["middle"]
    page.get_by_label("Filter models").fill("sums")
    assert grid_names(page) == ["bad", "good", "middle"]
    assert page.get_by_role("columnheader").all_inner_texts()[1:] == ["sums"]
    page.get_by_label("Filter models").fill("zzz")
    expect(page.get_by_text("Nothing has a name like that.")).to_be_visible()
    page.get_by_label("Filter models").fill("")
    page.keyboard.press("Enter")
    expect(page.locator("[role=grid]")).to_be_focused()
    page.get_by_role("button", name="Swap axes").click()
    assert grid_names(page) == ["quiz", "sums", "talk"]


def test_a_filter_that_found_nothing_leaves_the_choice_in_the_cells(file: Path, open_page: Open) -> None:
    """After a filter that nothing is like, another one and Enter lead to a cell, which Enter opens."""
    page = open_page(file)
    page.keyboard.press("/")
    page.keyboard.type("zzz")
    expect(page.get_by_text("Nothing has a name like that.")).to_be_visible()
    page.get_by_label("Filter models").fill("middle")
    page.keyboard.press("Enter")
    page.keyboard.press("Enter")
    page.wait_for_url("**#/run/quiz/middle/1")


def test_cells_show_what_is_chosen(file: Path, open_page: Open) -> None:
    """A cell shows the score, the states, the cost, the time, or the tokens."""
    page = open_page(file)
    first = page.locator("#cell_1_1")
    shown = {}
    for kind in ("Score", "State", "Cost", "Time", "Tokens"):
        page.get_by_role("button", name=kind, exact=True).click()
        shown[kind] = first.inner_text()
    assert shown == {"Score": "0.925", "State": "✓", "Cost": "$0.0200", "Time": "2.5 s", "Tokens": "20"}


def test_the_focus_stays(file: Path, open_page: Open) -> None:
    """What is pressed keeps the focus, although it is drawn again."""
    page = open_page(file)
    for name in ("Cost", "Swap axes"):
        button = page.get_by_role("button", name=name)
        button.focus()
        page.keyboard.press("Enter")
        expect(button).to_be_focused()


def test_runs_are_sorted_and_filtered(file: Path, open_page: Open) -> None:
    """Each header sorts, the words of the filter are those of tasks, models and errors, and a state can be chosen."""
    page = open_page(file, "runs")
    page.get_by_role("columnheader", name="Cost").click()
    page.get_by_role("columnheader", name="Cost").click()
    assert grid_names(page)[0] == "quiz · good #1"
    page.get_by_label("Filter runs").fill("bad valueerror")
    expect(page.get_by_role("status").first).to_contain_text("of 10 runs")
    assert {name.split(" #")[0] for name in grid_names(page)} <= {"talk · bad", "quiz · bad"}
    page.get_by_label("Filter runs").fill("talk")
    page.get_by_label("State").select_option("✗ errored")
    assert grid_names(page) == ["talk · bad #1"]
    page.locator("#cell_0_1").click()
    page.wait_for_url("**#/run/talk/bad/1")


def test_the_address_of_the_runs_has_their_state(file: Path, open_page: Open) -> None:
    """A state that is chosen is in the address, and all states are not."""
    page = open_page(file, "runs/errored")
    page.get_by_label("State").select_option("all states")
    assert address(page) == "runs"
    page.get_by_label("State").select_option("✗ errored")
    assert address(page) == "runs/errored"


def test_neighbors_of_a_run(file: Path, open_page: Open) -> None:
    """j leads to the same task on the next model that has a run, and k back."""
    page = open_page(file, "run/talk/bad/1")
    page.keyboard.press("j")
    page.wait_for_url("**#/run/talk/good/1")
    page.keyboard.press("j")
    page.keyboard.press("k")
    page.wait_for_url("**#/run/talk/bad/1")


def test_a_run_says_why(file: Path, open_page: Open) -> None:
    """A run that errored has the type of its error first, then its assertions with their lines, then what was said."""
    page = open_page(file, "run/talk/bad/1")
    headings = page.locator(".run-main h3")
    expect(headings.first).to_have_text("✗ ValueError: no number")
    expect(page.locator(".assertions")).to_contain_text("✗ is 42 line 3")
    expect(page.locator(".message.model")).to_contain_text("mirror/bad")


def test_items_that_went_wrong_come_first(file: Path, open_page: Open) -> None:
    """A run of several items lists those that errored, then those that failed, and each opens to what it has."""
    page = open_page(file, "run/quiz/bad/1")
    rows = page.locator("details.part")
    expect(rows).to_have_count(10)
    signs = [text.strip()[0] for text in rows.locator("summary").all_inner_texts()]
    assert signs == ["✗"] * 8 + ["✓"] * 2
    expect(rows.first).to_contain_text("ValueError")
    rows.first.locator("summary").click()
    expect(rows.first.locator("h3")).to_have_text("✗ ValueError: no")


def test_an_image_is_drawn_from_its_bytes(file: Path, open_page: Open) -> None:
    """An image of a message is shown, although the page can request nothing."""
    page = open_page(file, "run/talk/good/1")
    expect(page.locator(".picture")).to_be_visible()
    assert page.locator(".picture").evaluate("(image) => image.decode().then(() => image.naturalWidth)") == 1


def test_a_call_of_a_tool_can_be_read(file: Path, open_page: Open) -> None:
    """A call that is JSON within JSON is shown with its arguments and its lines, and as it was sent."""
    page = open_page(file, "run/talk/good/1")
    tool = page.locator(".message.context")
    expect(tool.locator(".call")).to_have_text('add({"a":40})')
    assert tool.locator("dd pre").inner_text() == "line 1\nline 2"
    tool.get_by_text("As it was sent").click()
    expect(tool.locator("details pre")).to_contain_text(r"\"arguments\"")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("[" * 6000 + "]" * 6000, "[" * 6000 + "]" * 6000),
        (
            '{"2": 12345678901234567890, "1": 1e999, "a": 1.0, "a": null}',
            "2\n12345678901234567890\n1\n1e999\na\n1.0\na\nnull",
        ),
        (
            '{"x": {"a": [1, {}], "b": "\\u00e9,"}}',
            'x\n{\n  "a": [\n    1,\n    {}\n  ],\n  "b": "\\u00e9,"\n}',
        ),
        ("[ ]", "[]"),
        (" {} ", "{}"),
    ],
    ids=["deep", "values", "nested", "list", "object"],
)
def test_json_is_laid_out_as_it_was_written(open_page: Open, tmp_path: Path, text: str, shown: str) -> None:
    """No number, key or value of JSON is altered by its layout, and JSON of any depth is shown."""
    write(tmp_path / "talk/1/good/7/a.run.json", passed(True, "talk", **_said("google/good", text)))
    (path := tmp_path / "report.html").write_bytes(report([tmp_path], read_results(tmp_path)))
    page = open_page(path, "run/talk/good/1")
    expect(page.get_by_text("Reading…")).to_have_count(0)
    said = page.locator(".message.model").evaluate(
        "(each) => (each.querySelector('.said, pre, dl')).innerText"
    )
    assert re.sub(r"\n+", "\n", said) == shown


def test_a_log_has_its_colors(file: Path, open_page: Open) -> None:
    """The colors of a log are classes, and its escape sequences are no text."""
    page = open_page(file, "run/talk/good/1")
    expect(page.locator(".log .ink-red")).to_have_text("red")
    assert page.locator(".log-line").inner_text() == "1red plain"


def log_report(tmp_path: Path, log: str) -> Path:
    """A report of one run with a log."""
    write(tmp_path / "talk/1/good/7/a.run.json", passed(True, "talk"))
    (tmp_path / "talk/1/good/7.log").write_text(log)
    (path := tmp_path / "report.html").write_bytes(report([tmp_path], read_results(tmp_path)))
    return path


def test_a_long_log_says_what_is_not_shown(open_page: Open, tmp_path: Path) -> None:
    """A log of very many lines shows the newest ones with their numbers, and says how many come before them."""
    page = open_page(log_report(tmp_path, "a\n" * 6000), "run/talk/good/1")
    expect(page.locator(".log > .note")).to_have_text("1,000 earlier lines are not shown.")
    expect(page.locator(".log-line")).to_have_count(5000)
    expect(page.locator(".log-line").first).to_have_text("1001a")


def test_a_log_that_is_cut_says_so(open_page: Open, tmp_path: Path) -> None:
    """The lines after what is left out of a log have no numbers, and a NUL of the log is none of its own marks."""
    page = open_page(log_report(tmp_path, "\0\n" + "x" * 60_000 + "\nlast\n"), "run/talk/good/1")
    expect(page.locator(".log .note", has_text="left out")).to_have_text("… 10,008 bytes are left out …")
    expect(page.locator(".log-line").first).to_have_text("1␀")
    expect(page.locator(".log-line").last).to_have_text("last")
    expect(page.locator(".run-main h3", has_text="Log")).to_have_text("Log ")


def test_a_log_is_text_whatever_it_has(open_page: Open, tmp_path: Path) -> None:
    """A NUL and a sequence without an end hide no line, and very many colors in a line make few elements."""
    log = "\0\n\x1b]8;;\nkept\n\x07\n" + "\x1b[31mr\x1b[0mp" * 2000
    page = open_page(log_report(tmp_path, log), "run/talk/good/1")
    lines = page.locator(".log-line")
    expect(lines).to_have_text(["1␀", "2␛]8;;", "3kept", "4␇", f"5{'rp' * 2000}"])
    assert lines.last.locator("span").count() < 250


def test_two_runs_side_by_side(file: Path, open_page: Open) -> None:
    """What both models were asked is there once, and their answers are beside each other."""
    page = open_page(file, "side/talk/good/bad/")
    expect(page.locator(".both")).to_have_count(2)
    answers = page.locator(".message.model")
    left, right = answers.nth(0).bounding_box(), answers.nth(1).bounding_box()
    assert left is not None
    assert right is not None
    assert left["y"] == right["y"]
    assert left["x"] < right["x"]


def test_models_are_compared(file: Path, open_page: Open) -> None:
    """The models are chosen and swapped, the address has both, and items that changed lead to both runs."""
    page = open_page(file, "compare/good/bad")
    expect(page.locator(".conclusion")).to_contain_text("good is ahead: bad has −")
    page.get_by_label("Swap the models").click()
    page.wait_for_url("**#/compare/bad/good")
    expect(page.locator(".conclusion")).to_contain_text("good is ahead: good has +")
    page.get_by_role("link", name="side by side").first.click()
    expect(page.locator(".sides h3").first).to_contain_text("bad")


def test_what_changed_is_filtered(file: Path, open_page: Open) -> None:
    """The changes since an earlier sweep are those that got better, got worse, may be chance, or have other errors."""
    page = open_page(file, "before")
    rows = page.get_by_role("region", name="Differences since then").locator("tbody tr")
    expect(rows).to_have_count(2)
    page.get_by_role("button", name=re.compile("^better")).click()
    expect(rows).to_have_count(1)
    expect(rows).to_contain_text("quiz · good")
    page.get_by_role("button", name=re.compile("^other errors")).click()
    expect(rows).to_contain_text("0 → 4")
    page.get_by_role("button", name=re.compile("^worse")).click()
    expect(page.get_by_text("There are none.")).to_be_visible()


def test_help_and_theme(file: Path, open_page: Open) -> None:
    """? lists the keys until Escape, and t switches between light and dark, which a reload keeps."""
    page = open_page(file)
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("move in the matrix")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.keyboard.press("t")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert light != dark
    page.reload()
    expect(page.locator("[role=grid]")).to_be_visible()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark


def test_everything_is_reached_by_tab(file: Path, open_page: Open) -> None:
    """From the top of the page, Tab reaches the views, the tools and the grid, and leaves the grid again."""
    page = open_page(file)
    page.evaluate("document.activeElement.blur()")
    reached: list[str] = []
    for _ in range(45):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "(({role, ariaLabel, textContent}) => role === 'grid' ? role : ariaLabel ?? textContent)"
                "(document.activeElement)"
            )
        )
    wanted = [
        "Light or dark",
        "Keys",
        "Matrix",
        "Timeline",
        "Filter models or tasks",
        "Tokens",
        "Order",
        "Swap axes",
        "grid",
    ]
    assert [each for each in wanted if each not in reached] == []
    assert reached.index("grid") < len(reached) - 1


# --- What strangers wrote -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report in which every field that is not ours is hostile."""
    name = f"<img src=x onerror=alert(5)>{BAD[-30:]}".replace("/", "")
    results = tmp_path_factory.mktemp("hostile") / name
    said = _said(f"evil/{name}", BAD)
    said["conversations"][0] |= {"id": BAD}
    said["conversations"][0]["requests"][0] |= {"reasoningTraces": BAD}
    said["conversations"][0]["requests"][0]["contents"] += [
        {
            "role": "CONTENT_ROLE_USER",
            "parts": [{"fileData": {"mimeType": BAD, "fileUri": "javascript:alert(4)"}}],
        },
        {"role": BAD, "senderName": BAD, "parts": [{"text": BAD}]},
        {
            "role": "CONTENT_ROLE_CONTEXT",
            "parts": [{"text": f'{{"name": "{BAD[:30]}", "arguments": "<b>", "x": "<i>"}}'}],
        },
        {
            "role": "CONTENT_ROLE_USER",
            "parts": [{"inlineData": {"mimeType": "image/svg+xml", "data": "PHN2Zz4="}}],
        },
    ]
    said["assertions"][0] |= {"expectation": BAD, "definition": BAD}
    version = {"taskVersion": {"name": name, "versionNumber": 1, "definition": BAD}}
    for model in ("evil", "good"):
        fields = {**said, **version, "modelVersion": {"slug": f"{model}/{name}"}}
        parts = [number(0.0, BAD, **said, pyRunId=f"{BAD}{at}") for at in range(2)]
        write(results / f"{name}/1/{model}{name}/1/{name}.run.json", number(0.5, **fields, subruns=parts))
        write(
            results / f"{name}/1/{model}{name}/2/a.run.json", errored(f"{BAD}\nValueError: {BAD}", **fields)
        )
        (results / f"{name}/1/{model}{name}/2.log").write_text(f"\x1b[31m{BAD}\x1b[2J\n{BAD}\n")
    write(results / f"{name}/1/{model}{name}/9/a.run.json", BAD)
    found = read_results(results)
    (path := results.parent / "report.html").write_bytes(report([results], found, against=(results, found)))
    return path


def test_nothing_that_strangers_wrote_acts(hostile: Path, open_page: Open) -> None:
    """In all views, hostile text is text: it makes no element, leads nowhere, and is requested by nobody."""
    page = open_page(hostile)
    scripts = page.evaluate("document.scripts.length")
    for header in page.locator("[role=columnheader], [role=rowheader]").all_inner_texts()[1:]:
        assert "<img src=x onerror=alert(5)>" in header
        assert "⟨U+202E⟩" in header
    page.locator("#cell_0_0").click()
    page.wait_for_url("**#/run/**")
    run = address(page)
    show(page, "compare")
    side = page.get_by_role("link", name="side by side").first.get_attribute("href") or ""
    for opened in (*VIEWS, run.removesuffix("2") + "1", side.removeprefix("#/"), run):
        show(page, opened)
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
        assert page.evaluate("document.scripts.length") == scripts
        made = "main img, main script, main iframe, main object, [onerror], [onload], [onclick], a:not([href^='#/'])"
        assert page.locator(made).count() == 0, opened
        # The names of what would reverse the text, or reach a terminal, are there in its place.
        assert not re.search(r"[\x1b\u202e\u2066]", page.locator("body").inner_text())
        assert not re.search(r"[\x1b\u202e\u2066]", page.title())
    assert page.locator("main").inner_text().count("<svg onload=alert(3)>") > 5


# --- For everybody --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_axe_finds_nothing(file: Path, open_page: Open, theme: str, width: int) -> None:
    """axe-core has no findings in any view, in both themes, and on a phone."""
    if not AXE.exists():
        pytest.skip("axe-core is not installed: run scripts/check_page.sh")
    page = open_page(file, size=(width, 800), media={"color_scheme": theme}, bypass_csp=True)
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for opened in (*VIEWS, *DETAILS):
        show(page, opened)
        found = page.evaluate(
            "axe.run(document, {resultTypes: ['violations']}).then(({violations}) =>"
            " violations.map((each) => [each.id, each.nodes.map((node) => node.html.slice(0, 200))]))"
        )
        assert found == [], opened


def test_a_phone_scrolls_down_only(file: Path, open_page: Open) -> None:
    """At a width of 390 pixels, no view is wider than the screen."""
    page = open_page(file, size=(390, 844), has_touch=True)
    for opened in (*VIEWS, *DETAILS):
        show(page, opened)
        for element in ("html", "main"):
            wider = page.locator(element).evaluate("(each) => each.scrollWidth - each.clientWidth")
            assert wider == 0, f"{element} in {opened}"


@pytest.mark.parametrize("width", [390, 1280])
def test_long_names_make_no_view_wider(open_page: Open, tmp_path: Path, width: int) -> None:
    """Names of 250 characters without a place to break leave each view as wide as the screen."""
    task, models = "t" * 250, [letter * 250 for letter in "mn"]
    for name, model in [(task, models[0]), (task, models[1]), ("x" * 250, models[0])]:
        write(tmp_path / name / "1" / model / "7/a.run.json", passed(True, name))
    (path := tmp_path / "report.html").write_bytes(report([tmp_path], read_results(tmp_path)))
    page = open_page(path, size=(width, 844))
    assert grid_names(page) == models
    for opened in (*VIEWS, f"run/{task}/{models[0]}/1", f"side/{task}/{models[0]}/{models[1]}/"):
        show(page, opened)
        for element in ("html", "main"):
            wider = page.locator(element).evaluate("(each) => each.scrollWidth - each.clientWidth")
            assert wider == 0, f"{element} in {opened}"


def test_names_are_broken_between_their_words(open_page: Open, tmp_path: Path) -> None:
    """A header without room for its name continues after an underscore, not within a word."""
    add_run(tmp_path, "made/model", passes(5, 10), task="reads_german_newspapers")
    (path := tmp_path / "report.html").write_bytes(report([tmp_path], read_results(tmp_path)))
    header = open_page(path).get_by_role("columnheader").last
    assert header.inner_text() == "reads_german_newspapers"
    rows = header.locator("span").evaluate(
        "(each) => [...each.childNodes].filter(({nodeType}) => nodeType === Node.TEXT_NODE).map((text) => {"
        " const range = document.createRange(); range.selectNode(text); return range.getClientRects().length; })"
    )
    assert rows == [1, 1, 1]


def test_the_dark_theme_is_printed_light(file: Path, open_page: Open) -> None:
    """Paper is white, and the screen has its theme again afterwards."""
    page = open_page(file, media={"color_scheme": "dark"})
    back = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(back)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(back) == "rgb(251, 251, 249)"
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(back) == dark


def test_forced_colors(file: Path, open_page: Open) -> None:
    """With the colors of the system, the chosen cell and the state of each run can still be told."""
    page = open_page(file, media={"forced_colors": "active"})
    chosen = page.evaluate("getComputedStyle(document.querySelector('.chosen')).outlineStyle")
    assert chosen == "solid"
    assert "✗" in page.locator("#cell_0_0").inner_text()


@pytest.mark.parametrize(("wish", "seconds"), [("reduce", "0s"), ("no-preference", "0.3s")])
def test_reduced_motion(file: Path, open_page: Open, wish: str, seconds: str) -> None:
    """Nothing moves for those who wish so."""
    page = open_page(file, media={"reduced_motion": wish})
    assert page.evaluate("getComputedStyle(document.querySelector('.fill')).transitionDuration") == seconds


def test_the_whole_matrix_is_printed(open_page: Open, tmp_path: Path) -> None:
    """On paper there are all models and all tasks, however many, and no controls."""
    for model in range(16):
        for task in range(13):
            add_run(tmp_path, f"made/model-{model:02}", [0.5], task=f"task-{task:02}")
    (path := tmp_path / "report.html").write_bytes(report([tmp_path], read_results(tmp_path), details=False))
    page = open_page(path, size=(700, 400))
    assert page.locator("[role=gridcell]").count() < 16 * 13
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    tables = page.locator(".printed table")
    cells = [re.split(r"\s+", row) for row in "\n".join(tables.all_inner_texts()).splitlines()]
    assert {word for row in cells for word in row} >= {f"model-{at:02}" for at in range(16)} | {
        f"task-{at:02}" for at in range(13)
    }
    assert page.locator(".printed td").count() == 16 * 13
    expect(page.locator(".tools")).to_be_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    expect(tables).to_have_count(0)


def test_states_need_no_color(file: Path, open_page: Open, tmp_path: Path) -> None:
    """Each state has a sign of its own; how it looks without some colors is kept as a picture."""
    page = open_page(file)
    kept = Path(os.environ.get("FANBENCH_TEST_SCREENSHOTS", tmp_path))
    kept.mkdir(parents=True, exist_ok=True)
    session = page.context.new_cdp_session(page)
    for kind in ("protanopia", "deuteranopia", "tritanopia", "achromatopsia"):
        session.send("Emulation.setEmulatedVisionDeficiency", {"type": kind})
        page.screenshot(path=kept / f"matrix-{kind}.png")
    session.detach()
    signs = [text.split()[0] for text in page.locator("section .legend span").all_inner_texts()]
    assert len(set(signs)) == len(signs) > 1
    cells = page.locator("[role=gridcell].errored")
    assert cells.count() > 0
    assert all("✗" in text for text in cells.all_inner_texts())
