"""The progress display: what it looks like, that it does not change what is printed, and a clean screen."""

from __future__ import annotations

import io
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from fanbench.cli import progress
from fanbench.cli.output import Output
from fanbench.cli.progress import Progress, Row, RowLayout, TimedRow, Verdict, clock, spinner
from fanbench.cli.screen import Screen as LiveScreen
from fanbench.testing import SimulatedKaggle, SimulatedServer
from fanbench.wire.messages import RunState
from tests.cli.conftest import FOREVER, script
from tests.cli.terminal import Screen, session
from tests.operations.fake_sdk import install_fake_sdk, task_text
from tests.wire.fake_server import Answer, FakeServer, Request
from tests.wire.test_zips import zipped

pytestmark = pytest.mark.slow

# --- What it looks like ---


def rows(number: int, *, groups: int = 1) -> list[TimedRow]:
    """Runs of which a third has completed after 5 seconds, a third has errored, and a third is running."""
    ends: list[tuple[str, Verdict]] = [("COMPLETED", "good"), ("RUNNING", ""), ("ERRORED", "bad")]
    return [
        TimedRow(
            Row(f"model-{index}", ends[index % 3][0], f"task-{index % groups}", end=ends[index % 3][1]),
            begun=0,
            ended=5 if ends[index % 3][1] else None,
        )
        for index in range(number)
    ]


def picture(shown: list[TimedRow], columns: int = 80, height: int = 24, summary: str = "") -> list[str]:
    lines = RowLayout(shown, (columns, height), 65.0, 65.0, "runs", summary).lines(color=False)
    return [" ".join(line.split()) for line in lines]


def test_rows() -> None:
    """A row has a mark, a name, a state and a clock that stops when it ends; the last line counts the rows."""
    assert picture(rows(3), summary="9KB") == [
        "✓ model-0 COMPLETED 0:05",
        "⠋ model-1 RUNNING 1:05",
        "✗ model-2 ERRORED 0:05",
        "1:05 2 of 3 runs: 1 completed, 1 errored, 1 running 9KB",
    ]


def test_a_single_row_is_not_counted() -> None:
    """A single row is not counted."""
    assert picture(rows(1)) == ["✓ model-0 COMPLETED 0:05"]
    assert picture([]) == []


def test_more_rows_than_lines_are_counted_by_group() -> None:
    """If there are more rows than lines, each group is a row with a bar."""
    assert picture(rows(30, groups=2), height=20)[:2] == [
        "⠋ task-0 5 completed, 5 errored, 5 running ━━━━━━━━━━━━━ 1:05",
        "⠋ task-1 5 completed, 5 errored, 5 running ━━━━━━━━━━━━━ 1:05",
    ]
    assert len(picture(rows(30, groups=2), height=20)) == 3


@pytest.mark.parametrize("groups", [1, 20])
def test_more_groups_than_lines_are_one_line(groups: int) -> None:
    """If there are more groups than lines, or only one group, only the last line is shown."""
    assert picture(rows(30, groups=groups), height=10) == [
        "1:05 20 of 30 runs: 10 completed, 10 errored, 10 running"
    ]


def test_hidden_rows_are_counted() -> None:
    """Hidden rows are counted, but have no line."""
    waiting = [TimedRow(Row("a", "waiting", hidden=True), 0), TimedRow(Row("b", "waiting"), 0)]
    assert picture(waiting) == ["⠋ b waiting 1:05", "1:05 0 of 2 runs: 2 waiting"]


