"""Declared scales, from the journal of a sweep to every number that depends on them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import fanbench
from fanbench.cli.app import root
from fanbench.results import cache
from fanbench.results.compare import Verdict
from fanbench.results.items import Item
from fanbench.results.passes import pass_rates
from fanbench.results.scales import DISPUTED, UNIT, Scale, merge_scales
from fanbench.results.scores import scores_of
from fanbench.sweeps.journal import Journal
from tests.results.folders import add_run, make_sweep
from tests.results.items import answers

PERCENT = Scale(0, 100)
SECONDS = Scale(0, 100, higher_is_better=False)


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(root, arguments)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The values of `a` are higher than those of `b`, beyond 0 and 1."""
    monkeypatch.chdir(tmp_path)
    return fill(Path("sweep"), SECONDS)


def fill(folder: Path, scale: Scale | None, *, plus: float = 0.0) -> Path:
    add_run(folder, "google/a", [60.0 + plus] * 20, task="points")
    add_run(folder, "google/b", [20.0 + plus] * 20, task="points", run_id=2)
    make_sweep(folder, {} if scale is None else {"points": scale})
    return folder


def test_one_scale_is_declared_for_each_task() -> None:
    """The same scale may be declared several times; of different ones, none counts."""
    assert merge_scales([("a", PERCENT), ("b", SECONDS), ("a", PERCENT)]) == {"a": PERCENT, "b": SECONDS}
    for scales in ([PERCENT, SECONDS], [PERCENT, SECONDS, PERCENT], [SECONDS, SECONDS, PERCENT]):
        assert merge_scales(("a", scale) for scale in scales)["a"] is DISPUTED
    assert not DISPUTED.contains(0.5, 0.5)
    assert UNIT.contains(0, 1)


@pytest.mark.parametrize(
    ("low", "high"),
    [(1, 1), (2, 1), (0, math.inf), (-math.inf, 0), (0, math.nan), (math.nan, math.nan), (-1e308, 1e308)],
)
def test_what_is_no_scale_is_refused(low: float, high: float) -> None:
    """A scale has a finite range, in Python as well; in a journal, one without a range is a problem, not a crash."""
    with pytest.raises(ValueError, match="A scale is from a lower to a higher finite number"):
        Scale(low, high)


def test_a_damaged_scale_is_named(folder: Path) -> None:
    """A scale in the journal that is none is said to be unreadable, and the runs are read without it."""
    with Journal.open(folder) as journal:
        text = journal.saved_spec()
        assert text is not None
        assert text.count('"high":100') == 1
        journal.save_spec(text.replace('"high":100', '"high":0'))
    found = fanbench.read_results(folder)
    (problem,) = found.problems
    assert "The sweep in the journal cannot be read" in problem.what
    assert (found.scales, len(found.runs)) == ({}, 2)


def test_a_declared_scale_is_read_from_the_journal(folder: Path) -> None:
    """A model with low values leads where low values are better; values, intervals and records keep their units."""
    found = fanbench.read_results(folder)
    assert found.scales == {"points": SECONDS}
    assert [(row.model, row.ranks) for row in found.leaderboard().models] == [
        ("google/b", (1, 1)),
        ("google/a", (2, 2)),
    ]
    assert [row.score for row in found.leaderboard().models] == pytest.approx([0.8, 0.4])
    (run,) = (run for run in found.runs if run.model == "b")
    assert run.value == 20.0
    assert run.figures.low is not None
    assert run.figures.high is not None
    assert 1 < run.figures.low < 20 < run.figures.high < 100
    assert found.compare("a", "b").mean == pytest.approx(0.4)


