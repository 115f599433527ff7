"""Set-up for all tests: both event loops, Hypothesis without deadlines, and groups for pytest-xdist."""

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


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in this hook, too.
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep the end-to-end tests of a file in one worker and in order: they share servers, and build on each other."""
    for item in items:
        if item.get_closest_marker("e2e") and not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(item.path.name))
