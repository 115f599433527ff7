"""The packages that all runs share, and those among them that must keep their versions."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import pytest

from fanbench.local import server_packages
from fanbench.local.server_packages import read_server_packages


def install(site: Path, name: str, version: str, requires: Sequence[str] = ()) -> None:
    """Write the metadata of an installed package."""
    (info := site / f"{name}-{version}.dist-info").mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")


def test_what_the_sdk_uses_is_fixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the SDK depends on, directly, indirectly or optionally, is fixed; other packages and build tools are not."""
    site, later = tmp_path / "site", tmp_path / "later"
    install(site, "kaggle_benchmarks", "0.6.2", ["Pan.Das[fast]>=2", "absent", "old; python_version < '3'"])
    install(
        site, "pan-das", "3.1", ["num_py", "quick; extra == 'fast'", "arrow; extra == 'arrow'", "setuptools"]
    )
    for name in ("num_py", "quick", "arrow", "old", "setuptools", "other"):
        install(site, name, "1.0")
    install(site, "quick-needs", "1.0")
    install(later, "arrow", "2.0")
    monkeypatch.setattr("sys.path", [str(site), str(later)])
    packages = read_server_packages()
    assert packages.fixed == {
        "kaggle-benchmarks": "0.6.2",
        "pan-das": "3.1",
        "num-py": "1.0",
        "quick": "1.0",
        "arrow": "1.0",
        "old": "1.0",
    }
    assert packages.installed["other"] == "1.0"
    # A package that is installed meanwhile is noticed.
    install(site, "absent", "5.0")
    assert read_server_packages().fixed["absent"] == "5.0"


def test_descriptions_and_eggs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A description has no requirements, an `.egg-info` has them in another file, and an empty one is no package."""
    install(tmp_path, "kaggle_benchmarks", "0.6.2", ["old-egg"])
    with (tmp_path / "kaggle_benchmarks-0.6.2.dist-info/METADATA").open("a") as file:
        file.write("\nName: other\nRequires-Dist: later\n")
    (egg := tmp_path / "old_egg.egg-info").mkdir()
    (egg / "PKG-INFO").write_text("Metadata-Version: 1.0\nName: old-egg\nVersion: 1.5\n")
    (egg / "requires.txt").write_text("needed\n")
    (tmp_path / "left_behind.egg-info").mkdir()
    for name in ("needed", "later"):
        install(tmp_path, name, "1.0")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    assert read_server_packages().fixed == {"kaggle-benchmarks": "0.6.2", "old-egg": "1.5", "needed": "1.0"}


def test_threads_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requirements are read in one thread at a time, and only once for all that ask at the same time."""
    server_packages._read.cache_clear()
    at_once, most, reads = 0, 0, 0
    real = server_packages._read_package

    def counted(distribution: metadata.Distribution) -> server_packages._Package:
        nonlocal at_once, most, reads
        at_once += 1
        most, reads = max(most, at_once), reads + 1
        try:
            return real(distribution)
        finally:
            at_once -= 1

    monkeypatch.setattr(server_packages, "_read_package", counted)
    with ThreadPoolExecutor(4) as threads:
        found = [thread.result() for thread in [threads.submit(read_server_packages) for _ in range(4)]]
    assert most == 1
    assert reads == len(list(metadata.distributions()))
    assert all(each is found[0] for each in found)
