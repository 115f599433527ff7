"""The parent of all run processes: forks one per job, and lets nothing of a run outlive it.

With isolation "fork" it first imports the SDK, which takes 1.5 to 2 s and 150 MB; its forks then start in
milliseconds and share those pages. With "process" it imports nothing, and each fork executes a new Python.

The client (`forkserver_executor`) talks to this program over a Unix socket whose descriptor number is the first
argument. It sends a Job as one line of JSON, together with two file descriptors for the run's stdout and stderr.
The answer is the process id and later, in any order, how each run ended. When the client goes away, however it
died, the socket closes and all runs are killed.

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
from typing import TYPE_CHECKING, NoReturn

import msgspec

from fanbench.local.executor import Protection
from fanbench.local.executor.container import command_in_container
from fanbench.local.executor.job import Job
from fanbench.local.executor.lifetime import (
    adopt_orphans,
    children,
    die_with_parent,
    exit_without_cleanup,
    outlive_parent,
)
from fanbench.local.executor.mounts import attach, find_obstacle
from fanbench.local.executor.processes import Init, PidNamespaces

if TYPE_CHECKING:
    from fanbench.local.executor.sdk import Kit


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    error: str | None = None
    obstacles: dict[Protection, str] = {}


class Started(msgspec.Struct, frozen=True, tag="started"):
    pid: int


class Refused(msgspec.Struct, frozen=True, tag="refused"):
    reason: str


class Ended(msgspec.Struct, frozen=True, tag="ended"):
    """Sent once no process of the run is left."""

    pid: int
    code: int


Notice = Ready | Started | Refused | Ended


class Forkserver:
    """Forks on request, reaps, reports. Without a `kit`, each run is a new Python.

    `obstacle` says why runs cannot have a `/kaggle` of their own, if they cannot, and `namespaces` is None if they
    cannot have processes of their own.
    """

    def __init__(
        self,
        control: socket.socket,
        kit: Kit | None,
        obstacle: str | None,
        namespaces: PidNamespaces | None,
        *,
        containers: bool,
    ) -> None:
        self._control = control
        self._kit = kit
        self._obstacle = obstacle
        self._namespaces = namespaces
        self._containers = containers
        self._runs: dict[int, Init | None] = {}
        """The process of each run → the init of its PID namespace, if it has one."""
        # Readable as soon as a child has ended.
        self._wakeup, self._wakeup_writer = socket.socketpair()
        for end in (self._wakeup, self._wakeup_writer):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakeup_writer.fileno(), warn_on_full_buffer=False)

    def serve(self) -> None:
        """Serve until the client is gone; then kill all runs."""
        selector = selectors.DefaultSelector()
        selector.register(self._control, selectors.EVENT_READ)
        selector.register(self._wakeup, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fileobj is self._wakeup:
                    self._wakeup.recv(4096)
                    self._reap()
                    continue
                request, descriptors, _, _ = socket.recv_fds(self._control, 1 << 20, 2)
                while request and not request.endswith(b"\n"):
                    more = self._control.recv(1 << 20)
                    request = request + more if more else b""
                for descriptor in descriptors:
                    os.set_inheritable(descriptor, False)
                if request:
                    self._start(msgspec.json.decode(request, type=Job), descriptors)
                    continue
                for pid in self._runs:
                    for kill in (os.killpg, os.kill):  # one that has just been forked has no group yet
                        with suppress(ProcessLookupError):
                            kill(pid, signal.SIGKILL)
                for pid, init in self._runs.items():
                    os.waitpid(pid, 0)  # before its init, which cannot end while we have not reaped the run
                    if init is not None:
                        init.end()
                self._runs.clear()
                self._namespaces = None
                self._kill_strays()
                return

    def _start(self, job: Job, descriptors: list[int]) -> None:
        init = None
        try:
            if self._namespaces is not None:
                init = self._namespaces.enter_next()
            pid = os.fork()
        except OSError as error:
            if init is not None:
                init.end()
            send(self._control, Refused(str(error)))
        else:
            if pid == 0:
                self._become_run(job, descriptors, init)
            self._runs[pid] = init
            send(self._control, Started(pid))
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _become_run(self, job: Job, descriptors: list[int], init: Init | None) -> NoReturn:
        """In the child, which never returns from here."""
        code = 70
        try:
            os.setsid()
            die_with_parent()
            # While the run lives, its orphans are its own. When it ends they come to us, and are killed.
            adopt_orphans()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            for end in (self._control, self._wakeup, self._wakeup_writer):
                end.close()
            if self._namespaces is not None:
                self._namespaces.close()
            for each in filter(None, (init, *self._runs.values())):
                each.close()
            for target, descriptor in zip((1, 2), descriptors, strict=True):
                os.dup2(descriptor, target)
                os.close(descriptor)
            if self._containers:
                # bubblewrap ends with its first SIGINT, without the run; the run handles it.
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                job.scratch.mkdir(exist_ok=True)
                _execute(job, contained=True)
            os.chdir(attach(job, self._obstacle, own_processes=init is not None))
            if self._kit is None:
                _execute(job)
            from fanbench.local.executor.child import run_job

            gc.enable()
            code = run_job(job, self._kit)
        finally:
            exit_without_cleanup(code)
        raise AssertionError("unreachable")

    def _reap(self) -> None:
        ended = []
        with suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                pid, status = found
                if pid in self._runs:
                    if (init := self._runs.pop(pid)) is not None:
                        init.end()
                    ended.append(Ended(pid, self._exit_code(status)))
        if ended:
            self._kill_strays()
        for notice in ended:
            send(self._control, notice)

    def _exit_code(self, status: int) -> int:
        code = os.waitstatus_to_exitcode(status)
        # bubblewrap, like a shell, adds the number of the signal by which its child has ended to 128.
        return 128 - code if self._containers and code > 128 else code

    def _kill_strays(self) -> None:
        """Kill what ended runs have left. A living run adopts its own orphans, so these belong to none."""
        kept = {*self._runs, *(init.pid for init in self._runs.values() if init is not None)}
        kept |= self._namespaces.waiting if self._namespaces is not None else set()
        while strays := [pid for pid in children(os.getpid()) if pid not in kept]:
            for pid in strays:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                with suppress(ChildProcessError):
                    os.waitpid(pid, 0)


def _execute(job: Job, *, contained: bool = False) -> NoReturn:
    """Become a new Python that runs the job, in a container or not."""
    if job.script:
        words = ["fanbench.local.executor.script", job.script]
        words += [str(job.source)] if job.source.exists() else []
    else:
        words = ["fanbench.local.executor.child"]
        # The job goes through stdin: arguments are visible to every user of the machine.
        with tempfile.TemporaryFile() as file:
            file.write(msgspec.json.encode(job))
            file.seek(0)
            os.dup2(file.fileno(), 0)
    # Its folder without links, because a container has only the real one.
    python = os.path.join(os.path.realpath(os.path.dirname(sys.executable)), os.path.basename(sys.executable))
    # -P: the working folder belongs to the task, and may contain a module of any name.
    command = [python if contained else sys.executable, "-P", "-m", *words]
    if contained:
        command = command_in_container(job, command)
    os.execve(command[0], command, job.environment)  # noqa: S606


def send(control: socket.socket, notice: Notice) -> None:
    with suppress(ConnectionError):  # the client is gone: `serve` reads that from the socket, and ends
        control.sendall(msgspec.json.encode(notice) + b"\n")


def main() -> None:
    control, isolation = socket.socket(fileno=int(sys.argv[1])), sys.argv[2]
    apart = "apart" in sys.argv[3:]
    control.set_inheritable(False)
    die_with_parent()
    adopt_orphans()
    # The client handles Ctrl-C; it has blocked the signal until here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Service managers signal every process of a service, but it is the client that decides when runs end.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # bubblewrap makes its own mounts and PID namespaces.
    obstacle = find_obstacle() if isolation != "container" else None
    obstacles: dict[Protection, str] = {"mounts": obstacle} if obstacle else {}
    namespaces = None
    if apart and not obstacle and isolation != "container":
        if reason := find_obstacle(processes=True):
            obstacles["processes"] = reason
        else:
            namespaces = PidNamespaces()
    try:
        kit = None
        if isolation == "fork":
            import fanbench.local.executor.child  # noqa: F401 - imported here, its pages are shared by the forks
            from fanbench.local.executor.sdk import find_modules_of_files, make_kit

            kit = make_kit()
            find_modules_of_files()
    except BaseException:  # noqa: BLE001 - a broken install raises anything; the client turns it into a hint
        send(control, Ready(traceback.format_exc()))
        return
    gc.collect()
    gc.freeze()  # what exists now stays: children need not traverse it, and so do not copy its pages
    send(control, Ready(obstacles=obstacles))
    # From here on the end of the socket ends this program. It needs the time to kill what runs have detached.
    outlive_parent()
    Forkserver(control, kit, obstacle, namespaces, containers=isolation == "container").serve()


if __name__ == "__main__":
    main()
