from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.programs import own_server
from tests.local.conftest import datasets, kaggle_folders  # noqa: F401 - fixtures
from tests.local.server_process import ServerProcess, run_server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A local server with scripted models."""
    with run_server(tmp_path_factory.mktemp("server") / "data") as server:
        yield server


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the documentation's programs, which share a server of their own."""
    with own_server(tmp_path_factory.mktemp("documentation") / "data") as environment:
        yield environment
