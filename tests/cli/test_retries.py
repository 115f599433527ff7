"""What is printed about calls that are retried."""

from __future__ import annotations

import pytest

from fanbench import ConnectionFailed, FanbenchError, RateLimited
from fanbench.cli import session
from fanbench.cli.session import RetryNotes
from fanbench.testing import Fault, SimulatedKaggle
from fanbench.wire.retry import Retry
from tests.cli.conftest import Cli

GONE = ConnectionFailed("Nobody is there", endpoint="http://127.0.0.1:1")
FAST = RateLimited("Not so fast", call="ListBenchmarkTaskRuns", status=429)


def test_errors_of_a_kind_are_printed_once_in_ten_seconds() -> None:
    """Errors of one kind are printed once in ten seconds, then with the number omitted; other kinds are not
    delayed.
    """
    said: list[str] = []
    moments = iter([0.0, 1.0, 9.9, 9.9, 10.0, 20.0])
    retries = RetryNotes(said.append, clock=lambda: next(moments))

    def lines_after(*errors: FanbenchError) -> list[str]:
        said.clear()
        for error in errors:
            retries.report(Retry("", 1, 0.5, error))
        return [line.replace(str(error), "it") for line, error in zip(said, errors, strict=False)]

    assert lines_after(GONE, GONE, GONE) == ["it; retrying in 0.5 s"]
    assert lines_after(FAST) == ["it; retrying in 0.5 s"]
    assert lines_after(GONE, GONE) == [
        "it; retrying in 0.5 s (2 similar errors since the last message)",
        "it; retrying in 0.5 s",
    ]


def test_retries_are_printed(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Retries are printed, except with -q."""
    for words in ((), ("-q",)):
        kaggle.change(faults=(Fault("list_models", 503, retry_after=0.0, message="busy"),))
        stderr = cli("tasks", "models", *words).stderr
        assert ("busy" in stderr, "retrying" in stderr) == (not words, not words)
    assert kaggle.calls["list_models"] == 4


def test_a_limit_is_said(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """`log` says for how long it repeats a call that fails: somebody is waiting for the log."""
    kaggle.add_task("t")
    kaggle.change(faults=(Fault("get_task", 500),))
    assert "s, for at most 20 s\n" in cli("tasks", "log", "t").stderr


@pytest.mark.parametrize(
    "words", [("tasks", "list"), ("tasks", "status", "t"), ("sweep", "t", "-m", "a", "-y")]
)
def test_a_server_that_does_not_answer_is_named(
    cli: Cli, kaggle: SimulatedKaggle, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that has no answer yet is said once, before its time is over; with -q nothing is."""
    monkeypatch.setattr(session, "_SILENCE", 0.1)
    kaggle.add_task("t")
    kaggle.add_model("a")
    kaggle.change(latency=0.4)
    assert cli(*words).stderr.count("to answer...") == 1
    assert "to answer..." not in cli(*words, "-q").stderr
