"""Programs that start at once: each is a fork of a Python that has already imported what they need.

Most of the time that a short program takes is that of its imports. `WarmPython` starts `python warm.py FD PROGRAM`,
which executes PROGRAM, a file, as a module, and calls its `preload()`. For each request it forks a process of its own
that calls `main()`, with the arguments, folder, environment and streams of that request.

This file and PROGRAM run in any environment, so what they import at the top is in Python itself.
"""

from __future__ import annotations

import atexit
import fcntl
import gc
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import termios
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["Forked", "WarmPython", "start", "warm_python"]

_REQUEST_BYTES = 1 << 18
"""More than the arguments and the environment of a program are."""

_ENVIRONMENT = dict(os.environ)
"""As it is before any test changes it."""


class Forked:
    """A program that runs in a fork, with what its callers need of a `Popen`."""

    def __init__(self, status: socket.socket) -> None:
        self._status = status.makefile("rb")
        self.pid = int(self._status.readline())
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit code, negative after a signal, or None if the program has not ended."""
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the program.

        Raises:
            TimeoutExpired: It has not ended within `timeout` seconds.
        """
        code = self._read(timeout)
        if code is None:
            raise subprocess.TimeoutExpired(f"the fork {self.pid}", timeout or 0)
        return code

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode


class WarmPython:
    """A Python that has called the `preload()` of a program."""

    def __init__(
        self, program: Path, python: str = sys.executable, environment: Mapping[str, str] = _ENVIRONMENT
    ) -> None:
        self.requests, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [python, __file__, str(theirs.fileno()), str(program)]
        with theirs:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment
            )
        atexit.register(self.close)

    def start(self, words: Sequence[str], **request: Any) -> Forked:
        """Start the program: see the function `start`."""
        return start(self.requests, words, **request)

    def close(self) -> None:
        """End it. It waits for the programs that it has started, but not long for one that a failed test has left."""
        self.requests.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def start(
    requests: socket.socket,
    words: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    out: int,
    err: int,
    stdin: int | None = None,
    controlled: bool = False,
) -> Forked:
    """Start the program of a `WarmPython`, which any process can that has its `requests`.

    It gets these arguments, and descriptors for its streams; its stdin is empty by default. With `controlled`, that is
    the terminal from which Ctrl-C reaches it.
    """
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull, "rb") as nothing:
        request = json.dumps([list(words), str(folder), dict(environment), controlled]).encode()
        first = nothing.fileno() if stdin is None else stdin
        socket.send_fds(requests, [request], [first, out, err, theirs.fileno()])
        theirs.close()
        return Forked(ours)


@cache
def warm_python(program: Path, python: str = sys.executable) -> WarmPython:
    """The Python for `program` that all tests of this process share."""
    return WarmPython(program, python)


def _serve(requests: socket.socket, program: dict[str, Any]) -> None:
    """Fork a process for each request."""
    while (received := socket.recv_fds(requests, _REQUEST_BYTES, 4))[0]:
        request, descriptors, _, _ = received
        if os.fork() == 0:
            requests.close()
            *streams, status = descriptors
            if _fork_and_report(status) == 0:
                _run(program, json.loads(request), streams)
        for descriptor in descriptors:
            os.close(descriptor)
        _reap(os.WNOHANG)
    _reap()


def _reap(options: int = 0) -> None:
    """Wait for the forks, or forget those that have ended."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, options) != (0, 0):
            pass


def _fork_and_report(status: int) -> int:
    """Return 0 in a fork. Out of it, write its process id and later its exit code to `status`, and end."""
    pid = os.fork()
    if pid == 0:
        os.close(status)
        return 0
    with suppress(BrokenPipeError):  # nobody waits for it any longer
        os.write(status, b"%d\n" % pid)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        os.write(status, b"%d\n" % code)
    os._exit(0)


def _run(program: dict[str, Any], request: list[Any], streams: Sequence[int]) -> NoReturn:
    words, folder, environment, controlled = request
    for target, descriptor in enumerate(streams):
        os.dup2(descriptor, target)
        os.close(descriptor)
    if controlled:
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which may be ignored here
    # What was imported may have kept the streams that there were.
    sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", closefd=False)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv[1:] = words
    code = 0
    try:
        program["main"]()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001 - as Python itself ends
        traceback.print_exc()
        code = 1
    # Python would also take apart all that was imported, which takes longer than most programs.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    requests = socket.socket(fileno=int(sys.argv[1]))
    requests.set_inheritable(False)
    program = runpy.run_path(sys.argv[2], run_name="warm")
    sys.argv = sys.argv[2:3]
    program["preload"]()
    gc.collect()
    gc.freeze()  # the forks need not look through it
    _serve(requests, program)


if __name__ == "__main__":
    main()
