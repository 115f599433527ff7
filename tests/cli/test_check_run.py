"""`fanbench check --run`: one line per file, records, exit codes."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from fanbench.testing import Fault, SimulatedKaggle, SimulatedServer
from tests.cli.conftest import Cli, program
from tests.operations.fake_sdk import install_fake_sdk, task_text

pytestmark = pytest.mark.slow


@pytest.fixture
def cli(cli: Cli, kaggle: SimulatedKaggle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Call the program in an empty folder, on a server with two models, with a stand-in for the SDK."""
    install_fake_sdk(tmp_path, monkeypatch)
    kaggle.add_model("four", "Four", proxy_slug="test/four")
    kaggle.add_model("five", "Five", proxy_slug="test/five")
    return cli


def write(name: str, body: str = "return 0.5", *, after: str = "") -> None:
    Path(f"{name}.py").write_text(task_text(body, after=after))


def test_one_line_per_file_in_the_order_given(cli: Cli) -> None:
    """Each file has a line with what it recorded and on which model, in the order given; stderr says when
    each starts.
    """
    write("a", after="time.sleep(0.5)")
    write("b")
    result = cli("check", "a.py", "b.py", "--run")
    assert result.exit_code == 0
    first, second = result.stdout.splitlines()
    assert first.startswith("a.py: recorded one: COMPLETED, 0.5 (")
    assert first.endswith(" s, test/four)")
    assert second.startswith("b.py: recorded")
    assert "a.py: running on test/four" in result.stderr


def test_a_model_is_chosen(cli: Cli) -> None:
    """-m accepts any spelling of a model; an unknown one is not found, with the closest as a suggestion."""
    write("a")
    assert "test/five)" in cli("check", "a.py", "--run", "-m", "five").stdout
    result = cli("check", "a.py", "--run", "-m", "fuor")
    assert result.exit_code == 4
    assert "did you mean four" in result.stderr


@pytest.mark.parametrize(
    ("body", "after", "says"),
    [
        ("return 1.0", "raise KeyError('lost')", "it ended with exit code 1: KeyError: 'lost'; recorded one"),
        ("return 1.0", "print('hm')\nsys.exit(7)", "it ended with exit code 7; recorded one"),
        ("return 1.0", "os.kill(os.getpid(), 9)", "it was killed by signal 9"),
        ("raise ValueError('boom')", "", "it errored: ValueError: boom"),
        ("return 1.0", "os.remove('One.run.json')", "it recorded nothing: it wrote no *.run.json"),
        ("return float('nan')", "", "the SDK could not write a run file for one: Couldn't parse NaN"),
        ("return 1.0", "open('x.run.json', 'w').close()", "x.run.json: "),
        ("return 1.0", "time.sleep(60)", "it did not end in time"),
    ],
)
def test_failures(cli: Cli, body: str, after: str, says: str) -> None:
    """A failed file's line has the reason, followed by its last output; the exit code is 1."""
    write("a", body, after=f"print('my last words', flush=True)\n{after}")
    result = cli("check", "a.py", "--run", "--timeout", "2" if "sleep" in after else "60")
    assert result.exit_code == 1
    assert f"a.py: error: {says}" in result.stdout
    assert "  | my last words" in result.stdout.splitlines()


def test_files_with_errors_are_not_run(cli: Cli) -> None:
    """A file that a push would refuse is not run, the other files are, and the exit code is 1."""
    Path("bad.py").write_text("def")
    write("good")
    result = cli("check", "bad.py", "good.py", "--run")
    assert result.exit_code == 1
    assert result.stdout.startswith("bad.py:1:")
    assert "good.py: recorded" in result.stdout
    assert "bad.py: running" not in result.stderr


