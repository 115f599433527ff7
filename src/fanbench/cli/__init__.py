"""The `fanbench` program: commands that are imported when they are called, and views that show their results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the program, and end the process with one of the exit codes of `fanbench.cli.exits`."""
    from fanbench.cli.app import root
    from fanbench.cli.exits import use_utf8

    use_utf8()
    root.main(args=args, prog_name="fanbench")
    raise SystemExit(0)