@given(
    st.lists(
        st.builds(Row, st.text(max_size=30), st.text(max_size=12), st.text(max_size=3), st.text(max_size=9))
    ),
    st.integers(1, 120),
    st.integers(1, 60),
)
def test_it_fits_on_every_screen(shown: list[Row], columns: int, height: int) -> None:
    """Whatever the names, no line is as wide as the screen, and one row of the screen stays free."""
    lines = RowLayout([TimedRow(row, 0) for row in shown], (columns, height), 1.0).lines(color=False)
    assert len(lines) <= max(1, height - 1)
    assert all(cell_len(line) <= max(1, columns - 1) and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.9, "0:59"), (754, "12:34"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_clock(seconds: float, text: str) -> None:
    """Clocks have minutes and seconds, and hours if there are any."""
    assert clock(seconds) == text


# --- What is printed meanwhile ---


class Tty(io.StringIO):
    """A stream that writes to the terminal `screen`."""

    def __init__(self, screen: Screen) -> None:
        super().__init__()
        self._screen = screen

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self._screen.feed(text.replace("\n", "\r\n"))
        return len(text)


@contextmanager
def terminal() -> Iterator[Screen]:
    """Make stdout and stderr a terminal. (Not a fixture: pytest replaces them for each test.)"""
    screen = Screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TERM", "xterm")
        patch.setattr(progress, "_DELAY", 0.0)
        patch.setattr(progress, "_TICK", 0.001)
        patch.setattr(sys, "stdout", Tty(screen))
        patch.setattr(sys, "stderr", Tty(screen))
        yield screen


_PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("out"), st.text("AB\n", max_size=200)),
        st.tuples(st.just("err"), st.text("ab\n", max_size=200)),
        st.tuples(st.just("draw"), st.text("xyz", max_size=79)),
    )
)


@given(_PIECES, st.booleans())
def test_every_line_comes_through(pieces: list[tuple[str, str]], keep: bool) -> None:
    """Every printed line stays whole and in order, and nothing else stays but a region that is kept."""
    printed, drawn = {"out": "", "err": ""}, list[str]()
    with terminal() as screen:
        region = LiveScreen(sys.stderr)
        region.open()
        for kind, text in [*pieces, ("out", "O\n"), ("err", "e\n")]:
            if kind == "draw":
                drawn = [text, "below"]
                region.draw(drawn)
            else:
                (sys.stdout if kind == "out" else sys.stderr).write(text)
                printed[kind] += text
        region.close(keep=keep)
    left = screen.history.split("\n")
    if keep and drawn:
        assert left[-2:] == drawn
        left = left[:-2]
    assert [line for line in left if line.isupper()] == _lines(printed["out"])
    assert [line for line in left if line.islower()] == _lines(printed["err"])
    assert len(left) == sum(text.count("\n") for text in printed.values())
    assert screen.cursor_shown


def _lines(text: str) -> list[str]:
    return [line for line in text.split("\n") if line]


def test_kept_rows_begin_on_a_new_line() -> None:
    """What is kept begins on a new line, also below an unfinished line."""
    with terminal() as screen, suppress(KeyboardInterrupt), Progress(Output()) as display:
        display.show(1, Row("work"))
        sys.stdout.write("so far")
        _until(lambda: "so far\n" in screen.text and "work" in screen.text)
        raise KeyboardInterrupt
    assert [line.lstrip("⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏ ") for line in screen.history.splitlines()] == ["so far", "work    0:00"]


def test_an_open_line_is_seen() -> None:
    """An unfinished line is visible, without characters that could move the cursor."""
    with terminal() as screen, Progress(Output()) as display:
        display.show(1, Row("work"))
        sys.stdout.write("so \x1b[1mfar")
        _until(lambda: screen.text.startswith("so far\n") and "work" in screen.text)
        sys.stdout.write("\x1b[0m, so good\n")
        _until(lambda: screen.text.startswith("so far, so good\n"))
    assert screen.history == "so far, so good"


def test_a_burst_of_lines_needs_few_redraws() -> None:
    """A burst of ten thousand lines takes far fewer redraws."""
    with terminal() as screen, Progress(Output()) as display:
        display.show(1, Row("work"))
        display.show(2, Row("more work"))
        _until(lambda: "more work" in screen.text)
        before = screen.moves
        for number in range(10_000):
            sys.stderr.write(f"{number}\n")
        moves = screen.moves - before
    assert moves < 2_000
    assert screen.history.splitlines() == [str(number) for number in range(10_000)]


def test_the_streams_are_put_back() -> None:
    """The standard streams are restored after an error, and a stream that someone has kept still works."""
    with terminal() as screen:
        before = sys.stdout, sys.stderr
        with suppress(ValueError), Progress(Output()) as display:
            display.show(1, Row("work"))
            kept = sys.stderr
            _until(lambda: "work" in screen.text)
            raise ValueError
        assert (sys.stdout, sys.stderr) == before
        kept.write("late")
    assert screen.history == "late"


