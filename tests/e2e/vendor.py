"""Runs the vendor's unmodified command line against a server of ours: `python vendor.py URL ARGUMENT…`.

It is also a program for `tests.warm`. Its SDK has a table of endpoints by environment; the one that its command line
takes is pointed at the server.
"""

from __future__ import annotations

import sys


def preload() -> None:
    """Import the SDK and what else the command line needs.

    Its own modules read the environment when they are imported, which is therefore left to each command.
    """
    import jupytext  # noqa: F401 - imported by a push, and slow
    import kaggle.cli  # noqa: F401

    for name in [name for name in sys.modules if name.partition(".")[0] == "kaggle"]:
        del sys.modules[name]


def main() -> None:
    url = sys.argv.pop(1)
    from kagglesdk import kaggle_env

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = url
    sys.argv[0] = "kaggle"
    from kaggle.cli import main as kaggle

    kaggle()


if __name__ == "__main__":
    main()
