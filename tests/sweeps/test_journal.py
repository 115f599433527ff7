"""The journal keeps everything that was written, and refuses files that are not a journal."""

from __future__ import annotations

import itertools
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanbench import JournalError
from fanbench.sweeps import journal as journals
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, SavedLog, SavedOutput, TaskPhase, TaskRecord
from fanbench.sweeps.folder import set_aside
from fanbench.sweeps.journal import JOURNAL, Journal
from fanbench.wire.messages import RunState
from tests.disk import Disk
from tests.sweeps.processes import begun, ended
from tests.sweeps.records import MemoryRecords

OUTPUT = SavedOutput("t/1/m/7", files=3, size=1234, digest="ab" * 32, changed=10**18 + 1)
LOG = SavedLog("t/1/m/7/run.log", lines=2, size=12)


def attempt(number: int = 1, model: str = "m", **fields: object) -> Attempt:
    return Attempt(PlannedRun("t", model), number, "content-1:x", 1, Phase.INTENDED, 1e9).with_(**fields)


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path) as opened:
        yield opened


# --- Writing and reading back -------------------------------------------------------------------------------

texts = st.text(max_size=12)
names = st.sampled_from(["a", "b", "owner/a", "ä 🚀"])
counts = st.integers(0, 2**63 - 1)
attempts = st.builds(
    Attempt,
    planned_run=st.builds(PlannedRun, names, names, st.integers(1, 3)),
    number=st.integers(1, 3),
    identity=texts,
    version=counts,
    phase=st.sampled_from(Phase),
    intended_at=st.floats(allow_nan=False),
    run_id=st.none() | counts,
    state=st.none() | st.sampled_from(RunState) | st.just(RunState("BENCHMARK_TASK_RUN_STATE_NEW")),
    error=texts,
    output=st.none() | st.builds(SavedOutput, texts, counts, counts, texts, counts),
    log=st.none() | st.builds(SavedLog, texts, counts, counts),
)
ended_attempts = st.builds(
    lambda one, result: one.with_(phase=Phase.ENDED, result=result),
    attempts,
    st.booleans() | st.floats(allow_nan=False),
)
tasks = st.builds(TaskRecord, names, texts, st.sampled_from(TaskPhase), counts, texts)
Write = Callable[[Journal], None]


def attempts_saved(rows: list[Attempt]) -> Write:
    return lambda records: records.save_attempts(rows)


def task_saved(record: TaskRecord) -> Write:
    return lambda records: records.save_task(record)


def foreign_runs_saved(task: str, run_ids: list[int]) -> Write:
    return lambda records: records.save_foreign_runs(task, run_ids)


def value_saved(name: str, value: str) -> Write:
    return lambda records: records.save_value(name, value)


writes = st.one_of(
    st.builds(attempts_saved, st.lists(attempts | ended_attempts, max_size=4)),
    st.builds(task_saved, tasks),
    st.builds(foreign_runs_saved, names, st.lists(counts, max_size=3)),
    st.builds(value_saved, names, texts),
)


def content(records: Journal) -> tuple[object, ...]:
    known = ["a", "b", "owner/a", "ä 🚀"]
    return (
        records.attempts(),
        records.tasks(),
        [records.foreign_runs(name) for name in known],
        [records.value(name) for name in known],
    )


def look(root: Path) -> Journal:
    """Read the journal as another process would."""
    looked = Journal.read(root)
    assert looked is not None
    return looked


@given(st.lists(writes, max_size=8), st.integers(0, 8))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_everything_written_is_kept(
    tmp_path_factory: pytest.TempPathFactory, steps: list[Write], break_at: int
) -> None:
    """Tasks and attempts come back in order, across a restart, for writers and for readers."""
    root = tmp_path_factory.mktemp("sweep")
    memory = MemoryRecords()
    for part in (steps[:break_at], steps[break_at:]):
        with Journal.open(root) as journal:
            for write in part:
                write(journal)
                write(memory)
            assert content(journal) == content(memory)
        with look(root) as looked:
            assert content(looked) == content(memory)


