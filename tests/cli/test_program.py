"""The program in a process of its own: start-up, signals, pipes, terminals, locales."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from fanbench.cli.app import LazyGroup
from fanbench.testing import SimulatedKaggle, SimulatedServer
from tests.cli.conftest import FOREVER, program, script, scripts
from tests.cli.piped import Piped
from tests.cli.terminal import session, start_on_terminal

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("folder")]

HEAVY = (
    "httpx",
    "rich",
    "jupytext",
    "anyio",
    "asyncio",
    "msgspec",
    "structlog",
    "nbformat",
    "dotenv",
    "csv",
    "fanbench.wire",
)


@pytest.mark.parametrize(
    "words", [[], ["--help"], ["tasks", "--help"], ["tasks", "run", "--help"], ["init", "-h"]]
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """Help imports no slow library."""
    code = f"""
import sys
from fanbench.cli import main
try:
    main({words!r})
finally:
    print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "Usage: " in done.stdout


def test_the_end_of_the_program_collects_no_garbage() -> None:
    """What the program has loaded is not searched for garbage when it ends, which would take as long as a command."""
    code = (
        "import atexit, gc, sys; from fanbench.cli import main; "
        "atexit.register(lambda: print(any(each is sys.modules['click'].__dict__ for each in gc.get_objects()))); "
        "main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
def test_a_closed_stream_is_not_an_error(closed: str, tmp_path: Path) -> None:
    """A stream that the shell has closed does not matter to a command that writes nothing to it, except messages."""
    command = f'"{sys.executable}" -m fanbench results "{tmp_path}" {closed}'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == 4
    assert "Unexpected" not in done.stderr
    assert ("error: " in done.stderr) == ("2>&-" not in closed)


@pytest.mark.parametrize("words", ["--help", "--version", "skill", "completion bash"])
def test_a_result_for_a_closed_stdout_is_an_error(words: str) -> None:
    """A result is not lost in silence if the shell has closed stdout: one line and exit 1, as of `ls >&-`."""
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m fanbench {words} >&-'], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "error: Cannot write the output: Bad file descriptor.\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", ["--help", "--version", "tasks run -h", "skill", "completion bash"])
def test_a_full_disk_behind_stdout(words: str) -> None:
    """A result that a full disk does not take is one line and exit 1, also if stderr is on the same disk."""
    command = f'"{sys.executable}" -m fanbench {words} >/dev/full'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: Cannot write the output: No space left on device.\n")
    assert subprocess.run(["sh", "-c", f"{command} 2>&1"]).returncode == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(("words", "code"), [("skill", 0), ("nope", 2), ("results .", 4)])
def test_a_full_disk_behind_stderr(words: str, code: int) -> None:
    """Messages that a full disk does not take are dropped: the result and the exit code stay."""
    command = f'"{sys.executable}" -m fanbench {words} 2>/dev/full'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True)
    assert done.returncode == code
    assert bool(done.stdout) == (code == 0)


@pytest.mark.parametrize("words", ["--help", "--version", "tasks run -h", "skill"])
def test_a_text_that_nobody_reads(words: str) -> None:
    """A closed pipe behind stdout is silent, with the shell's exit code, also for the program's own help text."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        command = [sys.executable, "-m", "fanbench", *words.split()]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_every_command_teaches() -> None:
    """Every help has examples that begin with the program's name, and the common options."""
    from click.testing import CliRunner

    from fanbench.cli.app import root, tasks

    ours = [["tasks", name] for name in tasks.table] + [["init"], ["auth"]]
    for words in ours:
        text = CliRunner().invoke(root, [*words, "--help"], prog_name="fanbench").stdout
        assert "\n  Examples:\n    fanbench " in text, words
        assert "--endpoint" in text


def test_every_command_can_be_loaded() -> None:
    """Every command in the tables can be loaded, and has its name and a help text."""
    from fanbench.cli.app import benchmarks, root, tasks

    for group in (root, benchmarks, tasks):
        assert isinstance(group, LazyGroup)
        for name in group.table:
            command = group.get_command(click.Context(group), name)
            assert command is not None
            assert command.name == name
            assert command.help


