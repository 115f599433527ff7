"""`fanbench sweep` as a process: signals, kills, pipes, and a terminal."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from tests.api.fake_server import FakeServer
from tests.cli.conftest import Cli, program
from tests.cli.sweep_world import Sweep, changes, sweep_of, sweep_world, task_files
from tests.cli.terminal import Session, session
from tests.cli.world import World

Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def world() -> World:
    return sweep_world()


@pytest.fixture
def files(folder: Path) -> list[Path]:
    return task_files(folder)


@pytest.fixture
def sweep(cli: Cli, files: list[Path]) -> Sweep:
    return sweep_of(cli)


# --- Signals and pipes ---------------------------------------------------------------------------------------


@pytest.fixture
def started(folder: Path, server: FakeServer, world: World, files: list[Path]) -> Start:
    """A sweep whose runs take a second, in a process of its own, once they run."""

    def start(*more: str, seconds: float = 1.0) -> subprocess.Popen[bytes]:
        world.seconds = seconds
        process = program(
            *("sweep", "there", "-m", "a", "-m", "b", "-y", "--repeats", "2", *more),
            FANBENCH_ENDPOINT=server.url,
        )
        end = time.monotonic() + 30
        while len(world.runs) < 2 or not server.calls("GetBenchmarkTaskRunLogs"):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        return process

    return start


def test_ctrl_c_once(started: Start, world: World, sweep: Sweep) -> None:
    """Nothing more is scheduled, what runs is followed and fetched; exit 130, and the next time goes on."""
    process = started()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "2 of 4 runs completed, 2 not scheduled" in out.decode()
    assert "Interrupted: nothing more is scheduled" in err.decode()
    assert "What is left is done by: fanbench sweep -o results" in err.decode()
    assert len(world.runs) == 2
    world.seconds = 0.0
    assert sweep("-o", "results").exit_code == 0
    assert len(world.runs) == 4


@pytest.mark.parametrize(
    ("signals", "code"),
    [([signal.SIGINT, signal.SIGINT], 130), ([signal.SIGTERM], 143)],
    ids=["twice", "term"],
)
def test_stopped_now(
    started: Start,
    world: World,
    sweep: Sweep,
    signals: list[signal.Signals],
    code: int,
) -> None:
    """At once, with nothing lost: the runs go on, and the next time they are taken up."""
    process = started(seconds=60.0)
    for number_ in signals:
        process.send_signal(number_)
        time.sleep(0.2)  # two that come at once would be one
    _, err = process.communicate(timeout=10)
    assert process.returncode == code
    assert "Stopped. What is left is done by: fanbench sweep -o results" in err.decode()
    assert not list(Path("results").rglob("*.part"))
    world.seconds = 0.0
    assert sweep("-o", "results").exit_code == 0
    assert len(world.runs) == 4


def test_killed(started: Start, world: World, sweep: Sweep) -> None:
    """With -9: no run is scheduled twice, and the lock is free."""
    process = started(seconds=60.0)
    process.kill()
    process.communicate()
    world.seconds = 0.0
    assert sweep("-o", "results").exit_code == 0
    assert len(world.runs) == 4


def test_a_reader_that_goes_away(started: Start) -> None:
    """Ends it as a shell knows it, and says nothing of it."""
    process = started("--format", "jsonl", "-q", seconds=0.5)
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["event"] == "sweep_started"
    process.stdout.close()
    assert process.wait(30) == 141
    assert process.stderr.read() == b""
    process.stderr.close()


# --- On a terminal -------------------------------------------------------------------------------------------


def on_terminal(
    server: FakeServer, *words: str, size: tuple[int, int] = (100, 24)
) -> AbstractContextManager[Session]:
    return session("sweep", *words, size=size, FANBENCH_ENDPOINT=server.url)


def answer(terminal: Session, text: str) -> None:
    terminal.until(lambda screen: screen.rstrip().endswith("[Y/n]"))
    terminal.type(f"{text}\n")


def test_nobody_reads_the_table(started: Start, folder: Path) -> None:
    """The summaries are written all the same."""
    process = started(seconds=0.3)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(30) == 141
    assert json.loads((folder / "results" / "summary.json").read_text())["ok"] is True
    assert process.stderr is not None
    process.stderr.close()


def wait_until_it_reads(terminal: Session) -> None:
    """What is typed a few microseconds before does not interrupt a read."""
    state = Path(f"/proc/{terminal.process.pid}/stat")
    end = time.monotonic() + 10
    while state.exists() and ") S " not in state.read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_no(server: FakeServer, folder: Path, files: list[Path]) -> None:
    """Touches nothing, and is no failure; also with -q it is said what the question is about."""
    with on_terminal(server, "first.py", "-m", "a", "-q") as terminal:
        answer(terminal, "n")
        assert terminal.end() == 0
    assert "1 task × 1 model: 1 run" in terminal.screen.text
    assert not (folder / "results").exists()
    assert changes(server) == 0


def test_ctrl_c_at_the_question(server: FakeServer, folder: Path, files: list[Path]) -> None:
    """Ends it at once."""
    with on_terminal(server, "first.py", "-m", "a") as terminal:
        terminal.until(lambda screen: "Go on?" in screen)
        wait_until_it_reads(terminal)
        terminal.type("\x03")
        assert terminal.end(10) == 130
    assert not (folder / "results").exists()


def test_the_screen(server: FakeServer, world: World, files: list[Path]) -> None:
    """A row of cells a task and the last log lines while it goes on; in the end only what was printed."""
    world.seconds = 1.5
    with on_terminal(server, "there", "first.py", "--all-models") as terminal:
        answer(terminal, "")
        shown = terminal.until(lambda screen: "there ●●●" in screen and "| hello from" in screen)
        assert "of 6 runs" in shown
        terminal.resize(40, 6)
        terminal.until(lambda screen: "of 6 runs" in screen)
        terminal.resize(100, 24)
        assert terminal.end() == 1
    left = terminal.screen.history
    assert "●" not in left
    assert "there c: errored: ValueError: no answer" in left
    assert "4 of 6 runs completed, 2 errored" in left
    assert terminal.screen.cursor_shown


def test_ctrl_c_on_the_screen(server: FakeServer, world: World, files: list[Path]) -> None:
    """The screen goes on until all that was in flight is there."""
    world.seconds = 1.5
    with on_terminal(server, "there", "-m", "a", "--repeats", "2", "-y") as terminal:
        terminal.until(lambda screen: "there ●" in screen)
        terminal.type("\x03")
        terminal.until(lambda screen: "stopping: interrupted" in screen)
        assert terminal.end() == 130
    assert "1 of 2 runs completed, 1 not scheduled" in terminal.screen.history


def test_each_stage_is_asked_for(server: FakeServer, files: list[Path]) -> None:
    """By what it will do."""
    with on_terminal(server, "first.py", "-m", "a", "--step") as terminal:
        terminal.until(lambda screen: "push 1 task(s)" in screen)
        answer(terminal, "y")
        assert terminal.end() == 0
    assert changes(server) == 1
    with on_terminal(server, "--step") as terminal:
        terminal.until(lambda screen: "schedule 1 run(s)?" in screen)
        answer(terminal, "n")
        assert terminal.end() == 0
    assert changes(server) == 1
