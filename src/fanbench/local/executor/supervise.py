"""One run from start to end, whatever it does: its log, its time limit, and no process left behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import msgspec

from fanbench.local.executor import Executor, RunProcess
from fanbench.local.executor.job import Exit, Job, Outcome
from fanbench.local.executor.parent import unusable_sdk

GRACE = 3.0
"""Seconds between the polite stop (SIGINT, so that the notebook is still written) and the kill."""

DRAIN = 5.0
"""Seconds for the last output of a run that has ended."""

_CHUNK = 1 << 16

Append = Callable[[str, bytes], None]


async def supervise(executor: Executor, job: Job, append: Append, time_limit: float | None) -> str | None:
    """Run `job`, giving its output to `append(stream, bytes)`; what went wrong with it, `None` if nothing did.

    However this ends, also by cancellation, no process of the run is left.

    Raises:
        LocalServerError: the process could not be started.
    """
    with _Pipes() as pipes:
        process = await executor.start(job, pipes.writers[0], pipes.writers[1])
        pipes.close_writers()
        async with anyio.create_task_group() as pumps:
            for name, reader in zip(("stdout", "stderr"), pipes.readers, strict=True):
                pumps.start_soon(_pump, reader, name, append)
            try:
                timed_out, exit_ = await _wait(process, time_limit)
            finally:
                with anyio.CancelScope(shield=True):
                    _signal_group(process.pid, signal.SIGKILL)
                    with anyio.move_on_after(GRACE):
                        await process.wait()
                # What is in the pipes is read in no time. Where orphans are not adopted, one may hold them open.
                pumps.cancel_scope.deadline = anyio.current_time() + DRAIN
    outcome = _read_outcome(job)
    if outcome is not None and outcome.sdk_failure is not None:
        raise unusable_sdk(outcome.sdk_failure, Path(job.folder))
    return verdict(outcome, exit_, time_limit if timed_out else None)


class _Pipes:
    def __init__(self) -> None:
        pairs = [os.pipe(), os.pipe()]
        self.readers = [reader for reader, _ in pairs]
        self.writers = [writer for _, writer in pairs]
        for reader in self.readers:
            os.set_blocking(reader, False)

    def close_writers(self) -> None:
        """Or the readers would never see the end."""
        while self.writers:
            os.close(self.writers.pop())

    def __enter__(self) -> _Pipes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_writers()
        for reader in self.readers:
            os.close(reader)


async def _pump(reader: int, name: str, append: Append) -> None:
    while True:
        await anyio.wait_readable(reader)
        data = os.read(reader, _CHUNK)
        append(name, data)
        if not data:
            return


async def _wait(process: RunProcess, time_limit: float | None) -> tuple[bool, Exit]:
    """Whether it had to be stopped, and how it ended."""
    with anyio.move_on_after(time_limit):
        return False, await process.wait()
    _signal_group(process.pid, signal.SIGINT)
    with anyio.move_on_after(GRACE):
        return True, await process.wait()
    _signal_group(process.pid, signal.SIGKILL)
    return True, await process.wait()


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _read_outcome(job: Job) -> Outcome | None:
    try:
        return msgspec.json.decode(job.outcome.read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return None


def verdict(outcome: Outcome | None, exit_: Exit, time_limit: float | None) -> str | None:
    """What went wrong with a run, in words that say what to do; `None` if its notebook came to its end."""
    if time_limit is not None:
        return f"Timed out: the run was stopped after {time_limit:g} s (the server's --run-timeout)."
    if outcome is not None:
        return outcome.error
    if exit_.lost:
        return "The run was lost: the parent of all runs died, killed by somebody or for want of memory."
    if exit_.code < 0:
        return f"The run's process was killed by {_name(-exit_.code)} before the notebook came to its end."
    return f"The run's process ended with exit code {exit_.code} before the notebook came to its end."


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # real-time signals have no name
        return f"signal {number}"
