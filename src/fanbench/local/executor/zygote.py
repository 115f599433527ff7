"""The parent of all runs: forks a child for each, and sees that nothing of a run outlives it.

With `fork` it imports the SDK first, which takes 2 to 2.5 s and 150 MB; a fork of a process that has done so takes
milliseconds and shares those pages. With `process` it imports nothing, and each child starts a new Python.

The server talks to this program over a Unix socket (its file descriptor's number is the first argument): it sends a
Job as one line of JSON together with two file descriptors, for the run's stdout and stderr; it is answered with the
pid, and later, in any order, with how each child ended. When the server goes away, by whatever death, the socket
closes, and the children go too.

No thread may run in this program: a fork copies only the thread that forks.
"""

from __future__ import annotations

import gc
import os
import selectors
import signal
import socket
import sys
import tempfile
import traceback
from contextlib import suppress
from typing import NoReturn

import msgspec

from fanbench.local.executor.child import die_with_parent, leave, run_job
from fanbench.local.executor.job import Job
from fanbench.local.executor.orphans import adopt_orphans, children
from fanbench.local.executor.sdk import Kit, make_kit


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    error: str | None = None


class Started(msgspec.Struct, frozen=True, tag="started"):
    pid: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    reason: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """Sent when nothing of the run is left."""

    pid: int
    code: int


Notice = Ready | Started | Refused | Ended


class Zygote:
    """Forks on request, reaps, reports. Without a `kit`, a child is a new Python."""

    def __init__(self, control: socket.socket, kit: Kit | None) -> None:
        self._control = control
        self._kit = kit
        self._runs: set[int] = set()
        self._buffer = b""
        self._wakeup, self._wakeup_writer = socket.socketpair()

    def serve(self) -> None:
        self._wake_on_children()
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is self._wakeup:
                    self._wakeup.recv(4096)
                    self._reap()
                elif not self._receive():
                    self._kill_all()
                    return

    def _wake_on_children(self) -> None:
        """Make a socket readable when a child has ended."""
        for end in (self._wakeup, self._wakeup_writer):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)

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
        try:
            pid = os.fork()
        except OSError as error:
            say(self._control, Refused(str(error)))
        else:
            if pid == 0:
                self._become_run(job, descriptors)
            self._runs.add(pid)
            say(self._control, Started(pid))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _become_run(self, job: Job, descriptors: list[int]) -> NoReturn:
        code = 70
        try:
            os.setsid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for end in (self._control, self._wakeup, self._wakeup_writer):
                end.close()
            for target, descriptor in zip((1, 2), descriptors, strict=True):
                os.dup2(descriptor, target)
                os.close(descriptor)
            if self._kit is None:
                _exec_fresh(job)
            gc.enable()
            code = run_job(job, self._kit)
        finally:
            leave(code)
        raise AssertionError("unreachable")

    def _reap(self) -> None:
        ended = []
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = found
                if pid in self._runs:
                    self._runs.discard(pid)
                    ended.append(Ended(pid, os.waitstatus_to_exitcode(status)))
        if ended:
            self._kill_strays()
        for notice in ended:
            say(self._control, notice)

    def _kill_strays(self) -> None:
        """Kill what runs left. A run adopts its own orphans as long as it lives: what has come to us is of none."""
        while strays := [pid for pid in children(os.getpid()) if pid not in self._runs]:
            for pid in strays:
                _kill(pid)

    def _kill_all(self) -> None:
        for pid in [*self._runs]:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
            _kill(pid)
        self._runs.clear()
        self._kill_strays()


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _exec_fresh(job: Job) -> NoReturn:
    """Become a new Python that runs the job. It comes by stdin: arguments can be seen by everybody."""
    with tempfile.TemporaryFile() as file:
        file.write(msgspec.json.encode(job))
        file.seek(0)
        os.dup2(file.fileno(), 0)
    os.chdir(job.working)
    # -P: the working folder is the task's, and may have a module of any name.
    command = [sys.executable, "-P", "-m", "fanbench.local.executor.child"]
    os.execve(sys.executable, command, job.environment)  # noqa: S606


def say(control: socket.socket, notice: Notice) -> None:
    control.sendall(msgspec.json.encode(notice) + b"\n")


def main() -> None:
    control, isolation = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    die_with_parent()
    adopt_orphans()
    # Ctrl-C is the server's to handle, which has blocked it until here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        kit = make_kit() if isolation == "fork" else None
    except BaseException:  # noqa: BLE001 - a broken install raises anything; the server turns it into a hint
        say(control, Ready(traceback.format_exc()))
        return
    gc.collect()
    gc.freeze()  # what is here now stays: children need not walk it, and so not copy its pages
    say(control, Ready())
    Zygote(control, kit).serve()


if __name__ == "__main__":
    main()
