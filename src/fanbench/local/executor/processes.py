"""A run that sees no processes but its own: it gets a PID namespace, which the kernel empties when the run ends.

The first process of a namespace ignores signals that it has no handler for, even a SIGKILL that it sends to itself,
and everything in the namespace ends with it. So a run is the second process. The first, which only reaps orphans, is
made by a helper that stays small: a fork of a process that has imported the SDK would take much longer.

                        ┌─ helper ── (a process that ends at once) ── first process of a namespace
    forkserver ─────────┴─ run, in the same namespace
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import socket
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

__all__ = ["Init", "PidNamespaces", "enter_user_namespace", "unshare"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000


class Init:
    """The first process of a PID namespace. It also ends when the process that has asked for it does."""

    def __init__(self, pid: int, lifeline: int) -> None:
        self.pid = pid
        self._lifeline = lifeline

    def close(self) -> None:
        """Forget it, in a fork."""
        os.close(self._lifeline)

    def end(self) -> None:
        """End it, and with it all processes of its namespace."""
        self.close()
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


class PidNamespaces:
    """Makes PID namespaces: as root, or else as the root of a user namespace that this process enters.

    No thread may run in this process, it should be small, and it must adopt orphans. The next namespace is always made
    in advance.

    Raises:
        OSError: The system does not allow it.
    """

    def __init__(self) -> None:
        ours = os.open("/proc/self/ns/pid", os.O_RDONLY)
        privileged = _libc().setns(ours, _CLONE_NEWPID) == 0
        os.close(ours)
        if not privileged:
            enter_user_namespace()
        self._requests, theirs = socket.socketpair()
        self._helper = os.fork()
        if self._helper == 0:
            try:
                self._requests.close()
                _make_namespaces(theirs)
            finally:
                os._exit(0)
        theirs.close()
        self._request()

    def _request(self) -> None:
        reader, self._lifeline = os.pipe()
        self._answer: int | None = None
        with suppress(ConnectionError):  # the answer is missing then
            socket.send_fds(self._requests, [b"?"], [reader])
        os.close(reader)

    def _receive(self) -> int:
        """The first process of the next namespace, or a negative error number."""
        if self._answer is None:
            answer = self._requests.recv(32)
            if not answer:
                raise EOFError("The helper that makes PID namespaces is gone.")
            self._answer = int(answer)
        return self._answer

    @property
    def waiting(self) -> set[int]:
        """The children of this process that belong to no run yet."""
        return {self._helper, self._receive()}

    def enter_next(self) -> Init:
        """Have all further children of this process in a new namespace, until the next call.

        Raises:
            OSError: There are too many processes.
            EOFError: The helper is gone, so that this process cannot go on.
        """
        answer, lifeline = self._receive(), self._lifeline
        self._request()
        if answer < 0:
            os.close(lifeline)
            raise OSError(-answer, os.strerror(-answer))
        init = Init(answer, lifeline)
        try:
            namespace = os.open(f"/proc/{init.pid}/ns/pid", os.O_RDONLY)
            try:
                _check(_libc().setns(namespace, _CLONE_NEWPID))
            finally:
                os.close(namespace)
        except OSError:
            init.end()
            raise
        return init

    def close(self) -> None:
        """Forget the helper and the next namespace, in a fork."""
        self._requests.close()
        os.close(self._lifeline)


def _make_namespaces(requests: socket.socket) -> None:
    """Answer each request with the first process of a new namespace, or a negative error number."""
    while True:
        try:
            message, lifelines, _, _ = socket.recv_fds(requests, 1, 1)
        except ConnectionError:
            return
        if not message:
            return
        try:
            between = os.fork()
            if between == 0:
                _start_init(requests, *lifelines)
            os.waitpid(between, 0)
        except OSError as error:
            requests.send(str(-(error.errno or errno.EIO)).encode())
        for lifeline in lifelines:
            os.close(lifeline)


def _start_init(requests: socket.socket, lifeline: int) -> NoReturn:
    """Leave an orphan, which the forkserver adopts, because only a child of ours can be in a namespace of its own."""
    try:
        unshare(_CLONE_NEWPID)
        pid = os.fork()
        if pid == 0:
            _wait_for_end(lifeline)
        requests.send(str(pid).encode())
    except OSError as error:
        requests.send(str(-(error.errno or errno.EIO)).encode())
    finally:
        os._exit(0)


def _wait_for_end(lifeline: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel then reaps what comes to this process
    os.dup2(lifeline, 0)
    os.closerange(1, os.sysconf("SC_OPEN_MAX"))
    os.read(0, 1)
    os._exit(0)


def unshare(flags: int) -> None:
    """Give this process namespaces of its own; those of processes are for its children."""
    _check(_libc().unshare(flags))


def enter_user_namespace(further: int = 0) -> None:
    """Become root in a user namespace, under the same user id as before, and get the `further` namespaces."""
    uid, gid = os.getuid(), os.getgid()
    unshare(_CLONE_NEWUSER | further)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")


def _check(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