def test_a_spinner_is_one_line() -> None:
    """A spinner is one line, which is gone at the end."""
    with terminal() as screen, spinner(Output(), "Starting") as say:
        _until(lambda: "Starting" in screen.text)
        say("Going on")
        _until(lambda: "Going on" in screen.text and "Starting" not in screen.text)
    assert screen.history == ""


def test_a_spinner_elsewhere_prints_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal, a spinner prints one line per step, and nothing with -q."""
    with spinner(Output(), "Starting") as say:
        say("Going on")
    with spinner(Output(quiet=True), "Starting") as say:
        say("Going on")
    assert capsys.readouterr() == ("", "Going on\n")


def _until(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)


# --- The commands, on a terminal of their own ---


@pytest.fixture
def busy(
    folder: Path, kaggle: SimulatedKaggle, server: SimulatedServer, monkeypatch: pytest.MonkeyPatch
) -> SimulatedKaggle:
    """A Kaggle with a task whose runs continue until `finish`. The log of model `one` has "first" at once and
    "second" at the end.
    """
    monkeypatch.setenv("FANBENCH_ENDPOINT", server.url)
    kaggle.add_task("t")
    for model in ("two", "one", "three"):
        kaggle.add_model(model, model)
    log = ((0.0, "first\n"), (FOREVER, "second\n"))
    kaggle.change(
        runs=lambda task, model, number: script(model, running=FOREVER, log=log if model == "one" else ())
    )
    return kaggle


RUN = ("tasks", "run", "t", "-m", "one", "-m", "two", "-m", "three", "--wait", "--poll-interval", "0.2")


@pytest.mark.parametrize("size", [(80, 24), (20, 5), (200, 100)])
def test_run_shows_one_row_per_run(busy: SimulatedKaggle, size: tuple[int, int]) -> None:
    """Runs are rows in the order of the plan, below the log lines; only what was printed stays."""
    with session(*RUN, size=size) as terminal:
        seen = terminal.until(lambda text: text.count("RUNNING") == 3 and "of 3 run" in text)
        rows = [line.split()[1] for line in seen.splitlines() if "RUNNING" in line]
        assert rows == ["one", "two", "three"]
        assert "one   | first" in terminal.screen.history
        (two,) = busy.our_runs(model="two")
        two.script = replace(two.script, end=RunState.ERRORED, error="Traceback\nValueError: no answer")
        busy.finish()
        assert terminal.end() == 1
    assert terminal.screen.cursor_shown
    assert terminal.screen.history == (
        "Submitted run(s) for task 't'.\n  one: Scheduled\n  two: Scheduled\n  three: Scheduled\n"
        "Waiting for run(s) to complete...\none   | first\none   | second\n"
        "All runs completed:\n  one: COMPLETED\n  two: ERRORED\n  three: COMPLETED\n"
        "error: 1 run(s) failed. Details below:\n  [two]\n    Traceback\n    ValueError: no answer"
    )


def test_an_interrupt_leaves_the_rows(busy: SimulatedKaggle) -> None:
    """An interrupt leaves the rows on the screen, with the cursor visible on a new line."""
    with session(*RUN) as terminal:
        terminal.until(lambda text: "| first" in text and text.count("RUNNING") == 3)
        terminal.type("\x03")
        assert terminal.end() == 130
    assert terminal.screen.cursor_shown
    below = terminal.screen.history.partition("one   | first\n")[2].splitlines()
    assert [row.split()[1:3] for row in below[:3]] == [
        ["one", "RUNNING"],
        ["two", "RUNNING"],
        ["three", "RUNNING"],
    ]
    assert "0 of 3 runs: 3 running" in below[3]
    assert below[4:] == ["Interrupted. Scheduled runs continue; see: fanbench tasks status t"]


@pytest.mark.parametrize(
    ("words", "seen"),
    [
        ("tasks log t", "one | first"),
        ("tasks log t -m one", "first"),
        ("tasks log t --no-interleave", "1 reading"),
        ("tasks list --page-size 1", "[q]uit: "),
        ("tasks run t", "or 'all': "),
        ("tasks status t --watch", "two                  Running"),
    ],
)
def test_the_next_prompt_has_a_line_of_its_own(busy: SimulatedKaggle, words: str, seen: str) -> None:
    """After Ctrl-C the shell's prompt is on a new line, without an empty line before it."""
    for name in ("one", "two"):
        busy.add_run("t", name)
        busy.add_task(name)
    with session(*words.split()) as terminal:
        terminal.until(lambda text: seen.strip() in text)
        terminal.type("\x03")
        assert terminal.end() == 130
    assert terminal.screen.begins_line
    assert terminal.screen.cursor_shown


