"""`fanbench sweep` as a process: signals, kills, pipes, and a terminal."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from fanbench.testing import Fault, SimulatedKaggle, SimulatedServer
from tests.cli.conftest import FOREVER, scripts
from tests.cli.piped import Piped
from tests.cli.sweeps import RESULTS, Sweep, changes
from tests.cli.sweeps import files as files
from tests.cli.sweeps import kaggle as kaggle
from tests.cli.sweeps import sweep as sweep
from tests.cli.terminal import Session, session

pytestmark = pytest.mark.slow

Start = Callable[..., Piped]


# --- Signals and pipes ---------------------------------------------------------------------------------------


@pytest.fixture
def started(
    folder: Path, server: SimulatedServer, kaggle: SimulatedKaggle, files: list[Path]
) -> Iterator[Start]:
    """Start a sweep in a process of its own, and return once it has runs. They end when the test calls
    `finish`.
    """
    with ExitStack() as processes:

        def start(*more: str, **fields: Any) -> Piped:
            endless(kaggle, **fields)
            process = processes.enter_context(
                Piped(
                    *("sweep", "there", "-m", "a", "-m", "b", "-y", "--repeats", "2", *more),
                    FANBENCH_ENDPOINT=server.url,
                )
            )
            processes.callback(process.kill)
            until(lambda: len(kaggle.runs) == 2 and kaggle.calls["logs"], process)
            return process

        yield start


def endless(kaggle: SimulatedKaggle, **fields: Any) -> None:
    """Let each run continue until `finish`."""
    kaggle.change(runs=scripts(running=FOREVER, errored=["c"], results=RESULTS, **fields))


def finish(kaggle: SimulatedKaggle, **fields: Any) -> None:
    """End the runs in progress, and let each later run end at once."""
    kaggle.change(runs=scripts(errored=["c"], results=RESULTS, **fields))
    kaggle.finish()


def until(seen: Callable[[], object], process: Piped) -> None:
    end = time.monotonic() + 60
    while not seen():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def said(process: Piped, words: str) -> None:
    """Return once it has printed `words` on stderr. Lines that come after may be lost."""
    text = ""
    while words not in text:
        line = process.stderr.readline().decode()
        assert line, text
        text += line


def test_ctrl_c_once(started: Start, kaggle: SimulatedKaggle, sweep: Sweep) -> None:
    """After one Ctrl-C nothing more is scheduled, runs in flight are collected, the exit code is 130, and the
    sweep can be resumed.
    """
    process = started()
    process.send_signal(signal.SIGINT)
    said(process, "Interrupted: nothing more is scheduled")
    finish(kaggle)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 of 4 runs completed, 2 not scheduled" in out.decode()
    assert "To resume: fanbench sweep -o results" in err.decode()
    assert len(kaggle.runs) == 2
    assert sweep("-o", "results").exit_code == 0
    assert len(kaggle.runs) == 4


def test_ctrl_c_when_all_is_scheduled(started: Start, kaggle: SimulatedKaggle) -> None:
    """If nothing is left after Ctrl-C, no command to resume is printed, but the exit code is 130."""
    process = started("--repeats", "1")
    process.send_signal(signal.SIGINT)
    said(process, "Either way, to resume: ")
    finish(kaggle)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 of 2 runs completed" in out.decode()
    assert "To resume" not in err.decode()


@pytest.mark.parametrize(
    ("number", "before", "code"),
    [(signal.SIGINT, 1, 130), (signal.SIGTERM, 0, 143), (signal.SIGTERM, 1, 143)],
    ids=["twice", "term", "once and term"],
)
def test_stopped_now(
    started: Start, kaggle: SimulatedKaggle, sweep: Sweep, number: signal.Signals, before: int, code: int
) -> None:
    """A second Ctrl-C or SIGTERM stops the sweep at once, and the next one resumes its runs."""
    process = started()
    for _ in range(before):
        process.send_signal(signal.SIGINT)
        said(process, "Interrupted:")  # two signals at once would count as one
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert "Stopped. To resume: fanbench sweep -o results" in err.decode()
    assert not list(Path("results").rglob("*.part"))
    finish(kaggle)
    assert sweep("-o", "results").exit_code == 0
    assert len(kaggle.runs) == 4


def test_ctrl_c_that_cancels(started: Start, kaggle: SimulatedKaggle, sweep: Sweep) -> None:
    """With --cancel-on-interrupt, Ctrl-C cancels the runs on the server, and the next sweep makes them again."""
    process = started("--cancel-on-interrupt")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 runs cancelled" in err.decode()
    assert [run.cancelled for run in kaggle.runs.values()] == [True, True]
    statuses = [run["status"] for run in json.loads(Path("results/summary.json").read_text())["runs"]]
    assert statuses == ["cancelled", "unscheduled"] * 2
    finish(kaggle)
    assert sweep("-o", "results").exit_code == 0
    assert len(kaggle.runs) == 6


def test_ctrl_c_while_runs_are_being_cancelled(started: Start, kaggle: SimulatedKaggle, sweep: Sweep) -> None:
    """The first Ctrl-C then ends everything at once, and the next sweep continues with the runs."""
    kaggle.change(faults=(Fault("cancel_runs", delay=FOREVER),))
    process = started("--cancel", "all", "--deadline", "1")
    said(process, "nothing more is scheduled: deadline")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Stopped. To resume: fanbench sweep -o results" in err.decode()
    finish(kaggle)
    assert sweep("-o", "results", "--deadline", "100").exit_code == 0
    assert len(kaggle.runs) == 4


@pytest.mark.parametrize(("answer", "expected"), [("y", {"a", "b"}), ("", set())])
def test_the_second_ctrl_c_on_a_terminal(
    folder: Path,
    server: SimulatedServer,
    kaggle: SimulatedKaggle,
    sweep: Sweep,
    answer: str,
    expected: set[str],
) -> None:
    """It stops the sweep at once, and asks whether to cancel its runs; without a yes they continue."""
    endless(kaggle)
    words = ("sweep", "there", "-m", "a", "-m", "b", "-y")
    with session(*words, FANBENCH_ENDPOINT=server.url) as terminal:
        terminal.until(lambda text: "2 running" in text)
        terminal.type("\x03")
        terminal.until(lambda text: "stopping" in text)
        terminal.type("\x03")
        terminal.until(lambda text: "still on the server? [y/N]" in text)
        terminal.type(f"{answer}\n")
        assert terminal.end() == 130
        assert ("2 runs cancelled" in terminal.screen.history) == bool(expected)
    assert {run.model for run in kaggle.runs.values() if run.cancelled} == expected
    finish(kaggle)
    assert sweep("-o", "results").exit_code == 0
    assert len(kaggle.runs) == 2 + len(expected)


def test_killed(started: Start, kaggle: SimulatedKaggle, sweep: Sweep) -> None:
    """After SIGKILL no run is scheduled twice, and the lock is free."""
    process = started()
    process.kill()
    process.communicate()
    finish(kaggle)
    assert sweep("-o", "results").exit_code == 0
    assert len(kaggle.runs) == 4


@pytest.mark.parametrize("kills", [False, True])
def test_the_page_beside_it(
    started: Start, kaggle: SimulatedKaggle, monkeypatch: pytest.MonkeyPatch, kills: bool
) -> None:
    """With --view, a page is served as long as the sweep runs, also after one Ctrl-C, and ends with it."""
    monkeypatch.setenv("BROWSER", "false")
    process = started("--view")
    line = next(line for line in iter(process.stderr.readline, b"") if line.startswith(b"The page: "))
    page = line.decode().removeprefix("The page: ").partition("#")[0]
    assert httpx.get(page).status_code == 200
    if kills:
        process.kill()
    else:
        process.send_signal(signal.SIGINT)
        said(process, "Interrupted:")
        assert httpx.get(page).status_code == 200
        finish(kaggle)
    process.communicate(timeout=60)
    until_gone(page)


def until_gone(page: str) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            httpx.get(page)
        except httpx.TransportError:
            return
        time.sleep(0.05)
    raise AssertionError(f"{page} still answers")


def test_a_reader_that_goes_away(started: Start, kaggle: SimulatedKaggle) -> None:
    """A closed pipe ends the sweep silently with the shell's exit code."""
    process = started("--format", "jsonl", "-q")
    assert json.loads(process.stdout.readline())["event"] == "sweep_started"
    process.stdout.close()
    finish(kaggle)
    assert process.wait(60) == 141
    assert process.stderr.read() == b""