def test_every_field_comes_back(journal: Journal) -> None:
    """Each field of an attempt comes back, also if all of them are set."""
    full = attempt(
        phase=Phase.ENDED, run_id=7, state=RunState.ERRORED, error="no\n", output=OUTPUT, log=LOG, result=0.5
    )
    journal.save_attempts([full, attempt(2)])
    assert journal.attempts() == [full, attempt(2)]
    assert journal.attempts()[0].state is RunState.ERRORED


def test_a_journal_without_results_is_continued(tmp_path: Path) -> None:
    """What a version wrote that kept no results of servers is read as it is, and gets its results."""
    ended = attempt(phase=Phase.ENDED, run_id=7, state=RunState.COMPLETED)
    with Journal.open(tmp_path) as journal:
        journal.save_attempts([ended])
    with closing(sqlite3.connect(tmp_path / JOURNAL)) as file, file:
        file.execute("DROP TABLE result")
    with look(tmp_path) as looked:
        assert looked.attempts() == [ended]
    with Journal.open(tmp_path) as journal:
        journal.save_attempts([ended.with_(result=True)])
        assert journal.attempts()[0].result is True


def test_the_spec_is_separate_from_values(journal: Journal) -> None:
    """No value of any name changes the saved spec."""
    assert journal.saved_spec() is None
    journal.save_spec("{}")
    journal.save_value("spec", "other")
    assert journal.saved_spec() == "{}"


def test_text_that_is_not_unicode_is_stored_with_replacements(journal: Journal) -> None:
    """An error message with a file name that is not UTF-8 can be stored."""
    journal.save_attempts([attempt(error="no file \udcff")])
    assert journal.attempts()[0].error == "no file ?"


def test_a_number_that_is_too_large_is_a_journal_error(journal: Journal) -> None:
    """A run id that SQLite cannot store raises JournalError."""
    with pytest.raises(JournalError, match="too large"):
        journal.save_attempts([attempt(), attempt(2, run_id=2**70)])
    assert journal.attempts() == []


def test_a_write_is_one_statement(journal: Journal) -> None:
    """One row takes one statement, and several rows take two more in all."""
    statements: list[str] = []
    journal._connection.set_trace_callback(statements.append)

    def cost(write: Callable[[], None]) -> int:
        statements.clear()
        write()
        return len(statements)

    found = [attempt(number, phase=Phase.FOUND) for number in range(1, 11)]
    assert cost(lambda: journal.save_attempts(found[:1])) == 1
    assert cost(lambda: journal.save_attempts(found)) == 12
    assert cost(lambda: journal.save_task(TaskRecord("t", "i", TaskPhase.READY))) == 1
    assert cost(lambda: journal.save_value("a", "b")) == 1
    assert cost(lambda: journal.save_attempts([])) == 0


# --- Power losses -------------------------------------------------------------------------------------------


def synchronous(journal: Journal) -> int:
    """Return SQLite's mode: 1 does not wait for the disk, 2 does."""
    [mode] = journal._connection.execute("PRAGMA synchronous").fetchone()
    return int(mode)


INTENTS: dict[str, tuple[Write, bool]] = {
    "an attempt": (attempts_saved([attempt()]), True),
    "one of several": (attempts_saved([attempt(phase=Phase.VOID), attempt(2)]), True),
    "a push": (task_saved(TaskRecord("t", "i", TaskPhase.PUSHING)), True),
    "deeds": (attempts_saved([attempt(1, phase=Phase.SCHEDULED), attempt(2, phase=Phase.ENDED)]), False),
    "a push that was done": (task_saved(TaskRecord("t", "i", TaskPhase.PUSHED)), False),
    "a value": (value_saved("budget", "{}"), False),
}


