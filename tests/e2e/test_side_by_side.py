"""Compares the vendor's unmodified command line with ours, step by step, on the same server.

Both must print the same data, write the same files and end with the same exit codes. `DIFFERENCES` has every
intended difference, with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

import dotenv
import pytest

from fanbench.testing import Scenario, SimulatedKaggle, serve
from fanbench.wire.messages import (
    BenchmarkResult,
    Leaderboard,
    LeaderboardRow,
    NumericResult,
    QuotaBalance,
    RefillPeriod,
    TaskResult,
)
from tests.e2e.command_lines import Ended, Fanbench, Kaggle, Program
from tests.e2e.vendor_versions import PINNED, VERSIONS
from tests.local.server_process import TASK, ServerProcess, run_server, task_source

pytestmark = pytest.mark.e2e


class Difference(NamedTuple):
    theirs: str
    ours: str
    why: str


DIFFERENCES = {
    "streams": Difference(
        "hints, progress and summaries on stdout",
        "the same on stderr, in our words",
        "stdout is for data, so that it can be piped",
    ),
    "padding": Difference("cells padded to the end of the line", "not", "nobody sees it, diffs do"),
    "lines": Difference(
        "a log's footer counts each piece without an end as a line",
        "it counts the lines that are there",
        "their number depends on how the stream was cut: 29, 22 and 20 for the same text",
    ),
    "models": Difference("slug and name", "and modalities, under a ruled header", "spec: cli.md"),
    "models in init": Difference(
        "LLM_* values from a list in the program", "from the server's list", "their list goes out of date"
    ),
    "jupytext": Difference(
        "notebook metadata of the converter", "the kernel only", "nothing reads it, and it changes with its version"
    ),
    "expiry": Difference("microseconds", "milliseconds", "as the wire has it"),
    "delete": Difference("says that the server cannot, exit 0", "asks the server", "the local server can"),
    "timeout": Difference("exit 0, and pushes on", "exit 5, nothing is pushed", "nobody could tell in a script"),
    "usage": Difference("1 for invalid values", "2", "exit codes tell what went wrong"),
    "not found": Difference("1", "4", "exit codes tell what went wrong"),
    "no such runs": Difference("nothing, exit 0", "the names that there are, exit 4", "a typo looked like no runs"),
    "credentials": Difference("1", "3", "exit codes tell what went wrong"),
    "negative wait": Difference("waits without end", "a usage error", "it is a mistake"),
}  # fmt: skip

# What `DIFFERENCES["streams"]` means for a line of theirs: it has no place in what we print on stdout.
HINTS = re.compile(
    r"Showing \d|View logs: |Showed logs for |Downloading output runs |Target directory: |Tip: |Next steps?:"
    r"|No runs |No tasks |Use 'kaggle |Status$|Waiting for run|Timed out |Check status with: | +\$ kaggle "
    r"|   (Task status|Check|Select)|  \d+ run\(s\) still"
)
COUNT = re.compile(r"═══ \(\d+ lines\) ═══")
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
# Longer than any test here waits; it ends with the server.
ENDLESS = "import time\ntime.sleep(600)"
POLL = ("--poll-interval", "1")

# Both versions passed all of these tests without a difference between them. The older one takes the part of them
# that exchanges data with the server, to save time.
on_both_versions = pytest.mark.parametrize("version", VERSIONS, indirect=True)


def data(ended: Ended) -> list[str]:
    """The data lines of a program's stdout, without padding and blank lines."""
    lines = [line.rstrip() for line in _without_results(ended.out.splitlines())]
    return [line for line in lines if line and not HINTS.match(line)]


def _without_results(lines: list[str]) -> list[str]:
    """The lines without the column with the results of runs, which only fanbench has."""
    for number, header in enumerate(lines):
        if (column := re.search(r"(?<= )Result +(?=Started)", header)) is not None:
            start, end = column.span()
            table = [*takewhile(str.strip, lines[number:])]
            shorter = [line[:start] + line[end:] for line in table]
            return lines[:number] + shorter + lines[number + len(table) :]
    return lines


