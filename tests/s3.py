"""A server for S3 in a process of its own, and a proxy before it that fails on purpose."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

MOTO = Path(sys.prefix, ".s3/bin/moto_server")

SECRET_KEY = "the-secret-key-of-the-bucket"
ACCESS_KEY = "THEACCESSKEY"

BUCKET = "bucket"


def variables(endpoint: str) -> dict[str, str]:
    """The environment of a machine that uses the server at `endpoint`."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_REGION": "us-east-1",
        "NO_PROXY": "127.0.0.1,localhost",
    }


@contextmanager
def run_s3(log: Path) -> Iterator[str]:
    """Serve S3 with an empty bucket, and yield the URL. Skips the test if the server is not installed."""
    if not MOTO.exists():
        pytest.skip("no S3 server is installed: run `make .venv/.s3/.done`")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(MOTO), "-H", "127.0.0.1", "-p", "0"], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        url = _wait_for_url(log, process)
        connection = HTTPConnection(urlsplit(url).netloc, timeout=30)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()
        yield url
    finally:
        process.terminate()
        process.wait(30)


def _wait_for_url(log: Path, process: subprocess.Popen[bytes]) -> str:
    while True:
        if found := re.search(r"Running on (http://\S+)\n", log.read_text()):
            return found[1]
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(log.read_text())


Fault = Callable[[str, str], int | None]
"""What becomes of a request with this method and path: a status, 0 for no answer at all, None for the true answer."""


class FaultyS3:
    """A proxy before the S3 server at `behind`. `fault` may be replaced at any time."""

    def __init__(self, behind: str) -> None:
        self.fault: Fault = lambda method, path: None
        self.failed = threading.Event()
        """Set once a request has met a fault."""
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler(behind))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    @classmethod
    @contextmanager
    def before(cls, behind: str) -> Iterator[FaultyS3]:
        faulty = cls(behind)
        thread = threading.Thread(target=faulty._server.serve_forever)
        thread.start()
        try:
            yield faulty
        finally:
            faulty._released.set()
            faulty._server.shutdown()
            thread.join()
            faulty._server.server_close()

    def _handler(self, behind: str) -> type[BaseHTTPRequestHandler]:
        faulty = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status = faulty.fault(self.command, self.path)
                if status is None:
                    self.forward(body)
                    return
                faulty.failed.set()
                if status:
                    self.reply(status, {}, _ERROR)
                else:
                    faulty._released.wait()
                    self.close_connection = True

            def forward(self, body: bytes) -> None:
                with closing(HTTPConnection(urlsplit(behind).netloc, timeout=30)) as connection:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    answer = connection.getresponse()
                    self.reply(answer.status, dict(answer.getheaders()), answer.read())

            def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                length = {"Content-Length": str(len(body))} if self.command != "HEAD" else {}
                dropped = {"connection", "transfer-encoding", *(name.lower() for name in length)}
                kept = {name: value for name, value in headers.items() if name.lower() not in dropped}
                for name, value in {**kept, **length}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815 - the names of http.server

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002
                pass

        return Handler


# As S3 answers a wrong key: with what the client has sent.
_ERROR = (
    f"<Error><Code>AccessDenied</Code><Message>Denied</Message><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>"
).encode()
