"""A GGUF file as a model: llama.cpp in a process of its own, loaded at first use and unloaded when idle."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, ClassVar

import anyio
import anyio.abc
import anyio.to_thread
import msgspec

from fanbench.local.models import UNREACHABLE, BaseSpec, ModelEngine, ModelFault
from fanbench.local.models.llama_host import HostedModel
from fanbench.local.models.upstream import ChatEndpoint, slots

LOAD_TIMEOUT = 300.0
REQUEST_TIMEOUT = 600.0


class Embedded(BaseSpec, frozen=True, kw_only=True, tag="embedded"):
    """A GGUF file, executed by llama.cpp in a process of its own."""

    path: str
    context: int = 2048
    """Tokens of context per concurrent request."""
    parallel: int = 4
    threads: int = 0
    """0 for half of the cores."""
    chat_template: str = ""
    """Jinja; if empty, the template in the file."""

    recorded: ClassVar[bool] = True
    tried: ClassVar[bool] = True

    @property
    def source(self) -> str:
        return self.path

    def check(self) -> None:
        if {*self.modalities} - {"text"}:
            raise ValueError("modalities: an embedded model takes text only")

    def prepare(self, request: dict[str, Any]) -> dict[str, Any]:
        prepared = super().prepare(request)
        # At llama.cpp's default of 0.8, "What is 2 + 2?" passes 20 of 30 times; greedily 30 of 30.
        prepared.setdefault("temperature", 0)
        return prepared

    def make_engine(self, log: Path) -> ModelEngine:
        return EmbeddedEngine(self, log)


class EmbeddedEngine(ModelEngine):
    """Loads the model at the first request. If its process dies, the next request starts another."""

    def __init__(self, spec: Embedded, log: Path) -> None:
        self._spec = spec
        self._log = log
        self._loading = anyio.Lock()
        self._process: anyio.abc.Process | None = None
        self._endpoint: ChatEndpoint | None = None
        self.last_used = time.monotonic()

    @property
    def loaded(self) -> bool:
        return self._process is not None and self._process.returncode is None

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._in_use() as endpoint:
            try:
                return await endpoint.complete(request)
            except ModelFault as fault:
                if fault.status != UNREACHABLE:
                    raise
                # Wait a moment, as the connections of a process that dies break before it is reaped.
                with anyio.move_on_after(1.0):
                    if self._process is not None:
                        await self._process.wait()
                if self.loaded:
                    raise
            # Once more in a new process: nothing of the answer has been delivered.
            return await (await self._load()).complete(request)

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        async with self._in_use() as endpoint:
            async for chunk in endpoint.stream(request):
                yield chunk

    @asynccontextmanager
    async def _in_use(self) -> AsyncIterator[ChatEndpoint]:
        self.busy += 1
        try:
            yield await self._load()
        finally:
            self.busy -= 1
            self.last_used = time.monotonic()

    async def _load(self) -> ChatEndpoint:
        async with self._loading:
            if self._endpoint is None or not self.loaded:
                await self.close()
                await anyio.to_thread.run_sync(check_gguf, Path(self._spec.path), self._spec.slug)
                self._endpoint = await self._start()
            return self._endpoint

    async def _start(self) -> ChatEndpoint:
        spec = self._spec
        hosted = HostedModel(
            path=spec.path,
            context=spec.context,
            parallel=spec.parallel,
            threads=spec.threads or default_threads(),
            chat_template=spec.chat_template,
        )
        key = secrets.token_urlsafe(16)
        command = [sys.executable, "-m", "fanbench.local.models.llama_host"]
        with self._log.open("ab") as log:
            process = self._process = await anyio.open_process(
                [*command, msgspec.json.encode(hosted).decode()],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={**os.environ, "FANBENCH_HOST_KEY": key},
                start_new_session=True,
            )
        assert process.stdout is not None
        line = b""  # the address, which the process prints once the model is loaded
        with anyio.move_on_after(LOAD_TIMEOUT), suppress(anyio.EndOfStream):
            while not line.endswith(b"\n"):
                line += await process.stdout.receive()
        if not line.endswith(b"\n"):
            await self.close()
            text = f"llama.cpp cannot load {spec.path}; see {self._log}"
            raise ModelFault(f"model {spec.slug}: {text}", status=500)
        return ChatEndpoint(
            slug=spec.slug,
            url=f"{line.decode().strip()}/v1",
            model=spec.slug,
            key=key,
            # More than it answers at the same time: llama.cpp batches best with a queue of its own.
            slot=slots(spec.parallel * 8),
            timeout=REQUEST_TIMEOUT,
        )

    async def unload(self, idle: float) -> None:
        if self.loaded and not self.busy and time.monotonic() - self.last_used >= idle:
            await self.close()

    async def close(self) -> None:
        """Unload the model by ending its process, which frees the memory."""
        endpoint, self._endpoint = self._endpoint, None
        process, self._process = self._process, None
        with anyio.CancelScope(shield=True):
            if endpoint is not None:
                await endpoint.close()
            if process is not None:
                if process.returncode is None:
                    process.kill()
                await process.aclose()


def default_threads() -> int:
    """Half of the cores. With all of them, one other busy process makes llama.cpp's threads wait for each other, and
    96 tokens take minutes."""
    return max(1, (os.cpu_count() or 2) // 2)


def check_gguf(path: Path, slug: str) -> None:
    """Check that `path` begins like a GGUF file.

    Raises:
        ModelFault: It cannot be read, or is something else.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as error:
        raise ModelFault(f"model {slug}: cannot read {path}: {error.strerror}", status=500) from None
    if magic != b"GGUF":
        raise ModelFault(f"model {slug}: {path} is not a GGUF file", status=500)
