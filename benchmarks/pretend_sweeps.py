"""A Kaggle with many tasks and many models, in a process of its own, which counts the calls.

    python benchmarks/pretend_sweeps.py --delay 0.1 --creation 2 --run-seconds 2 6 --models 16    (prints its URL)

Tasks are what is pushed. The runs of a task take from the first to the second of `--run-seconds`, spread
evenly over its `--models` runs; their logs are live streams that end with their run, `--lines` of them, and
their outputs are zips from 20 to 200 KB. Every answer comes `--delay` seconds late. It is as lean as can be,
on bare asyncio, so that what is measured is the caller.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import random
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from pretend_kaggle import CREATION, RUN, Json

SIZES = [size * 1000 for size in range(20, 201, 20)]
METHODS = {
    "CreateBenchmarkTask": "_create",
    "GetBenchmarkTask": "_get",
    "ListBenchmarkModels": "_models",
    "BatchScheduleBenchmarkTaskRuns": "_schedule",
    "ListBenchmarkTaskRuns": "_list",
    "IntrospectToken": "_introspect",
    "GetBenchmarkTaskQuota": "_quota",
}


@cache
def output(task: str, size: int) -> bytes:
    """A zip of about `size` bytes: a run file, and what cannot be compressed."""
    run = {
        "taskVersion": {"name": task, "versionNumber": 1},
        "modelVersion": {"slug": "google/pretended"},
        "state": f"{RUN}COMPLETED",
        "startTime": "2030-01-02T03:04:05Z",
        "endTime": "2030-01-02T03:04:08Z",
        "results": [{"type": "AGGREGATED", "numericResult": {"value": 0.5, "confidenceInterval": 0.1}}],
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{task}.run.json", json.dumps(run))
        archive.writestr(f"{task}.task.json", json.dumps({"name": task}))
        archive.writestr("answers.bin", random.Random(size).randbytes(size))
    return buffer.getvalue()


@dataclass(slots=True)
class Run:
    id: int
    task: str
    version: int
    model: str
    start: float
    seconds: float

    @property
    def end(self) -> float:
        return self.start + self.seconds

    def entry(self, line: int, lines: int) -> Json:
        """Line `line` of the log, the last one at the end of the run."""
        text = f"{self.task} on {self.model}: step {line + 1} of {lines} {'.' * 40}\n"
        return {"stream_name": "stdout", "time": self.seconds * (line + 1) / lines, "data": text}


@dataclass(slots=True)
class Task:
    version: int = 0
    ready: float = 0.0
    runs: list[Run] = field(default_factory=list)


class Refused(Exception):
    """The answer is an HTTP error."""


@dataclass
class World:
    """What the server knows. Times are `time.monotonic()`."""

    delay: float
    creation: float
    run_seconds: tuple[float, float]
    models: int
    lines: int
    tasks: dict[str, Task] = field(default_factory=dict)
    runs: dict[int, Run] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def answer(self, method: str, request: Json) -> Json:
        handler: Callable[[Json], Json] = getattr(self, METHODS[method])
        return handler(request)

    def run(self, request: Json) -> Run:
        try:
            return self.runs[int(request["runId"])]
        except KeyError:
            raise Refused from None

    def _create(self, request: Json) -> Json:
        task = self.tasks.setdefault(request["slug"], Task())
        task.version, task.ready = task.version + 1, time.monotonic() + self.creation
        return self._task(request["slug"])

    def _get(self, request: Json) -> Json:
        return self._task(request["slug"]["taskSlug"])

    def _task(self, slug: str) -> Json:
        if slug not in self.tasks:
            raise Refused
        task = self.tasks[slug]
        return {
            "slug": {"ownerSlug": "me", "taskSlug": slug, "versionNumber": task.version},
            "url": f"/benchmarks/tasks/me/{slug}/{task.version}",
            "creationState": CREATION + ("RUNNING" if time.monotonic() < task.ready else "COMPLETED"),
            "createTime": "2030-01-02T03:04:05.678Z",
        }

    def _schedule(self, request: Json) -> Json:
        """One more run of each model; a model that runs is refused, as Kaggle does."""
        slug = request["taskSlugs"][0]["taskSlug"]
        return {"results": [self._begin(slug, model) for model in request["modelVersionSlugs"]]}

    def _begin(self, slug: str, model: str) -> Json:
        task, now = self.tasks[slug], time.monotonic()
        if any(run.model == model and now < run.end for run in task.runs):
            return {"runScheduled": False, "runSkippedReason": "A run of this model is under way."}
        first, last = self.run_seconds
        place = len(task.runs) % self.models / max(1, self.models - 1)
        run = Run(1000 + len(self.runs), slug, task.version, model, now, first + (last - first) * place)
        task.runs.append(run)
        self.runs[run.id] = run
        return {"runScheduled": True}

    def _list(self, request: Json) -> Json:
        runs = self.tasks[request["taskSlug"]["taskSlug"]].runs
        if models := request.get("modelVersionSlugs"):
            runs = [run for run in runs if run.model in models]
        start, size = int(request.get("pageToken") or 0), request.get("pageSize") or 50
        page: Json = {"runs": [_listed(run) for run in runs[start : start + size]], "totalResults": len(runs)}
        if start + size < len(runs):
            page["nextPageToken"] = str(start + size)
        return page

    def _models(self, _: Json) -> Json:
        return {"benchmarkModels": [_model(n) for n in range(self.models)]}

    def _introspect(self, _: Json) -> Json:
        return {"active": True, "username": "me", "userId": 1, "exp": 2**31}

    def _quota(self, _: Json) -> Json:
        return {"dailyQuotaUsed": len(self.runs), "totalDailyQuotaAllowed": 1_000_000}


def _listed(run: Run) -> Json:
    ended = time.monotonic() >= run.end
    return {
        "taskSlug": {"ownerSlug": "me", "taskSlug": run.task, "versionNumber": run.version},
        "modelVersionSlug": run.model,
        "id": run.id,
        "state": RUN + ("COMPLETED" if ended else "RUNNING"),
        "startTime": "2030-01-02T03:04:06.000Z",
    }


def model_name(number: int) -> str:
    return f"model-{number:03d}"


def _model(number: int) -> Json:
    name = model_name(number)
    version = {"slug": name, "allowModelProxy": True, "inputModalities": ["MODALITY_TEXT"]}
    return {"id": number, "slug": name, "displayName": f"Model {number}", "version": version}


class Connection(asyncio.Protocol):
    """HTTP/1.1 on a connection that stays: one request at a time."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._loop = asyncio.get_running_loop()
        self._input = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._input += data
        end = self._input.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._input[:end]).lower()
        _, _, rest = head.partition(b"\r\ncontent-length:")
        body_end = end + 4 + int(rest.partition(b"\r\n")[0] or 0)
        if len(self._input) < body_end:
            return
        path = bytes(self._input).split(b" ", 2)[1].decode()
        body = bytes(self._input[end + 4 : body_end])
        del self._input[:body_end]
        self._request(path, body)

    def _request(self, path: str, body: bytes) -> None:
        if path == "/counts":
            counts, self._world.calls = self._world.calls, Counter()
            return self._json(counts)
        method = path.rpartition("/")[2]
        self._world.calls[method] += 1
        request = json.loads(body or b"{}")
        if self._world.delay:
            self._loop.call_later(self._world.delay, self._answer, method, request)
        else:
            self._answer(method, request)
        return None

    def _answer(self, method: str, request: Json) -> None:
        try:
            if method == "GetBenchmarkTaskRunLogs":
                self._log(self._world.run(request))
            elif method == "DownloadBenchmarkTaskRunOutput":
                run = self._world.run(request)
                self._write(output(run.task, SIZES[run.id % len(SIZES)]), kind="application/zip")
            else:
                self._json(self._world.answer(method, request))
        except (Refused, KeyError):
            self._write(b'{"code": 404, "message": "There is no such thing."}', status="404 Not Found")

    def _json(self, value: Any) -> None:
        self._write(json.dumps(value).encode())

    def _write(self, body: bytes, kind: str = "application/json", status: str = "200 OK") -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._transport.write(head.encode() + body)

    def _log(self, run: Run) -> None:
        """A stream that ends when the run does, or the log that is kept."""
        lines = self._world.lines
        if time.monotonic() >= run.end:
            return self._json([run.entry(line, lines) for line in range(lines)])
        head = b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        self._transport.write(b"HTTP/1.1 200 OK\r\n" + head)
        return self._stream(run, 0)

    def _stream(self, run: Run, line: int) -> None:
        """What is due of the log, from `line` on; the rest in its time."""
        lines, events, now = self._world.lines, b"", time.monotonic()
        while line < lines and (entry := run.entry(line, lines))["time"] + run.start <= now:
            events += b"data: " + json.dumps(entry).encode() + b"\n\n"
            line += 1
        if self._transport.is_closing():
            return
        if events:
            self._transport.write(b"%x\r\n%b\r\n" % (len(events), events))
        if line == lines:
            self._transport.write(b"0\r\n\r\n")
        else:
            due = run.start + run.entry(line, lines)["time"] - now
            self._loop.call_later(max(0.001, due), self._stream, run, line)


async def _main(world: World) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(world), "127.0.0.1", 0, backlog=1000)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


@contextmanager
def pretend_sweeps(
    *, delay: float, creation: float, run_seconds: tuple[float, float], models: int, lines: int = 20
) -> Iterator[str]:
    """The URL of such a server."""
    words = ["--delay", delay, "--creation", creation, "--run-seconds", *run_seconds]
    words += ["--models", models, "--lines", lines]
    command = [sys.executable, __file__, *map(str, words)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--creation", type=float, default=0.0)
    parser.add_argument("--run-seconds", type=float, nargs=2, default=[0.0, 0.0])
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--lines", type=int, default=20)
    words = parser.parse_args()
    first, last = words.run_seconds
    world = World(words.delay, words.creation, (first, last), words.models, words.lines)
    with suppress(KeyboardInterrupt):
        asyncio.run(_main(world))


if __name__ == "__main__":
    main()
