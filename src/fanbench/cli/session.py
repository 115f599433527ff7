"""From a command to the event loop: the server, the client, the verb."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

import click

from fanbench.cli.command import Settings
from fanbench.cli.exits import TERMINATED
from fanbench.cli.redact import hide
from fanbench.cli.retries import Retries
from fanbench.errors import FanbenchError, RunFailed, WaitTimeout

if TYPE_CHECKING:
    from anyio import CancelScope
    from anyio.abc import TaskStatus

    from fanbench.client import Client
    from fanbench.config import Config

__all__ = ["call", "finish", "until_sigterm"]

T = TypeVar("T")


def call(settings: Settings, verb: Callable[[Client], Awaitable[T]]) -> T:
    """What `verb` returns, given a client of the server that the user named."""
    import anyio

    return anyio.run(_call, settings, verb)


async def _call(settings: Settings, verb: Callable[[Client], Awaitable[T]]) -> T:
    config = await _config(settings)
    from fanbench.client import Client
    from fanbench.wire.retry import RetryPolicy
    from fanbench.wire.transport import secrets_of

    hide(*secrets_of(config.credentials))

    retries = Retries(settings.output.note)
    async with Client(config, retry=RetryPolicy(on_retry=retries.tell)) as client:
        return await verb(client)


async def until_sigterm(work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, which SIGTERM ends as Ctrl-C does: what it has made for a while does not stay.

    Raises:
        Exit: it was ended, with the code that a shell shows for that.
    """
    import anyio

    from fanbench._util.concurrency import unwrap_single_error

    with unwrap_single_error():
        async with anyio.create_task_group() as group:
            # Of its own: a second signal must not end what cleans up after the first.
            with anyio.CancelScope() as scope:
                await group.start(_cancel_on_sigterm, scope)
                result = await work()
            group.cancel_scope.cancel()
            if not scope.cancelled_caught:
                return result
    raise click.exceptions.Exit(TERMINATED)


async def _cancel_on_sigterm(scope: CancelScope, *, task_status: TaskStatus[None]) -> None:
    import anyio

    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        task_status.started()
        async for _ in signals:
            scope.cancel()


async def _config(settings: Settings) -> Config:
    from fanbench.config import resolve_config

    endpoint, token = settings.endpoint, settings.token
    if settings.local:
        from fanbench.cli.progress import spinner
        from fanbench.local.launcher import ensure_server

        with spinner(settings.output, "Starting the local server"):
            server = await ensure_server(settings.data)
        if server.started:
            settings.output.note(f"Started the local server at {server.url} (it ends by itself when idle).")
        endpoint, token = server.url, token or server.token
        hide(server.token)
    return resolve_config(endpoint=endpoint, token=token, concurrency=settings.concurrency)


def finish(failures: Sequence[FanbenchError], of: int, what: str) -> None:
    """Ends a batch of `of`: one that was all of it fails as itself, several are summed up.

    Raises:
        FanbenchError: if there are failures. They have been shown, unless there was one thing only.
    """
    if not failures:
        return
    if of == 1:
        raise failures[0]
    if all(isinstance(failure, WaitTimeout) for failure in failures):
        raise WaitTimeout(f"{len(failures)} of {of} {what} were not waited for to the end.")
    raise RunFailed(f"{len(failures)} of {of} {what} failed.")
