"""The command line: one file a verb, loaded when it is called; renders what the verbs report."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> NoReturn:
    """The program: ends the process with the exit code of `fanbench.cli.exits`."""
    from fanbench.cli.app import root
    from fanbench.cli.exits import speak_utf8

    speak_utf8()
    root.main(args=args, prog_name="fanbench")
    raise SystemExit(0)
