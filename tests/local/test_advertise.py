"""Where a server is reached: by clients on its machine, by its runs, and from elsewhere."""

from __future__ import annotations

import socket
from pathlib import Path

import httpx
import pytest

from fanbench.errors import LocalServerError, UsageError
from fanbench.local.advertise import addresses_for_workers, addresses_of, names_of
from fanbench.local.settings import ServerSettings

from .server_process import TASK, log_text, push, run, run_server


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:7777"),
        ("bench.example.com", "http://bench.example.com:7777"),
        ("bench.example.com:80", "http://bench.example.com:80"),
        ("192.0.2.7", "http://192.0.2.7:7777"),
        ("fd00::7", "http://[fd00::7]:7777"),
        ("[fd00::7]", "http://[fd00::7]:7777"),
        ("[fd00::7]:80", "http://[fd00::7]:80"),
        ("http://bench.example.com", "http://bench.example.com"),
        ("https://example.com/bench/", "https://example.com/bench"),
    ],
)
def test_an_advertised_address_becomes_a_url(given: str, url: str) -> None:
    """A host gets the port that it lacks, and a URL stays as it is; clients of this machine keep their address."""
    addresses = addresses_of(ServerSettings(advertise=given), 7777)
    assert addresses.local == "http://127.0.0.1:7777"
    assert addresses.advertised == url
    assert addresses.model_proxy == f"{url}/models"


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("", "http://127.0.0.1:7778"),
        ("fd00::7", "http://[fd00::7]:7778"),
        ("bench.example.com:80", "http://bench.example.com:7778"),
        ("https://bench.example.com", "https://bench.example.com"),
    ],
)
def test_the_model_proxy_has_a_port_of_its_own(given: str, url: str) -> None:
    """Runs reach a Model Proxy with its own port at that port of the advertised host, unless a URL is advertised."""
    assert addresses_of(ServerSettings(advertise=given), 7777, 7778).model_proxy == f"{url}/models"


@pytest.mark.parametrize(
    "given",
    [
        "host:0",
        "host:",
        "host:port",
        "host/path",
        "a b",
        "ftp://host",
        "http://",
        "0.0.0.0",
        "::",
        "u:p@host",
    ],
)
def test_what_is_no_address_is_refused(given: str) -> None:
    """An advertised address that nothing can be reached at is an error that names it."""
    with pytest.raises(UsageError, match="is not an address at which runs can reach"):
        addresses_of(ServerSettings(advertise=given), 7777)


def test_the_advertised_host_is_a_name_of_the_server() -> None:
    """Clients may call the server by the host that it advertises, besides those that it is given."""
    settings = ServerSettings(advertise="https://Bench.example.com", allowed_hosts=("other",))
    assert names_of(settings, addresses_of(settings, 1)) == {"127.0.0.1", "bench.example.com", "other"}


@pytest.mark.parametrize(
    "settings",
    [
        ServerSettings(),
        ServerSettings(host="localhost"),
        ServerSettings(host="::1"),
    ],
)
def test_workers_elsewhere_need_more_than_a_loopback_address(settings: ServerSettings) -> None:
    """A server that only its own machine reaches cannot have its runs on other machines."""
    with pytest.raises(LocalServerError, match=r"workers of ray://head:1 cannot reach http://") as error:
        addresses_for_workers(settings, 7777, "ray://head:1")
    assert "--host 0.0.0.0" in (error.value.hint or "")


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        (ServerSettings(host="10.0.0.5"), "http://10.0.0.5:7777"),
        (ServerSettings(host="0.0.0.0", advertise="bench.example.com"), "http://bench.example.com:7777"),
    ],
)
def test_workers_reach_the_address_that_the_user_names(settings: ServerSettings, url: str) -> None:
    """An address of --host or --advertise that is not a loopback one is that of the workers, and is said."""
    addresses, said = addresses_for_workers(settings, 7777, "ray://head:1")
    assert addresses.advertised == url
    assert said == f"Workers reach this server at {url}."


