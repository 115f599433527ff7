"""Set-up for all tests: both event loops, and Hypothesis without deadlines."""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import sys
from collections.abc import Generator
from types import ModuleType
from typing import Any, cast

import anyio
import pytest
from hypothesis import settings

# jsonschema would check the format of web addresses with it, which takes a second to import.
sys.modules.setdefault("rfc3987_syntax", cast("ModuleType", None))

# What is imported and collected stays: Python need not look for garbage in it, neither meanwhile nor later.
gc.disable()


def pytest_collection_finish() -> None:
    gc.freeze()
    gc.enable()


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """Escape lone surrogates in what tests log and print: they would end the process of xdist that reports them."""
    return _encodable((yield))


def _encodable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "backslashreplace").decode()
        case dict():
            return {key: _encodable(each) for key, each in value.items()}
        case list() | tuple():
            return type(value)(_encodable(each) for each in value)
    return value


# anyio imports its modules on demand, and pytest parses every module it imports, to rewrite its assertions. That must
# not happen while one of our threads is parsing: see `fanbench.tasks.source.parse_python`.
for _module in pkgutil.walk_packages(anyio.__path__, "anyio."):
    importlib.import_module(_module.name)

# The time that an example takes depends on what else the machine is doing. `HYPOTHESIS_PROFILE=long` is for looking
# for mistakes by hand: it tries fifty times as many examples as Hypothesis does by default.
settings.register_profile("untimed", deadline=None)
settings.register_profile("long", deadline=None, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "untimed"))


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Tests marked `anyio` run on both event loops. Packages that only support asyncio override this."""
    backend: str = request.param
    return backend
