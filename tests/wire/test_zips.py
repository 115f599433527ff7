"""Unpacking: good zips are complete, and nothing is ever written outside the folder."""

from __future__ import annotations

import io
import random
import stat
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import OutputError
from fanbench.sweeps.artifacts import contents_of
from fanbench.wire import safe_unzip
from fanbench.wire.safe_unzip import BadZip, UnpackedFile, safe_path, unpack

CONTENT = b"some content, " * 50


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return buffer.getvalue()


def link(name: str, to: str, kind: int = stat.S_IFLNK) -> tuple[zipfile.ZipInfo, bytes]:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info, to.encode()


def archive(folder: Path, content: bytes) -> tuple[Path, Path]:
    path, target = folder / "a.zip", folder / "out"
    path.write_bytes(content)
    target.mkdir()
    return path, target


def sizes(unpacked: list[UnpackedFile]) -> dict[str, int]:
    return {file.name: file.size for file in unpacked}


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_good_zips(tmp_path: Path, compression: int) -> None:
    """Files and folders are unpacked unchanged, and their sizes are returned."""
    path, target = archive(
        tmp_path,
        zipped(("a.run.json", b"{}"), ("sub/deep/b.txt", CONTENT), ("empty/", b""), compression=compression),
    )
    assert sizes(unpack(path, target)) == {"a.run.json": 2, "sub/deep/b.txt": len(CONTENT)}
    assert names_in(target) == ["a.run.json", "empty", "sub", "sub/deep", "sub/deep/b.txt"]
    assert (target / "sub/deep/b.txt").read_bytes() == CONTENT


def test_returned_files_match_the_disk(tmp_path: Path) -> None:
    """The returned sizes and digests are those of the files on the disk, under their actual names."""
    large = random.Random(1).randbytes(3_000_000)
    path, target = archive(tmp_path, zipped(("large", large), ("sub/a\\b", CONTENT), ("sub/a_b", b"")))
    unpacked = unpack(path, target)
    assert sizes(unpacked) == {"large": len(large), "sub/a_b": len(CONTENT), "sub/a_b-2": 0}
    assert unpacked == sorted(contents_of(target))
    assert (target / "large").read_bytes() == large


def test_names_that_collide_on_this_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that ignores case, no file overwrites another."""
    made = Path.open

    def opened(self: Path, *arguments: Any, **named: Any) -> Any:
        return made(self.with_name(self.name.lower()), *arguments, **named)

    monkeypatch.setattr(Path, "open", opened)
    path, target = archive(tmp_path, zipped(("a", b"x"), ("A", b"yy")))
    assert sizes(unpack(path, target)) == {"a": 1, "A-2": 2}


def test_many_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many entries of the same name are numbered without trying every number."""
    tried, made = 0, Path.open

    def opened(*arguments: Any, **named: Any) -> Any:
        nonlocal tried
        tried += 1
        return made(*arguments, **named)

    path, target = archive(tmp_path, zipped(*[(f"a{chr(mark)}", b"") for mark in range(1, 32)]))
    monkeypatch.setattr(Path, "open", opened)
    assert len(sizes(unpack(path, target))) == 31
    assert tried == 31


def test_an_empty_zip(tmp_path: Path) -> None:
    """An empty zip is unpacked to an empty folder."""
    assert unpack(*archive(tmp_path, zipped())) == []


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "a/../../evil",
        "a/..",
        "/etc/evil",
        "//host/evil",
        "./",
    ],
)
def test_names_that_are_refused(tmp_path: Path, name: str) -> None:
    """A name that leads out of the folder is refused before anything is written."""
    path, target = archive(tmp_path, zipped(("good.txt", b"x"), (name, b"x")))
    with pytest.raises(BadZip, match="The zip has an entry"):
        unpack(path, target)
    assert names_in(tmp_path) == ["a.zip", "out"]


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("C:evil", "C_evil"),
        ("c:/evil", "c_/evil"),
        ("..\\evil", ".._evil"),
        ("a\\b", "a_b"),
        ("line\nend", "line_end"),
        ("con", "_con"),
        ("sub/NUL.txt", "sub/_NUL.txt"),
        ("com1", "_com1"),
        ("aux .txt/x", "_aux .txt/x"),
    ],
)
def test_names_that_mean_something_elsewhere(tmp_path: Path, name: str, safe: str) -> None:
    """Names that have a meaning on other systems are changed, and no file is lost."""
    path, target = archive(tmp_path, zipped((name, b"x"), (safe, b"y")))
    assert sizes(unpack(path, target)) == {safe: 1, f"{safe}-2": 1}
    assert (target / safe).read_bytes() == b"x"


@pytest.mark.parametrize("name", ["contact.txt", "auxiliary/x", "a..b", "...", "nul_", "ü 🚀.txt", "console"])
def test_names_that_are_fine(tmp_path: Path, name: str) -> None:
    """A name that only resembles a dangerous one is kept."""
    assert sizes(unpack(*archive(tmp_path, zipped((name, b"x"))))) == {name: 1}


