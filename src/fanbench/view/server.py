"""Serves the page about folders of results, on this machine only, and for nobody but who started it.

`/` is the page itself, without any data. Everything else needs the token, which the page gets in its address's fragment
(no browser sends that anywhere) and sends in a header: a cookie would reach other servers on this machine, too.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import anyio
import anyio.to_thread
import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fanbench._util.text import without_surrogates
from fanbench.errors import UsageError
from fanbench.view.details import Limits, find_file, items_by_run, read_details, read_log, read_sources
from fanbench.view.document import PageRun, Shown
from fanbench.view.encode import encode
from fanbench.view.live import Live, Moment
from fanbench.view.report import page, policy

__all__ = ["LAST_CHANGES", "ViewServer", "serve_view"]

T = TypeVar("T")

#: Seconds between two looks at the folders, while a page is open.
INTERVAL = 0.2
#: Seconds in which pages get the last changes.
LAST_CHANGES = 1.0
#: Seconds that open streams may take to end.
GRACEFUL_SECONDS = 1
#: Seconds after which a stream without changes says that it is alive.
HEARTBEAT = 15.0
# A message is shown whole unless a browser could not.
_LIMITS = Limits(message=2_000_000, log=5_000_000, media=20_000_000, parts=20_000)
# Bytes of a log that is followed, at a time.
_LOG = 1_000_000

# The page may ask this server, and no other one.
_OWN = "connect-src 'self'"
_HEADERS = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class ViewServer:
    """The server's application, and the address of its page with the token. It is `over` when the server ends."""

    def __init__(self, live: Live, port: int, *, token: str | None = None) -> None:
        self.live = live
        self.token = token or secrets.token_urlsafe(24)
        self.over = anyio.Event()
        self.origin = f"http://127.0.0.1:{port}"
        self.app: ASGIApp = _Guard(
            Starlette(
                routes=[
                    Route("/", self._page),
                    Route("/api/snapshot", self._guarded(self._snapshot)),
                    Route("/api/events", self._guarded(self._events)),
                    Route("/api/details", self._guarded(self._details)),
                    Route("/api/log", self._guarded(self._log)),
                    Route("/api/sources", self._guarded(self._sources)),
                    Route("/api/comparison", self._guarded(self._comparison)),
                    Route("/api/file", self._guarded(self._file)),
                ]
            ),
            port,
        )

    @property
    def address(self) -> str:
        return f"{self.origin}/#token={self.token}"

    def _guarded(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def guarded(request: Request) -> Response:
            given = request.headers.get("authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.token}".encode()):
                raise HTTPException(401, "The token is missing or wrong.")
            return await answer(request)

        return guarded

    async def _page(self, request: Request) -> Response:
        headers = {"Content-Security-Policy": policy(_OWN, "frame-ancestors 'none'")}
        return Response(page("fanbench", {}, _OWN), media_type="text/html", headers=headers)

    async def _snapshot(self, request: Request) -> Response:
        await _in_thread(self.live.refresh)
        moment, shown, _ = self.live.now()
        return Response(
            await _in_thread(lambda: _snapshot(moment, shown)), media_type="application/octet-stream"
        )

    async def _events(self, request: Request) -> Response:
        moment = Moment(_number(request, "generation"), _number(request, "version"))
        return StreamingResponse(self._changes(moment), media_type="text/event-stream")

    async def _changes(self, moment: Moment) -> AsyncIterator[bytes]:
        """Yield each change after `moment`. A page that is too far behind is told to read everything again."""
        said = anyio.current_time()
        while True:
            patches = self.live.since(moment)
            if patches is None:
                yield b'data: {"again": true}\n\n'
                return
            for patch in patches:
                yield b"data: %b\n\n" % encode(patch)
                moment = Moment(moment.generation, patch.version)
                said = anyio.current_time()
            if anyio.current_time() - said >= HEARTBEAT:
                yield b": alive\n\n"
                said = anyio.current_time()
            with anyio.move_on_after(INTERVAL):
                await self.over.wait()
                return
            await _in_thread(self.live.refresh)

    async def _details(self, request: Request) -> Response:
        run = self._run(request)
        _, _, found = self.live.now()
        return _json(
            await _in_thread(lambda: read_details(run, items_by_run(found).get(run.place, ()), _LIMITS))
        )

    async def _log(self, request: Request) -> Response:
        run, start = self._run(request), _number(request, "start")
        return _json(await _in_thread(lambda: read_log(run, start, _LOG)))

    async def _sources(self, request: Request) -> Response:
        shown = self._shown(request)
        _, _, found = self.live.now()
        return _json(await _in_thread(lambda: read_sources(found.items, list(shown.order.tasks))))

    async def _comparison(self, request: Request) -> Response:
        shown = self._shown(request)
        sides = [_number(request, name) for name in ("first", "second")]
        if not all(0 <= side < len(shown.order.models) for side in sides):
            raise HTTPException(404, "There is no such model.")
        return _json(await _in_thread(lambda: shown.comparison(*sides)))

    async def _file(self, request: Request) -> Response:
        """Send a file of a run's output, or its log: nothing but what the page names."""
        run, name = self._run(request), request.query_params.get("name", "")
        path = await _in_thread(lambda: find_file(run, name))
        if path is None:
            raise HTTPException(404, "There is no such file.")
        return FileResponse(
            path, media_type="application/octet-stream", filename=without_surrogates(path.name)
        )

    def _shown(self, request: Request) -> Shown:
        moment, shown, _ = self.live.now()
        if _number(request, "generation") != moment.generation:
            raise HTTPException(409, "The sweep has other runs now: read everything again.")
        return shown

    def _run(self, request: Request) -> PageRun:
        shown, at = self._shown(request), _number(request, "run")
        if not 0 <= at < len(shown.runs):
            raise HTTPException(404, "There is no such run.")
        return shown.runs[at]


async def _in_thread(work: Callable[[], T]) -> T:
    return await anyio.to_thread.run_sync(work)


class _Guard:
    """Refuses what does not come from the page itself: other names of this machine, other pages, other methods."""

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await (self._refusal(Headers(scope=scope), scope["method"]) or self._app)(scope, receive, send_safely)

    def _refusal(self, headers: Headers, method: str) -> Response | None:
        host = headers.get("host", "")
        if host not in self._hosts:
            return _refused(421, f"This server is not {host[:100]!r}.")
        origin, site = headers.get("origin"), headers.get("sec-fetch-site", "none")
        if origin not in (None, f"http://{host}") or site not in ("none", "same-origin"):
            return _refused(403, "Another page may not read this one.")
        if method != "GET":
            return _refused(405, "Nothing can be changed here.", {"Allow": "GET"})
        return None


def _refused(status: int, text: str, headers: dict[str, str] | None = None) -> Response:
    return Response(f"{text}\n", status, headers, media_type="text/plain")


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 16):
        raise HTTPException(400, f"{name} is not a number.")
    return int(text)


