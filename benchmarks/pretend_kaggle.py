"""A Kaggle that takes as long as it is told, in a process of its own, and counts the calls; and two callers.

    python benchmarks/pretend_kaggle.py --delay 0.1 --runs 50 --size 200000     (prints its URL)

The task `measured` has `--runs` ended runs with an output (a zip) and a log of `--size` bytes each. With
`--creation S` and `--run-seconds A B …` pushes and scheduled runs take that long, in real seconds. No work is
done but the answering: what is measured is the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]

CREATION = "BENCHMARK_TASK_VERSION_CREATION_STATE_"
RUN = "BENCHMARK_TASK_RUN_STATE_"
TASK = "measured"


def output(size: int) -> bytes:
    """A zip of `size` bytes, more or less: what cannot be compressed, and a small run file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("measured.run.json", "{}")
        archive.writestr("answers.bin", random.Random(7).randbytes(size))
    return buffer.getvalue()


def entries(size: int) -> list[Json]:
    line = "x" * 99 + "\n"
    return [{"stream_name": "stdout", "time": n / 100, "data": line} for n in range(size // 100)]


@dataclass
class World:
    """What the server knows. Times are `time.monotonic()`."""

    delay: float
    runs: int
    size: int
    creation: float
    run_seconds: Sequence[float]
    pushed: float | None = None
    scheduled: list[Json] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.zip = output(self.size)
        self.log = json.dumps(entries(self.size)).encode()
        self.answers: dict[str, Callable[[Json], Json]] = {
            "IntrospectToken": lambda _: {"active": True, "username": "me", "userId": 1, "exp": 2**31},
            "GetBenchmarkTask": lambda _: self._task(),
            "ListBenchmarkTasks": lambda _: {"tasks": [self._task()], "totalResults": 1},
            "CreateBenchmarkTask": self._create,
            "ListBenchmarkModels": lambda _: {"benchmarkModels": [_model(n) for n in range(50)]},
            "BatchScheduleBenchmarkTaskRuns": self._schedule,
            "ListBenchmarkTaskRuns": lambda _: {"runs": self._runs(), "totalResults": self.runs},
        }

    def _task(self) -> Json:
        creating = self.pushed is not None and time.monotonic() < self.pushed + self.creation
        return {
            "slug": {"ownerSlug": "me", "taskSlug": TASK, "versionNumber": 1 if self.pushed is None else 2},
            "url": f"/benchmarks/tasks/me/{TASK}/1",
            "creationState": CREATION + ("RUNNING" if creating else "COMPLETED"),
            "createTime": "2030-01-02T03:04:05.678Z",
        }

    def _create(self, _: Json) -> Json:
        self.pushed = time.monotonic()
        return self._task()

    def _schedule(self, request: Json) -> Json:
        for model, seconds in zip(request["modelVersionSlugs"], cycle(self.run_seconds), strict=False):
            end = time.monotonic() + seconds
            self.scheduled.append({"id": 1000 + len(self.scheduled), "modelVersionSlug": model, "end": end})
        return {"results": [{"runScheduled": True} for _ in request["modelVersionSlugs"]]}

    def _runs(self) -> list[Json]:
        old = [
            {"id": n + 1, "modelVersionSlug": f"model-{n}", "state": f"{RUN}COMPLETED"}
            for n in range(self.runs)
        ]
        now = time.monotonic()
        new = [
            {name: run[name] for name in ("id", "modelVersionSlug")}
            | {"state": RUN + ("RUNNING" if now < run["end"] else "COMPLETED")}
            for run in self.scheduled
        ]
        times = {"taskSlug": {"taskSlug": TASK}, "startTime": "2030-01-02T03:04:06.000Z"}
        return [times | run for run in new + old]

    def live(self, run_id: int) -> float | None:
        """When the run ends, if it is one that still goes on."""
        ends = [run["end"] for run in self.scheduled if run["id"] == run_id]
        return ends[0] if ends and time.monotonic() < ends[0] else None


def _model(number: int) -> Json:
    version = {"slug": f"model-{number}", "allowModelProxy": True, "inputModalities": ["MODALITY_TEXT"]}
    return {"id": number, "slug": f"model-{number}", "displayName": f"Model {number}", "version": version}


class Answers:
    """HTTP/1.1 with connections that stay, on asyncio's streams."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                path = head.split(" ", 2)[1]
                sizes = [
                    line[15:] for line in head.split("\r\n") if line.lower().startswith("content-length:")
                ]
                body = await reader.readexactly(int(sizes[0]) if sizes else 0)
                await self._answer(path, json.loads(body or b"{}"), writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, path: str, request: Json, writer: asyncio.StreamWriter) -> None:
        if path == "/counts":
            counts, self._world.calls = self._world.calls, Counter()
            return _write(writer, json.dumps(counts).encode())
        method = path.rpartition("/")[2]
        self._world.calls[method] += 1
        await asyncio.sleep(self._world.delay)
        if method == "GetBenchmarkTaskRunLogs":
            return await self._log(request["runId"], writer)
        if method == "DownloadBenchmarkTaskRunOutput":
            return _write(writer, self._world.zip, "application/zip")
        return _write(writer, json.dumps(self._world.answers[method](request)).encode())

    async def _log(self, run_id: int, writer: asyncio.StreamWriter) -> None:
        """A stream that ends when the run does, or the log that is kept."""
        end = self._world.live(run_id)
        if end is None:
            return _write(writer, self._world.log)
        event = b'data: {"stream_name": "stdout", "time": 0.1, "data": "begun\\n"}\n\n'
        headers = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        writer.write(b"HTTP/1.1 200 OK\r\n" + headers + b"%x\r\n%b\r\n" % (len(event), event))
        await asyncio.sleep(end - time.monotonic())
        writer.write(b"0\r\n\r\n")
        return None


def _write(writer: asyncio.StreamWriter, body: bytes, kind: str = "application/json") -> None:
    writer.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    writer.write(body)


async def _main(world: World) -> None:
    server = await asyncio.start_server(Answers(world).serve, "127.0.0.1", 0, limit=1 << 24, backlog=1000)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


# --- For the measuring programs ---------------------------------------------------------------------------------

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
VENDOR = [sys.executable, str(HERE.parent / "tests/e2e/vendor.py")]


@contextmanager
def pretend_kaggle(**options: object) -> Iterator[str]:
    """The URL of such a server with these options; `run_seconds=(20, 30)` becomes `--run-seconds 20 30`."""
    words = []
    for name, value in options.items():
        values = value if isinstance(value, tuple) else (value,)
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


class Spent(NamedTuple):
    """What one command took: seconds on the clock, of the CPU (user and system), and the most memory in MB."""

    seconds: float
    cpu: float
    memory: float


def counts(url: str) -> dict[str, int]:
    """The calls since the last question."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/counts") as answer:
        found: dict[str, int] = json.load(answer)
        return found


def ours(url: str, folder: Path, *words: str) -> Spent:
    return _spent([str(BIN / "fanbench"), *words, "--endpoint", url], folder)


def vendors(url: str, folder: Path, *words: str) -> Spent:
    return _spent([*VENDOR, url, "benchmarks", *words], folder)


def _spent(command: Sequence[str], folder: Path) -> Spent:
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    environment = {**kept, "HOME": str(folder), "KAGGLE_CONFIG_DIR": str(folder), "KAGGLE_API_TOKEN": "any"}
    start = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment | {"NO_PROXY": "127.0.0.1"},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if process.returncode:
            output.seek(0)
            raise SystemExit(f"{' '.join(command)} failed:\n{output.read().decode()}")
    return Spent(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


both = {"ours": ours, "the vendor's": vendors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    number = partial(parser.add_argument, type=float)
    number("--delay", default=0.0)
    number("--creation", default=0.0)
    number("--run-seconds", nargs="+", default=[0.0])
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--size", type=int, default=1000)
    words = parser.parse_args()
    world = World(words.delay, words.runs, words.size, words.creation, words.run_seconds)
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(world))


if __name__ == "__main__":
    main()
