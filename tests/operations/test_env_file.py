"""Env files: values that are set are read back, and everything else stays as it was."""

from __future__ import annotations

import os
import stat
from io import StringIO
from pathlib import Path

import pytest
from dotenv import dotenv_values
from hypothesis import assume, given
from hypothesis import strategies as st

from fanbench import OutputError, UsageError
from fanbench.operations.env_file import ensure_writable, read_env_file, upsert, write_env_file

KEYS = st.from_regex(r"[A-Z][A-Z0-9_]{0,8}", fullmatch=True)
# Everything that a token, a URL or a list of models might be, and much that it will never be.
VALUES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40).filter(
    lambda text: "${" not in text
)
PLAIN = st.text("abcXYZ019/._-:=,", max_size=20)
LINES = st.one_of(
    st.builds("{}={}".format, KEYS, PLAIN),
    st.builds("export {}={}".format, KEYS, PLAIN),
    st.builds("{} = '{}' # why".format, KEYS, PLAIN),
    st.builds('{}="{} # no comment"'.format, KEYS, PLAIN),
    st.builds('{}="two\nlines"'.format, KEYS),
    st.builds("# {}".format, PLAIN),
    st.builds("{}".format, KEYS),
    st.just(""),
    st.just("   "),
    st.just("= nonsense"),
)
FILES = st.builds(
    lambda lines, end, last: end.join(lines) + (end if last else ""),
    st.lists(LINES),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
)


def read(text: str) -> dict[str, str | None]:
    return dotenv_values(stream=StringIO(text, newline=""), interpolate=False)


@given(FILES, st.dictionaries(KEYS, VALUES, max_size=4))
def test_set_values_are_read_back_and_the_rest_is_unchanged(text: str, values: dict[str, str]) -> None:
    """python-dotenv reads back every value that was set, and all other values as before."""
    before = read(text)
    after = upsert(text, values)
    assert read(after) == before | values
    assert dotenv_values(stream=StringIO(after, newline="")).items() >= values.items()


@given(FILES, st.dictionaries(KEYS, VALUES, min_size=1, max_size=4))
def test_setting_the_same_again_changes_nothing(text: str, values: dict[str, str]) -> None:
    """Setting the same values again leaves the file byte for byte the same."""
    once = upsert(text, values)
    assert upsert(once, values) == once


@given(FILES, KEYS, PLAIN)
def test_other_lines_stay_in_order(text: str, key: str, value: str) -> None:
    """Comments, blank lines and other keys stay as they were written."""
    assume(f"{key}" not in text)
    after = upsert(text, {key: value})
    assert after.startswith(text)


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("", "A=new\n"),
        ("B=1", "B=1\nA=new\n"),
        ("B=1\r\n", "B=1\r\nA=new\r\n"),
        ("A=old\nB=1\n", "A=new\nB=1\n"),
        ("export A=old # mine\n", "export A=new # mine\n"),
        ("A='old' # it's mine\n", "A='new' # it's mine\n"),
        ('A="old"\n', 'A="new"\n'),
        ("A = old\n", "A = new\n"),
        ("A= # nothing yet\n", "A= new # nothing yet\n"),
        ("A=1\n# c\nB=2\nA=3\n", "A=new\n# c\nB=2\n"),
        ("A=1\n\nA=2", "A=new\n\n"),
        ("A\n", "A=new\n"),
        ("# A=1\n", "# A=1\nA=new\n"),
        ("\ufeffA=1\n", "\ufeffA=new\n"),
    ],
)
def test_a_value_is_set_in_place(text: str, after: str) -> None:
    """A value is set at the first occurrence of its key, duplicates are removed, and quotes and comment are kept."""
    assert upsert(text, {"A": "new"}) == after