def test_the_prompt_after_the_server_has_a_line_of_its_own(tmp_path: Path) -> None:
    """Ctrl-C ends the server cleanly, also while it is starting its fork server."""
    with session("serve", "--data", str(tmp_path), "--port", "0", "--workers", "1") as terminal:
        terminal.until(lambda text: "`fanbench stop" in text and text.rstrip().endswith("`"))
        terminal.type("\x03")
        assert terminal.end() == 0
    assert terminal.screen.history.endswith("`\n^C")
    assert terminal.screen.begins_line


def test_the_note_about_an_interrupt_is_on_a_new_line(busy: SimulatedKaggle) -> None:
    """The note about an interrupt is on a new line, also if there are no rows."""
    with session(*RUN, TERM="dumb") as terminal:
        terminal.until(lambda text: "| first" in text)
        terminal.type("\x03")
        assert terminal.end() == 130
    assert terminal.screen.history.endswith(
        "\n^C\nInterrupted. Scheduled runs continue; see: fanbench tasks status t"
    )


def test_an_interrupt_leaves_the_watched_status(busy: SimulatedKaggle) -> None:
    """An interrupt of --watch leaves the last status on the screen, once."""
    busy.add_run("t", "one")
    with session("tasks", "status", "t", "--watch") as terminal:
        seen = terminal.until(lambda text: "one                  Running" in text)
        terminal.type("\x03")
        assert terminal.end() == 130
    assert terminal.screen.history == seen


def test_a_timeout_clears_the_rows_and_names_the_runs(busy: SimulatedKaggle) -> None:
    """A timeout is exit 5; it removes the rows and names the runs that continue."""
    words = [word if word != "--wait" else "--wait=2" for word in RUN]
    with session(*words) as terminal:
        terminal.until(lambda text: text.count("RUNNING") == 3)
        assert terminal.end() == 5
    assert terminal.screen.history.partition("one   | first\n")[2] == (
        "error: Timed out after 2s; still under way:\n"
        "  t: three (Run 12) Running\n  t: two (Run 11) Running\n  t: one (Run 10) Running\n"
        "hint: Run `fanbench tasks status t` to see how they proceed."
    )
    assert terminal.screen.cursor_shown


def test_a_screen_that_changes_its_size(busy: SimulatedKaggle) -> None:
    """Nothing of an earlier screen size stays, even though a narrower terminal wraps what was drawn."""
    with session(*RUN) as terminal:
        terminal.until(lambda text: text.count("RUNNING") == 3 and "3 running" in text)
        for columns, height in ((20, 24), (100, 30), (20, 12), (80, 24)):
            terminal.resize(columns, height)
            terminal.until(_one_sum_that(ends="3 running" if columns >= 80 else "…"))
        busy.finish()
        assert terminal.end() == 0
    assert "RUNNING" not in terminal.screen.text
    assert " of 3 run" not in terminal.screen.text
    assert terminal.screen.text.endswith(
        "All runs completed:\n  one: COMPLETED\n  two: COMPLETED\n  three: COMPLETED"
    )


def _one_sum_that(*, ends: str) -> Callable[[str], bool]:
    """Return a test that the last line is the only one of its kind, and ends with `ends`."""
    return lambda text: text.count(" of 3 run") == 1 and text.endswith(ends)


