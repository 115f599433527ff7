"""`fanbench` with a guard on its event loop, for `tests.warm`.

A call that blocks the loop raises an error in the server, and so fails the test that led to it.
"""

from __future__ import annotations

import importlib
import os
import resource
import socket
import stat
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from blockbuster import BlockBuster

from fanbench.cli import main as fanbench
from fanbench.local.executor import forkserver_executor

OPEN_FILES = "TEST_OPEN_FILES"
"""The variable with the number of files that the server may have open."""

ALLOWED = [
    ("fanbench/local/serve.py", {"serve"}),  # before the first request and after the last
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),  # at first use
    ("/subprocess.py", {"_execute_child"}),
    ("tests/warm.py", {"start", "__init__"}),
    ("/logging/__init__.py", {"emit"}),
    ("/structlog/_output.py", {"msg"}),
    ("/click/utils.py", {"echo"}),  # a few lines for the terminal
    ("fanbench/local/logs.py", {"_write", "follow"}),  # small pieces that are in the page cache
    ("fanbench/local/models/catalog.py", {"_read_document"}),  # only after it has changed
    ("fanbench/_util/install.py", {"_source", "_installer"}),  # only to explain a failure
]
CHEAP = ["os.stat", "os.getcwd", "os.path.abspath"]


def guard() -> None:
    buster = BlockBuster()
    for name, function in buster.functions.items():
        if name not in CHEAP:
            for file, callers in ALLOWED:
                function.can_block_in(file, callers)
            function.activate()


def preload() -> None:
    """Import what every server needs, as `serve` does."""
    import alembic.command  # noqa: F401
    import uvicorn  # noqa: F401

    import fanbench.cli.app
    import fanbench.local.app
    import fanbench.local.connections
    import fanbench.local.executor.forkserver_executor
    import fanbench.local.models.pool
    import fanbench.local.scheduler
    import fanbench.local.serve
    import fanbench.local.state.store  # noqa: F401


def share_the_sdk() -> None:
    """Start the parents of runs in forks of `warm_forkserver`, if requests to it are what we have as stdin."""
    if not stat.S_ISSOCK(os.fstat(0).st_mode):
        return
    requests = socket.socket(fileno=os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    start = importlib.import_module("__main__").start  # that is tests/warm.py

    def popen(
        command: list[str], *, pass_fds: list[int], env: dict[str, str], stdout: Any, **rest: Any
    ) -> Any:
        isolation = command[command.index("fanbench.local.executor.forkserver") + 2 :]
        if isolation[0] != "fork":
            return subprocess.Popen(command, pass_fds=pass_fds, env=env, stdout=stdout, **rest)
        return start(
            requests,
            ["0", *isolation],
            folder=Path.cwd(),
            environment=env,
            stdin=pass_fds[0],
            out=stdout.fileno(),
            err=stdout.fileno(),
        )

    instead = SimpleNamespace(
        Popen=popen, DEVNULL=subprocess.DEVNULL, TimeoutExpired=subprocess.TimeoutExpired
    )
    vars(forkserver_executor)["subprocess"] = instead


def main() -> None:
    share_the_sdk()
    if limit := os.environ.pop(OPEN_FILES, ""):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
    guard()
    fanbench()
