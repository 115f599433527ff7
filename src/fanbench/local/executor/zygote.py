"""The warm parent: imports the SDK once, then forks a child for every run.

Importing the SDK takes 2 to 2.5 s and 150 MB; a fork of a process that has done so takes milliseconds and
shares those pages. The server talks to this program over a Unix socket (file descriptor 3's number is its
argument): it sends a Job as one line of JSON together with two file descriptors, for the run's stdout and
stderr; it is answered with the pid, and later, in any order, with how each child ended. When the server goes
away, by whatever death, the socket closes, and the children go too.

No thread may run in this program: a fork copies only the thread that forks.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import traceback
from typing import NoReturn

import msgspec

from fanbench.local.executor.child import die_with_parent, leave, run_job
from fanbench.local.executor.job import Job
from fanbench.local.executor.sdk import Kit, make_kit


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    error: str | None = None


class Started(msgspec.Struct, frozen=True, tag="started"):
    pid: int


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    pid: int
    code: int
    max_rss_mb: float
    cpu_seconds: float


Notice = Ready | Started | Ended


class Zygote:
    """Forks on request, reaps, reports."""

    def __init__(self, control: socket.socket, kit: Kit) -> None:
        self._control = control
        self._kit = kit
        self._children: set[int] = set()
        self._buffer = b""

    def serve(self) -> None:
        wakeup = _wake_on_children()
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is wakeup:
                    wakeup.recv(4096)
                    self._reap()
                elif not self._receive():
                    self._kill_all()
                    return

    def _receive(self) -> bool:
        """Take one message; False when the server is gone."""
        data, descriptors, _, _ = socket.recv_fds(self._control, 1 << 20, 2)
        if not data:
            return False
        self._buffer += data
        while not self._buffer.endswith(b"\n"):
            more = self._control.recv(1 << 20)
            if not more:
                return False
            self._buffer += more
        line, self._buffer = self._buffer, b""
        self._start(msgspec.json.decode(line, type=Job), descriptors)
        return True

    def _start(self, job: Job, descriptors: list[int]) -> None:
        pid = os.fork()
        if pid == 0:
            self._become_run(job, descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        self._children.add(pid)
        self._say(Started(pid))

    def _become_run(self, job: Job, descriptors: list[int]) -> NoReturn:
        code = 70
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            self._control.close()
            for target, descriptor in zip((1, 2), descriptors, strict=True):
                os.dup2(descriptor, target)
                os.close(descriptor)
            gc.enable()
            code = run_job(job, self._kit)
        finally:
            leave(code)
        raise AssertionError("unreachable")

    def _reap(self) -> None:
        while self._children:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
            if pid == 0:
                return
            self._children.discard(pid)
            cpu = usage.ru_utime + usage.ru_stime
            code = os.waitstatus_to_exitcode(status)
            self._say(Ended(pid, code, usage.ru_maxrss / 1024, cpu))

    def _kill_all(self) -> None:
        for pid in self._children:
            for kill in (os.killpg, os.kill):
                try:
                    kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            os.waitpid(pid, 0)

    def _say(self, notice: Notice) -> None:
        say(self._control, notice)


def say(control: socket.socket, notice: Notice) -> None:
    control.sendall(msgspec.json.encode(notice) + b"\n")


def _wake_on_children() -> socket.socket:
    """A socket that becomes readable when a child has ended."""
    reader, writer = socket.socketpair()
    for end in (reader, writer):
        end.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    _wake_on_children.keep = writer  # type: ignore[attr-defined]  # or it would be closed when collected
    return reader


def main() -> None:
    control = socket.socket(fileno=int(sys.argv[1]))
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the server's to handle
    try:
        kit = make_kit()
    except BaseException:  # noqa: BLE001 - a broken install raises anything; the server turns it into a hint
        say(control, Ready(traceback.format_exc()))
        return
    gc.collect()
    gc.freeze()  # what is here now stays: children need not walk it, and so not copy its pages
    say(control, Ready())
    Zygote(control, kit).serve()


if __name__ == "__main__":
    main()
