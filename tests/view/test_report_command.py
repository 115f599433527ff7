"""The command `fanbench report`."""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.results import read_results
from fanbench.sweeps.attempts import PlannedRun
from fanbench.sweeps.events import RunSkipped, SweepStarted
from fanbench.sweeps.history import HistoryWriter
from fanbench.sweeps.journal import Journal
from fanbench.view.columns import unpack
from fanbench.view.details import Limits, read_details
from fanbench.view.document import build
from tests.results.build import errored, number, passed, talk, write
from tests.results.folders import add_run, make_sweep


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(root, ["report", *map(str, arguments)])


def element_bytes(page: str, name: str) -> bytes:
    """Return what an element of the page has."""
    found = re.search(rf'<script type="application/gzip" id="{name}">([^<]*)</script>', page)
    assert found is not None
    return gzip.decompress(base64.b64decode(found[1]))


def element(page: str, name: str) -> Any:
    """Return what an element of JSON has."""
    return json.loads(element_bytes(page, name))


def test_the_file_is_beside_the_results(tmp_path: Path) -> None:
    """Without -o, the page is report.html in the folder, and the command says how to open it."""
    add_run(tmp_path, "google/good", [True, False])
    result = report(tmp_path)
    assert (result.exit_code, result.stdout) == (0, "")
    assert (tmp_path / "report.html").as_uri() in result.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert element(page, "data")["models"] == ["good"]
    assert report(tmp_path).exit_code == 0, "a report among the results is none of them"


def test_stdout(tmp_path: Path) -> None:
    """With `-o -`, the page is all that is printed."""
    add_run(tmp_path, "google/good", [True])
    result = report(tmp_path, "-o", "-")
    assert result.stdout.startswith("<!doctype html>")
    assert result.stdout.endswith("</html>\n")


def test_a_device_cannot_be_opened(tmp_path: Path) -> None:
    """A report to a device, which stays one, is not said to be a page to open."""
    add_run(tmp_path, "google/good", [True])
    result = report(tmp_path, "-o", os.devnull)
    assert (result.exit_code, "browser" in result.stderr) == (0, False)
    assert not Path(os.devnull).is_file()


def test_texts_and_names_that_utf_8_cannot_have(tmp_path: Path) -> None:
    """Half of a surrogate pair in an error, and bytes of names that are no UTF-8, appear as U+FFFD."""
    folder = tmp_path / os.fsdecode(b"bad\xff")
    write(folder / "one.run.json", errored("bad \ud800", modelVersion={"slug": "google/good"}))
    (folder / os.fsdecode(b"x\xff.run.json")).write_text("{")
    result = report(folder)
    assert result.exit_code == 0, result.output
    page = (folder / "report.html").read_text(encoding="utf-8")
    document = element(page, "data")
    assert document["title"] == "bad\ufffd"
    assert "x\ufffd.run.json" in document["problems"][0]
    assert element(page, "details-0")[0]["parts"][0]["error"] == "bad \ufffd"


def test_links_are_not_followed_out_of_the_folder(tmp_path: Path) -> None:
    """The page has neither the log nor the run file that a link elsewhere leads to, and what is in the folder."""
    (tmp_path / "secret.log").write_text("secret")
    said = {"id": "c", "requests": [{"contents": [{"parts": [{"text": "secret"}]}]}]}
    file = write(tmp_path / "secret.run.json", passed(True, conversations=[said]))
    run = add_run(tmp_path / "sweep", "google/good", [])
    run.mkdir(parents=True)
    (run / "a.run.json").symlink_to(file)
    run.with_name("1.log").symlink_to(tmp_path / "secret.log")
    report(tmp_path / "sweep")
    page = (tmp_path / "sweep" / "report.html").read_text(encoding="utf-8")
    details = element(page, "details-0")[0]
    assert details["parts"][0]["state"] == "scored"
    assert "secret" not in json.dumps([details, element(page, "sources")])