@pytest.mark.parametrize("case", INTENTS)
def test_intents_wait_for_the_disk(journal: Journal, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    """Only writes with an intent wait for the disk, also within a batch."""
    write, waits = INTENTS[case]
    modes: list[int] = []

    class Watched:
        """A connection that records how the rows of the journal are written."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> object:
            return getattr(self._connection, name)

        def execute(self, statement: str, *rows: Any) -> sqlite3.Cursor:
            if statement.startswith(("INSERT", "COMMIT")):
                modes.append(synchronous(journal_as_it_was))
            return self._connection.execute(statement, *rows)

    journal_as_it_was = Journal(journal._connection, journal.path)
    monkeypatch.setattr(journal, "_connection", Watched(journal._connection))
    write(journal)
    assert set(modes) == {2 if waits else 1}
    assert synchronous(journal_as_it_was) == 1


def test_an_intent_that_cannot_be_written(journal: Journal) -> None:
    """After an intent fails, later writes still do not wait for the disk."""
    with pytest.raises(JournalError, match="too large"):
        journal.save_attempts([attempt(run_id=2**70)])
    assert synchronous(journal) == 1


def test_a_new_journal_is_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name of a new journal is on the disk, and so are the names of all folders created for it."""
    disk = Disk(monkeypatch)
    Journal.open(tmp_path / "a" / "b").close()
    assert [step[:2] for step in disk.asked] == [
        *(("fsync", name) for name in (tmp_path.name, "a", "b")),
        ("rename", "journal.new"),
        ("fsync", ".fanbench"),
    ]


# --- Kills --------------------------------------------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun

journal = Journal.open(Path(sys.argv[1]))
size, together = int(sys.argv[2]), int(sys.argv[3])
print("ready")
for number in range(1, 10**9, together):
    journal.save_attempts(
        Attempt(PlannedRun("t", "m"), number + more, "i", 1, Phase.INTENDED, 0.0, error="x" * size)
        for more in range(together)
    )
    print(number + together - 1)
"""


def acknowledged(root: Path, writes: int, *, size: int = 10, together: int = 1) -> int:
    """Return the last attempt that a process reported as written before it was killed in the middle of writing."""
    with begun(WRITER, root, str(size), str(together)) as process:
        assert process.stdout is not None
        first = list(itertools.islice(process.stdout, writes))
        process.kill()
        rest = process.stdout.read().split("\n")
    # Text after the last line end is an incomplete line.
    return int([*first, *rest[:-1]][-1])


@pytest.mark.parametrize("size", [10, 20_000], ids=["small", "beyond checkpoints"])
def test_a_killed_process_has_lost_nothing(tmp_path: Path, size: int) -> None:
    """Every write that had ended is there for readers and writers, and at most one more."""
    last = acknowledged(tmp_path, random.randint(800, 1600), size=size)
    with look(tmp_path) as looked:
        numbers = [one.number for one in looked.attempts()]
    assert numbers in ([*range(1, last + 1)], [*range(1, last + 2)])
    with Journal.open(tmp_path) as journal:
        assert [one.number for one in journal.attempts()] == numbers


def test_a_batch_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    """A killed process leaves no part of a batch."""
    acknowledged(tmp_path, 200, together=7)
    with Journal.open(tmp_path) as journal:
        assert len(journal.attempts()) % 7 == 0


def test_a_killed_creation_is_not_an_obstacle(tmp_path: Path) -> None:
    """The journal has its name only once it is complete."""
    (tmp_path / ".fanbench").mkdir()
    (tmp_path / ".fanbench" / "journal.new").write_bytes(b"SQLite for")
    assert Journal.read(tmp_path) is None
    with Journal.open(tmp_path) as journal:
        assert journal.attempts() == []
    assert not (tmp_path / ".fanbench" / "journal.new").exists()


# --- Reading only -------------------------------------------------------------------------------------------


def state_of(root: Path) -> dict[str, tuple[int, int, int]]:
    found = {path: path.stat() for path in [root, *root.rglob("*")]}
    return {str(path): (info.st_ino, info.st_size, info.st_mtime_ns) for path, info in found.items()}


def test_reading_touches_nothing(tmp_path: Path) -> None:
    """Reading changes no file, even after a kill, and the copy cannot be written."""
    last = acknowledged(tmp_path, 50)
    assert (tmp_path / ".fanbench" / "journal.sqlite-wal").stat().st_size > 0
    before = state_of(tmp_path)
    with look(tmp_path) as looked:
        assert len(looked.attempts()) >= last
        with pytest.raises(JournalError, match="readonly"):
            looked.save_attempts([attempt()])
    assert state_of(tmp_path) == before


def test_reading_where_there_is_no_journal(tmp_path: Path) -> None:
    """Reading creates neither a journal nor a folder."""
    assert Journal.read(tmp_path / "none") is None
    assert not (tmp_path / "none").exists()
    assert Journal.read(tmp_path) is None
    assert state_of(tmp_path).keys() == {str(tmp_path)}


REWRITER = """
import sys
from itertools import count
from pathlib import Path
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun

journal = Journal.open(Path(sys.argv[1]))
print("ready")
for turn in count(1):
    journal.save_attempts(
        Attempt(PlannedRun("t", "m"), number, "i", turn, Phase.INTENDED, 0.0, error="x" * 20_000) for number in range(7)
    )
    print(turn)
"""


def test_reading_while_another_process_writes(tmp_path: Path) -> None:
    """Each read sees one whole transaction, at least as new as the last reported write, even if the log restarts."""
    with begun(REWRITER, tmp_path) as process:
        assert process.stdout is not None
        for _ in range(10):
            reported = [int(process.stdout.readline()) for _ in range(100)]
            with look(tmp_path) as looked:
                seen = [one.version for one in looked.attempts()]
            assert len(seen) == 7
            assert len(set(seen)) == 1
            assert seen[0] >= reported[-1]


def test_a_log_that_is_restarted_during_a_read(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the log is restarted between copying the two files, both are copied again."""
    copied: list[str] = []
    copy = shutil.copyfile

    def anew_before_the_log(source: Path, target: Path) -> None:
        if source.name.endswith("-wal") and copied.count(source.name) == 0:
            journal._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            journal.save_attempts([attempt(41)])
        copied.append(source.name)
        copy(source, target)

    journal.save_attempts(attempt(number) for number in range(1, 41))
    monkeypatch.setattr(shutil, "copyfile", anew_before_the_log)
    connection = journals._copy_of(tmp_path / JOURNAL)
    assert connection is not None
    with Journal(connection, tmp_path) as looked:
        assert looked.attempts() == journal.attempts()
    assert len(journal.attempts()) == 41
    assert copied.count("journal.sqlite-wal") == 2


def test_reading_within_the_writing_process(journal: Journal, tmp_path: Path) -> None:
    """A read sees the latest write, and leaves the writer's locks in place."""
    journal.save_attempts([attempt()])
    with look(tmp_path) as looked:
        assert looked.attempts() == [attempt()]
        journal.save_attempts([attempt(2)])
        assert looked.attempts() == [attempt()]
    assert "another process has it open" in ended(OPENER, tmp_path)


OPENER = """
import sys
from pathlib import Path
from fanbench import JournalError
from fanbench.sweeps.journal import Journal

try:
    Journal.open(Path(sys.argv[1]))
except JournalError as error:
    print(error)
"""


def test_a_closed_journal_is_one_file(tmp_path: Path) -> None:
    """A closed journal can be copied as one file, with nothing beside it."""
    with Journal.open(tmp_path) as journal:
        journal.save_attempts([attempt()])
    assert [path.name for path in (tmp_path / ".fanbench").iterdir()] == ["journal.sqlite"]


# --- Files that are not a journal ---------------------------------------------------------------------------


def written(root: Path, data: bytes) -> None:
    (root / JOURNAL).parent.mkdir(exist_ok=True)
    (root / JOURNAL).write_bytes(data)


def changed(root: Path, *statements: str) -> None:
    Journal.open(root).close()
    connection = sqlite3.connect(root / JOURNAL)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def of_other_program(root: Path) -> None:
    (root / JOURNAL).parent.mkdir()
    connection = sqlite3.connect(root / JOURNAL)
    connection.execute("CREATE TABLE history (url TEXT)")
    connection.close()


def holed(root: Path) -> None:
    with Journal.open(root) as journal:
        journal.save_attempts(attempt(number, error="x" * 200) for number in range(1, 500))
    data = bytearray((root / JOURNAL).read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 4096] = bytes(range(256)) * 16
    written(root, bytes(data))


def cut(root: Path) -> None:
    with Journal.open(root) as journal:
        journal.save_attempts(attempt(number, error="x" * 200) for number in range(1, 500))
    written(root, (root / JOURNAL).read_bytes()[:20_000])


def log_without_journal(root: Path) -> None:
    acknowledged(root, 10)
    (root / JOURNAL).unlink()


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "text": (lambda root: written(root, b"These are not\nthe rows.\n" * 50), "damaged: it is not a database"),
    "empty": (lambda root: written(root, b""), "damaged: the file is empty"),
    "cut": (cut, "damaged: database disk image is malformed"),
    "holed": (holed, "damaged: "),
    "gone": (log_without_journal, "damaged: the file is gone"),
    "no table": (lambda root: changed(root, "DROP TABLE attempt"), "damaged: no such table: attempt"),
    "other program": (of_other_program, "belongs to another program"),
    "newer": (lambda root: changed(root, "PRAGMA user_version = 3"), "made by a newer fanbench"),
    "older": (lambda root: changed(root, "PRAGMA user_version = 1"), "made by an older fanbench"),
    "a folder": (lambda root: (root / JOURNAL).mkdir(parents=True), "Cannot (read|write) "),
}