def test_a_whole_life_of_a_task(folder: Path, kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """A script can push, run, show the log and download."""
    (folder / "task.py").write_text(
        "import kaggle_benchmarks as kbench\n@kbench.task()\ndef t(llm): ...\nt.run(kbench.llm)\n"
    )
    kaggle.add_model("m", "Em")
    for words in ("push t -f task.py --wait", "run t -m m --wait", "log t", "download t"):
        done = program("tasks", *words.split(), "--endpoint", server.url)
        out, err = done.communicate(timeout=60)
        assert done.returncode == 0, (words, out, err)
    assert (folder / "t/1/m/10/one.run.json").is_file()


def test_an_interrupt_at_the_start_is_no_traceback() -> None:
    """Ctrl-C while the program is still being imported ends it with the same exit code, and prints nothing."""
    code = (
        "import sys, fanbench.cli\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'fanbench.cli.app': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "fanbench.cli.main(['--version'])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "")


def test_an_interrupt_ends_with_130(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """An interrupt ends the program at once with exit 130 and no traceback."""
    kaggle.change(runs=scripts(running=FOREVER))
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    run = Piped("tasks", "run", "t", "-m", "m", "--wait", FANBENCH_ENDPOINT=server.url)
    _until(lambda: kaggle.calls["list_runs"] >= 2)
    run.send_signal(signal.SIGINT)
    _, err = run.communicate(timeout=60)
    assert run.returncode == 130
    assert b"Traceback" not in err
    assert b"error" not in err


@pytest.mark.parametrize("answered", [True, False])
def test_an_interrupted_push_says_what_was_sent(
    kaggle: SimulatedKaggle, server: SimulatedServer, task_file: Path, answered: bool
) -> None:
    """After Ctrl-C, push names what the server has received, and where it may not have."""
    kaggle.change(creation=FOREVER, latency=0.0 if answered else FOREVER)
    push = Piped("tasks", "push", "-f", str(task_file), "--wait", FANBENCH_ENDPOINT=server.url)
    _until(lambda: kaggle.calls["get_task"] >= (2 if answered else 1))
    push.send_signal(signal.SIGINT)
    _, err = push.communicate(timeout=60)
    assert push.returncode == 130
    if answered:
        said = "my-task has been pushed, and its creation continues; see"
    else:
        said = "The server has not confirmed the push of my-task; see whether it arrived"
    assert err.decode().splitlines()[-1] == f"Interrupted. {said}: fanbench tasks status my-task"


def test_an_interrupt_during_a_silent_stream(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """An interrupt ends the program while a log stream is silent."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m", script("m", running=FOREVER, log=()))
    log = Piped("tasks", "log", "t", FANBENCH_ENDPOINT=server.url)
    _until(lambda: kaggle.calls["logs"] > 0)
    log.send_signal(signal.SIGINT)
    _, err = log.communicate(timeout=60)
    assert (log.returncode, b"Traceback" in err) == (130, False)


def test_a_closed_pipe_is_no_error(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """`fanbench tasks log | head -1` prints nothing on stderr."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m", script("m", log=[(0.0, "x" * 1000 + "\n")] * 2000))
    log = Piped("tasks", "log", "t", "-q", FANBENCH_ENDPOINT=server.url)
    log.stdout.readline()
    log.stdout.close()
    assert log.stderr.read() == b""
    assert log.wait(60) == 141
    log.stderr.close()


@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])  # POSIX is another name of C
def test_any_locale(kaggle: SimulatedKaggle, server: SimulatedServer, locale: str) -> None:
    """The output is UTF-8, whatever the locale."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m", script("m", log=[(0.0, "é ✓\n")]))
    env = {"LANG": locale, "LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    out, _ = program("tasks", "log", "t", FANBENCH_ENDPOINT=server.url, **env).communicate(timeout=60)
    assert "é ✓\n═══ (1 lines) ═══" in out.decode("utf-8")


def test_a_terminal_picks_models_and_sees_colors(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """On a terminal, models can be picked and log lines are shown; NO_COLOR removes the colors."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    text, code = _on_terminal("1\n", "tasks", "run", "t", "--wait", FANBENCH_ENDPOINT=server.url)
    assert code == 0
    assert kaggle.arguments("schedule_runs")[0] == ("t", ("m",))
    assert "Enter model numbers" in text
    assert "hello from m" in text
    assert "\x1b[" in text
    again, _ = _on_terminal("1\n", "tasks", "run", "t", "--wait", FANBENCH_ENDPOINT=server.url, NO_COLOR="1")
    assert not re.search(r"\x1b\[[\d;]*m", again)


