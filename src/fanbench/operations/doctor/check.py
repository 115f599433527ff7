"""What probes look at, and what they find."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import ClassVar, Literal

import anyio.to_thread

from fanbench.errors import FanbenchError
from fanbench.operations.events import Event

__all__ = ["Check", "CheckLevel", "Checked", "DoctorTarget", "Probe", "failed_check", "in_thread"]

CheckLevel = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `fix` describes what to do about it, usually with a command."""

    name: str
    level: CheckLevel
    message: str
    fix: str | None = None


class Checked(Event, frozen=True):
    """One check has ended."""

    template: ClassVar[str | None] = "{check.name}: {check.message}"

    check: Check


@dataclass(frozen=True, slots=True)
class DoctorTarget:
    """What to examine: the server, as for `resolve_config`, or the local one, and an env file."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    local: bool = False
    data: Path | None = None
    env_file: Path = Path(".env")
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home: Path | None = None


Probe = Callable[[DoctorTarget], Awaitable[list[Check]]]


def in_thread(probe: Callable[[DoctorTarget], list[Check]]) -> Probe:
    """Make a probe of a function that reads the disk, which would disturb the timing of the server's answer."""

    @wraps(probe)
    async def run(target: DoctorTarget) -> list[Check]:
        return await anyio.to_thread.run_sync(probe, target)

    return run


def failed_check(name: str, error: FanbenchError) -> Check:
    return Check(name, "fail", str(error), error.hint)
