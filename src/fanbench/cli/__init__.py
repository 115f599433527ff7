"""The `fanbench` program: commands that are imported when they are called, and views that show their results."""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn, cast

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the program, and end the process with one of the exit codes of `fanbench.cli.exits`."""
    try:
        _run(args)
    except KeyboardInterrupt:  # before there is a command
        from fanbench.cli.exits import INTERRUPTED

        raise SystemExit(INTERRUPTED) from None
    raise SystemExit(0)


def _run(args: Sequence[str] | None) -> None:
    from fanbench.cli.streams import open_streams

    open_streams()
    # httpcore imports trio if it is installed, which takes long. This program runs on asyncio only.
    sys.modules.setdefault("trio", cast("ModuleType", None))
    # A command leaves little garbage in cycles, and most of what it allocates are its modules.
    gc.set_threshold(10_000, 20, 50)
    # At its end the interpreter would look for garbage in all of it, for half a second after `serve`.
    atexit.register(gc.freeze)

    from fanbench.cli.app import root

    root.main(args=args, prog_name="fanbench")
