"""The command `fanbench leaderboard DIR`."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.cli.views.ranking import FIELDS
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.journal import Journal
from tests.results.folders import add_run, make_sweep
from tests.results.items import passes


def leaderboard(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["leaderboard", *map(str, arguments)])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that is good and dear, a bad one that errored, and one that lacks a task."""
    for task in ("quiz", "sums"):
        add_run(tmp_path, "google/good", passes(38, 40), task=task, usd=0.01)
        add_run(tmp_path, "mirror/bad", [*passes(8, 36), *[None] * 4], task=task, usd=0.001)
    add_run(tmp_path, "google/new", passes(20, 40))
    return tmp_path


def test_the_table(folder: Path) -> None:
    """Models are ranked by score, with what chance, errors and missing tasks leave open."""
    result = leaderboard(folder)
    assert (result.exit_code, result.stderr) == (0, "")
    header, *rows = result.stdout.split("\n\n")[0].splitlines()
    assert re.split("  +", header) == [
        "rank",
        "model",
        "score",
        "95% interval",
        "scored",
        "if errors fail – pass",
        "cost a run",
        "seconds a run",
        "front",
    ]
    good, bad, new = (re.split("  +", row) for row in rows)
    assert [*good[:3], *good[4:]] == ["1", "google/good", "0.950", "80/80", "–", "$0.4000", "2.5", "●"]
    assert [*bad[:3], bad[4], *bad[6:]] == ["2", "mirror/bad", "0.222", "72/80", "$0.0400", "2.5"]
    assert new == ["–", "google/new", "0.500", "–", "40/40", "–", "–", "2.5"]
    sentences = result.stdout.split("\n\n")[1].splitlines()
    assert sentences == [
        "The score is the mean over tasks; interval and ranks are for exactly these 2 tasks.",
        "●: no other ranked model costs less and scores at least as much.",
        "google/new is not ranked: it has no score on sums.",
    ]


def test_records(folder: Path) -> None:
    """JSON and CSV have one record per model, with bounds where attempts have no score."""
    good, bad, new = json.loads(leaderboard(folder, "--format", "json").stdout)
    assert tuple(good) == FIELDS
    assert (good["rank_low"], good["rank_high"], good["score"], good["method"]) == (1, 1, 0.95, "Wilson")
    assert (good["bound_low"], good["items_planned"], good["items_scored"]) == (None, 80, 80)
    assert good["cost_usd"] == pytest.approx(0.4)
    assert bad["bound_low"] < 0.2 < 0.3 < bad["bound_high"]
    assert (bad["items_planned"], bad["items_scored"], bad["efficient"]) == (80, 72, False)
    assert (new["rank_low"], new["low"], new["lacking"]) == (None, None, ["sums"])
    rows = list(csv.DictReader(io.StringIO(leaderboard(folder, "--format", "csv").stdout)))
    assert [row["model"] for row in rows] == ["google/good", "mirror/bad", "google/new"]
    assert rows[2]["lacking"] == '["sums"]'


def test_tasks_like_these(folder: Path) -> None:
    """For tasks like these, the interval is wider if these differ, and one task alone has none."""
    add_run(folder, "google/good", passes(20, 40), task="words")
    these, like = (
        json.loads(leaderboard(folder, "--tasks", tasks, "--format", "json").stdout)[0]
        for tasks in ("these", "like-these")
    )
    assert (these["estimand"], like["estimand"]) == ("these", "like-these")
    assert like["low"] < these["low"]
    alone = leaderboard(folder / "quiz", "--tasks", "like-these")
    assert alone.exit_code == 2
    assert "only quiz" in alone.stderr


def test_tasks_and_models_may_be_chosen(folder: Path) -> None:
    """Only the chosen tasks and models count, which the legend says; for a benchmark, there is no such choice."""
    add_run(folder, "google/good", passes(3, 4), task="other")
    result = leaderboard(folder, "-t", "quiz", "-m", "good", "-m", "bad")
    assert [row.split()[1] for row in result.stdout.split("\n\n")[0].splitlines()[1:]] == [
        "google/good",
        "mirror/bad",
    ]
    assert "for exactly this task." in result.stdout
    assert "Of 3 tasks, only these count: quiz." in result.stdout
    assert "Of 3 models, only these are ranked: google/good, mirror/bad." in result.stdout
    assert leaderboard(folder, "-t", "nothing").exit_code == 4
    refused = leaderboard("me/bench", "-m", "good")
    assert (refused.exit_code, "-m/--model is for a folder of results" in refused.stderr) == (2, True)


def test_unbounded_tasks_are_named(tmp_path: Path) -> None:
    """A task with values beyond 0 and 1 is not averaged, and that is said, also beside records."""
    add_run(tmp_path, "google/a", [True, False])
    add_run(tmp_path, "google/a", [0.5, 70.0], task="points")
    sentence = "Left out, because some values are not between 0 and 1: points.\n"
    assert sentence in leaderboard(tmp_path).stdout
    result = leaderboard(tmp_path, "--format", "jsonl")
    assert json.loads(result.stdout)["score"] == 0.5
    assert result.stderr.startswith(sentence)


