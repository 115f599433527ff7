"""The process that uses Ray for a server: `python -m fanbench.local.carriers.ray.driver ADDRESS CPUS FOLDER SECONDS`.

Without an address it starts a Ray of its own, which ends with it, with its files in the folder. It reads orders from
stdin and writes notices to stdout, one of them every so many seconds, and ends when stdin does. What Ray itself prints
goes to stderr.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Coroutine
from contextlib import suppress
from typing import IO, Any

import ray
from ray import exceptions

from fanbench._util.frames import framed, read_frame
from fanbench._util.text import last_line
from fanbench.local.carriers.ray.messages import (
    Beat,
    Cancel,
    Connected,
    Ended,
    NoConnection,
    Notice,
    Said,
    Submit,
    decode_order,
    encode,
    versions,
)
from fanbench.local.carriers.ray.worker import carry_out
from fanbench.local.executor.lifetime import exit_without_cleanup

__all__ = ["main"]

_AHEAD = 16
"""How many messages a worker may be ahead of the driver. A piece of an output has up to 1 MB."""

_OWN_ADDRESS = "127.0.0.1"
_OWN_STORE = 256 << 20
"""The bytes of the object store of a Ray of our own."""


def main() -> None:
    *cluster, beat_every = sys.argv[1:]
    # Ray's processes inherit our stdout, which must not be the pipe.
    with open(os.dup(0), "rb", buffering=0) as orders, open(os.dup(1), "wb", buffering=0) as notices:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(2, 1)
        try:
            _connect(*cluster)
        except Exception as error:  # noqa: BLE001 - Ray raises anything; the server explains it
            notices.write(framed(encode(NoConnection(str(error) or repr(error)))))
            return
        notices.write(framed(encode(_describe_cluster())))
        asyncio.run(_Driver().serve(orders, notices, float(beat_every)))
    if not cluster[0]:
        ray.shutdown()
    # A cluster ends the tasks of a driver that is gone at once, while `ray.shutdown` and the interpreter take a second.
    exit_without_cleanup(0)


def _connect(address: str, cpus: str, folder: str) -> None:
    quiet: dict[str, Any] = {
        "log_to_driver": False,
        "configure_logging": False,
        "logging_level": logging.ERROR,
    }
    if address:
        ray.init(address=address, **quiet)
    else:
        ray.init(
            address="local",  # and not any other Ray that runs on this machine
            num_cpus=int(cpus),
            include_dashboard=False,
            object_store_memory=_OWN_STORE,
            _node_ip_address=_OWN_ADDRESS,
            _temp_dir=folder,
            **quiet,
        )


def _describe_cluster() -> Connected:
    cpus = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return Connected(
        has_token=os.environ.get("RAY_AUTH_MODE") == "token",
        ray=ray.__version__,
        machines=sum(number > 0 for number in cpus),
        cpus=sum(cpus),
    )


class _Driver:
    """Submits jobs to Ray and passes on what their workers say."""

    def __init__(self) -> None:
        self._versions = versions()
        self._task = ray.remote(num_cpus=1, max_retries=0)(carry_out).options(
            num_returns="streaming", _generator_backpressure_num_objects=_AHEAD
        )
        self._jobs: dict[int, Any] = {}
        self._background: set[asyncio.Task[None]] = set()

    async def serve(self, orders: IO[bytes], notices: IO[bytes], beat_every: float) -> None:
        """Carry out orders until there are no more."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), orders)
        transport, protocol = await loop.connect_write_pipe(
            lambda: asyncio.streams.FlowControlMixin(loop), notices
        )
        self._writer = asyncio.StreamWriter(transport, protocol, None, loop)
        self._start(self._beat(beat_every))
        with suppress(asyncio.IncompleteReadError):
            while True:
                order = decode_order(await read_frame(reader.readexactly))
                if isinstance(order, Submit):
                    self._jobs[order.id] = self._task.remote(self._versions, order.request)
                    self._start(self._follow(order.id))
                else:
                    self._start(self._cancel(order))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _beat(self, every: float) -> None:
        while True:
            await asyncio.sleep(every)
            await self._send(Beat())

    async def _cancel(self, order: Cancel) -> None:
        if (job := self._jobs.get(order.id)) is not None:
            await asyncio.to_thread(ray.cancel, job, force=order.force)

    async def _follow(self, id_: int) -> None:
        ended = Ended(id_)
        try:
            async for message in self._jobs[id_]:
                await self._send(Said(id_, await message))
        except exceptions.RayTaskError as error:
            if not isinstance(error, exceptions.TaskCancelledError):
                ended = Ended(id_, refused=_explain_failure(error))
        except exceptions.TaskCancelledError:
            pass
        except exceptions.RayError as error:
            ended = Ended(id_, lost=_explain_loss(error))
        del self._jobs[id_]
        await self._send(ended)

    async def _send(self, notice: Notice) -> None:
        self._writer.write(framed(encode(notice)))
        await self._writer.drain()


def _explain_failure(error: exceptions.RayTaskError) -> str:
    """Why the task could not run on its worker at all."""
    text = str(error)
    if "No module named" in text:
        return f"fanbench cannot be imported on a worker of the Ray cluster: {last_line(text)}"
    return f"A worker of the Ray cluster failed: {last_line(text)}"


def _explain_loss(error: exceptions.RayError) -> str:
    match error:
        case exceptions.OutOfMemoryError():
            return "Ray ended its worker, because the memory of the node was nearly used up"
        case exceptions.WorkerCrashedError():
            return "the process of its worker died"
        case exceptions.NodeDiedError():
            return "its node died"
        case exceptions.ObjectLostError():
            return "its node died before the output had arrived"
    return f"Ray reports: {last_line(str(error)).removesuffix('.')}"


if __name__ == "__main__":
    main()
