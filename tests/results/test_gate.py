"""The gate: three verdicts, and what it refuses."""

from __future__ import annotations

import json
import re
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.cli.views.gate import FIELDS
from fanbench.errors import UsageError
from fanbench.results import read_results
from fanbench.results.compare import Verdict
from fanbench.results.gate import Cause, gate
from fanbench.results.items import Item
from fanbench.results.scores import Scores, scores_of
from tests.cli.test_help import can_be_typed
from tests.results.build import passed, write
from tests.results.folders import add_run, make_sweep
from tests.results.items import answers, passes

EXAMPLE = Path(__file__).parents[2] / "examples" / "gate.yml"


def scores(*runs: list[Item]) -> Scores:
    return scores_of(chain(*runs))


def run(right: int, total: int, errored: int = 0, *, model: str = "m", **fields: Any) -> list[Item]:
    return list(answers(model, [*passes(right, total), *[None] * errored], **fields))


def test_the_three_verdicts() -> None:
    """The same results are not worse, fewer passes are a regression, and few items cannot tell."""
    same = gate(scores(run(900, 1000)), scores(run(900, 1000)), 0.05)
    worse = gate(scores(run(900, 1000)), scores(run(700, 1000)), 0.05)
    few = gate(scores(run(9, 10)), scores(run(9, 10)), 0.05)
    verdicts = [same.verdict, worse.verdict, few.verdict]
    assert verdicts == [Verdict.NOT_WORSE, Verdict.REGRESSION, Verdict.CANNOT_TELL]
    assert (same.items_to_tell, worse.items_to_tell) == (None, None)
    assert few.items_to_tell is not None
    assert few.items_to_tell > 10
    assert few.refusal is None


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        pytest.param(run(9, 10), run(9, 10, model="n"), "the new results have none of m", id="model"),
        pytest.param(run(9, 10), run(9, 10, content="d"), "the content of t differs", id="content"),
        pytest.param(
            run(9, 10, content="v1"),
            run(9, 10, content="content-1:d"),
            "the old results have no journal that tells the content of t",
            id="no journal",
        ),
        pytest.param(
            [*run(9, 10), *run(9, 10, task="u")],
            [*run(9, 10), *answers("m", [90.0] * 10, task="u")],
            "some values of u are not between 0 and 1 in the new results",
            id="values",
        ),
        pytest.param(run(9, 10), run(9, 9, 1), "only 90% of t on m has a score on both sides", id="errored"),
        pytest.param(run(9, 9, 1), run(9, 10), "only 90% of t on m has a score on both sides", id="before"),
        pytest.param(run(9, 10), run(5, 5), "only 50% of t on m has a score on both sides", id="lacking"),
        pytest.param(
            [*run(999, 1000), *run(1, 1, task="u")],
            run(999, 1000),
            "only 0% of u on m has a score on both sides",
            id="task",
        ),
        pytest.param(
            [*run(10, 10), *run(10, 10, repeat=2)],
            [*run(10, 10), *run(9, 9, 1, repeat=2)],
            "only 95% of t on m has a score on both sides",
            id="repeat",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(old: list[Item], new: list[Item], reason: str) -> None:
    """Without a model, a task, its content or a score on either side, it cannot tell, and says why."""
    found = gate(scores(old), scores(new), 0.5)
    assert found.verdict is Verdict.CANNOT_TELL
    assert found.refusal is not None
    assert found.refusal.reason == reason
    assert found.items_to_tell is None


@pytest.mark.parametrize("share", [0.0, -0.1, 5, float("nan"), float("inf")])
def test_a_share_is_above_0_and_at_most_1(share: float) -> None:
    """Points of a hundred are not taken for a margin that nothing exceeds, nor for a coverage, in Python as well."""
    same = scores(run(30, 30))
    with pytest.raises(UsageError, match=f"margin is {share:g}"):
        gate(same, same, share)
    with pytest.raises(UsageError, match=f"min_coverage is {share:g}"):
        gate(same, same, 0.05, min_coverage=share)


def test_less_coverage_may_be_accepted() -> None:
    """With a lower `min_coverage`, the items in common decide."""
    old, new = scores(run(300, 300)), scores(run(292, 292, 8))
    refused = gate(old, new, 0.05)
    assert refused.refusal is not None
    assert (refused.refusal.cause, refused.refusal.uncovered) == (Cause.COVERAGE, ("new",))
    found = gate(old, new, 0.05, min_coverage=refused.coverage)
    assert (found.verdict, found.coverage) == (Verdict.NOT_WORSE, 292 / 300)


def test_new_tasks_and_models_are_no_matter() -> None:
    """What only the new results have does not count; `models` leaves out a model that only the old ones have."""
    old = scores(run(200, 200), run(5, 5, model="gone"))
    new = scores(run(200, 200), run(1, 2, task="fresh"), run(1, 2, model="new"))
    assert gate(old, new, 0.05, models=["m"]).verdict is Verdict.NOT_WORSE
    assert gate(old, new, 0.05).verdict is Verdict.CANNOT_TELL


def test_a_version_with_another_definition_is_another_content(tmp_path: Path) -> None:
    """Downloads of the same version from two servers are not compared if the task's source differs, and else are."""
    for folder, source in (("one", "f = 1"), ("same", "f = 1"), ("other", "f = 2"), ("unknown", "")):
        version = {"name": "My Task", "versionNumber": 1, "definition": source}
        for number in range(1, 41):
            write(tmp_path / folder / f"my-task/1/gemma-3/{number}/a.run.json", passed(taskVersion=version))
    one, same, other, unknown = (
        read_results(tmp_path / folder) for folder in ("one", "same", "other", "unknown")
    )
    for new in (same, unknown):
        assert one.gate(new, margin=0.9).refusal is None
    refusal = one.gate(other, margin=0.9).refusal
    assert refusal is not None
    assert refusal.reason == "the content of my-task differs"
    names = [key.content for key in read_results([tmp_path / "one", tmp_path / "other"]).scores().tasks]
    assert len(names) == 2
    assert all(name.startswith("v1:") for name in names)


# --- The command ------------------------------------------------------------------------------------------------


def command(*arguments: str) -> Result:
    return CliRunner().invoke(root, ["gate", *arguments])


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for folder, right in (("old", 60), ("same", 60), ("worse", 40)):
        add_run(Path(folder), "google/a", passes(right, 60))
    add_run(Path("few"), "google/a", passes(30, 30))


def test_the_verdict_is_the_exit_code() -> None:
    """Exit code, sentence and record say the same."""
    for new, margin, code, verdict, sentence in (
        ("same", "0.2", 0, "not worse", "Not worse: the difference is +0.000"),
        ("worse", "0.05", 7, "regression", "error: Worse: the difference is -0.333"),
        ("same", "0.01", 8, "cannot tell", "error: Cannot tell: the difference is +0.000"),
        ("few", "0.2", 8, "cannot tell", "error: Cannot tell: only 50% of quiz on google/a has"),
    ):
        result = command("old", new, "--margin", margin)
        assert result.exit_code == code, (new, result.stderr)
        assert sentence in (result.stderr if code else result.stdout)
        printed = command("old", new, "--margin", margin, "--format", "json")
        record = json.loads(printed.stdout)
        assert (printed.exit_code, tuple(record), record["verdict"]) == (code, FIELDS, verdict)
        assert (record["reason"] is None) == (new != "few")


@pytest.mark.parametrize(
    ("old", "new", "hint"),
    [
        (
            "whole",
            "holes here",
            "Run again what errored or is missing: `fanbench sweep -o 'holes here' --retry-errored 1`, or",
        ),
        (
            "holes",
            "holes here",
            "`fanbench sweep -o holes --retry-errored 1` and `fanbench sweep -o 'holes here' --retry-errored 1`, or",
        ),
        ("plain", "loose", "hint: To accept this coverage, add --min-coverage"),
        ("whole", "short", "hint: To accept this coverage, add --min-coverage"),
    ],
)
def test_the_hint_names_the_sweeps_that_lack_scores(old: str, new: str, hint: str) -> None:
    """Only sweeps with attempts without a score are to be continued; the share that the hint names is accepted."""
    for name, values in (
        ("whole", [True] * 300),
        ("holes", [None, *[True] * 299]),
        ("holes here", [*[True] * 292, *[None] * 8]),
        ("plain", [True] * 300),
        ("loose", [*[True] * 299, None]),
        ("short", [True] * 292),
    ):
        add_run(Path(name), "google/a", values)
        if name not in ("plain", "loose"):
            make_sweep(Path(name))
    refused = command(old, new, "--margin", "0.05")
    assert refused.exit_code == 8
    assert hint in refused.stderr
    (accepted,) = re.findall(r"--min-coverage ([\d.]+)\.$", refused.stderr.strip())
    assert command(old, new, "--margin", "0.05", "--min-coverage", accepted).exit_code == 0


def test_what_has_no_score_at_all_cannot_be_accepted() -> None:
    """A coverage of 0 is no value of --min-coverage, so the hint names the other way."""
    for folder in ("old", "same"):
        add_run(Path(folder), "google/b", [None] * 60, run_id=2)
    refused = command("old", "same", "--margin", "0.2")
    assert (refused.exit_code, "only 0% of quiz on google/b" in refused.stderr) == (8, True)
    assert refused.stderr.endswith("hint: Add -m MODEL for models that have scores on both sides.\n")
    assert command("old", "same", "--margin", "0.2", "-m", "a").exit_code == 0


def test_a_regression_names_the_task_that_fell() -> None:
    """The error has the task and the model, their loss and its p-value; the record has them as a list."""
    result = command("old", "worse", "--margin", "0.05", "--format", "json")
    assert "quiz on google/a fell by 0.333 (p adjusted <0.001)" in result.stderr
    assert "Run `fanbench compare old worse`" in result.stderr
    (fallen,) = json.loads(result.stdout)["fallen"]
    assert (fallen["task"], fallen["model"], fallen["difference"]) == (
        "quiz",
        "google/a",
        pytest.approx(-1 / 3),
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--margin"),
        (["--margin", "0"], 2, "--margin is 0."),
        (["--margin", "nan"], 2, "--margin is nan."),
        (["--margin", "5"], 2, "--margin is 5."),
        (["--margin", "0.05", "--min-coverage", "1.1"], 2, "--min-coverage is 1.1."),
        (["--margin", "0.05", "-m", "b"], 4, "There are no results of b. The models are google/a."),
    ],
)
def test_wrong_usage(arguments: list[str], code: int, message: str) -> None:
    """A number that is no share, or an unknown model, is refused."""
    result = command("old", "same", *arguments)
    assert (result.exit_code, message in result.stderr) == (code, True), result.stderr


def test_an_empty_side_is_not_found(tmp_path: Path) -> None:
    """A folder without results is exit code 4, not a verdict."""
    assert command("old", str(tmp_path / "nothing"), "--margin", "0.05").exit_code == 4


def test_the_example_can_be_typed() -> None:
    """Each fanbench command of the example of a workflow exists, with its flags."""
    lines = re.findall(r"run: (fanbench [^\n]+)", EXAMPLE.read_text(encoding="utf-8"))
    assert any(" gate " in line for line in lines)
    for line in lines:
        can_be_typed(line)
