"""A scripted server on a real socket, for everything that goes wrong in a connection.

    with FakeServer({"GetBenchmarkTask": [Answer(status=503), Answer({"slug": {"taskSlug": "a"}})]}) as server:
        ...Config(server.url, Bearer("t"))...
    assert [request.json for request in server.requests] == ...

Each call has a list of answers, given one after the other; the last one is repeated. Instead of a list there may
be a function of the request. The server runs on threads, so that tests can use it with or without an event loop.

This is not a simulated Kaggle (see `fanbench.testing`): it knows nothing of tasks and runs, and sends any bytes.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["CUT", "HANG", "Answer", "FakeServer", "Request", "events", "problem"]


class _Cut:
    """In a body: the connection breaks here."""


class _Hang:
    """In a body: nothing more is sent, and the connection stays open."""


CUT = _Cut()
HANG = _Hang()
Piece = bytes | threading.Event | _Cut | _Hang


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    """`body`: bytes as they are; pieces, of which an Event is waited for; anything else as JSON.

    `length` is the Content-Length: the true one if not given, none at all (chunked) if it is False.
    `delay` seconds pass before anything is sent.
    """

    body: Any = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | bool = True
    delay: float = 0.0

    def pieces(self) -> Iterable[Piece]:
        match self.body:
            case bytes():
                return [self.body]
            case list() | tuple() if all(isinstance(piece, Piece) for piece in self.body) and self.body:
                return self.body
            case _:
                return [json.dumps(self.body).encode()]

    def all_headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", **self.headers}
        if self.length is False:
            headers["Transfer-Encoding"] = "chunked"
        elif self.length is True:
            size = sum(len(piece) for piece in self.pieces() if isinstance(piece, bytes))
            headers["Content-Length"] = str(size)
        else:
            headers["Content-Length"] = str(self.length)
        return headers


Script = Mapping[str, Sequence[Answer] | Callable[[Request], Answer]]


def problem(status: int, message: str = "No.", **headers: str) -> Answer:
    """Return an error in the form of the API; `Retry_After="3"` becomes a header."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer({"code": status, "message": message}, status=status, headers=named)


def events(*pieces: Any, end: bool = True) -> Answer:
    """Return a live log. Anything but a Piece becomes an event; without `end`, the stream stays open."""
    body = [piece if isinstance(piece, Piece) else _event(piece) for piece in pieces]
    return Answer(
        [*body, *([] if end else [HANG])] or [b""],
        headers={"Content-Type": "text/event-stream"},
        length=False,
    )


def _event(payload: Any) -> bytes:
    text = payload if isinstance(payload, str) else json.dumps(payload)
    return f"data: {text}\n\n".encode()


class FakeServer:
    """See the module. `requests` has all requests in order; `open` is the number being answered now."""

    def __init__(self, script: Script) -> None:
        self.script = dict(script)
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.open = 0
        self._lock = threading.Condition()
        self._given: dict[str, int] = {}
        self._stopped = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def calls(self, method: str) -> list[Request]:
        return [request for request in self.requests if request.method == method]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def take(self, request: Request) -> Answer:
        with self._lock:
            self.requests.append(request)
            self.open += 1
            self._lock.notify_all()
            self.most_at_once = max(self.most_at_once, self.open)
            script = self.script.get(request.method, [problem(404, f"No {request.method} here.")])
            number = self._given.get(request.method, 0)
            self._given[request.method] = number + 1
        return script(request) if callable(script) else script[min(number, len(script) - 1)]

    def done(self) -> None:
        with self._lock:
            self.open -= 1

    def wait_until_open(self, number: int) -> None:
        """Block until this many requests are being answered at once."""
        with self._lock:
            self._lock.wait_for(lambda: self.open >= number, timeout=60)

    def wait(self, seconds: float) -> None:
        self._stopped.wait(seconds)

    def wait_for(self, event: threading.Event) -> None:
        while not event.wait(0.01) and not self._stopped.is_set():
            pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that disconnect, because many tests do that on purpose."""


def _handler(fake: FakeServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
            method = self.path.rpartition("/")[2]
            answer = fake.take(Request(method, self.path, dict(self.headers), body))
            try:
                self.give(answer)
            finally:
                fake.done()

        do_GET = do_POST  # noqa: N815

        def give(self, answer: Answer) -> None:
            fake.wait(answer.delay)
            self.send_response(answer.status)
            for name, value in answer.all_headers().items():
                self.send_header(name, value)
            self.end_headers()
            for piece in answer.pieces():
                if not self.give_piece(piece, chunked=answer.length is False):
                    return
            if answer.length is False:
                self.wfile.write(b"0\r\n\r\n")

        def give_piece(self, piece: Piece, *, chunked: bool) -> bool:
            match piece:
                case bytes():
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked and piece else piece)
                case threading.Event():
                    fake.wait_for(piece)
                case _Hang():
                    fake.wait(60)
                    return self.cut()
                case _Cut():
                    return self.cut()
            return True

        def cut(self) -> bool:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return False

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    return Handler
