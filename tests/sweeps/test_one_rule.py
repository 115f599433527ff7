"""What a run comes to is the same in the table of its sweep, in `results`, and in the summary."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from fanbench import read_results
from fanbench.cli.app import root as program
from fanbench.results import read_results as read_files
from fanbench.sweeps.artifacts import contents_of, saved_output
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, SavedLog
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.report import build_report, summary
from fanbench.sweeps.resume import Saved
from fanbench.sweeps.spec import to_json
from fanbench.wire.messages import RunState
from fanbench.wire.slugs import same_model
from tests.results.build import STATE, errored, number, passed, run, talk, write

Content = dict[str, Any]
OK, FAILED = RunState.COMPLETED, RunState.ERRORED
IDENTITY = "content-1:a"


@dataclass
class Made:
    """A run that was made: its model, how it ended on the server, and its run files by their names."""

    files: dict[str, Content]
    state: RunState = OK
    model: str = "m"


def alone(content: Content, state: RunState = OK) -> Made:
    return Made({"a": content}, state)


def rows(contents: Sequence[Content], state: RunState = OK, model: str = "m") -> Made:
    return Made({f"T-run_param_id_{at}": content for at, content in enumerate(contents)}, state, model)


def with_parts(value: float, parts: Sequence[Content]) -> Content:
    named = [
        {
            **part,
            "taskVersion": {"name": "Part"},
            "startTime": f"2026-01-01T00:00:0{at}Z",
            "pyRunId": f"p{at}",
        }
        for at, part in enumerate(parts)
    ]
    return number(value, subruns=named)


def results(*named: tuple[str, float]) -> list[dict[str, Any]]:
    return [{"type": kind, "numericResult": {"value": value}} for kind, value in named]


def stated(half: float | str) -> Content:
    return run(result={"numericResult": {"value": 0.5, "confidenceInterval": half}})


def answered(*values: dict[str, Any]) -> list[Content]:
    return [run(result={"dictResult": value}) for value in values]


RIGHT = [passed(), passed(), passed()]
MIXED = [*RIGHT, passed(False), *[errored()] * 4]
NAN = run(result={"numericResult": {"value": "NaN"}})


def sweep(root: Path, made: Sequence[Made], error: str = "no") -> SweepPlan:
    """Leave the folder of a sweep of one task in which these runs were made; those of a model are its repeats.

    `error` is what the server says of the runs that failed.
    """
    models = tuple(dict.fromkeys(each.model for each in made))
    repeats = max(sum(each.model == model for each in made) for model in models)
    with Journal.open(root) as journal:
        journal.save_spec(to_json(Saved(endpoint="http://x", tasks=("t",), models=models, repeats=repeats)))
        journal.save_attempts(_attempts(root, made, error))
    return SweepPlan((PlannedTask("t", IDENTITY, None),), models, root, repeats)


def _attempts(root: Path, made: Sequence[Made], error: str) -> Iterator[Attempt]:
    seen: dict[str, int] = {}
    for run_id, each in enumerate(made, 10):
        seen[each.model] = seen.get(each.model, 0) + 1
        path = f"t/3/{each.model}/{run_id}"
        for name, content in each.files.items():
            content = {**content, "modelVersion": {"slug": f"google/{each.model}"}}
            write(root / path / f"{name}.run.json", {**content, "taskVersion": {"name": "T"}})
        write(root / path / "notes.txt", "")
        write(root / f"{path}.log", "hello\n")
        yield Attempt(
            *(PlannedRun("t", each.model, seen[each.model]), 1, IDENTITY, 3, Phase.ENDED, 0.0, run_id),
            state=each.state,
            error=error if each.state is FAILED else "",
            output=saved_output(path, contents_of(root / path)),
            log=SavedLog(f"{path}.log", 1, 6),
        )


def shown_by_results(folder: Path) -> list[str]:
    """The table of `fanbench results`, without what the models used."""
    shown = CliRunner().invoke(program, ["results", str(folder)])
    assert (shown.exit_code, "Skipped" in shown.stderr) == (0, False)
    return shown.stdout.partition("\n\n")[0].splitlines()


@dataclass
class Kind:
    """Runs that once misled: what their cell says, and what the repeats of the first model come to together.

    `counts` are the items of its first run: planned, scored, errored and without a value.
    """

    made: list[Made]
    cell: str
    counts: tuple[int, int, int, int]
    score: float | None
    scored: int
    planned: int
    whole: bool = False


KINDS = {
    # Rows that timed out left no file. Another model tells how many there are.
    "rows-timed-out": Kind(
        [rows(RIGHT, FAILED), rows([*RIGHT, passed()], OK, "n")], "1 [0.44, 1] 3/4", (4, 3, 0, 0), 1.0, 3, 4
    ),
    "rows-timed-out-alone": Kind([rows(RIGHT, FAILED)], "1 [0.44, 1] (errored)", (3, 3, 0, 0), 1.0, 3, 3),
    "rows-raised": Kind([rows(MIXED, FAILED)], "0.75 [0.3, 0.95] 4/8", (8, 4, 4, 0), 0.75, 4, 8),
    # The sub-runs that errored are left out of the task's own mean, or count as 0.
    "sub-runs-left-out": Kind(
        [alone(with_parts(0.75, MIXED))], "0.75 [0.3, 0.95] 4/8", (8, 4, 4, 0), 0.75, 4, 8
    ),
    "sub-runs-as-zero": Kind(
        [alone(with_parts(0.375, MIXED))], "0.75 [0.3, 0.95] 4/8", (8, 4, 4, 0), 0.75, 4, 8
    ),
    "repeats": Kind(
        [alone(number(value)) for value in (0.5, 0.7)], "0.6 [0.13, 0.94]", (1, 1, 0, 0), 0.6, 2, 2, True
    ),
    "failed-assertion": Kind(
        [alone(each) for each in (*[number(0.9)] * 3, passed(False))],
        *("0.9 [0.36, 0.99] 3/4", (1, 1, 0, 0), 0.9, 3, 4),
    ),
    "nan-repeat": Kind([alone(NAN), alone(number(0.5))], "0.5 1/2", (1, 0, 0, 1), 0.5, 1, 2),
    "nan": Kind([alone(NAN)], "no value", (1, 0, 0, 1), None, 0, 1),
    "aggregated": Kind(
        [alone(run(results=results(("PUBLIC", 0.9), ("PRIVATE", 0.2), ("AGGREGATED", 0.4))))],
        *("0.4", (1, 1, 0, 0), 0.4, 1, 1, True),
    ),
    "interval": Kind([alone(stated(0.1))], "0.5 ± 0.1", (1, 1, 0, 0), 0.5, 1, 1, True),
    "negative-interval": Kind([alone(stated(-0.1))], "0.5", (1, 1, 0, 0), 0.5, 1, 1, True),
    "nan-interval": Kind([alone(stated("NaN"))], "0.5", (1, 1, 0, 0), 0.5, 1, 1, True),
    "infinite-interval": Kind([alone(stated("Infinity"))], "0.5", (1, 1, 0, 0), 0.5, 1, 1, True),
    "running": Kind([alone(number(0.9, state=f"{STATE}RUNNING"))], "running", (1, 0, 0, 1), None, 0, 1),
    "dict-rows": Kind(
        [rows(answered({"a": 1, "b": "x"}, {"a": 2, "c": 3}))], "a=1.5, c=3", (2, 0, 0, 2), None, 0, 2
    ),
    "dict-with-lines": Kind([alone(answered({"a": "x\ny"})[0])], r"a=x\ny", (1, 0, 0, 1), None, 0, 1),
    # An error on the server after the result was written, and one in the file that the server does not know of.
    "errored-late": Kind([alone(number(0.9), FAILED)], "errored", (1, 0, 1, 0), None, 0, 1),
    "errored-in-file": Kind([alone(errored())], "errored", (1, 0, 1, 0), None, 0, 1),
    "errored-repeat": Kind([alone(errored(), FAILED), alone(passed())], "1 1/2", (1, 0, 1, 0), 1.0, 1, 2),
    "no-run-file": Kind([Made({}, FAILED)], "errored", (1, 0, 1, 0), None, 0, 1),
}
each_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@each_kind
def test_all_say_the_same(tmp_path: Path, kind: Kind) -> None:
    """The cell of a model is the same in both tables, and the summary counts the items of its first run."""
    plan = sweep(tmp_path, kind.made)
    with Journal.open(tmp_path) as journal:
        report = build_report(plan, journal)
    assert report.table().rows[0][1] == kind.cell
    assert shown_by_results(tmp_path) == report.table().plain().splitlines()
    record = summary(report)["runs"][0]
    names = ("planned", "scored", "errored", "no_value")
    assert tuple(record[f"items_{name}"] for name in names) == kind.counts
    assert record["status"] == ("errored" if kind.made[0].state is FAILED else "completed")
    assert (record["value"] is None) == (kind.counts[1] == 0 and not kind.cell.startswith("a="))
    assert report.ok == all(each.state is OK for each in kind.made)
    assert (report.complete, summary(report)["complete"]) == (kind.whole, kind.whole)


def records(*words: str | Path, exits: Collection[int] = (0,)) -> Any:
    """The records of a command."""
    shown = CliRunner().invoke(program, [*map(str, words), "--format", "json"])
    assert shown.exit_code in exits, shown.output
    return json.loads(shown.stdout)


@each_kind
def test_the_leaderboard_says_it_too(tmp_path: Path, kind: Kind) -> None:
    """Leaderboards, by the command and in Python, have the score and coverage of the cell, and rank no other model."""
    sweep(tmp_path, kind.made)
    row = next(each for each in records("leaderboard", tmp_path) if same_model(each["model"]) == "m")
    models = read_results(tmp_path).leaderboard().models
    found = next(each for each in models if same_model(each.model) == "m")
    for score, scored, planned, rank in (
        (row["score"], row["items_scored"], row["items_planned"], row["rank_low"]),
        (found.score, found.scored, found.planned, found.ranks),
    ):
        assert score == pytest.approx(kind.score)
        assert (scored, planned) == (kind.scored, kind.planned)
        assert (rank is None) == (kind.score is None)
    assert (row["bound_low"] is None) == (found.bounds is None)
    assert (row["bound_low"] is None) == (kind.score is None or kind.scored == kind.planned)


def all_scored(made: Made) -> bool:
    return made.state is FAILED and len(made.files) > 1 and not any(map(is_error, made.files.values()))


def is_error(content: Content) -> bool:
    return bool(content["state"] == f"{STATE}ERRORED")


def test_a_run_that_errored_is_said_to_have(tmp_path: Path) -> None:
    """Where all known rows of a run that errored have scores, it is said, and the model is on no front."""
    priced = [talk(inputTokens=1, inputTokensCostNanodollars="1", outputTokensCostNanodollars="0")]
    right = [passed(conversations=priced) for _ in range(3)]
    for folder, made, is_cut in (
        ("cut", [rows(right, FAILED)], True),
        ("known", [rows(right, FAILED), rows([*right, right[0]], OK, "n")], False),
        ("whole", [rows(right)], False),
    ):
        sweep(tmp_path / folder, made)
        row = next(each for each in records("leaderboard", tmp_path / folder) if each["model"] == "google/m")
        shown = CliRunner().invoke(program, ["leaderboard", str(tmp_path / folder)]).stdout
        sentence = "google/m may have had more items: all that are known have scores, but a run of t errored."
        assert (sentence in shown) == is_cut
        assert row["efficient"] == (folder == "whole")
        about = CliRunner().invoke(program, ["show", "t", "m", str(tmp_path / folder)]).stdout.splitlines()[0]
        assert about.endswith("but a run errored, and may have had more.") == is_cut


@each_kind
def test_compared_with_itself(tmp_path: Path, kind: Kind) -> None:
    """Compared with itself, what has no score has nothing in common, and what has scores differs by nothing."""
    sweep(tmp_path, kind.made)
    has_scores = kind.score is not None
    found = records("compare", tmp_path, tmp_path, "-m", "m", exits=(0,) if has_scores else (8,))[0]
    mine = [item for item in read_results(tmp_path).items if item.model == "google/m"]
    scored = {item.item for item in mine if item.value is not None}
    if not has_scores:
        assert (found["status"], found["items"], found["difference"]) == ("nothing_in_common", 0, None)
        return
    assert (found["status"], found["items"], found["difference"]) == ("compared", len(scored), 0.0)
    assert (found["lacking"], found["flips"]) == (kind.counts[0] - len(scored), [])


@each_kind
def test_a_gate_refuses_what_is_not_whole(tmp_path: Path, kind: Kind) -> None:
    """The coverage of a gate is that of the cell, and a gate tells nothing below the one that is asked for."""
    sweep(tmp_path, kind.made)
    found = read_results(tmp_path).gate(read_results(tmp_path), margin=1.0, models=["m"])
    record = records("gate", tmp_path, tmp_path, "--margin", "1", "-m", "m", exits=(0, 8))
    assert record["coverage"] == found.coverage == pytest.approx(kind.scored / kind.planned)
    assert record["verdict"] == found.verdict
    is_whole = kind.scored == kind.planned and not all_scored(kind.made[0])
    assert (record["reason"] is None) == is_whole
    if kind.scored and not is_whole:
        shown = CliRunner().invoke(
            program, ["gate", str(tmp_path), str(tmp_path), "--margin", "1", "-m", "m"]
        )
        (accepted,) = re.findall(r"--min-coverage ([\d.]+)\.$", shown.stderr.strip())
        same, least = read_results(tmp_path), float(accepted)
        assert same.gate(same, margin=1.0, models=["m"], min_coverage=least).refusal is None


@each_kind
def test_an_item_is_shown_as_it_counts(tmp_path: Path, kind: Kind) -> None:
    """`show` has as many items with scores as the cell, and a reason for each of the others."""
    sweep(tmp_path, kind.made)
    found = records("show", "t", "m", tmp_path)
    assert sum(each["state"] == "scored" for each in found) == kind.scored
    for each in found:
        assert (each["value"] is None) == (each["state"] != "scored")
        # Rows of a run that errored for another reason have this reason.
        assert bool(each["error"]) == (each["value"] is None or all_scored(kind.made[0]))
    shown = CliRunner().invoke(program, ["show", "t", "m", str(tmp_path)])
    assert shown.exit_code == 0
    assert f"; {kind.scored} of {kind.planned} attempt" in shown.stdout


def test_the_figures_of_a_run(tmp_path: Path) -> None:
    """A record has the interval with its origin, and its bounds if items have no score."""
    names = ("low", "high", "method", "interval_by", "bound_low", "bound_high")
    low, high, *origin, bound_low, bound_high = _figures(
        tmp_path / "rows", rows([number(1.0), number(0.0), errored()]), names
    )
    assert origin == ["Wilson", "fanbench"]
    assert bound_low < low < 0.5 < high < bound_high
    assert _figures(tmp_path / "one", alone(stated(0.1)), names) == [0.4, 0.6, "stated", "task", None, None]


def _figures(root: Path, made: Made, names: Sequence[str]) -> list[Any]:
    plan = sweep(root, [made])
    with Journal.open(root) as journal:
        (record,) = summary(build_report(plan, journal))["runs"]
    return [record[name] for name in names]


def test_versions_and_owners_in_a_flat_folder(tmp_path: Path) -> None:
    """Loose run files of other versions and owners are not rows of one run, and the newest is the last to start."""
    for name, version, owner, value, month in (
        *(("a", 1, "google", 0.2, "11"), ("b", 2, "google", 1.0, "01"), ("c", 2, "mirror", 0.5, "02")),
    ):
        content = number(value, startTime=f"2026-{month}-01T00:00:00Z", endTime=f"2026-{month}-01T00:00:01Z")
        content |= {"taskVersion": {"name": "T", "versionNumber": version}}
        content |= {"modelVersion": {"slug": f"{owner}/flash"}}
        write(tmp_path / f"{name}.run.json", content)
    assert shown_by_results(tmp_path) == [
        "task    google/flash  mirror/flash",
        "t (v1)  0.2           –",
        "t (v2)  1             0.5",
    ]
    newest = {(row.full_model, row.value) for row in read_files(tmp_path).newest()}
    assert newest == {("google/flash", 0.2), ("mirror/flash", 0.5)}
    rows = {row["model"]: row for row in records("leaderboard", tmp_path)}
    assert {model: (row["score"], row["lacking"]) for model, row in rows.items()} == {
        "google/flash": (0.6, []),
        "mirror/flash": (0.5, ["t (v1)"]),
    }
    both, other, _ = records("compare", tmp_path, "google/flash", "mirror/flash")
    assert (both["content"], both["status"], both["difference"]) == ("v2", "compared", -0.5)
    assert (other["content"], other["status"]) == ("v1", "only_first")
    shown = records("show", "t", "google/flash", tmp_path)
    assert [(each["content"], each["value"]) for each in shown] == [("v1", 0.2), ("v2", 1.0)]
    later = read_results(tmp_path).gate(
        read_results(tmp_path / "b.run.json"), margin=0.1, models=["google/flash"]
    )
    assert (later.coverage, later.refusal is None) == (0.0, False)


def test_newer_is_later_whatever_the_id(tmp_path: Path) -> None:
    """Of runs of two servers, that of November is newer than that of January, though its id is lower."""
    for run_id, month in ((900, "01"), (5, "11")):
        at = {"startTime": f"2026-{month}-01T00:00:00Z", "endTime": f"2026-{month}-01T00:00:01Z"}
        write(tmp_path / f"t/1/m/{run_id}/a.run.json", number(run_id / 1000, "T", **at))
    assert [row.run_id for row in read_files(tmp_path).runs] == [5, 900]


def test_a_judge_is_not_the_model_under_test(tmp_path: Path) -> None:
    """Tokens and costs of a judge are apart in records, and counted in the totals."""

    def asked(model: str, tokens: int) -> dict[str, Any]:
        metrics = {"inputTokens": tokens, "outputTokens": 1, "inputTokensCostNanodollars": "1000000000"}
        metrics["outputTokensCostNanodollars"] = "0"
        contents = [{"role": "CONTENT_ROLE_ASSISTANT", "senderName": model, "parts": []}]
        return {"requests": [{"contents": contents, "metrics": metrics}], "metrics": metrics}

    content = passed(conversations=[asked("google/m", 6), asked("google/judge", 366)])
    plan = sweep(tmp_path, [alone(content)])
    with Journal.open(tmp_path) as journal:
        report = build_report(plan, journal)
    (record,) = summary(report)["runs"]
    assert (record["tokens_in"], record["cost_usd"]) == (6, 1.0)
    assert (record["judge_tokens_in"], record["judge_tokens_out"], record["judge_cost_usd"]) == (366, 1, 1.0)
    assert (report.tokens_in, report.tokens_out, report.cost_usd) == (372, 2, 2.0)
    assert report.usage().header[-3:] == ("judge in", "judge out", "judge cost")
    (item,) = read_results(tmp_path).items
    assert (item.tokens_in, item.cost_usd, item.judge_tokens_in, item.judge_cost_usd) == (6, 1.0, 366, 1.0)
    (row,) = records("leaderboard", tmp_path)
    assert row["cost_usd"] == 1.0
    (shown,) = records("show", "t", "m", tmp_path)
    assert (shown["tokens_in"], shown["judge_tokens_in"]) == (6, 366)


def test_an_error_is_its_exception(tmp_path: Path) -> None:
    """An error is the line that names the exception, though others follow it; `show` and summary.json have all."""
    said = "ValidationError: 1 validation error for Answer"
    more = "  Invalid JSON\n    For further information visit https://errors.pydantic.dev"
    message = f'Traceback (most recent call last):\n  File "t.py", line 3, in f\n{said}\n{more}\n╚═══╝'
    made = alone(errored(message), FAILED)
    plan = sweep(tmp_path, [made], error=message)
    with Journal.open(tmp_path) as journal:
        (row,) = summary(build_report(plan, journal))["runs"]
    (found,), (item,) = (records("results", tmp_path, *options, "--all") for options in ((), ("--items",)))
    assert [found["error"], item["error"]] == [said] * 2
    assert (read_results(tmp_path).items[0].error, read_results(tmp_path).runs[0].error) == (said, said)
    (shown,) = records("show", "t", "m", tmp_path)
    assert shown["error"] == row["error"] == message
    text = CliRunner().invoke(program, ["show", "t", "m", str(tmp_path)]).stdout
    assert said in text
    assert "For further information" in text
