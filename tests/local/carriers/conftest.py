from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from .rigs import LocalRig, Rig


@pytest.fixture(scope="session", params=["local"])
async def rig(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, datasets: Path
) -> AsyncIterator[Rig]:
    """Each carrier, for all tests of the contract."""
    async with LocalRig.open(tmp_path_factory.mktemp(request.param), datasets) as rig:
        yield rig