def _json(value: object) -> Response:
    return Response(encode(value), media_type="application/json")


def _snapshot(moment: Moment, shown: Shown) -> bytes:
    """Return the moment and the document as JSON after the length of both, and the table of runs."""
    head = encode({"generation": moment.generation, "version": moment.version, "document": shown.document})
    start = len(head).to_bytes(4, "little") + head
    return start + bytes(-len(start) % 8) + shown.packed()


@asynccontextmanager
async def serve_view(live: Live, *, port: int = 0) -> AsyncIterator[str]:
    """Serve the page of `live` on 127.0.0.1 during the block, and yield its address. Port 0 is any free port.

    Raises:
        UsageError: The port is taken.
    """
    # Without a handler of their own, warnings are printed: also those about what any client sends.
    logging.getLogger("uvicorn").addHandler(logging.NullHandler())
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
            listener.listen()
        except OSError as error:
            raise UsageError(
                f"Cannot listen on port {port}: {error.strerror}.", hint="Add --port 0."
            ) from None
        view = ViewServer(live, listener.getsockname()[1])
        config = uvicorn.Config(
            view.app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACEFUL_SECONDS,
        )
        server = _Server(config)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            try:
                yield view.address
            finally:
                view.over.set()
                server.should_exit = True


class _Server(uvicorn.Server):
    """Leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
