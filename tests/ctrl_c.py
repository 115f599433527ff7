"""Programs that are to obey Ctrl-C."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["obeyed_ctrl_c"]


@contextmanager
def obeyed_ctrl_c() -> Iterator[None]:
    """Programs that are started in the block obey Ctrl-C, even if we do not.

    What a shell runs in the background ignores it, and whatever that starts does, too.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        if before is signal.SIG_IGN:
            signal.signal(signal.SIGINT, before)
