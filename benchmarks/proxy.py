"""Measure the Model Proxy: CPU time per request and requests per second, by the number of its processes.

    python benchmarks/proxy.py [--processes 0 1 2] [--clients 32] [--requests 20] [--rounds 5]

Each server has its own data folder, and all are measured alternately. Clients stand for runs: each has one connection,
on which it asks again as soon as it is answered. The upstream is a process of its own, which answers at once. The CPU
time is that of the server with its processes of the Model Proxy; it does not depend on what else is busy, but requests
per second do: clients, upstream, server and processes share the cores.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from urllib.parse import urlsplit

import anyio
from local_runs import server

from fanbench import Client, resolve_config
from fanbench.local.address import LocalServer
from fanbench.local.executor.lifetime import children

PROMPT = "What is 2 + 2? " * 70
"""1 KB, as in a benchmark with a short context."""

ANSWER = json.dumps(
    {
        "id": "1",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "It is 4. " * 50},
            }
        ],
        "usage": {"prompt_tokens": 420, "completion_tokens": 150, "total_tokens": 570},
    }
).encode()


async def _read(reader: asyncio.StreamReader) -> bytes:
    """The body of the next message of HTTP."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    return await reader.readexactly(int(head.partition("content-length:")[2].partition("\r\n")[0]))


async def _answer_all(address: Connection) -> None:
    response = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                await _read(reader)
                writer.write(response % (len(ANSWER), ANSWER))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    address.send(listener.sockets[0].getsockname()[1])
    await listener.serve_forever()


def _run_upstream(address: Connection) -> None:
    asyncio.run(_answer_all(address))


@contextmanager
def upstream() -> Iterator[str]:
    """The URL of an upstream that answers at once."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run_upstream, args=(theirs,), daemon=True)
    process.start()
    try:
        yield f"http://127.0.0.1:{ours.recv()}/v1"
    finally:
        process.terminate()
        process.join()


async def _ask(url: str, key: str, requests: int) -> None:
    parts = urlsplit(url)
    body = json.dumps({"model": "bench/upstream", "messages": [{"role": "user", "content": PROMPT}]})
    request = (
        f"POST {parts.path}/openapi/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\n"
        f"authorization: Bearer {key}\r\ncontent-length: {len(body)}\r\n\r\n{body}"
    ).encode()
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    for _ in range(requests):
        writer.write(request)
        answer = json.loads(await _read(reader))
        assert "choices" in answer, answer
    writer.close()


async def _ask_all(url: str, key: str, clients: int, requests: int) -> None:
    async with anyio.create_task_group() as tasks:
        for _ in range(clients):
            tasks.start_soon(_ask, url, key, requests)


def cpu_seconds(pid: int) -> float:
    """The CPU time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Measured:
    """A server with its processes of the Model Proxy, and what was measured on it."""

    address: LocalServer
    url: str
    key: str
    pids: list[int]
    cpu_ms: list[float] = field(default_factory=list)
    """CPU milliseconds per request."""
    own_ms: list[float] = field(default_factory=list)
    """Those of the server itself."""
    rates: list[float] = field(default_factory=list)
    """Requests per second."""
    shares: list[float] = field(default_factory=list)
    """The share of the busiest process of the Model Proxy."""

    def measure(self, clients: int, requests: int) -> None:
        before, begin = [cpu_seconds(pid) for pid in self.pids], time.perf_counter()
        anyio.run(_ask_all, self.url, self.key, clients, requests)
        seconds = time.perf_counter() - begin
        used = [cpu_seconds(pid) - earlier for pid, earlier in zip(self.pids, before, strict=True)]
        self.cpu_ms.append(1000 * sum(used) / (clients * requests))
        self.own_ms.append(1000 * used[0] / (clients * requests))
        self.rates.append(clients * requests / seconds)
        if workers := used[1:]:
            self.shares.append(max(workers) / sum(workers))

    def report(self) -> dict[str, object]:
        shares = (
            {"share of the busiest process": round(statistics.median(self.shares), 2)} if self.shares else {}
        )
        return {
            "CPU ms a request": round(statistics.median(self.cpu_ms), 2),
            "of the server itself": round(statistics.median(self.own_ms), 2),
            "requests a second": round(statistics.median(self.rates)),
            **shares,
        }


async def _token(address: LocalServer) -> tuple[str, str]:
    async with Client(resolve_config(endpoint=address.url, token=address.token)) as client:
        token = await client.create_proxy_token()
        return token.base_uri, token.token


def _workers(address: LocalServer) -> list[int]:
    return [
        pid
        for pid in children(address.pid)
        if b"proxy_workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--processes", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as top, upstream() as url, ExitStack() as stack:
        measured: dict[int, Measured] = {}
        for number in given.processes:
            data = Path(top, str(number))
            address = stack.enter_context(server(data, 0, "--workers", "1", "--proxy-workers", str(number)))
            entry = (
                f'[[model]]\nslug = "bench/upstream"\nkind = "upstream"\nurl = "{url}"\nconcurrency = 64\n'
            )
            (data / "models.toml").write_text(entry)
            proxy, key = anyio.run(_token, address)
            measured[number] = Measured(address, proxy, key, [address.pid, *_workers(address)])
        for each in measured.values():
            each.measure(given.clients, 2)
            for figures in (each.cpu_ms, each.own_ms, each.rates, each.shares):
                figures.clear()
        for _ in range(given.rounds):
            for each in measured.values():
                each.measure(given.clients, given.requests)
        report: dict[str, object] = {"cores": os.cpu_count(), "clients": given.clients}
        report |= {f"{number} processes": each.report() for number, each in measured.items()}
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
