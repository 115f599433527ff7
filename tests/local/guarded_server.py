"""`fanbench` with a guard on its event loop: `python guarded_server.py serve …`.

A call that blocks the loop raises an error in the server, and so fails the test that led to it.
"""

from __future__ import annotations

from blockbuster import BlockBuster

from fanbench.cli import main

ALLOWED = [
    ("fanbench/local/serve.py", {"serve"}),  # before the first request and after the last
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),  # at first use
    ("/subprocess.py", {"_execute_child"}),
    ("/logging/__init__.py", {"emit"}),
    ("/structlog/_output.py", {"msg"}),
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


if __name__ == "__main__":
    guard()
    main()
