"""Runs the vendor's unmodified command line against a server of ours: `python vendor.py URL ARGUMENT…`.

Its SDK has a table of endpoints by environment; the one that its command line takes is pointed at the server.
"""

from __future__ import annotations

import sys


def main() -> None:
    url = sys.argv.pop(1)
    from kagglesdk import kaggle_env

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = url
    sys.argv[0] = "kaggle"
    from kaggle.cli import main as kaggle

    kaggle()


if __name__ == "__main__":
    main()