def test_details_are_in_chunks(tmp_path: Path) -> None:
    """The page has the details of all runs in the order of its runs, 30 in an element; none with --no-details."""
    for run_id in range(1, 32):
        add_run(tmp_path, "google/good", [True], run_id=run_id)
    report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [len(element(page, f"details-{chunk}")) for chunk in (0, 1)] == [30, 1]
    assert element(page, "details-1")[0]["path"] == "quiz/1/good/31"
    report(tmp_path, "--no-details")
    assert 'id="details-0"' not in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_without_details_there_are_no_messages_of_errors(tmp_path: Path) -> None:
    """With --no-details, the page has of each error its type at most, and of the timeline no texts of others."""
    for run_id, message in enumerate(("ValueError: secret", "secret"), 1):
        fields = {"modelVersion": {"slug": "google/good"}, "pyRunId": str(run_id)}
        write(tmp_path / f"quiz/1/good/{run_id}/a.run.json", errored(message, **fields))
    make_sweep(tmp_path)
    with Journal.open(tmp_path) as journal:
        writer = HistoryWriter(journal, lambda: 1.8e9, lambda: 70)
        writer.record(SweepStarted("results", "http://s", ("quiz",), ("good",), 1, 2, 0, limit=1))
        writer.record(RunSkipped(PlannedRun("quiz", "good"), 1, "secret"))
        writer.close()
    for more in ([], ["--no-details"]):
        report(tmp_path, *more)
        page = (tmp_path / "report.html").read_text(encoding="utf-8")
        document = json.dumps(element(page, "data"))
        _, texts = unpack(element_bytes(page, "runs"))
        assert ("secret" in document, "ValueError: secret" in texts) == (not more, not more)
    assert {"ValueError", "error"} <= set(texts)
    assert "secret" not in texts


def test_what_was_said_is_there(tmp_path: Path) -> None:
    """A run has its messages with their roles and media, its assertions, its error and its log."""
    said = {
        "id": "Talk-1",
        "requests": [
            {
                "contents": [
                    {"role": "CONTENT_ROLE_USER", "parts": [{"text": "Why?"}]},
                    {
                        "role": "CONTENT_ROLE_USER",
                        "parts": [
                            {"text": "Look:"},
                            {"inlineData": {"mimeType": "image/png", "data": "AAAA"}},
                            {"text": "What is it?"},
                        ],
                    },
                    {
                        "role": "CONTENT_ROLE_ASSISTANT",
                        "senderName": "google/gemma-3",
                        "parts": [{"text": "So."}],
                    },
                ],
                "metrics": {"inputTokens": "3", "outputTokens": "2", "totalBackendLatencyMs": "1500"},
                "reasoningTraces": "Hm.",
            }
        ],
    }
    folder = tmp_path / "my-task/1/gemma-3/5"
    write(folder / "a.run.json", errored("Traceback\nValueError: no", conversations=[said]))
    (folder.parent / "5.log").write_text("\x1b[31mred\x1b[0m\n")
    report(tmp_path)
    (run,) = element((tmp_path / "report.html").read_text(encoding="utf-8"), "details-0")
    (part,) = run["parts"]
    assert part["error"] == "Traceback\nValueError: no"
    (talk_,) = part["conversations"]
    assert talk_["messages"] == [
        {"role": "user", "text": "Why?"},
        {"role": "user", "text": "Look:\nWhat is it?", "media": [{"type": "image/png", "data": "AAAA"}]},
        {
            "role": "model",
            "sender": "google/gemma-3",
            "text": "So.",
            "reasoning": "Hm.",
            "tokens_in": 3,
            "tokens_out": 2,
            "seconds": 1.5,
        },
    ]
    assert run["log"] == "\x1b[31mred\x1b[0m\n"
    assert [file["name"] for file in run["files"]] == ["a.run.json", "../5.log"]


