"""The parent of the runs of local servers, for `tests.warm`: all servers share one import of the SDK.

A server has a socket for requests to it as stdin; see `share_the_sdk` in `guarded_server.py`.
"""

from __future__ import annotations

import os
import sys

from fanbench.local.executor import forkserver, sdk

_kits: list[sdk.Kit] = []
_streams: list[object] = []


def preload() -> None:
    import fanbench.local.executor.child  # noqa: F401

    _kits.append(sdk.make_kit())
    # Those that the kit records, and what was imported has kept.
    _streams.extend((sys.stdout, sys.stderr))
    sdk.find_modules_of_files()


def main() -> None:
    """Do what `forkserver.main` does, with the kit that there is; its control socket comes as stdin."""
    sys.argv[1] = str(os.dup(0))
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    sys.stdout, sys.stderr = _streams
    os.environ.update(sdk.FIXED_ENVIRONMENT)
    sdk.make_kit = lambda: _kits[0]
    forkserver.main()