@pytest.mark.parametrize("case", BROKEN)
def test_an_unusable_journal_is_an_error(tmp_path: Path, case: str) -> None:
    """Readers and writers get an error with a hint, and the file stays as it is."""
    broken, words = BROKEN[case]
    broken(tmp_path)
    before = state_of(tmp_path)
    with pytest.raises(JournalError, match=words), look(tmp_path) as looked:
        content(looked)
    assert state_of(tmp_path) == before
    with pytest.raises(JournalError, match=words) as caught, Journal.open(tmp_path) as journal:
        content(journal)
    assert caught.value.hint
    if case not in ("a folder",):
        assert "--fresh" in caught.value.hint


def test_damage_is_found_when_opening(tmp_path: Path) -> None:
    """The whole file is checked, so that a sweep does not find the damage later."""
    holed(tmp_path)
    with pytest.raises(JournalError, match="damaged"):
        Journal.open(tmp_path)
    with pytest.raises(JournalError, match="damaged"):
        Journal.read(tmp_path)


def test_a_newer_journal_suggests_an_update(tmp_path: Path) -> None:
    """A journal of a newer version is not called damaged."""
    changed(tmp_path, "PRAGMA user_version = 3")
    with pytest.raises(JournalError) as caught:
        Journal.open(tmp_path)
    assert caught.value.hint
    assert "Update fanbench" in caught.value.hint


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    """The error names the place if a file is in place of the folder."""
    (tmp_path / "out").touch()
    with pytest.raises(JournalError, match=r"Cannot write .*out"):
        Journal.open(tmp_path / "out")


