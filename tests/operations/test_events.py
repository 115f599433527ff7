"""What each event prints, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanbench import ConnectionFailed, FanbenchError, NotFound
from fanbench.operations.check import TrialBegan, TrialLine
from fanbench.operations.doctor import Check, Checked
from fanbench.operations.download import DownloadRow, DownloadsBegan, RowDone
from fanbench.operations.events import (
    CreationPolled,
    Downloading,
    EarlierPending,
    Event,
    LogBegan,
    LogEnded,
    LogLine,
    LogRead,
    LogText,
    Polled,
    PollFailed,
    RunChanged,
    RunEnding,
    TaskFailed,
)
from fanbench.operations.push import DatasetsDetached, NotCompared, Pushed, Uploaded
from fanbench.operations.run import Launch, Launched, Scheduled
from fanbench.operations.status import StatusSeen, TaskStatus
from fanbench.operations.task_logs import LogsBegan
from fanbench.operations.watch import RunSelection
from fanbench.wire.messages import CreationState, Run, RunState, TaskSlug
from tests.operations.conftest import task

RUN = Run(
    task_slug=TaskSlug(task_slug="t"), model_version_slug="google/gemini", id=7, state=RunState.COMPLETED
)
BROKEN = ConnectionFailed("It broke.", endpoint="http://x")
NO_LOG = NotFound("No log.", call="GetLogs", status=404)
LAUNCH = Launch("t", (Scheduled("gemini", scheduled=True),), RunSelection("t", fresh=frozenset({"gemini"})))

TEXTS: list[tuple[Event, str, str | None]] = [
    (TaskFailed("t", FanbenchError("No.")), "task_failed", "t: No."),
    (
        EarlierPending("t"),
        "earlier_pending",
        "Task 't' is already being created. Waiting for it to finish...",
    ),
    (CreationPolled("t", task("t", CreationState.RUNNING), True), "creation_polled", "t: RUNNING"),
    (RunChanged("t", RUN, RunState.RUNNING), "run_changed", "t gemini (Run 7): COMPLETED"),
    (RunEnding("t", RUN), "run_ending", None),
    (Downloading("t", RUN, 1, 2), "downloading", None),
    (Polled("t", 2, 1.25), "polled", "2 run(s) still in progress, next look in 1.2s"),
    (PollFailed("t", BROKEN), "poll_failed", "The server did not answer, asking again: It broke."),
    (LogBegan(RUN), "log_began", "Logs for gemini (Run 7) [COMPLETED]"),
    (LogText(RUN, "a\nb"), "log_text", None),
    (LogLine(RUN, "a"), "log_line", "t gemini | a"),
    (LogRead(RUN, 3), "log_read", None),
    (LogEnded(RUN, 3), "log_ended", "(3 lines)"),
    (LogEnded(RUN, 0, NO_LOG), "log_ended", "(No logs available — server returned 404)"),
    (LogEnded(RUN, 3, BROKEN), "log_ended", "(The log broke off — It broke.)"),
    (LogsBegan("t", (RUN,)), "logs_began", None),
    (DownloadsBegan("t", Path("out"), (RUN,)), "downloads_began", "Downloading output runs for t"),
    (RowDone(DownloadRow(RUN, Path("out"), "Done", 3)), "row_done", "gemini/7/: Done"),
    (Launched(LAUNCH), "launched", "Submitted run(s) for task 't'."),
    (
        NotCompared("t", 3),
        "not_compared",
        "No run shows what is in version 3 of 't', so it is pushed again.",
    ),
    (Uploaded(Pushed("t", task("t"), new_version=True)), "uploaded", "Pushed new version of t"),
    (
        DatasetsDetached("t", ("o/a", "o/b")),
        "datasets_detached",
        "The previous version of 't' had attached Kaggle datasets: o/a, o/b",
    ),
    (StatusSeen(TaskStatus("t", task("t"), (RUN,))), "status_seen", None),
    (TrialBegan(Path("a.py"), "gemini"), "trial_began", None),
    (TrialLine(Path("a.py"), "hello"), "trial_line", "a.py | hello"),
    (Checked(Check("Python", "ok", "3.12")), "checked", "Python: 3.12"),
]


@pytest.mark.parametrize(("event", "name", "text"), TEXTS, ids=lambda value: type(value).__name__)
def test_every_event_prints_itself(event: Event, name: str, text: str | None) -> None:
    """`text` is one line or None, and `record()` is a JSON object with the event's name and fields."""
    assert event.text == text
    record = json.loads(json.dumps(event.record()))
    assert record["event"] == name
    assert set(record) == {"event", *event.__struct_fields__}


def test_an_error_is_recorded_as_its_message() -> None:
    """A record contains an error as its message, because JSON has no exceptions."""
    assert PollFailed("t", BROKEN).record() == {
        "event": "poll_failed",
        "slug": "t",
        "error": "It broke.",
        "seconds": 0.0,
    }
