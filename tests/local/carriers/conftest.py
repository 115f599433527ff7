from __future__ import annotations

import importlib.util
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fanbench._util import files
from tests.operations.fake_sdk import install_fake_sdk

from .ray_cluster import RayNodes
from .rigs import LocalRig, RayRig, Rig


@pytest.fixture(scope="module")
def fake_sdk_of_carriers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What carries out runs imports a stand-in for the SDK, whose import takes longer than most of the tests."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        install_fake_sdk(tmp_path_factory.mktemp("sdk"), monkeypatch)
        yield


@pytest.fixture(scope="module")
async def ray_nodes(fake_sdk_of_carriers: None) -> AsyncIterator[RayNodes]:
    """A head without processors, and a node of one. Tests add others as they need them.

    It is not for the whole session: no other test could have an event loop of its own.
    """
    if importlib.util.find_spec("ray") is None:
        pytest.skip("Ray is not installed")
    # The path of pytest's folders would be too long for Ray's sockets.
    with files.temporary_folder("fanbench-test-", Path("/tmp")) as folder:
        async with RayNodes.open(folder) as nodes:
            yield nodes


@pytest.fixture(scope="module")
async def local_rig(
    tmp_path_factory: pytest.TempPathFactory, datasets: Path, fake_sdk_of_carriers: None
) -> AsyncIterator[Rig]:
    async with LocalRig.open(tmp_path_factory.mktemp("local"), datasets) as rig:
        yield rig


@pytest.fixture(scope="module")
async def ray_rig(
    tmp_path_factory: pytest.TempPathFactory, datasets: Path, ray_nodes: RayNodes
) -> AsyncIterator[RayRig]:
    async with RayRig.open(tmp_path_factory.mktemp("ray"), ray_nodes, datasets) as rig:
        yield rig


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.slow)])
def rig(request: pytest.FixtureRequest) -> Rig:
    """Each carrier, for all tests of the contract."""
    rig: Rig = request.getfixturevalue(f"{request.param}_rig")
    return rig
