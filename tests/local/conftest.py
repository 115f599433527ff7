from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from fanbench import Client
from tests.operations.fake_sdk import install_fake_sdk
from tests.postgres import Postgres, find_programs, run_postgres
from tests.s3 import BUCKET, FaultyS3, run_s3, variables

from .server_process import ServerProcess, run_server


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The server supports asyncio only. One loop per session, because the server is shared, too."""
    return "asyncio"


@pytest.fixture(scope="session")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    (root / "me/words").mkdir(parents=True)
    (root / "me/words/words.csv").write_text("word\nalpha\nbeta\n")
    (root / "you/words").mkdir(parents=True)
    (root / "you/words/words.csv").write_text("word\ngamma\n")
    return root


@pytest.fixture(scope="session")
def kaggle_folders() -> None:
    """Skip the test if this system does not allow runs a /kaggle of their own."""
    _skip_where_not_possible("find_obstacle()")


@pytest.fixture(scope="session")
def own_processes() -> None:
    """Skip the test if this system does not allow runs a /kaggle and a /proc of their own."""
    _skip_where_not_possible("find_obstacle(processes=True)")


def _skip_where_not_possible(probe: str) -> None:
    code = f"import sys; from fanbench.local.executor.mounts import find_obstacle; sys.exit({probe})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"not possible here: {done.stderr.strip()}")


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory, datasets: Path) -> Iterator[ServerProcess]:
    """A server for all tests that do not harm it, with tight limits so that they are reached quickly."""
    limits = [
        "--run-timeout",
        "12",
        "--run-memory",
        "1200",
        "--run-disk",
        "30",
        "--log-limit",
        "2",
        "--workers",
        "5",
    ]
    with run_server(
        tmp_path_factory.mktemp("server") / "data", *limits, "--datasets", str(datasets)
    ) as server:
        yield server


@pytest.fixture
def fake_sdk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers import a stand-in for the SDK, where it is not what is tested: the real one takes seconds."""
    install_fake_sdk(tmp_path, monkeypatch)


@pytest.fixture
async def client(server: ServerProcess) -> AsyncIterator[Client]:
    async with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for all tests that do not stop it."""
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed below /usr/lib/postgresql, or setpriv is not")
    with run_postgres(programs) as postgres:
        yield postgres


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_s3(tmp_path_factory.mktemp("s3") / "log") as url:
        yield url


@pytest.fixture
def bucket(s3: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URL of a place in a bucket for this test alone."""
    for name, value in variables(s3).items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{request.node.name.replace('[', '/').replace(']', '')}"


@pytest.fixture
def faulty(s3: str, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyS3]:
    """A proxy before the server of `bucket`, which all that is opened from now on goes through."""
    with FaultyS3.before(s3) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture(params=["file", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a place of each kind."""
    if request.param == "file":
        return (tmp_path / "shared").as_uri()
    url: str = request.getfixturevalue("bucket")
    return url
