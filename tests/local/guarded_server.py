"""`fanbench` with a guard on its event loop, for `tests.warm`.

A call that blocks the loop raises an error in the server, and so fails the test that led to it.
"""

from __future__ import annotations

import os
import resource

from blockbuster import BlockBuster

from fanbench.cli import main as fanbench

OPEN_FILES = "TEST_OPEN_FILES"
"""The variable with the number of files that the server may have open."""

ALLOWED = [
    ("fanbench/local/serve.py", {"serve"}),  # before the first request and after the last
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),  # at first use
    ("/subprocess.py", {"_execute_child"}),
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


def main() -> None:
    if limit := os.environ.pop(OPEN_FILES, ""):
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(limit), int(limit)))
    guard()
    fanbench()