def test_nothing_is_run_without_run(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Without --run nothing is run, and the options of a run are refused."""
    write("a", after="open('was-run', 'w')")
    result = cli("check", "a.py")
    assert (result.exit_code, result.stdout) == (0, "a.py: ok, tasks: one\n")
    assert not kaggle.calls
    assert not list(Path().glob("**/was-run"))
    for words in (["-m", "four"], ["-o", "kept"], ["--timeout", "3"]):
        result = cli("check", "a.py", *words)
        assert (result.exit_code, "--run" in result.stderr) == (2, True)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("--run -d me/nothing --datasets .", "There is no dataset me/nothing below "),
        ("--run -d ../words --datasets .", "There is no dataset ../words below "),
        ("--run -d me/words", "--datasets DIR"),
        ("--run --datasets .", "Add -d OWNER/SLUG."),
        ("-d me/words --datasets .", "Add --run."),
    ],
)
def test_datasets_that_do_not_exist(cli: Cli, words: str, says: str) -> None:
    """A dataset that is not there is named before anything is run, and so is a flag that has no effect."""
    write("a")
    result = cli("check", "a.py", *words.split())
    assert result.exit_code == 2
    assert says in result.stderr


def test_a_dataset_that_will_be_attached_is_no_finding(cli: Cli) -> None:
    """Without --run, -d names what a push attaches, so that reading it is no warning."""
    write("a", after="open('/kaggle/input/words/x.csv') if 0 else None")
    assert "warning" in cli("check", "a.py").stdout
    assert cli("check", "a.py", "-d", "me/words").stdout == "a.py: ok, tasks: one\n"


def test_the_live_output(cli: Cli) -> None:
    """With -v, every line of output is on stderr under the file's name, and is not repeated later."""
    write("a", after="print('first')\nsys.exit(1)")
    result = cli("check", "a.py", "--run", "-v")
    assert "a.py | first" in result.stderr
    assert "first" not in result.stdout


def test_files_are_kept(cli: Cli) -> None:
    """With -o, files are kept below that folder, and the path is printed."""
    write("a")
    result = cli("check", "a.py", "--run", "-o", "kept")
    assert "kept in kept/a" in result.stderr
    assert sorted(os.listdir("kept/a")) == ["One.run.json", "output.log"]


def test_records_for_programs(cli: Cli) -> None:
    """There is one record per recorded task, or one for a file without any, and nothing else on stdout."""
    write("good")
    write("silent", after="os.remove('One.run.json')")
    Path("bad.py").write_text("def")
    result = cli("check", "good.py", "silent.py", "bad.py", "--run", "--format", "jsonl")
    records = {row["file"]: row for row in map(json.loads, result.stdout.splitlines())}
    assert {name: row["outcome"] for name, row in records.items()} == {
        "good.py": "recorded",
        "silent.py": "nothing",
        "bad.py": "refused",
    }
    assert (records["good.py"]["task"], records["good.py"]["value"]) == ("one", 0.5)
    assert records["good.py"]["error"] is None
    assert records["bad.py"]["error"].startswith("bad.py:1:")
    assert all(row.keys() == records["good.py"].keys() for row in records.values())


def test_a_user_without_a_model_proxy(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """If the server refuses a token, each file's line has the error and its hint."""
    write("a")
    kaggle.change(faults=(Fault("create_proxy_token", 403, message="No."),))
    result = cli("check", "a.py", "--run")
    assert result.exit_code == 1
    assert "a.py: error: The Model Proxy refused you" in result.stdout
    assert "Verify your phone number" in result.stdout


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_leaves_nothing(
    cli: Cli, server: SimulatedServer, folder: Path, number: signal.Signals, code: int
) -> None:
    """An interrupt ends every process that a file has started, and removes its working folder; Ctrl-C says so."""
    child = 'import subprocess\nchild = subprocess.Popen(["sleep", "600"], start_new_session=True)'
    write(
        "a",
        after=f"{child}\nopen({str(folder / 'pid')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}} ')\n"
        "time.sleep(600)",
    )
    process = program("check", "a.py", "--run", "-o", "kept", FANBENCH_ENDPOINT=server.url)
    try:
        pids = wait_for(folder / "pid")
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == code
    note = "Interrupted after 0 of 1 file. What was running has been stopped.\n"
    assert said.decode() == "a.py: running on test/four\n" + (note if number == signal.SIGINT else "")
    assert os.listdir("kept") == []
    assert not any(lives(pid) for pid in pids)


def wait_for(path: Path) -> list[int]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.exists() and len(words := path.read_text().split()) == 2:
            return [int(word) for word in words]
        time.sleep(0.02)
    raise AssertionError("the file was not run")


def lives(pid: int) -> bool:
    """Return whether the process still exists after a moment; a zombie does not."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX":
                return False
        except OSError:
            return False
        time.sleep(0.02)
    return True