def test_a_link_that_leads_to_itself(tmp_path: Path) -> None:
    """A link that leads to itself raises JournalError."""
    (tmp_path / "out").symlink_to("out")
    assert Journal.read(tmp_path / "out") is None
    with pytest.raises(JournalError, match=r"Cannot write .*out"):
        Journal.open(tmp_path / "out")


# --- A full disk --------------------------------------------------------------------------------------------


def test_a_full_disk(journal: Journal) -> None:
    """A full disk is an error that keeps earlier writes, drops the batch, and allows later writes."""
    journal.save_attempts([attempt()])
    [pages] = journal._connection.execute("PRAGMA page_count").fetchone()
    journal._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
    many = [attempt(number, error="x" * 5000) for number in range(2, 20)]
    for rows in (many, [attempt(2, error="x" * 50_000)]):
        with pytest.raises(JournalError, match="the disk is full") as caught:
            journal.save_attempts(rows)
        assert caught.value.hint
        assert "space" in caught.value.hint
        assert journal.attempts() == [attempt()]
    journal._connection.execute("PRAGMA max_page_count = 100000")
    journal.save_attempts(many)
    assert len(journal.attempts()) == 19


FILLER = """
import resource, sys
from pathlib import Path
from fanbench import JournalError
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun

journal = Journal.open(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
done = 0
try:
    while True:
        journal.save_attempts([Attempt(PlannedRun("t", "m"), done + 1, "i", 1, Phase.INTENDED, 0.0, error="x" * 3000)])
        done += 1
except JournalError:
    print(done)
"""


