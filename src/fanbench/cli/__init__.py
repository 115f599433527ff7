"""The `fanbench` program: commands that are imported when they are called, and views that show their results."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn, cast

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the program, and end the process with one of the exit codes of `fanbench.cli.exits`."""
    _replace_closed_streams()
    # httpcore imports trio if it is installed, which takes long. This program runs on asyncio only.
    sys.modules.setdefault("trio", cast("ModuleType", None))
    # A command leaves little garbage in cycles, and most of what it allocates are its modules.
    gc.set_threshold(10_000, 20, 50)

    from fanbench.cli.app import root
    from fanbench.cli.exits import use_utf8

    use_utf8()
    root.main(args=args, prog_name="fanbench")
    raise SystemExit(0)


def _replace_closed_streams() -> None:
    """Discard what is printed to a stream that the shell has closed, as in `fanbench tasks list >&-`.

    Python then has None in its place, and the next file that is opened would get its descriptor.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(1, "w")
    if sys.stderr is None:
        sys.stderr = os.fdopen(2, "w")