def test_every_command_uses_the_declared_scale(folder: Path) -> None:
    """Intervals are on the scale, differences are of scores, and that lower is better is said."""
    lower = "The scale of points is 0 to 100: lower is better. Its score is 0 at 100, and 1 at 0."
    assert "20 [8.1, 42]" in invoke("results", "sweep").stdout
    board = invoke("leaderboard", "sweep")
    assert lower in board.stdout
    assert "google/b  0.800" in board.stdout
    compared = invoke("compare", "sweep", "a", "b", "--flips", "0")
    assert "+0.400" in compared.stdout
    assert lower in compared.stdout
    shown = invoke("show", "points", "b", "sweep", "--details", "0").stdout
    assert shown.startswith(
        "points on google/b: 20.000 (8.066 to 41.602, Wilson) on its scale 0 to 100, where low"
    )


def test_values_outside_the_declared_scale(folder: Path) -> None:
    """A task with a value outside its scale is not averaged, and named with the scale."""
    make_sweep(folder, {"points": Scale(0, 50)})
    result = invoke("leaderboard", "sweep", "--format", "jsonl")
    assert result.stderr == (
        "Left out, because some values are outside the declared scale 0 to 50: points.\n"
    )
    assert [json.loads(line)["score"] for line in result.stdout.splitlines()] == [None, None]


def test_how_to_declare_a_scale_is_said(folder: Path) -> None:
    """Where values are beyond 0 and 1 and no scale is declared, the key of sweep.toml is named."""
    make_sweep(folder)
    for command in (("leaderboard", "sweep"), ("compare", "sweep", "a", "b")):
        output = invoke(*command).output
        assert "because some values are not between 0 and 1: points." in output
        assert "declare `scale = [LOW, HIGH]` for them in sweep.toml" in output


def test_different_scales_are_never_mixed() -> None:
    """Folders that declare different scales for a task are not averaged, not compared, and refused by the gate."""
    old, new = fill(Path("old"), PERCENT), fill(Path("new"), SECONDS)
    reason = "because different scales are declared: points."
    assert f"Left out, {reason}" in invoke("leaderboard", "old", "new").stdout
    compared = invoke("compare", "old", "new")
    assert f"Not compared, {reason}" in compared.output
    assert compared.exit_code == 8
    gated = invoke("gate", "old", "new", "--margin", "0.5")
    assert gated.exit_code == 8
    assert "Cannot tell: the declared scale of points differs." in gated.stderr
    found = fanbench.read_results(old).gate(fanbench.read_results(new), margin=0.5)
    assert found.verdict is Verdict.CANNOT_TELL


def test_a_scale_that_one_side_declares_counts_for_both() -> None:
    """A folder that declares nothing contradicts nobody: its values are read on the other one's scale."""
    old, new = fill(Path("old"), None), fill(Path("new"), SECONDS, plus=40.0)
    found = fanbench.read_results(old).compare_with(fanbench.read_results(new))
    assert found.mean == pytest.approx(-0.4)
    assert invoke("gate", "old", "new", "--margin", "0.05").exit_code == 7
    both = fanbench.read_results([old, new])
    assert both.scales == {"points": SECONDS}
    assert both.leaderboard().unbounded == ()


def test_another_scale_is_another_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was kept with one scale is not used with another."""
    monkeypatch.setattr(cache, "_LARGE", 0)
    monkeypatch.setattr(cache, "_SETTLED", -1e9)
    first = fanbench.read_results(folder)
    assert (folder / ".fanbench/items.jsonl").exists()
    assert fanbench.read_results(folder) == first
    make_sweep(folder, {"points": PERCENT})
    second = fanbench.read_results(folder)
    assert second.scales == {"points": PERCENT}
    assert second.runs != first.runs or second.leaderboard() != first.leaderboard()
    assert second.leaderboard().models[0].model == "google/a"


def test_what_passes_depends_on_the_direction() -> None:
    """Where false is better, the attempts that are false pass."""
    tried: list[Item] = [*answers("m", [True, False]), *answers("m", [True, True], repeat=2)]
    rates = pass_rates(scores_of(tried, {"t": Scale(higher_is_better=False)}), "m", 2)
    assert rates is not None
    assert (rates.at_k, rates.hat_k) == (0.5, 0.0)
