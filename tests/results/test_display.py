"""What results show of themselves: as text for scripts, and as HTML for notebooks."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fanbench import ResultSet, Verdict, read_results
from fanbench._util.text import one_line
from fanbench.cli.app import root
from fanbench.results.display import Display, Displayed, Table, money_text
from tests.results.build import write
from tests.results.folders import add_run
from tests.results.items import answers, passes

SCRIPT = "google/<script>alert(1)</script>"


class Reader(HTMLParser):
    """Collects the elements of a page, and the text in each cell and sentence."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: set[str] = set()
        self.formulas = False
        self.texts: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.add(tag)
        self.formulas |= tag in ("table", "p") and "mathjax_ignore" not in (dict(attrs)["class"] or "")
        if tag in ("th", "td", "p"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if data.strip("\n"):
            self.texts[-1] += data


def printed(*arguments: str | Path) -> str:
    """What a command prints."""
    result = CliRunner().invoke(root, [*map(str, arguments), "-q"])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two models and two tasks, with an error, and a task that one of them lacks."""
    add_run(tmp_path, "google/good", passes(38, 40), usd=0.01)
    add_run(tmp_path, "mirror/bad", [*passes(8, 36), *[None] * 4], usd=0.001)
    add_run(tmp_path, "google/good", passes(3, 4), task="sums")
    return tmp_path


def test_text_is_what_the_command_line_prints(folder: Path) -> None:
    """`print` of results, of a leaderboard, a comparison and a gate prints what the command does."""
    found = read_results(folder)
    assert f"{found}\n" == printed("results", folder)
    assert f"{found.leaderboard(k=1)}\n" == printed("leaderboard", folder, "-k", "1")
    assert f"{found.compare('good', 'bad')}\n" == printed("compare", folder, "good", "bad", "--flips", "0")
    kept = found.gate(found, margin=0.5, models=["good"])
    assert kept.verdict is Verdict.NOT_WORSE
    assert f"{kept}\n" == printed("gate", folder, folder, "--margin", "0.5", "-m", "good")


def test_a_gate_says_its_verdict(folder: Path) -> None:
    """The last sentence of a gate is its verdict with the reason, whatever it is."""
    found = read_results(folder)
    assert (
        str(found.gate(found, margin=0.5))
        .splitlines()[-1]
        .startswith("Cannot tell: only 90% of quiz on mirror/bad")
    )
    old, new = (ResultSet(items=tuple(answers("m", passes(right, 100)))) for right in (90, 20))
    assert str(old.gate(new, margin=0.05)).splitlines()[-1].startswith("Worse: the difference is -0.700")


def test_skipped_files_are_said(folder: Path) -> None:
    """A file that could not be read is named below the tables."""
    bad = write(folder / "quiz/1/good/7/a.run.json", "{")
    assert str(read_results(folder)).splitlines()[-1].startswith(f"Skipped {bad}: damaged")


def test_tables_leave_out_what_is_not_asked_for(folder: Path) -> None:
    """In Python, `table` takes what the options of the command take."""
    found = read_results(folder)
    assert found.table(["quiz"], ["*"]).rows == found.table("quiz", "*").rows == found.table().rows[:1]
    assert found.table(models=["bad"]).header == ("task", "bad")
    assert found.table(sort="score").header == ("task", "good", "bad")
    assert found.table(["sums"], ["bad"], failed=True).rows == ()


def test_html_has_the_same_words(folder: Path) -> None:
    """Each cell and each sentence of the text is in the HTML."""
    found = read_results(folder)
    for each in (found, found.leaderboard(), found.compare("good", "bad"), found.gate(found, margin=0.1)):
        shown = each.display()
        cells = [cell for table in shown.tables for row in (table.header, *table.rows) for cell in row]
        assert Reader(each._repr_html_()).texts == [*cells, *shown.legend, *shown.remarks]


def test_names_are_no_elements() -> None:
    """A model whose name is HTML, or a formula to a notebook, is shown by its name, everywhere."""
    found = ResultSet(items=(*answers(SCRIPT, passes(5, 9)), *answers("google/<b>", passes(5, 8))))
    displays: list[Displayed | Table] = [found, found.leaderboard(), found.compare_with(found), found.table()]
    displays.append(found.gate(found, margin=0.1))
    for each in displays:
        page = Reader(each._repr_html_())
        assert page.elements <= {"table", "tr", "th", "td", "p"}
        assert any("<b>" in text for text in page.texts)
        assert not page.formulas


@given(st.lists(st.text(), min_size=1, max_size=3), st.text())
def test_any_text_is_only_text(cells: list[str], sentence: str) -> None:
    """Whatever is in a cell or a sentence, HTML has it as text, and as text it stays on its line."""
    shown = Display((Table(tuple(cells), (tuple(cells),)),), (sentence,), (sentence,))
    page = Reader(shown.html())
    assert page.elements == {"table", "tr", "th", "td", "p"}
    assert [text.strip() for text in page.texts] == [
        one_line(each).strip() for each in (*cells, *cells, sentence, sentence)
    ]
    assert len(shown.plain().splitlines()) <= 5


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "–"),
        (0.0, "$0.0000"),
        (1.2e-5, "$0.000012"),
        (3e-9, "$0.0000000030"),
        (0.0014, "$0.0014"),
        (12.0, "$12.0000"),
    ],
)
def test_small_costs_keep_two_digits(usd: float | None, text: str) -> None:
    """A cost of less than a tenth of a cent is not rounded to nothing."""
    assert money_text(usd) == text
