"""What the tests of the wire share."""

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
    """A client of a fake server, which retries without waiting."""

    def make(server: FakeServer) -> Client:
        return Client(Config(server.url, Bearer(TOKEN)), retry=RetryPolicy(random=lambda: 0.0))

    return make
