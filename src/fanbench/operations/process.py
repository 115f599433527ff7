"""A program run to its end, whatever it does: its output, its time limit, and no process left behind."""

from __future__ import annotations

import codecs
import os
import secrets
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import Process

from fanbench._util.concurrency import alone
from fanbench.errors import OutputError
from fanbench.wire.log_lines import Lines
from fanbench.wire.messages import LogEntry

__all__ = ["MARKER", "Ended", "run_to_end"]

#: The variable by which the processes of a program are known, wherever they went.
MARKER = "FANBENCH_TRIAL"

#: Seconds between the polite stop and the kill, and for the last output of a program that has ended.
GRACE = 3.0
DRAIN = 5.0
#: Bytes of output that are written down, and lines that are kept in memory.
LOG_LIMIT = 64 << 20
TAIL = 40

# How often, and with how many seconds in between, strays are looked for.
_LOOKS = 50
_BETWEEN_LOOKS = 0.02

_CUT = b"\n[the output goes on, and is not written down]\n"


@dataclass(frozen=True, slots=True)
class Ended:
    """`code` is negative for a signal, as in `subprocess`; `tail` has the last lines of the output."""

    code: int
    timed_out: bool
    tail: tuple[str, ...]


async def run_to_end(
    command: Callable[[int], Sequence[str]],
    *,
    folder: Path,
    environment: Mapping[str, str],
    log: Path,
    timeout: float,
    say: Callable[[str], None],
) -> Ended:
    """Runs a program in `folder` until it ends, or for `timeout` seconds.

    `command` gets the number of a pipe that breaks when we die. Both streams of the output go into `log`,
    and line by line to `say`. However this ends, no process of the program is left.

    Raises:
        OutputError: `log` cannot be written.
    """
    output, mark = _Output(log, say), secrets.token_hex(16)
    with alone(), _lifeline() as (theirs, close_theirs):
        process = await anyio.open_process(
            command(theirs),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**environment, MARKER: mark},
            start_new_session=True,
            pass_fds=(theirs,),
        )
        close_theirs()
        async with _closed_at_end(process), anyio.create_task_group() as group:
            group.start_soon(output.read, process)
            try:
                timed_out = await _wait(process, timeout)
            finally:
                with anyio.CancelScope(shield=True):
                    _signal(process, signal.SIGKILL)
                    await anyio.to_thread.run_sync(_kill_strays, mark)
                    code = await process.wait()
                # A process that got away may hold the pipe open for ever.
                group.cancel_scope.deadline = anyio.current_time() + DRAIN
    return Ended(code, timed_out, tuple(output.tail))


@asynccontextmanager
async def _closed_at_end(process: Process) -> AsyncGenerator[None, None]:
    """A cancellation in between would leave the pipe open, whose number is soon somebody else's."""
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            await process.aclose()


@contextmanager
def _lifeline() -> Iterator[tuple[int, Callable[[], None]]]:
    theirs, ours = os.pipe()
    open_ends = {theirs, ours}

    def close(end: int) -> None:
        if end in open_ends:
            open_ends.remove(end)
            os.close(end)

    try:
        yield theirs, lambda: close(theirs)
    finally:
        close(theirs)
        close(ours)


async def _wait(process: Process, timeout: float) -> bool:
    """Whether it had to be stopped."""
    with anyio.move_on_after(timeout):
        await process.wait()
        return False
    _signal(process, signal.SIGINT)
    with anyio.move_on_after(GRACE):
        await process.wait()
    return True


def _signal(process: Process, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _kill_strays(mark: str, processes: Path = Path("/proc")) -> None:
    """Kill what left the program's process group, by the mark in its environment. Linux only.

    Again, as long as there are any: whoever is killed may just have started another.
    """
    if sys.platform != "linux":
        return
    wanted = f"{MARKER}={mark}".encode()
    for _ in range(_LOOKS):
        found = [_kill_marked(folder, wanted) for folder in processes.iterdir() if folder.name.isdigit()]
        if not any(found):
            return
        time.sleep(_BETWEEN_LOOKS)


def _kill_marked(process: Path, wanted: bytes) -> bool:
    """Whether it was marked, and thus killed, or may be: nothing is known of one that is just being executed.

    Whoever started that one has gone on already, and it has neither a command line nor an environment yet.
    (A thread of the kernel never has any, and no program.)
    """
    try:
        # First: whoever has none now may have both in a moment, and must not pass for one without an environment.
        begun = (process / "cmdline").read_bytes()
        environment = (process / "environ").read_bytes()
        if wanted in environment.split(b"\0"):
            os.kill(int(process.name), signal.SIGKILL)
            return True
        return not begun and not environment and bool(os.readlink(process / "exe"))
    except OSError:
        return False


class _Output:
    """Writes down what a program says, up to a limit, and passes it on line by line."""

    def __init__(self, log: Path, say: Callable[[str], None]) -> None:
        self.tail: deque[str] = deque(maxlen=TAIL)
        self._log = log
        self._say = say
        self._room = LOG_LIMIT
        self._lines = Lines()

    async def read(self, process: Process) -> None:
        try:
            await self._read(process)
        except OSError as error:
            raise OutputError(
                f"The output of the file cannot be kept: {error.strerror or error}.",
                hint="Name a folder with room for it: -o DIR, or TMPDIR=DIR.",
            ) from None

    async def _read(self, process: Process) -> None:
        assert process.stdout is not None
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        async with await anyio.open_file(self._log, "wb") as log:
            async for piece in process.stdout:
                self._pass_on(self._lines.feed(LogEntry(data=decoder.decode(piece))))
                if kept := self._kept(piece):
                    await log.write(kept)
        self._pass_on(self._lines.flush())

    def _kept(self, piece: bytes) -> bytes:
        if self._room <= 0:
            return b""
        self._room -= len(piece)
        return piece if self._room > 0 else piece + _CUT

    def _pass_on(self, lines: Sequence[str]) -> None:
        self.tail.extend(lines)
        for line in lines:
            self._say(line)