def test_contents_are_told_apart(tmp_path: Path) -> None:
    """Two versions of a task are two tasks, of which each model has one."""
    add_run(tmp_path, "google/a", [True, False])
    add_run(tmp_path, "google/b", [True, True], version=2)
    result = leaderboard(tmp_path)
    assert "google/a is not ranked: it has no score on quiz (v2)." in result.stdout
    assert "google/b is not ranked: it has no score on quiz (v1)." in result.stdout


def test_repeats_have_pass_rates(tmp_path: Path) -> None:
    """With -k, pass@k and pass^k are columns; a model with too few repeats has none, which is said."""
    for run_id, values in enumerate(([True, True], [True, False], [True, False])):
        add_run(tmp_path, "google/a", values, run_id=run_id)
    add_run(tmp_path, "google/b", [True, True])
    records = json.loads(leaderboard(tmp_path, "-k", "2", "--format", "json").stdout)
    rates = {record["model"]: (record["pass_at_k"], record["pass_hat_k"]) for record in records}
    assert rates == {"google/a": (pytest.approx((1 + 2 / 3) / 2), 0.5), "google/b": (None, None)}
    table = leaderboard(tmp_path, "-k", "2").stdout
    assert "pass@2  pass^2" in table.splitlines()[0]
    assert table.splitlines()[-1].startswith("pass@2 and pass^2 need 2 attempts with a score")


def test_a_folder_and_a_benchmark_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name is a folder if there is one. What is neither is refused with both meanings, as are their options."""
    add_run(tmp_path / "me/bench", "google/a", [True, False])
    monkeypatch.chdir(tmp_path)
    assert "google/a" in leaderboard("me/bench").stdout
    for arguments, message in (
        (["./other"], "'./other' is neither a folder of results nor a benchmark's name."),
        (["me/bench", "me/other"], "'me/other' is neither"),
        (["me/other", "-k", "2"], "-k is for a folder of results, and me/other is a benchmark."),
        (["me/bench", "--version", "2", "--tasks", "these"], "--tasks is for a folder"),
        (["me/one", "me/two"], "One benchmark at a time"),
    ):
        result = leaderboard(*arguments)
        assert result.exit_code == 2, arguments
        assert message in result.stderr, arguments
        assert result.stdout == ""


def test_without_credentials_the_folder_that_is_lacking_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped folder is not found; what may be a benchmark needs credentials, or is no folder either."""
    for name in ("KAGGLE_API_TOKEN", "KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    for arguments, code, said in (
        (["resutls"], 4, True),
        (["me/resutls"], 3, True),
        (["there", "--show"], 3, False),
    ):
        result = leaderboard(*arguments)
        assert result.exit_code == code, result.stderr
        assert ("There is no folder" in result.stderr) == said
        assert ("Create a token" in result.stderr) == (code == 3)


def test_what_only_the_server_says_is_marked(tmp_path: Path) -> None:
    """Where nothing of a model's runs is downloaded, its score is the server's: marked, without interval and rank."""
    add_run(tmp_path, "google/here", passes(8, 10))
    make_sweep(tmp_path)
    with Journal.open(tmp_path) as journal:
        (here,) = journal.attempts()
        there = PlannedRun(here.planned_run.task, "there")
        said = here.with_(planned_run=there, run_id=2, output=None, result=0.25)
        again = said.with_(planned_run=PlannedRun(there.task, "there", 2), run_id=3, result=True)
        journal.save_attempts([here.with_(result=0.9), said, again])
    result = leaderboard(tmp_path)
    (_, first, second), sentences = (part.splitlines() for part in result.stdout.split("\n\n"))
    assert re.split("  +", first)[:3] == ["1", "google/here", "0.800"]
    assert re.split("  +", second)[:4] == ["–", "there", "0.625*", "–"]
    assert "*: the server reports this for runs that are not downloaded. Their items are not known." in (
        sentences
    )
    assert "there is not ranked: its score on quiz is known only from the server." in sentences
    records = json.loads(leaderboard(tmp_path, "--format", "json").stdout)
    assert [(record["by_server"], record["low"] is None) for record in records] == [
        ([], False),
        (["quiz"], True),
    ]


def test_a_leaderboard_of_nothing_but_what_the_server_says(tmp_path: Path) -> None:
    """A sweep of which nothing is downloaded has a leaderboard, too; without results of the server it has none."""
    folder = add_run(tmp_path, "google/gone", passes(8, 10))
    make_sweep(tmp_path)
    shutil.rmtree(folder)
    assert leaderboard(tmp_path).exit_code == 4
    with Journal.open(tmp_path) as journal:
        (attempt,) = journal.attempts()
        journal.save_attempts([attempt.with_(result=0.8, output=None)])
    assert "0.800*" in leaderboard(tmp_path).stdout
