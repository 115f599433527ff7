"""From a command to the event loop: find the server, open the client, and run one coroutine."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import click

from fanbench.cli.api_notice import note_newer_api
from fanbench.cli.command import Settings
from fanbench.cli.exits import TERMINATED
from fanbench.cli.redact import hide
from fanbench.errors import FanbenchError, RunFailed, WaitTimeout

if TYPE_CHECKING:
    from anyio import CancelScope
    from anyio.abc import TaskStatus

    from fanbench.cli.output import Output
    from fanbench.cli.progress import Display
    from fanbench.client import Client
    from fanbench.config import Config
    from fanbench.local.address import LocalServer
    from fanbench.wire.retry import Retry

__all__ = ["RetryNotes", "call", "finish", "split", "until_sigterm"]

T = TypeVar("T")


def call(
    settings: Settings,
    operation: Callable[[Client], Awaitable[T]],
    display: Display | None = None,
    *,
    patience: float | None = None,
) -> T:
    """Run `operation` on a client of the server that the user named, and return its result.

    Its progress is on the `display` until then. `patience` is the number of seconds for which a call that fails is
    repeated, if that is less than usual because somebody waits for the answer.
    """
    # Imported here because commands import this module, and `--help` should not load an HTTP client.
    import asyncio

    import anyio

    from fanbench.client import Client
    from fanbench.wire.retry import RetryPolicy
    from fanbench.wire.transport import secrets_of

    async def main() -> T:
        config = await _config(settings)
        hide(*secrets_of(config.credentials))
        retries = RetryNotes(settings.output.note, patience=patience)
        retry = RetryPolicy(on_retry=retries.report)
        if patience is not None:
            retry = replace(retry, total=patience)
        async with Client(config, retry=retry, started=partial(_note_start, settings.output)) as client:
            noting = asyncio.create_task(_note_silence(settings.output, client))
            try:
                with display or nullcontext():
                    return await operation(client)
            finally:
                noting.cancel()
                if not (settings.quiet or settings.no_warn):
                    note_newer_api(settings.output.note, client.transport.newest_release)

    return anyio.run(main)


# Seconds without an answer after which that is said, on a terminal and elsewhere, and then again.
_SILENCE_ON_TERMINAL, _SILENCE, _SILENCE_AGAIN = 1.0, 5.0, 60.0
_TICK = 0.2


async def _note_silence(out: Output, client: Client) -> None:
    """Print a line whenever the server has left a call unanswered. Runs until it is cancelled."""
    import anyio

    calls = client.transport.limits.adaptive
    patience = _SILENCE_ON_TERMINAL if sys.stderr.isatty() else _SILENCE
    while True:
        await anyio.sleep(max(_TICK, patience - calls.longest_wait))
        if calls.longest_wait < patience:
            continue
        # If it was this program that was busy, the answer is read in a moment.
        await anyio.sleep(_TICK)
        if calls.longest_wait >= patience:
            out.note(f"Waiting for {client.config.endpoint} to answer...")
            await anyio.sleep(_SILENCE_AGAIN)


async def _config(settings: Settings) -> Config:
    from fanbench.config import resolve_config

    endpoint, token, data = settings.endpoint, settings.token, None
    if settings.local:
        from fanbench.cli.progress import spinner
        from fanbench.local.launcher import ensure_server

        with spinner(settings.output, "Starting the local server"):
            server = await ensure_server(settings.data)
        if server.started:
            _note_start(settings.output, server)
        endpoint, token, data = server.url, token or server.token, server.data
        hide(server.token)
    config = resolve_config(endpoint=endpoint, token=token, concurrency=settings.concurrency)
    return replace(config, local_data=data)


def _note_start(out: Output, server: LocalServer) -> None:
    from fanbench.local.folder import DataFolder
    from fanbench.local.kept_options import flags_of, read_options

    options = " ".join(flags_of(read_options(DataFolder(server.data))).values())
    using = f" with the options of the last `fanbench serve`: {options}" if options else ""
    out.note(f"Started the local server at {server.url}{using} (it stops by itself when idle).")


async def until_sigterm(work: Callable[[], Awaitable[T]]) -> T:
    """Return the result of `work`; SIGTERM cancels it as Ctrl-C does, so that it removes its temporary files.

    Raises:
        click.exceptions.Exit: SIGTERM came; with the exit code that a shell shows for it.
    """
    import anyio

    from fanbench._util.concurrency import unwrap_single_error

    async def cancel_on_sigterm(scope: CancelScope, *, task_status: TaskStatus[None]) -> None:
        with anyio.open_signal_receiver(signal.SIGTERM) as signals:
            task_status.started()
            async for _ in signals:
                scope.cancel()

    with unwrap_single_error():
        async with anyio.create_task_group() as group:
            # A scope of its own: a second signal must not cancel the clean-up after the first.
            with anyio.CancelScope() as scope:
                await group.start(cancel_on_sigterm, scope)
                result = await work()
            group.cancel_scope.cancel()
            if not scope.cancelled_caught:
                return result
    raise click.exceptions.Exit(TERMINATED)


def split(outcomes: Sequence[T | FanbenchError]) -> tuple[list[T], list[FanbenchError]]:
    """The results and the errors among the outcomes of a batch."""
    results = [outcome for outcome in outcomes if not isinstance(outcome, FanbenchError)]
    return results, [outcome for outcome in outcomes if isinstance(outcome, FanbenchError)]


def finish(failures: Sequence[FanbenchError], of: int, what: str) -> None:
    """End a batch of `of` items whose `failures` have been printed, unless there was only one item.

    Raises:
        FanbenchError: There are failures: that of the only item, or a summary.
    """
    if not failures:
        return
    if of == 1:
        raise failures[0]
    if all(isinstance(failure, WaitTimeout) for failure in failures):
        raise WaitTimeout(f"Timed out while waiting for {len(failures)} of {of} {what}.")
    raise RunFailed(f"{len(failures)} of {of} {what} failed.")


class RetryNotes:
    """Prints calls that are retried, one line per kind of error in ten seconds.

    A server that is down fails every call, and one note about that is enough.
    """

    _QUIET_SECONDS = 10.0

    def __init__(
        self,
        note: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        patience: float | None = None,
    ) -> None:
        self._note = note
        self._limit = f", for at most {patience:g} s" if patience is not None else ""
        self._clock = clock
        self._printed_at: dict[type, float] = {}
        self._omitted: dict[type, int] = {}

    def report(self, retry: Retry) -> None:
        kind, now = type(retry.error), self._clock()
        if now - self._printed_at.get(kind, -self._QUIET_SECONDS) < self._QUIET_SECONDS:
            self._omitted[kind] = self._omitted.get(kind, 0) + 1
            return
        self._printed_at[kind] = now
        omitted = self._omitted.pop(kind, 0)
        more = f" ({omitted} similar errors since the last message)" if omitted else ""
        self._note(
            f"{str(retry.error).rstrip('.')}; retrying in {max(retry.wait, 0.1):.1f} s{self._limit}{more}"
        )
