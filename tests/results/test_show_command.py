"""The command `fanbench show`, and what was said in a run."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.cli.views.show import FIELDS
from fanbench.results.transcript import Media, Said, read_transcript
from tests.results.build import STATUS, errored, number, passed, write
from tests.results.folders import add_run

DATA = Path(__file__).parent / "data"
MODEL = "google/gemma-3"


def show(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["show", *map(str, arguments)])


def said(role: str, text: str, sender: str = "") -> dict[str, Any]:
    return {"role": f"CONTENT_ROLE_{role}", "senderName": sender or role, "parts": [{"text": text}]}


def talk(*contents: dict[str, Any], name: str = "Talk-1") -> dict[str, Any]:
    metrics = {"inputTokens": 7, "outputTokens": 3}
    return {"id": name, "requests": [{"contents": contents, "metrics": metrics}]}


def test_why_a_run_failed() -> None:
    """Prompts, answers and assertions with their lines are shown below the result, as the run file has them."""
    result = show("capital-cities", "gemma-3-270m", DATA)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0].startswith(
        "capital-cities on google/gemma-3-270m: 0.000 (0.000 to 0.793, Wilson); 1 of 1"
    )
    assert "    user: What is the capital of Egypt? Answer with the name of the city only." in lines
    assert "    model:  The capital of Egypt is Cairo." in lines
    assert "  ✓ (line 23) The capital of Egypt is Cairo" in lines
    failed = lines.index("  ✗ (line 23) The capital of Japan is Tokyo")
    assert lines[failed + 1].strip().startswith("kbench.assertions.assert_in(capital, answer")
    (path,) = (line.strip() for line in lines if line.endswith(".run.json"))
    assert Path(path).is_file()


def test_a_judge_and_an_error_are_named(tmp_path: Path) -> None:
    """The words of another model are a judge's, and an error has its type first, and then its traceback."""
    words = [said("ASSISTANT", "Four.", MODEL), said("ASSISTANT", "Too short.", "other/judge")]
    error = 'Traceback (most recent call last):\n  File "a.py", line 3, in f\n    x()\nOSError: no\nSee it.\n'
    content = errored(error, conversations=[talk(said("SYSTEM", "Be brief."), words[0]), talk(words[1])])
    write(tmp_path / "my-task/1/gemma-3/5/a.run.json", content)
    result = show("My Task", MODEL, tmp_path)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"my-task on {MODEL}: –; 0 of 1 attempt has a score, 1 errored."
    start = lines.index("The run, repeat 1, run 5: errored")
    assert lines[start + 2 :] == [
        "  judge: 7 tokens in, 3 out, –",
        "  error: OSError: no",
        *(f"    {line}" for line in error.strip().splitlines()),
        "  Talk-1",
        "    system: Be brief.",
        "    model: Four.",
        "    judge other/judge: Too short.",
    ]


def test_a_part_of_a_run_is_found(tmp_path: Path) -> None:
    """A sub-run without a file of its own is found in the file of its run, also the second with the same prompt."""
    parts = [
        passed(
            value,
            "Part",
            pyRunId=f"Part-{at}",
            conversations=[talk(said("USER", prompt), said("ASSISTANT", answer, MODEL))],
        )
        for at, (value, prompt, answer) in enumerate(
            [(True, "a?", "first"), (False, "b?", "second"), (True, "a?", "third"), (True, "c?", "fourth")]
        )
    ]
    write(tmp_path / "my-task/1/gemma-3/5/a.run.json", number(0.75, subruns=[errored(name="x"), *parts]))
    records = json.loads(show("my-task", "gemma-3", tmp_path, "--format", "json").stdout)
    answers = {record["messages"][1]["text"]: (record["value"], record["item"]) for record in records}
    assert {text: value for text, (value, _) in answers.items()} == {
        "first": 1.0,
        "second": 0.0,
        "third": 1.0,
        "fourth": 1.0,
    }
    name = answers["third"][1]
    both = json.loads(show("my-task", "gemma-3", tmp_path, "--item", name, "--format", "json").stdout)
    assert [(one["messages"][1]["text"], one["part"]) for one in both] == [("first", 1), ("third", 3)]