def log_text(ended: Ended) -> str:
    """The logs without changes, and the footers without their counts."""
    text = re.sub(r"\nShowed logs for .*\n\Z", "", ended.out)
    return COUNT.sub("═══ (… lines) ═══", text)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@dataclass(frozen=True)
class Pair:
    """Both programs, each with a task of its own; the tasks differ only in their names."""

    kaggle: Kaggle
    fanbench: Fanbench

    def each(self) -> Iterator[tuple[Program, str]]:
        yield self.kaggle, "kaggles"
        yield self.fanbench, "fanbenc"

    def same_words(self, *words: str) -> tuple[Ended, Ended]:
        """The results of running the same command with both programs at the same time."""
        begun = [(program, program.begin(*words)) for program, _ in self.each()]
        theirs, ours = [program.end(process) for program, process in begun]
        return theirs, ours

    def own_task(self, *words: str) -> tuple[list[str], list[str], tuple[int, int]]:
        """The data and exit codes of both programs, each with its own task in the place of TASK."""
        begun = [
            (program, slug, program.begin(*(word.replace("TASK", slug) for word in words)))
            for program, slug in self.each()
        ]
        (theirs, their_code), (ours, our_code) = [
            (_neutral(ended, slug), ended.code)
            for ended, slug in [(program.end(process), slug) for program, slug, process in begun]
        ]
        return theirs, ours, (their_code, our_code)


def _neutral(ended: Ended, slug: str) -> list[str]:
    lines = [TIME.sub("TIME", line.replace(slug, "TASK")) for line in data(ended)]
    return [re.sub(r"\b(four|wrong|broken)/\d+/", r"\1/RUN/", line) for line in lines]


@pytest.fixture(scope="module", params=[PINNED])
def version(request: pytest.FixtureRequest) -> str:
    """The version of the vendor's command line."""
    kaggle: str = request.param
    return kaggle