@pytest.mark.parametrize(
    "value", ["a b", "a #b", " a", "'", '"', 'it\'s "so"', "\\", "a\\", "\\n", "$A", "#", ""]
)
def test_values_that_need_quotes(value: str) -> None:
    """A value that needs quotes gets quotes that preserve it."""
    assert read_back(upsert("B='x'\n", {"A": value})) == value


def read_back(text: str) -> str | None:
    return dotenv_values(stream=StringIO(text, newline=""))["A"]


def test_a_value_that_would_be_changed_when_read_is_refused() -> None:
    """A value with `${NAME}`, which python-dotenv always expands, is refused."""
    with pytest.raises(UsageError, match="A cannot be written"):
        upsert("", {"A": "x${HOME}y"})


# --- Files ---


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_file_is_for_its_owner_only(tmp_path: Path) -> None:
    """A new file is readable by its owner only, because it holds a key."""
    write_env_file(tmp_path / ".env", {"A": "1"})
    assert (mode(tmp_path / ".env"), (tmp_path / ".env").read_text()) == (0o600, "A=1\n")


def test_an_old_file_keeps_its_permissions(tmp_path: Path) -> None:
    """An existing file keeps its permissions."""
    path = tmp_path / ".env"
    path.write_text("B=1\n")
    path.chmod(0o640)
    write_env_file(path, {"A": "1"})
    assert (mode(path), path.read_text()) == (0o640, "B=1\nA=1\n")
    assert [file.name for file in tmp_path.iterdir()] == [".env"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """The file behind a symbolic link changes, and the link stays."""
    (tmp_path / "folder").mkdir()
    real, link = tmp_path / "folder" / "real", tmp_path / ".env"
    real.write_text("A=1\n")
    link.symlink_to(real)
    write_env_file(link, {"A": "2"})
    assert link.is_symlink()
    assert real.read_text() == "A=2\n"
    assert read_env_file(link) == {"A": "2"}


def test_line_ends_stay(tmp_path: Path) -> None:
    """Line ends are kept, including those of Windows."""
    path = tmp_path / ".env"
    path.write_bytes(b"A=1\r\nB=2\r\n")
    write_env_file(path, {"A": "3"})
    assert path.read_bytes() == b"A=3\r\nB=2\r\n"


def test_a_missing_file_has_no_values(tmp_path: Path) -> None:
    """A missing file has no values, and is not an error."""
    assert read_env_file(tmp_path / ".env") == {}


def folder(path: Path) -> None:
    path.mkdir()


def read_only(path: Path) -> None:
    path.write_text("A=1\n")
    path.chmod(0o400)


def binary(path: Path) -> None:
    path.write_bytes(b"A=\xff\xfe\n")


@pytest.mark.parametrize(
    ("make", "words"), [(folder, "is a folder"), (read_only, "is read-only"), (binary, "not UTF-8")]
)
def test_files_that_cannot_be_written(tmp_path: Path, make: object, words: str) -> None:
    """A file that cannot be written is one error with the reason, even before there is a value to write."""
    path = tmp_path / ".env"
    assert callable(make)
    make(path)
    before = path.read_bytes() if path.is_file() else None
    for try_it in (ensure_writable, lambda path: write_env_file(path, {"A": "2"})):
        with pytest.raises(OutputError, match=words):
            try_it(path)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert os.listdir(tmp_path) == [".env"]


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    """A missing folder is an error."""
    with pytest.raises(OutputError, match="Cannot use"):
        write_env_file(tmp_path / "no" / ".env", {"A": "2"})
    with pytest.raises(OutputError, match="Cannot use"):
        ensure_writable(tmp_path / "no" / ".env")


def test_ensure_writable_leaves_no_trace(tmp_path: Path) -> None:
    """`ensure_writable` neither creates nor changes a file."""
    ensure_writable(tmp_path / ".env")
    assert os.listdir(tmp_path) == []
    (tmp_path / ".env").write_text("A=1\n")
    ensure_writable(tmp_path / ".env")
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(".env", "A=1\n")]