@given(st.text(st.sampled_from(list("ab./\\: \n\x7fcC0")), min_size=1, max_size=12))
def test_no_name_leads_out(name: str) -> None:
    """Any name is either refused or inside the folder."""
    info = zipfile.ZipInfo(name)
    try:
        place = safe_path(info)
    except BadZip:
        return
    folder = Path("/somewhere/out")
    assert (folder / place).resolve().is_relative_to(folder)
    assert (folder / place).resolve() != folder


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    """Symbolic links, pipes and devices are refused."""
    path, target = archive(tmp_path, zipped(link("link", "good.txt", kind), ("link/x", b"x")))
    with pytest.raises(BadZip, match="neither a file nor a folder"):
        unpack(path, target)
    assert names_in(target) == []


def test_bombs_are_refused(tmp_path: Path) -> None:
    """A zip that would unpack to too many bytes or files is refused without being read."""
    path, target = archive(tmp_path, zipped(("a", bytes(5000)), ("b", bytes(5000))))
    with pytest.raises(BadZip, match="10,000 bytes; more than 9,999"):
        unpack(path, target, max_bytes=9999)
    with pytest.raises(BadZip, match="2 entries; more than 1"):
        unpack(path, target, max_files=1)
    assert sizes(unpack(path, target, max_bytes=10_000, max_files=2)) == {"a": 5000, "b": 5000}


def test_bombs_are_recognized_by_their_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large zip that expands far more than results do is refused; the error says how to allow it."""
    monkeypatch.setattr(safe_unzip, "ANY_RATIO", 100_000)
    noise = random.Random(1).randbytes(1_000_000)
    for name, content in (("small", bytes(100_000)), ("noise", noise)):
        (tmp_path / name).mkdir()
        path, target = archive(tmp_path / name, zipped(("a", content)))
        assert sizes(unpack(path, target)) == {"a": len(content)}
    bomb, target = archive(tmp_path, zipped(("a", bytes(1_000_000))))
    with pytest.raises(BadZip, match="would unpack to 1,000,000 bytes") as caught:
        unpack(bomb, target)
    assert "FANBENCH_MAX_OUTPUT=1000000" in (caught.value.hint or "")
    assert sizes(unpack(bomb, target, max_bytes=1_000_000)) == {"a": 1_000_000}


def test_a_size_that_lies(tmp_path: Path) -> None:
    """A file longer than its declared size is refused, and not written beyond that size."""
    content = bytearray(zipped(("a", bytes(100_000))))
    claimed = (10).to_bytes(4, "little")
    central = content.index(b"PK\x01\x02")
    content[22:26] = claimed
    content[central + 24 : central + 28] = claimed
    path, target = archive(tmp_path, bytes(content))
    with pytest.raises(BadZip):
        unpack(path, target)
    assert (target / "a").stat().st_size <= 10


def test_an_encrypted_zip(tmp_path: Path) -> None:
    """An encrypted zip is refused as unreadable."""
    content = bytearray(zipped(("a", CONTENT)))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(BadZip, match="cannot be read"):
        unpack(*archive(tmp_path, bytes(content)))


@pytest.mark.parametrize(
    "content",
    [b"", b"PK", b"<html>", b"PK\x05\x06" + bytes(10), zipped(("a", CONTENT))[:-30]],
    ids=["empty", "two bytes", "html", "half a directory", "truncated"],
)
def test_files_that_are_not_zips(tmp_path: Path, content: bytes) -> None:
    """Random bytes and truncated zips raise BadZip."""
    with pytest.raises(BadZip, match="damaged"):
        unpack(*archive(tmp_path, content))


@given(st.data())
def test_damage_is_found_or_does_no_harm(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A zip with changed bytes is unpacked or raises BadZip or OSError, and writes nothing outside."""
    content = bytearray(zipped(("dir/a.txt", CONTENT), ("b.txt", b"x" * 100)))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damaged")
    path, target = archive(folder, bytes(content))
    with suppress(BadZip, OSError):
        unpack(path, target, max_bytes=1 << 20)
    assert {name.split("/")[0] for name in names_in(folder)} <= {"a.zip", "out"}


def test_unpacking_can_be_stopped(tmp_path: Path) -> None:
    """An exception from `check` stops unpacking, also in the middle of a large file."""

    class StopError(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise StopError

    path, target = archive(tmp_path, zipped(("large", bytes(10 << 20))))
    with pytest.raises(StopError):
        unpack(path, target, check=check)
    assert (target / "large").stat().st_size < 10 << 20


def test_bad_zips_are_output_errors() -> None:
    """A BadZip is an OutputError."""
    assert issubclass(BadZip, OutputError)
