"""Nothing that a server or a file says can act on the terminal of whoever reads it."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench._util.text import draw_table, neutralize, one_line
from fanbench.cli.streams import SafeStream, write_raw
from fanbench.testing import RunScript, SimulatedKaggle, SimulatedServer
from fanbench.wire.messages import RunState
from tests.cli.conftest import program

ATTACK = "\x1b]0;title\x07\x1b[2J\x1b[1;1H\x9b31m\b\x7f\u202edlrow\u2066\u2028"
STYLE = re.compile(r"\x1b\[[\d;:]*m")
#: What acts on a terminal, apart from colors and line ends.
ACTS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]|\r(?!\n)")


def acting(text: str) -> list[str]:
    return ACTS.findall(STYLE.sub("", text))


texts = st.text(st.characters() | st.sampled_from("\x1b[0;38m\r\n\t\x9b\u202e"))


@given(texts)
def test_any_text_is_neutralized(text: str) -> None:
    """Nothing is left that acts on a terminal, a second time changes nothing, and no character is lost."""
    safe = neutralize(text)
    assert acting(safe) == []
    assert neutralize(safe) == safe
    assert len(safe) >= len(text)


@given(st.lists(texts), st.integers(0, 40))
def test_texts_are_neutralized_in_any_pieces(pieces: list[str], width: int) -> None:
    """A sequence that is cut into pieces is neutralized, too."""
    stream = SafeStream(io.BytesIO(), line_buffering=False)
    for piece in pieces:
        stream.write(piece)
    stream.flush()
    assert acting(stream.buffer.getvalue().decode()) == []  # type: ignore[attr-defined]


@given(texts)
def test_records_stay_valid(text: str) -> None:
    """JSON that is neutralized means the same."""
    document = json.dumps({"text": text}, ensure_ascii=False)
    assert json.loads(neutralize(document)) == {"text": text}


@given(st.lists(st.tuples(texts, texts), min_size=1))
def test_cells_stay_in_their_row(rows: list[tuple[str, str]]) -> None:
    """A table has one line for each row, whatever is in its cells."""
    assert len("\n".join(draw_table(("a", "b"), rows)).split("\n")) == len(rows) + 2


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcode 日本 👍", "plain ünïcode 日本 👍"),
        ("\x1b[1;31mred\x1b[0m\n", "\x1b[1;31mred\x1b[0m\n"),
        ("\x1b[38;5;208mo\x1b[38;2;1;2;3mp\x1b[m", "\x1b[38;5;208mo\x1b[38;2;1;2;3mp\x1b[m"),
        ("\x1b[8mhidden", "\\u001b[8mhidden"),
        ("10%\r20%\r\n", "10%\n20%\r\n"),
    ],
)
def test_colors_and_lines_stay(text: str, shown: str) -> None:
    """Colors, line ends and letters of all scripts stay as they are; hidden text is shown."""
    assert neutralize(text) == shown


def test_a_name_is_one_line() -> None:
    """In a cell, colors and line ends are escapes, too."""
    assert one_line("a\x1b[31mb\nc\td") == "a\\u001b[31mb\\nc d"


def test_raw_text_is_unchanged() -> None:
    """What fanbench itself writes to move the cursor reaches the terminal."""
    stream = SafeStream(binary := io.BytesIO(), line_buffering=False)
    write_raw(stream, "\x1b[2J")
    stream.flush()
    assert binary.getvalue() == b"\x1b[2J"


def run(*words: str) -> tuple[str, str]:
    """The standard output and error of the program."""
    out, err = program(*words).communicate(timeout=60)
    return out.decode(), err.decode()


@pytest.fixture
def hostile(
    kaggle: SimulatedKaggle, server: SimulatedServer, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server whose every text attacks the terminal."""
    monkeypatch.setenv("FANBENCH_ENDPOINT", server.url)
    kaggle.add_task("my-task")
    script = RunScript(
        running=0, end=RunState.ERRORED, error=f"Traceback\n{ATTACK}", log=((0.0, f"{ATTACK}\nline\n"),)
    )
    kaggle.change(runs=lambda task, model, number: script)
    kaggle.add_model("model", f"Model {ATTACK}")
    kaggle.add_run("my-task", f"model{ATTACK}", script)


@pytest.mark.parametrize(
    "words",
    [
        "tasks status my-task",
        "tasks status my-task --format json",
        "tasks status my-task --format csv",
        "tasks log my-task",
        "tasks log my-task --interleave",
        "tasks log my-task --format jsonl",
        "tasks download my-task -v",
        "tasks models",
        "tasks run my-task -m model --wait",
        "sweep my-task -m model -o sweep -y -v",
    ],
)
def test_a_hostile_server(hostile: None, words: str) -> None:
    """No command passes on what would act on a terminal, to stdout or to stderr."""
    out, err = run(*words.split())
    assert r"\u001b]0;title\u0007" in out + err
    assert acting(out) == acting(err) == []


def test_the_bytes_of_a_log(hostile: None, folder: Path) -> None:
    """The bytes of a log are in its file, and are printed with --raw."""
    out, _ = run("tasks", "log", "my-task", "--raw", "-o", "logs")
    assert f"{ATTACK}\nline\n" in out
    [file] = folder.glob("logs/**/*.log")
    assert file.read_bytes().decode() == f"{ATTACK}\nline\n"
