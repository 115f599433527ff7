"""What all tests share: the two event loops that the library runs on, and no stopwatch."""

from __future__ import annotations

import importlib
import pkgutil

import anyio
import pytest
from hypothesis import settings

# anyio imports its parts where they are first used, and pytest rewrites its modules as they come. That
# parses, and may not while a thread of ours does: see `fanbench.tasks.source.parse_python`.
for _module in pkgutil.walk_packages(anyio.__path__, "anyio."):
    importlib.import_module(_module.name)

# How long an example takes depends on who else is at work on the machine.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both; a room that knows only asyncio overrides this."""
    backend: str = request.param
    return backend