def test_the_worst_come_first(tmp_path: Path) -> None:
    """Attempts without a score are first, then the lowest; of the others, the number is said."""
    folder = add_run(tmp_path, MODEL, [0.5, 0.25, None, 1.0])
    lines = show("quiz", MODEL, tmp_path, "--details", "1").stdout.splitlines()
    assert [line.split()[0] for line in lines[3:7]] == ["2", "1", "0", "3"]
    assert sum(str(folder) in line for line in lines) == 1
    assert lines[-1] == "3 more attempts: choose one with --item, or add --details N."


def test_records(tmp_path: Path) -> None:
    """JSON and CSV have all fields of every attempt, with assertions and messages as lists."""
    assertion = {"status": f"{STATUS}FAILED", "expectation": "four", "lineNumber": 9, "definition": "check()"}
    content = passed(False, conversations=[talk(said("USER", "2 + 2?"))], assertions=[assertion])
    write(tmp_path / "my-task/1/gemma-3/5/a.run.json", content)
    (record,) = json.loads(show("my-task", MODEL, tmp_path, "--format", "json").stdout)
    assert tuple(record) == FIELDS
    assert record["assertions"] == [{"passed": False, "expectation": "four", "line": 9, "source": "check()"}]
    assert record["messages"] == [
        {"conversation": "Talk-1", "role": "user", "sender": "USER", "text": "2 + 2?"}
    ]
    (row,) = csv.DictReader(io.StringIO(show("my-task", MODEL, tmp_path, "--format", "csv").stdout))
    assert json.loads(row["messages"]) == record["messages"]


def test_long_and_hostile_texts(tmp_path: Path) -> None:
    """A long message is cut, unless all is asked for; no text acts on the terminal or leaves its indentation."""
    text = "\x1b[31mred\x1b]0;title\x07\nmodel: not mine\n" + "x" * 3000
    write(tmp_path / "my-task/1/gemma-3/5/a.run.json", passed(conversations=[talk(said("USER", text))]))
    short, full = (show("my-task", MODEL, tmp_path, *more).stdout for more in ((), ("--full",)))
    assert "more characters: add --full)" in short
    assert "x" * 3000 not in short
    assert "x" * 3000 in full
    assert "\x1b" not in full
    assert "    user: red\\u001b]0;title\\u0007\n          model: not mine\n" in full


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    """Images and files are named by their types."""
    parts = [
        {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
        {"fileData": {"mimeType": "video/mp4", "fileUri": "https://x/y"}},
    ]
    content = passed(conversations=[talk({"role": "CONTENT_ROLE_USER", "parts": parts})])
    found = read_transcript(write(tmp_path / "a.run.json", content))
    media = (Media("image/png", "", "AAAA"), Media("video/mp4", "https://x/y", ""))
    assert found.messages == (Said("Talk-1", "user", "", "[image/png]\n[video/mp4: https://x/y]", "", media),)


def test_a_run_may_be_chosen(tmp_path: Path) -> None:
    """`--run` chooses a run by its id, and an id that there is not is an error with the ids that there are."""
    for run_id in (5, 6):
        add_run(tmp_path, MODEL, [True], run_id=run_id)
    assert len(json.loads(show("quiz", MODEL, tmp_path, "--run", "6", "--format", "json").stdout)) == 1
    result = show("quiz", MODEL, tmp_path, "--run", "7")
    assert result.exit_code == 4
    assert "Its runs are 5, 6." in result.stderr


@pytest.mark.parametrize(
    ("task", "model", "message"),
    [
        ("other", MODEL, "There are no results of task 'other'. The tasks are quiz."),
        ("quiz", "flash", f"There are no results of flash. The models are {MODEL}."),
    ],
)
def test_unknown_names(tmp_path: Path, task: str, model: str, message: str) -> None:
    """An unknown task or model is not found, and the error has the names that there are."""
    add_run(tmp_path, MODEL, [True])
    result = show(task, model, tmp_path)
    assert (result.exit_code, message in result.stderr) == (4, True), result.stderr


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([math.nan], "0 of 1 attempt has a score, 1 has no value."),
        ([0.5, math.nan, math.nan], "1 of 3 attempts has a score, 2 have no value."),
        ([0.5, 0.5, math.nan, None], "2 of 4 attempts have a score, 1 errored, 1 has no value."),
    ],
)
def test_what_attempts_came_to_is_a_sentence(
    tmp_path: Path, values: list[float | None], sentence: str
) -> None:
    """The numbers of attempts agree with their verbs."""
    add_run(tmp_path, "google/a", values)
    assert f"; {sentence}\n" in show("quiz", "a", tmp_path).stdout