def test_stop_and_continue(busy: SimulatedKaggle) -> None:
    """After a stop and a continue, what the shell has printed stays on the screen."""
    with session(*RUN) as terminal:
        terminal.until(lambda text: text.count("RUNNING") == 3)
        terminal.process.send_signal(signal.SIGSTOP)
        terminal.settle()
        terminal.screen.feed("\r\n[1]+ Stopped\r\n$ fg\r\nfanbench\r\n")
        terminal.process.send_signal(signal.SIGCONT)
        terminal.until(lambda text: text.count("RUNNING") == 6)
        busy.finish()
        assert terminal.end() == 0
    assert "[1]+ Stopped\n$ fg\nfanbench\n" in terminal.screen.history


def test_rows_without_colors(busy: SimulatedKaggle) -> None:
    """With NO_COLOR there are rows without colors."""
    with session(*RUN, NO_COLOR="1") as terminal:
        terminal.until(lambda text: text.count("RUNNING") == 3)
        busy.finish()
        assert terminal.end() == 0
    assert terminal.screen.styles == set()


@pytest.mark.parametrize("term", ["dumb", ""])
def test_a_dumb_terminal_gets_lines(busy: SimulatedKaggle, term: str) -> None:
    """A dumb terminal gets one line per change, and its cursor is never moved."""
    with session(*RUN, TERM=term) as terminal:
        terminal.until(lambda text: text.count("RUNNING") == 3)
        busy.finish()
        assert terminal.end() == 0
    assert terminal.screen.moves == 0
    assert "  one (Run 10): RUNNING\n" in terminal.screen.history
    assert "  one (Run 10): COMPLETED\n" in terminal.screen.history


def test_quiet_shows_none(busy: SimulatedKaggle) -> None:
    """With -q there are neither rows nor lines."""
    with session(*RUN, "-q") as terminal:
        terminal.until(lambda text: "three: Scheduled" in text)
        busy.finish()
        assert terminal.end() == 0
    assert terminal.screen.moves == 0
    assert "Waiting" not in terminal.screen.history


def test_data_goes_where_it_is_sent(busy: SimulatedKaggle, tmp_path: Path) -> None:
    """With stdout in a file, the rows are on the terminal, and only data is in the file."""
    with (
        (tmp_path / "out").open("wb") as out,
        session(*RUN, "--format", "json", stdout=out.fileno()) as terminal,
    ):
        terminal.until(lambda text: text.count("RUNNING") == 3)
        busy.finish()
        assert terminal.end() == 0
    text = (tmp_path / "out").read_text()
    assert "\x1b" not in text
    assert [row["run_id"] for row in json.loads(text)] == [10, 11, 12]
    assert "run_id" not in terminal.screen.history


