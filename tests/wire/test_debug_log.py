"""Debug messages: one per call for programs that configured structlog, none for others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import structlog

from fanbench._util.debug_log import debug
from tests.wire.conftest import TOKEN, Connect
from tests.wire.fake_server import Answer, FakeServer, problem


@pytest.fixture
def captured() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as entries:
        structlog.configure(structlog.get_config()["processors"])
        yield entries
    structlog.reset_defaults()


@pytest.mark.anyio
async def test_a_line_for_each_attempt(connect: Connect, captured: list[structlog.typing.EventDict]) -> None:
    """Each attempt is logged with its status and time, and each retry with its reason, but never the token."""
    with FakeServer({"GetBenchmarkTaskQuota": [problem(500, f"no {TOKEN}"), Answer({})]}) as server:
        async with connect(server) as client:
            await client.task_quota()
    assert [entry["event"] for entry in captured] == ["call", "retry", "call"]
    assert [entry.get("status") for entry in captured] == [500, None, 200]
    assert [entry["attempt"] for entry in captured] == [1, 1, 2]
    assert all(entry["ms"] >= 0 for entry in captured if entry["event"] == "call")
    assert TOKEN not in str(captured)


def test_silence_without_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is logged if structlog is not configured, because it would print to stdout."""
    structlog.reset_defaults()
    debug("something")
    assert capsys.readouterr().out == ""


def test_structlog_and_http_are_not_imported() -> None:
    """Importing the client loads neither structlog nor the HTTP library."""
    code = (
        "import sys, fanbench; fanbench.Client; print({'structlog', 'httpx', 'httpx_sse'} & set(sys.modules))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "set()"
