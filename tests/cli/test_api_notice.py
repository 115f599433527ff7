"""The line about a newer API, which Kaggle announces in a header of its answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from click.testing import CliRunner

from fanbench.cli.api_notice import note_newer_api
from fanbench.cli.app import root
from tests.wire.fake_server import Answer, FakeServer


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


def test_it_is_said_again_a_day_later() -> None:
    """A day after the line was printed it is printed again."""
    said: list[str] = []
    env = {"XDG_CACHE_HOME": "cache"}
    for hour in (0, 23, 25, 26, 48):
        note_newer_api(said.append, "99.1", env=env, clock=partial(float, 1e9 + hour * 3600))
    assert len(said) == 2


def test_without_a_cache_folder_nothing_is_said() -> None:
    """Where the time cannot be kept, the line would come with every command."""
    Path("cache").write_text("a file")
    said: list[str] = []
    note_newer_api(said.append, "99.1", env={"XDG_CACHE_HOME": "cache"})
    assert said == []
