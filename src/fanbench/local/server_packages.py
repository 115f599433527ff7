"""The packages of the server's own environment, which all runs share."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from functools import lru_cache
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["PARSING", "ServerPackages", "read_server_packages"]

#: Held while requirements are parsed. Markers are parsed as Python, and before Python 3.11.8 and 3.12.2, two threads
#: that do so at once may get a SystemError (python/cpython#106905).
PARSING = threading.Lock()

# The process that runs are forked from imports only from these and from what they depend on.
_ROOTS = ("fanbench[local]", "kaggle-benchmarks")
# Nothing imports these at run time, and constraints for them would also apply where pip builds packages.
_BUILD_TOOLS = frozenset({"pip", "setuptools", "wheel"})


@dataclass(frozen=True, slots=True)
class ServerPackages:
    """Versions by canonical names: of all packages, and of those that the SDK and fanbench use.

    The latter are `fixed`: in another version, they would break the SDK, or would be ignored by a fork of a process
    that has already imported them. Optional dependencies count, because pandas, say, imports pyarrow if it is there.
    """

    installed: Mapping[str, str]
    fixed: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class _Package:
    name: str
    version: str
    requires: Sequence[str]


def read_server_packages() -> ServerPackages:
    """Read the metadata of this environment's packages, if one of its folders has changed since the last time."""
    with PARSING:
        return _read(tuple((folder, _modified(folder)) for folder in sys.path))


def _modified(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return 0


@lru_cache(maxsize=1)
def _read(_folders: tuple[tuple[str, int], ...]) -> ServerPackages:
    packages: dict[str, _Package] = {}
    for each in map(_read_package, metadata.distributions()):
        if each.name:
            # The first of a name is the one that is imported.
            packages.setdefault(each.name, each)
    fixed: dict[str, str] = {}
    optional: dict[str, str] = {}
    todo = [Requirement(root) for root in _ROOTS]
    seen: set[str] = set()
    while todo:
        wanted = todo.pop()
        name = canonicalize_name(wanted.name)
        if name in packages and str(wanted) not in seen:
            seen.add(str(wanted))
            if name not in _BUILD_TOOLS:
                fixed[name] = packages[name].version
            for requirement in map(Requirement, packages[name].requires):
                needed = canonicalize_name(requirement.name)
                if _applies(requirement, wanted.extras):
                    todo.append(requirement)
                elif needed in packages and needed not in _BUILD_TOOLS:
                    optional[needed] = packages[needed].version
    return ServerPackages({name: each.version for name, each in packages.items()}, optional | fixed)


def _read_package(distribution: metadata.Distribution) -> _Package:
    text = distribution.read_text("METADATA")
    if text is None:  # an .egg-info, which has its requirements in a file of their own
        found = distribution.metadata
        name, version = found["Name"] or "", found["Version"] or ""
        return _Package(canonicalize_name(name), version, distribution.requires or [])
    # Without the description. `Distribution` parses it, too, each time that something is read.
    headers = HeaderParser().parsestr(text.partition("\n\n")[0])
    name, version = headers["Name"] or "", headers["Version"] or ""
    return _Package(canonicalize_name(name), version, headers.get_all("Requires-Dist", []))


def _applies(requirement: Requirement, extras: Iterable[str]) -> bool:
    marker = requirement.marker
    return marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras))