# --- Readers that are slow ------------------------------------------------------------------------------------


@pytest.fixture
def unread(started: Start, kaggle: SimulatedKaggle) -> Start:
    """A sweep whose output nobody reads: each log alone is more than its pipe takes."""
    long = [(0.0, "x" * 9_000 + "\n")] * 20

    def start(*more: str) -> Piped:
        process = started(*more, log=long)
        finish(kaggle, log=long)
        return process

    return start


def test_a_reader_that_sleeps(unread: Start, kaggle: SimulatedKaggle, folder: Path) -> None:
    """The sweep continues while its reader sleeps, and no output is lost."""
    process = unread("--format", "jsonl")
    until(lambda: len([*(folder / "results").glob("*/*/*/*.log")]) == 4, process)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert [events[at]["event"] for at in (0, -1)] == ["sweep_started", "sweep_ended"]
    assert sum(event["event"] == "log_line" for event in events) == 4 * 20


def test_stopped_while_the_reader_sleeps(unread: Start, folder: Path) -> None:
    """A sweep whose reader sleeps can be stopped at once."""
    process = unread("--format", "jsonl")
    until(lambda: len([*(folder / "results").glob("*/*/*/*.log")]) == 4, process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143


# --- On a terminal -------------------------------------------------------------------------------------------


def on_terminal(
    server: SimulatedServer, *words: str, size: tuple[int, int] = (100, 24)
) -> AbstractContextManager[Session]:
    return session("sweep", *words, size=size, FANBENCH_ENDPOINT=server.url)


def answer(terminal: Session, text: str) -> None:
    terminal.until(lambda screen: screen.rstrip().endswith("[Y/n]"))
    terminal.type(f"{text}\n")


def test_nobody_reads_the_table(started: Start, kaggle: SimulatedKaggle, folder: Path) -> None:
    """The summaries are written even if nobody reads the table."""
    process = started()
    process.stdout.close()
    finish(kaggle)
    assert process.wait(60) == 141
    assert json.loads((folder / "results" / "summary.json").read_text())["ok"] is True


def test_the_answer_no(
    server: SimulatedServer, kaggle: SimulatedKaggle, folder: Path, files: list[Path]
) -> None:
    """The answer no changes nothing and is not a failure; the plan is shown also with -q."""
    with on_terminal(server, "first.py", "-m", "a", "-q") as terminal:
        answer(terminal, "n")
        assert terminal.end() == 0
    assert "1 task × 1 model: 1 run" in terminal.screen.text
    assert not (folder / "results").exists()
    assert changes(kaggle) == 0


def test_ctrl_c_at_the_question(
    server: SimulatedServer, kaggle: SimulatedKaggle, folder: Path, files: list[Path]
) -> None:
    """Ctrl-C at the question ends the program at once."""
    with on_terminal(server, "first.py", "-m", "a") as terminal:
        terminal.until(lambda screen: "Continue?" in screen)
        terminal.interrupt()
        assert terminal.end() == 130
    assert not (folder / "results").exists()


def test_the_screen(server: SimulatedServer, kaggle: SimulatedKaggle, files: list[Path]) -> None:
    """The display shows a row of marks per task and the last log lines, and only printed lines stay."""
    Path("sweep.toml").write_text("[limits]\nconcurrency = 5\n")
    endless(kaggle)
    kaggle.change(creation=FOREVER)
    with on_terminal(server, "sweep.toml", "there", "first.py", "--all-models") as terminal:
        answer(terminal, "")
        shown = terminal.until(lambda screen: "there ●●●" in screen and "| hello from" in screen)
        assert "of 6 runs" in shown
        assert "limit 5" in shown
        terminal.resize(40, 8)  # as many rows as the display, once its last line wraps
        terminal.until(lambda screen: "\n● 3 running  · 3 planned  limit 5" in screen)
        terminal.resize(100, 24)
        terminal.until(lambda screen: "time left unknown  ● 3 running" in screen)
        finish(kaggle)
        assert terminal.end() == 1
    left = terminal.screen.history
    assert "●" not in left
    assert "scheduled" not in left.partition("Errored:")[0].partition("Continue?")[2]
    assert "there c: errored: ValueError: no answer" in left
    assert "4 of 6 runs completed, 2 errored" in left
    assert terminal.screen.cursor_shown


def test_ctrl_c_on_the_screen(server: SimulatedServer, kaggle: SimulatedKaggle, files: list[Path]) -> None:
    """After Ctrl-C the display stays until everything in flight is collected."""
    endless(kaggle)
    with on_terminal(server, "there", "-m", "a", "--repeats", "2", "-y") as terminal:
        terminal.until(lambda screen: "there ●" in screen)
        terminal.type("\x03")
        terminal.until(lambda screen: "stopping: interrupted" in screen)
        finish(kaggle)
        assert terminal.end() == 130
    assert "1 of 2 runs completed, 1 not scheduled" in terminal.screen.history


def test_each_stage_is_asked_for(server: SimulatedServer, kaggle: SimulatedKaggle, files: list[Path]) -> None:
    """With --step, the question says what the stage will do."""
    with on_terminal(server, "first.py", "-m", "a", "--step") as terminal:
        terminal.until(lambda screen: "push 1 task," in screen)
        answer(terminal, "y")
        assert terminal.end() == 0
    assert changes(kaggle) == 1
    with on_terminal(server, "--step") as terminal:
        terminal.until(lambda screen: "schedule 1 run?" in screen)
        answer(terminal, "n")
        assert terminal.end() == 0
    assert changes(kaggle) == 1