def test_push_shows_one_row_per_task(folder: Path, kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """A push shows the creation of each task as a row, instead of a line per change."""
    kaggle.change(creation=FOREVER)
    for name in ("b", "a"):
        (folder / f"{name}.py").write_text(
            f"import kaggle_benchmarks as kbench\n@kbench.task(name={name!r})\ndef t(llm): ...\nt.run(kbench.llm)\n"
        )
    words = ["tasks", "push", "-f", "b.py", "-f", "a.py", "--wait", "--poll-interval", "0.2"]
    with session(*words, "--endpoint", server.url) as terminal:
        seen = terminal.until(lambda text: text.count("RUNNING") == 2)
        assert [row.split()[1] for row in seen.splitlines() if "RUNNING" in row] == ["b", "a"]
        assert "0 of 2 pushes: 2 running" in seen
        kaggle.finish()
        assert terminal.end() == 0
    assert "status:" not in terminal.screen.history
    assert "Completed: b" in terminal.screen.history
    assert "RUNNING" not in terminal.screen.history


def test_pushes_that_time_out(folder: Path, kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """Pushes that time out are exit 5, and each error says how long it waited."""
    kaggle.change(creation=FOREVER)
    for name in ("b", "a"):
        (folder / f"{name}.py").write_text(
            f"import kaggle_benchmarks as kbench\n@kbench.task(name={name!r})\ndef t(llm): ...\nt.run(kbench.llm)\n"
        )
    words = ("tasks", "push", "-f", "b.py", "-f", "a.py", "--wait", "2", "--endpoint", server.url)
    with session(*words) as terminal:
        assert terminal.end() == 5
    assert "error: Timed out after 2s: the creation of task 'b' is RUNNING." in terminal.screen.history
    assert "Timed out while waiting for 2 of 2 pushes." in terminal.screen.history


def test_download_shows_bars(folder: Path) -> None:
    """Downloads in progress are bars with the bytes of all below; finished rows scroll above."""
    gate, archive = threading.Event(), zipped(("one.run.json", b"{}"))
    kind = {"Content-Type": "application/zip"}

    def download(request: Request) -> Answer:
        pieces = [archive] if request.json["runId"] == 12 else [archive[:50], gate, archive[50:]]
        return Answer(pieces, headers=kind, length=len(archive))

    state = "BENCHMARK_TASK_RUN_STATE_COMPLETED"
    runs = [
        {"id": run_id, "modelVersionSlug": model, "state": state}
        for run_id, model in ((12, "three"), (11, "two"), (10, "one"))
    ]
    script: dict[str, Any] = {
        "GetBenchmarkTask": [Answer({"slug": {"ownerSlug": "me", "taskSlug": "t", "versionNumber": 1}})],
        "ListBenchmarkTaskRuns": [Answer({"runs": runs})],
        "DownloadBenchmarkTaskRunOutput": download,
    }
    with (
        FakeServer(script) as server,
        session("tasks", "download", "t", "--endpoint", server.url) as terminal,
    ):
        seen = terminal.until(lambda text: "2 downloading" in text and text.count("50B of") == 2)
        assert [row.split()[1] for row in seen.splitlines() if "50B of" in row] == ["two", "one"]
        assert "1 of 3 runs: 1 done, 2 downloading" in seen
        assert "three/12/" in seen
        gate.set()
        assert terminal.end() == 0
    assert "downloading" not in terminal.screen.history
    rows = [row for row in terminal.screen.history.splitlines() if re.search(r"/1\d/", row)]
    assert [row.split()[-1] for row in rows] == ["Done"] * 3


def test_log_shows_progress(busy: SimulatedKaggle) -> None:
    """While logs are shown one after another, rows say which are read and how many lines."""
    busy.add_run("t", "one")
    busy.add_run("t", "two", script("two", log=((0.0, "a\nb\nc\n"),)))
    with session("tasks", "log", "t", "--no-interleave") as terminal:
        seen = terminal.until(lambda text: "1 reading" in text and "1 lines" in text)
        assert "1 of 2 logs: 1 read, 1 reading" in seen
        busy.finish()
        assert terminal.end() == 0
    assert "reading" not in terminal.screen.history
    assert "═══\nfirst\nsecond\n═══ (2 lines) ═══" in terminal.screen.history


def test_check_shows_one_row_per_file(
    folder: Path, kaggle: SimulatedKaggle, server: SimulatedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are running are rows; the line of a finished file scrolls above."""
    install_fake_sdk(folder, monkeypatch)
    kaggle.add_model("four", "Four", proxy_slug="test/four")
    wait = f"while not os.path.exists({str(folder / 'go')!r}):\n    time.sleep(0.02)"
    (folder / "a.py").write_text(task_text("return 0.5"))
    (folder / "b.py").write_text(task_text("return 0.5", before=wait))
    (folder / "c.py").write_text(task_text("return 0.5", before=wait, after="sys.exit(3)"))
    with session("check", "a.py", "b.py", "c.py", "--run", "--endpoint", server.url) as terminal:
        seen = terminal.until(lambda text: "1 of 3 files: 1 recorded, 2 running" in text)
        assert [row.split()[1:4] for row in seen.splitlines() if " running  " in row] == [
            ["b.py", "running", "test/four"],
            ["c.py", "running", "test/four"],
        ]
        assert "a.py: recorded one: COMPLETED" in seen
        (folder / "go").touch()
        assert terminal.end() == 1
    assert "running" not in terminal.screen.history
    assert [line[:15] for line in terminal.screen.history.splitlines()] == [
        "a.py: recorded ",
        "b.py: recorded ",
        "c.py: error: it",
    ]


def test_rich_is_imported_where_rows_are_drawn() -> None:
    """rich is not imported unless rows are drawn."""
    code = """
import sys
from fanbench.cli import progress
from fanbench.cli.output import Output
from fanbench.cli.views import download, log, push, run
with progress.Progress(Output()) as display:
    display.show(1, progress.Row("work"))
print("rich" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