def test_items_are_apart(tmp_path: Path) -> None:
    """Each sub-run that a value is the mean of is a part of its run, and what was said around them is another one."""

    def said(text: str) -> dict[str, Any]:
        return {
            "id": text,
            "requests": [{"contents": [{"role": "CONTENT_ROLE_USER", "parts": [{"text": text}]}]}],
        }

    parts = [
        number(
            value,
            "Part",
            conversations=[said(f"question {value}")],
            pyRunId=f"p{value}",
            startTime="2026-01-01T00:00:00Z",
        )
        for value in (0.0, 1.0)
    ]
    write(
        tmp_path / "my-task/1/gemma-3/5/a.run.json",
        number(0.5, subruns=parts, conversations=[said("around")]),
    )
    report(tmp_path)
    (run,) = element((tmp_path / "report.html").read_text(encoding="utf-8"), "details-0")
    texts = [part["conversations"][0]["messages"][0]["text"] for part in run["parts"]]
    assert texts[0] == "around"
    assert sorted(texts[1:]) == ["question 0.0", "question 1.0"]
    assert [part["value"] for part in run["parts"][1:]] == [float(text.split()[1]) for text in texts[1:]]


def test_of_many_items_the_worst_are_shown(tmp_path: Path) -> None:
    """Errors come first, then low values, and rows by their numbers; what is left out is what went best."""
    run = add_run(tmp_path, "google/good", [1.0, 1.0, None, 0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, None])
    (result,) = build(read_results(tmp_path), title="").runs
    assert result.folder == run
    found = read_details(result, read_results(tmp_path).items, Limits(parts=6))
    rows = [int(part.item.rpartition("_")[2]) for part in found.parts]
    assert (rows, found.more_parts) == ([2, 11, 9, 3, 0, 1], 6)


def test_nothing_of_a_task_is_markup(tmp_path: Path) -> None:
    """What tasks and models write is in no element but the inert ones, however it looks."""
    bad = "</script><script>alert(1)</script>"
    write(tmp_path / "x/1/m/1/a.run.json", errored(bad, taskVersion={"name": bad, "versionNumber": 1}))
    write(tmp_path / "x/1/m/2/a.run.json", number(1.0, bad, conversations=[talk()]))
    result = report(tmp_path)
    assert result.exit_code == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "alert(1)" not in page
    assert re.findall(r"<script[^>]*>", page).count('<script type="module">') == 1


@pytest.mark.parametrize("margin", ["0", "nan", "1.5"])
def test_a_margin_is_a_share(tmp_path: Path, margin: str) -> None:
    """A margin that is no share is refused, with an example of one."""
    result = report(tmp_path, "--margin", margin)
    assert result.exit_code == 2
    assert "such as 0.05" in result.stderr


def test_a_folder_without_results(tmp_path: Path) -> None:
    """Without run files, nothing is written."""
    result = report(tmp_path)
    assert result.exit_code == 4
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_if_nothing_can_be_written(tmp_path: Path) -> None:
    """A target that is a folder is an error, and no partial file is left."""
    add_run(tmp_path / "results", "google/good", [True])
    (tmp_path / "taken").mkdir()
    result = report(tmp_path / "results", "-o", tmp_path / "taken")
    assert result.exit_code == 1
    assert "error: Cannot write the report" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["results", "taken"]


def test_two_sweeps_on_one_page(tmp_path: Path) -> None:
    """The same task and model in two folders are two runs, each with its own items, log and place."""
    for name, value in (("one", True), ("two", False)):
        folder = add_run(tmp_path / name, "google/good", [value], task="quiz")
        make_sweep(tmp_path / name)
        folder.with_name("1.log").write_text(f"{name}\n")
    target = tmp_path / "both.html"
    report(tmp_path / "one", tmp_path / "two", "-o", target)
    runs = element(target.read_text(encoding="utf-8"), "details-0")
    assert sorted((run["log"], [part["value"] for part in run["parts"]]) for run in runs) == [
        ("one\n", [1.0]),
        ("two\n", [0.0]),
    ]


def test_one_run_on_a_page(tmp_path: Path) -> None:
    """The folder of a single run may be given."""
    folder = add_run(tmp_path, "google/good", [True, False])
    assert report(folder, "-o", tmp_path / "run.html").exit_code == 0
    (run,) = element((tmp_path / "run.html").read_text(encoding="utf-8"), "details-0")
    assert [part["value"] for part in run["parts"]] == [0.0, 1.0]
