"""The line about a newer API, which Kaggle announces in a header of its answers."""

from __future__ import annotations

import threading
from datetime import datetime
from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from fanbench.cli.api_notice import note_newer_api
from fanbench.cli.app import root
from tests.wire.fake_server import Answer, FakeServer

ENV = {"XDG_CACHE_HOME": "cache"}


def stderr(release: str, *words: str) -> str:
    """What `fanbench tasks list` prints to stderr where the server names this release."""
    answer = Answer({"tasks": []}, headers={"X-Kaggle-APIVersion": release})
    with FakeServer({"ListBenchmarkTasks": [answer]}) as server:
        return (
            CliRunner()
            .invoke(root, ["tasks", "list", "--endpoint", server.url, "--token", "t", *words])
            .stderr
        )


@pytest.fixture(autouse=True)
def _cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))


def test_a_newer_api_is_said_once() -> None:
    """The first command prints one line, and the next ones none."""
    assert stderr("99.1").count("newer API (kaggle 99.1)") == 1
    assert "newer API" not in stderr("99.1")


@pytest.mark.parametrize(
    ("release", "flag"), [("99.1", "-W"), ("99.1", "-q"), ("2.2.5", ""), ("1.0", ""), ("x", "")]
)
def test_nothing_is_said(release: str, flag: str) -> None:
    """-W and -q hide the line, and releases that are known or make no sense need none."""
    assert "newer API" not in stderr(release, *filter(None, [flag]))
    assert not Path("cache").exists()


def test_it_is_said_again_on_the_next_day() -> None:
    """The line is printed once on each day, and one file is left, of the last day."""
    said: list[str] = []
    counts = []
    midnight = datetime(2030, 5, 1).timestamp()
    for hour in (0, 1, 23, 24, 47, 48):
        note_newer_api(said.append, "99.1", env=ENV, clock=partial(float, midnight + hour * 3600))
        counts.append(len(said))
    assert counts == [1, 1, 1, 2, 2, 3]
    assert [path.name for path in Path("cache/fanbench").iterdir()] == ["newer-api-2030-05-03"]


def test_commands_at_the_same_time_say_it_once() -> None:
    """Of many that find out at the same moment, one prints the line."""
    said: list[str] = []
    begin = threading.Barrier(20)

    def command() -> None:
        begin.wait()
        note_newer_api(said.append, "99.1", env=ENV)

    threads = [threading.Thread(target=command) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 1


def test_without_a_cache_folder_nothing_is_said() -> None:
    """Where the time cannot be kept, the line would come with every command."""
    Path("cache").write_text("a file")
    said: list[str] = []
    note_newer_api(said.append, "99.1", env=ENV)
    assert said == []


def test_without_a_home_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without a home, as in some containers, gets no line and no error."""
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
    said: list[str] = []
    note_newer_api(said.append, "99.1", env={})
    assert said == []