def test_a_loopback_address_that_is_advertised() -> None:
    """Whoever names one has all workers on this machine, and is told that no others reach the server."""
    settings = ServerSettings(host="0.0.0.0", advertise="127.0.0.2")
    addresses, said = addresses_for_workers(settings, 7777, "ray://head:1")
    assert addresses.advertised == "http://127.0.0.2:7777"
    assert said.startswith("Only workers on this machine reach this server at http://127.0.0.2:7777")


class _Interfaces:
    """A socket for datagrams on a machine that has these addresses, by the addresses that it connects to."""

    addresses: dict[str, str]

    def __init__(self, *_: object) -> None:
        self._host = ""

    def __enter__(self) -> _Interfaces:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def connect(self, address: tuple[str, int]) -> None:
        if address[0] not in self.addresses:
            raise OSError("Network is unreachable")
        self._host = self.addresses[address[0]]

    def getsockname(self) -> tuple[str, int]:
        return self._host, 1


@pytest.mark.parametrize(
    ("host", "addresses", "url"),
    [
        ("0.0.0.0", {"192.0.2.1": "10.0.0.5", "2001:db8::1": "fd00::5"}, "http://10.0.0.5:7777"),
        ("::", {"192.0.2.1": "10.0.0.5", "2001:db8::1": "fd00::5"}, "http://[fd00::5]:7777"),
        ("::", {"192.0.2.1": "10.0.0.5", "2001:db8::1": "::1"}, "http://10.0.0.5:7777"),
        ("::", {"192.0.2.1": "10.0.0.5"}, "http://10.0.0.5:7777"),
        ("0.0.0.0", {"2001:db8::1": "fd00::5"}, None),
        ("0.0.0.0", {"192.0.2.1": "127.0.0.1"}, None),
    ],
)
def test_the_interface_that_leads_out_is_the_best_guess(
    monkeypatch: pytest.MonkeyPatch, host: str, addresses: dict[str, str], url: str | None
) -> None:
    """Without an advertised address, workers get that of the interface that leads out, and the user is told."""
    monkeypatch.setattr(_Interfaces, "addresses", addresses, raising=False)
    monkeypatch.setattr(socket, "socket", _Interfaces)
    settings = ServerSettings(host=host)
    if url is None:
        with pytest.raises(LocalServerError, match="No interface leads out of this machine"):
            addresses_for_workers(settings, 7777, "ray://head:1")
        return
    found, said = addresses_for_workers(settings, 7777, "ray://head:1")
    assert (found.local, found.advertised) == ("http://127.0.0.1:7777", url)
    assert found.model_proxy == f"{url}/models"
    assert url in said
    assert "--advertise" in said


@pytest.mark.anyio
@pytest.mark.e2e
async def test_runs_and_clients_get_the_advertised_address(tmp_path: Path, fake_sdk: None) -> None:
    """A run reaches the Model Proxy at the advertised address, which tokens and the URLs of tasks have, too."""
    if not _answers("127.0.0.2"):
        pytest.skip("127.0.0.2 is not an address of this machine")
    with run_server(tmp_path / "data", "--host", "0.0.0.0", "--advertise", "127.0.0.2") as server:
        port = httpx.URL(server.address.url).port
        assert server.address.url == f"http://127.0.0.1:{port}"
        async with server.client() as client:
            assert (await client.create_proxy_token()).base_uri == f"http://127.0.0.2:{port}/models"
            before, call = TASK.split("two_plus_two.run")
            show = "import os\nprint('proxy', os.environ['MODEL_PROXY_URL'])\ntwo_plus_two.run"
            task = await push(client, "two-plus-two", before + show + call)
            assert task.url.startswith(f"http://127.0.0.2:{port}/benchmarks/tasks/"), (
                task.creation_error_message
            )
            (ended,) = await run(client, "two-plus-two", "four")
            assert ended.state.label == "COMPLETED", ended.error_message
            assert f"proxy http://127.0.0.2:{port}/models" in await log_text(client, ended.id)


def _answers(host: str) -> bool:
    with socket.socket() as listener:
        try:
            listener.bind((host, 0))
        except OSError:
            return False
    return True