def test_a_write_that_the_system_refuses(tmp_path: Path) -> None:
    """After a refused write, the journal is intact with everything written before."""
    done = int(ended(FILLER, tmp_path))
    assert done > 5
    with Journal.open(tmp_path) as journal:
        assert [one.number for one in journal.attempts()] == [*range(1, done + 1)]


# --- Damage that SQLite does not detect ---------------------------------------------------------------------


def test_a_changed_value_is_damage(tmp_path: Path) -> None:
    """A row whose content was changed outside fanbench is reported as damage."""
    with Journal.open(tmp_path) as journal:
        journal.save_attempts([attempt(run_id=7)])
        journal.save_task(TaskRecord("t", "content-1:x", TaskPhase.READY, 1))
    changed(tmp_path, "UPDATE attempt SET run_id = 8")
    changed(tmp_path, "UPDATE task SET version = 9")
    with Journal.open(tmp_path) as journal:
        with pytest.raises(JournalError, match="is damaged: a row is not what was written"):
            journal.attempts()
        with pytest.raises(JournalError, match="is damaged: a row is not what was written"):
            journal.tasks()


def test_text_that_is_not_utf8_is_damage(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are damage, not a failure to write."""
    with Journal.open(tmp_path) as journal:
        journal.save_value("a", "b")
    changed(tmp_path, "UPDATE value SET value = CAST(x'ff' AS TEXT)")
    with Journal.open(tmp_path) as journal, pytest.raises(JournalError, match="is damaged: a text"):
        journal.value("a")


def test_a_missing_journal_beside_a_summary_is_damage(tmp_path: Path) -> None:
    """Where a sweep has left its summary, a missing journal is not a new one, and `--fresh` sets the folder aside."""
    root = tmp_path / "results"
    root.mkdir()
    (root / "summary.json").write_text('{"fanbench": "1", "ok": true}')
    for look in (Journal.open, Journal.read):
        with pytest.raises(JournalError, match="the file is gone") as caught:
            look(root)
        assert "--fresh" in (caught.value.hint or "")
    assert set_aside(root) == tmp_path / "results.1"
    Journal.open(root).close()


@pytest.mark.parametrize("text", ["[]", "{}", "no JSON", '{"ok": true}'])
def test_the_summary_of_another_program_is_ignored(tmp_path: Path, text: str) -> None:
    """A summary.json that no sweep wrote does not matter."""
    (tmp_path / "summary.json").write_text(text)
    Journal.open(tmp_path).close()
    assert (tmp_path / "summary.json").read_text() == text


def test_the_journal_keeps_when_a_task_was_pushed(tmp_path: Path) -> None:
    """The time of a push is kept to the microsecond."""
    record = TaskRecord("t", "i", TaskPhase.PUSHING, 3, pushed_at=1_800_000_000.123456)
    with Journal.open(tmp_path) as journal:
        journal.save_task(record)
    with Journal.open(tmp_path) as journal:
        assert journal.tasks() == {"t": record}
