"""Fixtures of the tests of `fanbench.wire`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fanbench import Bearer, Client, Config
from fanbench.wire.retry import RetryPolicy
from tests.wire.fake_server import FakeServer

TOKEN = "KGAT_5ecret"

Connect = Callable[[FakeServer], Client]


@pytest.fixture
def connect() -> Connect:
    """Return a factory of clients that retry without waiting."""

    def make(server: FakeServer) -> Client:
        return Client(Config(server.url, Bearer(TOKEN)), retry=RetryPolicy(random=lambda: 0.0))

    return make
