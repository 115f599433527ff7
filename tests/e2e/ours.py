"""Our command line, for `tests.warm`."""

from __future__ import annotations

import importlib
import pkgutil

import fanbench
from fanbench.cli import main

__all__ = ["main", "preload"]


def preload() -> None:
    """Import all commands, and what makes their calls."""
    import anyio._backends._asyncio  # noqa: F401
    import httpcore  # noqa: F401

    for name in ("cli", "operations", "tasks", "view", "wire"):
        package = importlib.import_module(f"{fanbench.__name__}.{name}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