@pytest.fixture(scope="module")
def own_server(version: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server for this module and version alone, because the tests compare whole lists."""
    options = ["--workers", "2", "--stop-timeout", "0"]
    with run_server(tmp_path_factory.mktemp("side-by-side") / "data", *options) as server:
        yield server


@pytest.fixture(scope="module")
def pair(own_server: ServerProcess, version: str, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    pair = Pair(
        Kaggle(own_server.address, tmp_path_factory.mktemp("kaggle"), version),
        Fanbench(own_server.address, tmp_path_factory.mktemp("fanbench")),
    )
    for program, slug in pair.each():
        files = {
            "task.py": TASK.replace("two-plus-two", slug),
            "task.txt": TASK,
            "no_task.py": "x = 1\n",
            "fails.py": TASK.replace("two-plus-two", f"fails-{slug}") + "\n1 / 0\n",
            "slow.py": task_source(f"slow-{slug}", "return True", before=ENDLESS),
        }
        for name, text in files.items():
            (program.folder / name).write_text(text)
    return pair


@pytest.fixture(scope="module")
def lived(pair: Pair) -> Pair:
    """Both programs push their task, and run it on models that answer well, badly and not at all."""
    push = ("tasks", "push", "TASK", "-f", "task.py", "--wait", *POLL)
    theirs, ours, codes = pair.own_task(*push)
    assert theirs == ours != []
    assert codes == (0, 0)
    theirs, ours, codes = pair.own_task(*push)
    assert theirs == ours
    assert theirs[0] == "Pushed new version of TASK"
    run = ("tasks", "run", "TASK", "-m", "test/four", "-m", "wrong", "--wait", *POLL)
    theirs, ours, codes = pair.own_task(*run)
    assert theirs == ours
    assert theirs[-2:] == ["  four: COMPLETED", "  wrong: COMPLETED"]
    assert codes == (0, 0)
    theirs, ours, codes = pair.own_task("tasks", "run", "TASK", "-m", "broken", "--wait", *POLL)
    assert theirs == ours
    assert theirs[-1] == "  broken: ERRORED"
    assert codes == (1, 1)
    return pair


@on_both_versions
def test_pushes_and_runs_go_the_same_way(lived: Pair) -> None:
    """Both print the same data and end with the same exit codes, in `lived` as in `status` afterwards."""
    theirs, ours, codes = lived.own_task("tasks", "status", "TASK")
    assert theirs == ours
    assert codes == (0, 0)
    words = [line.split()[:2] for line in theirs if line.startswith(("four", "wrong", "broken"))]
    assert words == [["four", "Completed"], ["wrong", "Completed"], ["broken", "Errored"]]
    assert any(line.startswith("  [broken] openai.BadRequestError") for line in theirs)


@on_both_versions
def test_what_is_pushed_is_the_same_notebook(lived: Pair, tmp_path: Path) -> None:
    """Both programs push the same cells, byte for byte, and the same kernel."""
    sources = []
    for program, slug in lived.each():
        program("tasks", "download", slug, "-m", "four", "-s", "-o", str(tmp_path / slug))
        (source,) = (tmp_path / slug).rglob("__notebook_source__.ipynb")
        notebook = json.loads(source.read_text().replace(slug, "TASK"))
        notebook["metadata"].pop("jupytext", None)
        sources.append(notebook | {"cells": [{**cell, "id": "ID"} for cell in notebook["cells"]]})
    assert sources[0] == sources[1]


@on_both_versions
@pytest.mark.parametrize(
    "words",
    [
        ("status", "kaggles"),
        ("status", "local/kaggles", "-m", "test/four", "-m", "wrong"),
        ("status", "Kaggles", "--mod", "four"),
        ("list",),
        ("list", "--status", "completed", "--page-size", "1", "--all"),
        ("list", "--name-regex", "^fan"),
        ("list", "--name-regex", "^nothing"),
    ],
)
def test_both_print_the_same_of_a_task(lived: Pair, words: tuple[str, ...]) -> None:
    """States, models, times, errors, URLs and lists are the same lines in the same order."""
    theirs, ours = lived.same_words("tasks", *words)
    assert data(theirs) == data(ours)
    assert theirs.code == ours.code == 0
    assert data(theirs) or words[-1] == "^nothing"


@on_both_versions
@pytest.mark.parametrize("filters", [(), ("-m", "test/four"), ("--mod", "broken", "-m", "wrong")])
def test_logs_are_the_same_to_the_letter(lived: Pair, filters: tuple[str, ...]) -> None:
    """Headers, text and footers are the same, except for the footers' counts of lines."""
    theirs, ours = lived.same_words("tasks", "log", "kaggles", *filters)
    assert log_text(theirs) == log_text(ours)
    assert "What is 2 + 2?" in ours.out
    assert theirs.code == ours.code == 0


@on_both_versions
def test_a_live_log_is_the_same_to_the_letter(lived: Pair) -> None:
    """Both programs print the same when they follow one run at the same time."""
    lived.fanbench("tasks", "run", "fanbenc", "-m", "slow")
    theirs, ours = lived.same_words("tasks", "log", "fanbenc", "-m", "slow")
    states = re.compile(r"\[(QUEUED|RUNNING|COMPLETED)\]")  # one of them may have come a moment later
    assert states.sub("[]", log_text(theirs)) == states.sub("[]", log_text(ours))
    assert "test/slow" in ours.out


@on_both_versions
def test_models_are_the_same(lived: Pair) -> None:
    """Both programs list the same slugs and names in the same order; ours adds modalities."""
    theirs, ours = lived.same_words("tasks", "models")
    listed = [line.split() for line in data(theirs)[2:]]
    assert listed == [line.split()[:2] for line in data(ours)[2:]] != []


@on_both_versions
@pytest.mark.parametrize("flags", [(), ("-s",), ("-m", "test/four", "-s")])
def test_downloads_are_the_same_bytes(lived: Pair, tmp_path: Path, flags: tuple[str, ...]) -> None:
    """Both programs write the same bytes and print the same table, also when cached and with -f."""
    for again, word in (((), "Done"), ((), "Cached"), (("-f",), "Done")):
        printed = []
        for program, slug in lived.each():
            target = tmp_path / slug
            ended = program.run("tasks", "download", "kaggles", "-o", str(target), *flags, *again)
            assert ended.code == 0
            printed.append(data(ended))
        assert printed[0] == printed[1]
        assert all(line.endswith(word) for line in printed[0][2:-1])
        trees = [tree(tmp_path / slug) for _, slug in lived.each()]
        assert trees[0] == trees[1]
        assert len(trees[0]) == len(printed[0][2:-1]) * (2 + 2 * ("-s" in flags))


def test_a_cached_output_without_sources_gets_the_tip(lived: Pair, tmp_path: Path) -> None:
    """With -s over a copy without notebooks, both keep the copy and print how to get the notebooks."""
    for program, slug in lived.each():
        words = ("tasks", "download", "kaggles", "-o", str(tmp_path / slug))
        program(*words)
        assert "Tip: 3 cached run(s) lack source notebooks." in program(*words, "-s")
    trees = [tree(tmp_path / slug) for _, slug in lived.each()]
    assert trees[0] == trees[1]


def test_each_finds_what_the_other_has_downloaded(lived: Pair, tmp_path: Path) -> None:
    """Each program treats a download of the other as cached."""
    words = ("tasks", "download", "kaggles", "-o", str(tmp_path))
    lived.kaggle(*words, "-m", "four")
    assert "1 run(s) cached" in lived.fanbench(*words, "-m", "four")
    lived.fanbench(*words)
    assert "3 run(s) cached" in lived.kaggle(*words)


@on_both_versions
def test_publishing_is_the_same(lived: Pair) -> None:
    """Both print the same for the first publication and for a public task."""
    for _ in range(2):
        theirs, ours, codes = lived.own_task("tasks", "publish", "TASK")
        assert theirs == ours != []
        assert codes == (0, 0)


@on_both_versions
@pytest.mark.parametrize("verb", ["init", "auth"])
def test_the_environment_has_the_same_keys(pair: Pair, own_server: ServerProcess, verb: str) -> None:
    """Both write the same keys in the same order, keep the rest of the file, and agree on the proxy's values."""
    files = []
    for program, _ in pair.each():
        file = program.folder / f"{verb}.env"
        file.write_text("# mine\nOTHER=1\nMODEL_PROXY_URL=old\n")
        program(verb, "-y", "--env-file", file.name)
        files.append(file.read_text())
    theirs, ours = [dotenv.dotenv_values(program.folder / f"{verb}.env") for program, _ in pair.each()]
    assert list(theirs) == list(ours)
    assert len(ours) == (7 if verb == "init" else 4)
    assert all(text.startswith("# mine\nOTHER=1\nMODEL_PROXY_URL=") for text in files)
    assert theirs["MODEL_PROXY_URL"] == ours["MODEL_PROXY_URL"] == f"{own_server.address.url}/models"
    for values in (theirs, ours):
        assert str(values["MODEL_PROXY_API_KEY"]).startswith("fbp-")
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", str(values["MODEL_PROXY_EXPIRY_TIME"]))
    names = [{path.name for path in program.folder.glob("*ference.md")} for program, _ in pair.each()]
    assert names[0] == names[1]


class Case(NamedTuple):
    """An error, the exit codes of both programs, and the name of the difference if they differ."""

    words: tuple[str, ...]
    theirs: int
    ours: int
    difference: str = ""


RUN = ("run", "TASK", "-m", "four")
ERRORS = {
    "unknown task": Case(("status", "no-such-task"), 1, 4, "not found"),
    "unknown task, log": Case(("log", "no-such-task"), 1, 4, "not found"),
    "unknown task, download": Case(("download", "no-such-task"), 1, 4, "not found"),
    "unknown task, run": Case(("run", "no-such-task", "-m", "four"), 1, 4, "not found"),
    "unknown task, publish": Case(("publish", "no-such-task"), 1, 4, "not found"),
    "somebody else's task": Case(("status", "somebody/TASK"), 1, 4, "not found"),
    "unknown model": Case(("run", "TASK", "-m", "nobody"), 1, 4, "not found"),
    "no runs on that model": Case(("status", "TASK", "-m", "nobody"), 0, 4, "no such runs"),
    "no logs of that model": Case(("log", "TASK", "-m", "nobody"), 0, 4, "no such runs"),
    "no outputs of that model": Case(("download", "TASK", "-m", "nobody"), 0, 4, "no such runs"),
    "no model, nobody to ask": Case(("run", "TASK"), 1, 2, "usage"),
    "missing file": Case(("push", "TASK", "-f", "missing.py"), 1, 1),
    "a folder": Case(("push", "TASK", "-f", "home"), 1, 1),
    "not .py": Case(("push", "TASK", "-f", "task.txt"), 1, 1),
    "task not in file": Case(("push", "other", "-f", "task.py"), 1, 1),
    "no task in file": Case(("push", "TASK", "-f", "no_task.py"), 1, 1),
    "no -f": Case(("push", "TASK"), 2, 2),
    "no task": Case(("run",), 2, 2),
    "no such flag": Case(("status", "TASK", "--nothing"), 2, 2),
    "a name that is none": Case(("status", "/TASK"), 1, 2, "usage"),
    "poll interval of nothing": Case((*RUN, "--poll-interval", "0"), 1, 2, "usage"),
    "a regex that is none": Case(("list", "--name-regex", "("), 1, 1),
    "creation fails": Case(("push", "fails-TASK", "-f", "fails.py", "--wait", *POLL), 1, 1),
}


@pytest.mark.parametrize("case", ERRORS.values(), ids=ERRORS)
def test_errors_end_the_same_way(lived: Pair, case: Case) -> None:
    """Both programs end with the same exit code or with a documented difference."""
    _, _, codes = lived.own_task("tasks", *case.words)
    assert codes == (case.theirs, case.ours)
    assert (case.theirs == case.ours) is (case.difference == "")
    assert not case.difference or case.difference in DIFFERENCES


@on_both_versions
def test_a_token_that_is_refused(own_server: ServerProcess, version: str, tmp_path: Path) -> None:
    """Both programs explain that the token is refused; ours has an exit code of its own."""
    address = own_server.address
    theirs, ours = Kaggle(address, tmp_path, version), Fanbench(address, tmp_path)
    for program, code, words in (
        (theirs, 1, "Authentication required"),
        (ours, 3, "credentials were refused"),
    ):
        program.environment["KAGGLE_API_TOKEN"] = "wrong"
        assert words in program("tasks", "list", code=code)


def test_what_the_vendor_gets_wrong(lived: Pair) -> None:
    """Only our program rejects a negative wait, and only ours can delete a task."""
    assert lived.own_task("tasks", *RUN, "--wait", "-1", *POLL)[2] == (0, 2)
    assert lived.own_task("tasks", "delete", "fails-TASK", "-y")[2] == (0, 0)
    assert "not supported" in lived.kaggle("tasks", "delete", "fails-kaggles", "-y")


class Simulated(NamedTuple):
    """A simulated Kaggle, which has what a local server has not: quotas in dollars and leaderboards."""

    url: str
    token: str = "simulated-secret"


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """Both programs on a server with two quotas and a leaderboard with every kind of result."""
    kaggle = SimulatedKaggle(Scenario(latency=0))
    refill = datetime(2030, 5, 1, tzinfo=UTC)
    kaggle.balances = [
        QuotaBalance(
            quota_used=1.256, total_quota_allowed=50, refill_period=RefillPeriod.DAILY, refill_time=refill
        ),
        QuotaBalance(quota_used=70, total_quota_allowed=50, refill_period=RefillPeriod.MONTHLY),
    ]
    numbers = [NumericResult(value=value) for value in (1, 1.0, 0.25, 1e-7)]
    results = [BenchmarkResult(numeric_result=number) for number in numbers]
    results += [
        BenchmarkResult(boolean_result=True),
        BenchmarkResult(boolean_result=False),
        BenchmarkResult(),
    ]
    kaggle.leaderboards["me", "bench"] = Leaderboard(
        rows=[
            LeaderboardRow(
                model_version_name=f"Mödel, {number}",
                task_results=[
                    TaskResult(
                        benchmark_task_slug=f"task-{number % 3}",
                        benchmark_task_name=f"Task {number % 3}",
                        result=result,
                    )
                ],
            )
            for number, result in enumerate(results)
        ]
    )
    with serve(kaggle) as server:
        yield Pair(
            Kaggle(Simulated(server.url), tmp_path_factory.mktemp("kaggle")),
            Fanbench(Simulated(server.url), tmp_path_factory.mktemp("fanbench")),
        )


@pytest.mark.parametrize(
    "words",
    [
        ("quota", "-v"),
        ("quota", "--cs"),
        ("leaderboard", "me/bench", "-s", "-v"),
        ("leaderboard", "me/bench", "-dsv"),
    ],
)
def test_csv_is_the_same_to_the_byte(accounts: Pair, words: tuple[str, ...], tmp_path: Path) -> None:
    """Quotas and leaderboards are the same CSV, printed and in files."""
    theirs, ours = accounts.same_words(*words)
    assert theirs.code == ours.code == 0
    said = re.compile(r"Leaderboard downloaded to .*\n")  # DIFFERENCES["streams"]
    assert said.sub("", theirs.out) == ours.out
    assert ours.out.count("\r\n") == (3 if words[0] == "quota" else 8)


def test_json_has_the_vendors_fields(accounts: Pair) -> None:
    """A record of theirs is in a record of ours, or in those of one model together."""
    theirs, ours = accounts.same_words("quota", "--format", "json")
    known = [one for one in json.loads(ours.out) if one["quota"] == "model_proxy"]
    assert [one.keys() - mine.keys() for one, mine in zip(json.loads(theirs.out), known, strict=True)] == [
        set()
    ] * 2
    theirs, ours = accounts.same_words("leaderboard", "me/bench", "--show", "--format", "json")
    by_model: dict[str, dict[str, object]] = {}
    for record in json.loads(ours.out):
        by_model.setdefault(record["Model"], {}).update(record)
    for row in json.loads(theirs.out):
        mine = {name: by_model[row["Model"]].get(name, "N/A") for name in row}
        assert mine == row


def test_the_table_of_differences_is_no_longer_than_it_must_be() -> None:
    """Every exit code that differs names its row, and every row says why."""
    assert all(all(difference) for difference in DIFFERENCES.values())
    assert {case.difference for case in ERRORS.values()} - {""} <= set(DIFFERENCES)


def test_a_creation_in_progress(pair: Pair) -> None:
    """During a creation both refuse a second push and a run, and a wait that is too short ends as documented.

    This must be the last test: its creations do not end, and occupy all workers of the server.
    """
    assert pair.own_task("tasks", "push", "slow-TASK", "-f", "slow.py")[2] == (0, 0)
    assert pair.own_task("tasks", "push", "slow-TASK", "-f", "slow.py")[2] == (1, 1)
    assert pair.own_task("tasks", "run", "slow-TASK", "-m", "four")[2] == (1, 1)
    pushed = pair.own_task("tasks", "push", "slow-TASK", "-f", "slow.py", "--wait", "1", *POLL)
    assert pushed[2] == (0, 5), DIFFERENCES["timeout"].why
    assert pushed[0] != []
    assert pushed[1] == []
