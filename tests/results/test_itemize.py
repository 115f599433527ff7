"""The items of a run: rows, sub-runs that make up its value, or the run itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fanbench.results.itemize import Found, items_of_run
from fanbench.results.items import Item, ItemState
from fanbench.results.run_file import read_run_file
from tests.results.build import STATE, errored, number, passed, run, write

NAMED = Item(
    task="my-task", content="c", model="google/gemma-3", sweep="s", state=ItemState.MISSING, path="p"
)


def items(folder: Path, contents: dict[str, dict[str, Any]], rows: int | None = None) -> list[Item]:
    """The items of the first `rows` of the files (all of them, by default), by their names without the suffix."""
    found = []
    for name, content in contents.items():
        path = write(folder / f"{name}.run.json", content)
        found.append(Found(path, read_run_file(path)))
    return items_of_run(found[:rows], found, NAMED).items


def prompt(text: str, model: str = "google/gemma-3", **metrics: Any) -> dict[str, Any]:
    """A conversation in which `model` is asked once."""
    contents = [
        {"role": "CONTENT_ROLE_USER", "senderName": "User", "parts": [{"text": text}]},
        {"role": "CONTENT_ROLE_ASSISTANT", "senderName": model, "parts": [{"text": "4"}]},
    ]
    return {"id": text, "requests": [{"contents": contents, "metrics": metrics}], "metrics": metrics}


def test_a_run_of_one_file_is_one_item(tmp_path: Path) -> None:
    """A run without rows and sub-runs is its only item, without a name."""
    (item,) = items(tmp_path, {"a": passed()})
    assert (item.item, item.state, item.value, item.kind) == ("", ItemState.SCORED, 1.0, "boolean")
    assert (item.seconds, item.started) == (2.5, "2026-01-01T00:00:00.000Z")
    assert item.path.endswith("a.run.json")


def test_rows_are_named_after_their_data(tmp_path: Path) -> None:
    """Rows have the name of the row of their data, in whatever order their files are."""
    files = {f"My_Task-run_param_id_{row}_google_gemma-3": number(row / 10) for row in (3, 12, 0)}
    assert {item.item: item.value for item in items(tmp_path, files)} == {"3": 0.3, "12": 1.2, "0": 0.0}


def test_a_row_without_a_number_has_the_name_of_its_prompt(tmp_path: Path) -> None:
    """Rows without a number are named after their first prompt: alike ones are attempts at the same item."""
    same = {name: passed(conversations=[prompt("2 + 2?")]) for name in ("a", "b")}
    other = {"c": passed(conversations=[prompt("3 + 3?")])}
    first, second, third = (item.item for item in items(tmp_path, {**same, **other}))
    assert first == second != third
    assert [item.item for item in items(tmp_path / "again", {**other, **same})] == [third, first, second]


def sub(value: dict[str, Any], at: str) -> dict[str, Any]:
    return {**value, "startTime": at, "pyRunId": f"sub-{at}"}


def test_sub_runs_whose_mean_is_the_value_are_items(tmp_path: Path) -> None:
    """Sub-runs are items if the run's value is their mean, and have the names of their files."""
    parts = [
        sub(passed(value, name="Part"), f"2026-01-01T00:00:0{at}Z")
        for at, value in enumerate((True, True, False))
    ]
    files = {"top": number(0.667, subruns=parts)}
    files |= {f"Part-run_param_id_{at + 7}_google_gemma-3": part for at, part in enumerate(parts)}
    found = items(tmp_path, files, rows=1)
    assert [(item.item, item.value) for item in found] == [("7", 1.0), ("8", 1.0), ("9", 0.0)]
    assert [Path(item.path).name for item in found] == [
        f"Part-run_param_id_{at}_google_gemma-3.run.json" for at in (7, 8, 9)
    ]


@pytest.mark.parametrize("value", [0.5, 1.0])
def test_an_error_among_sub_runs_is_an_item(tmp_path: Path, value: float) -> None:
    """Sub-runs that errored are items without a score, whether the task left them out or counted them as 0."""
    parts = [sub(passed(name="Part"), "2026-01-01T00:00:01Z"), sub(errored(), "2026-01-01T00:00:02Z")]
    parts[1]["taskVersion"]["name"] = "Part"
    found = items(tmp_path, {"top": number(value, subruns=parts)})
    assert [item.state for item in found] == [ItemState.SCORED, ItemState.ERRORED]
    assert found[1].error == "ValueError: no"


def test_a_value_that_is_no_mean_is_one_item(tmp_path: Path) -> None:
    """A run whose value is not the mean of its sub-runs is one item, with the interval that it states."""
    parts = [sub(passed(name="Part"), f"2026-01-01T00:00:0{at}Z") for at in range(3)]
    stated = run(result={"numericResult": {"value": 0.8, "confidenceInterval": 0.1}}, subruns=parts)
    (item,) = items(tmp_path, {"top": stated})
    assert (item.item, item.value) == ("", 0.8)
    assert item.low == pytest.approx(0.7)
    assert item.high == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("content", "state", "error"),
    [
        (errored(), ItemState.ERRORED, "ValueError: no"),
        (run(), ItemState.NO_VALUE, "the run has no result"),
        (number(0.9, state=f"{STATE}RUNNING"), ItemState.NO_VALUE, "the run file says RUNNING"),
        (run(result={"numericResult": {"value": "NaN"}}), ItemState.NO_VALUE, "the result is nan"),
        (run(result={"dictResult": {"a": 1}}), ItemState.NO_VALUE, "the result is not one number"),
    ],
)
def test_what_has_no_score_says_why(
    tmp_path: Path, content: dict[str, Any], state: ItemState, error: str
) -> None:
    """The state of a run comes first: an error has no value, although its file has a result of false."""
    (item,) = items(tmp_path, {"a": content})
    assert (item.state, item.value, item.error) == (state, None, error)


@pytest.mark.parametrize("half", [-0.1, "NaN", "Infinity"])
def test_an_interval_that_cannot_be_is_left_out(tmp_path: Path, half: float | str) -> None:
    """Half-widths below 0 and those that are no numbers are as if they had not been stated."""
    content = run(result={"numericResult": {"value": 0.5, "confidenceInterval": half}})
    (item,) = items(tmp_path, {"a": content})
    assert (item.value, item.low, item.high) == (0.5, None, None)


def test_of_several_results_the_aggregated_one_counts(tmp_path: Path) -> None:
    """Of a public, a private and an aggregated result, the aggregated one is the value, whatever their order."""
    results = [
        {"type": name, "numericResult": {"value": value}}
        for name, value in (("PUBLIC", 0.9), ("PRIVATE", 0.2), ("AGGREGATED", 0.4))
    ]
    (item,) = items(tmp_path, {"a": run(results=results)})
    assert item.value == 0.4


def test_a_judge_is_not_charged_to_the_model_under_test(tmp_path: Path) -> None:
    """Tokens and costs of the model under test and of other models are apart."""
    cost: dict[str, Any] = {"inputTokensCostNanodollars": 1_000_000, "outputTokensCostNanodollars": 0}
    talks = [
        prompt("2 + 2?", inputTokens=5, outputTokens=1, **cost),
        prompt("Is that right?", "google/judge", inputTokens=300, outputTokens=66, **cost),
    ]
    (item,) = items(tmp_path, {"a": passed(conversations=talks)})
    assert (item.tokens_in, item.tokens_out, item.cost_usd) == (5, 1, 0.001)
    assert (item.judge_tokens_in, item.judge_tokens_out, item.judge_cost_usd) == (300, 66, 0.001)
