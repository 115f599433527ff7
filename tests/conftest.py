"""Set-up for all tests: both event loops, and Hypothesis without deadlines."""

from __future__ import annotations

import importlib
import pkgutil

import anyio
import pytest
from hypothesis import settings

# anyio imports its modules on demand, and pytest parses every module it imports, to rewrite its assertions. That must
# not happen while one of our threads is parsing: see `fanbench.tasks.source.parse_python`.
for _module in pkgutil.walk_packages(anyio.__path__, "anyio."):
    importlib.import_module(_module.name)

# The time that an example takes depends on what else the machine is doing.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both event loops. Packages that only support asyncio override this."""
    backend: str = request.param
    return backend