def test_a_terminal_is_asked_before_anything_is_written(server: SimulatedServer, folder: Path) -> None:
    """Nothing is written if the answer is no."""
    text, code = _on_terminal("n\n", "auth", FANBENCH_ENDPOINT=server.url)
    assert "Write these settings" in text
    assert code == 1
    assert not (folder / ".env").exists()
    _on_terminal("\n", "auth", FANBENCH_ENDPOINT=server.url)
    assert (folder / ".env").exists()


def test_a_terminal_turns_pages(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """n and p turn pages, q quits, and there is no page after the last."""
    for number in range(5):
        kaggle.add_task(f"task-{number}")
    text, _ = _on_terminal(
        "n\nn\nn\np\nq\n", "tasks", "list", "--page-size", "2", FANBENCH_ENDPOINT=server.url
    )
    pages = [line.split()[1] for line in text.splitlines() if line.startswith("Showing")]
    assert pages == ["1-2", "3-4", "5-5", "5-5", "3-4"]


def test_an_interrupt_at_a_question(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """One Ctrl-C at a question ends the program."""
    kaggle.add_task("t")
    kaggle.add_model("m", "Em")
    with session("tasks", "run", "t", FANBENCH_ENDPOINT=server.url) as terminal:
        terminal.until(lambda text: "(comma-separated) or 'all': " in f"{text} ")
        terminal.interrupt()
        assert terminal.end() == 130
    assert "Traceback" not in terminal.screen.history
    assert not kaggle.calls["schedule_runs"]


def test_a_terminal_watches_runs(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """With --watch, the status changes in place, and the last one is left on the screen at the end."""
    kaggle.add_task("t")
    kaggle.add_run("t", "m", script("m", running=FOREVER))
    words = ("tasks", "status", "t", "--watch", "--poll-interval", "0.2")
    with session(*words, FANBENCH_ENDPOINT=server.url) as terminal:
        terminal.until(lambda text: "Running" in text)
        kaggle.finish()
        assert terminal.end() == 0
    left = terminal.screen.history
    assert left.count("Task:") == 1
    assert "Completed" in left
    assert "Running" not in left


def test_a_terminal_sees_live_logs_together(kaggle: SimulatedKaggle, server: SimulatedServer) -> None:
    """Live logs of several runs are shown together; a single log, and --no-interleave, have headers."""
    words = ("tasks", "log", "t")
    kaggle.change(runs=scripts(running=FOREVER))
    kaggle.add_run("t", "one")
    with session(*words, FANBENCH_ENDPOINT=server.url) as alone:
        alone.until(lambda text: "═══ Logs for one (Run 10) [RUNNING] ═══" in text)
        kaggle.finish()
        assert alone.end() == 0
    del kaggle.runs[10], kaggle.tasks["t"]
    for model in ("one", "two"):
        kaggle.add_run("t", model)
    with session(*words, FANBENCH_ENDPOINT=server.url) as both:
        both.until(lambda text: "one | hello from one" in text and "two | hello from two" in text)
        assert "═══" not in both.screen.text
    with session(*words, "--no-interleave", FANBENCH_ENDPOINT=server.url) as apart:
        apart.until(lambda text: "2 reading" in text)
        kaggle.finish()
        assert apart.end() == 0
    assert apart.screen.history.count("═══ Logs for") == 2


def _until(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def _on_terminal(keys: str, *words: str, **env: str) -> tuple[str, int]:
    """Type `keys`, and return what was on the screen, and the exit code."""
    screen, terminal = pty.openpty()
    run = start_on_terminal(terminal, words, None, {"TERM": "xterm", **env})
    os.close(terminal)
    shown = b"".join(_typed(screen, keys.encode()))
    os.close(screen)
    return shown.decode().replace("\r\n", "\n"), run.wait(60)


def _typed(screen: int, keys: bytes) -> Iterator[bytes]:
    """Yield what comes on the screen; each line of `keys` is typed when there is a question."""
    tail, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if not select.select([screen], [], [], 0.1)[0]:
            continue
        try:
            piece = os.read(screen, 4096)
        except OSError:  # the program has closed its side
            return
        yield piece
        tail = (tail + piece)[-10:]
        if keys and tail.endswith((b": ", b"] ")):
            line, mark, keys = keys.partition(b"\n")
            os.write(screen, line + mark)
            tail = b""
