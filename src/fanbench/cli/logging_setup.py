"""`-v` and `--log-file`: what the client does, as lines on stderr and as JSON lines in a file."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import click
import structlog

from fanbench._version import __version__
from fanbench.cli.redact import hidden
from fanbench.errors import UsageError

__all__ = ["journal"]

Sink = Callable[[Mapping[str, Any]], None]


@contextmanager
def journal(command: str, file: Path | None, *, on_stderr: bool) -> Iterator[None]:
    """Everything that is logged in the block goes to `file` and to stderr, then a line on how it ended.

    Raises:
        UsageError: the file cannot be written to.
    """
    with ExitStack() as open_:
        sinks = [_to_stderr()] if on_stderr else []
        if file is not None:
            sinks.append(_to_file(open_.enter_context(_append(file))))
        structlog.configure(processors=_processors(sinks))
        open_.callback(structlog.reset_defaults)
        with _ending(command):
            yield


@contextmanager
def _ending(command: str) -> Iterator[None]:
    log, started = structlog.get_logger("fanbench.cli"), time.monotonic()
    log.debug("begin", command=command, version=__version__)
    error: BaseException | None = None
    try:
        yield
    except BaseException as caught:
        error = caught
        raise
    finally:
        seconds = round(time.monotonic() - started, 3)
        log.debug("end", command=command, seconds=seconds, **_about(error))


def _about(error: BaseException | None) -> dict[str, str]:
    return {} if error is None else {"error": type(error).__name__, "message": str(error)}


@contextmanager
def _append(file: Path) -> Iterator[FileIO]:
    try:
        # Unbuffered: somebody may be following it, the process be killed, or the disk be full.
        stream = file.open("ab", buffering=0)
    except OSError as error:
        raise UsageError(
            f"Cannot write the log file {file}: {error.strerror}.", hint="Name another with --log-file."
        ) from None
    with stream:
        yield stream


def _processors(sinks: list[Sink]) -> list[structlog.typing.Processor]:
    return [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide,
        _Pour(sinks),
    ]


def _hide(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {key: _plain(value) for key, value in event.items()}


def _plain(value: object) -> object:
    """Text for everything that is no number; nothing else could hold a secret."""
    return value if isinstance(value, bool | int | float | None) else hidden(str(value))


class _Pour:
    """The end of the chain: each event goes into all sinks, and no further."""

    def __init__(self, sinks: list[Sink]) -> None:
        self._sinks = sinks

    def __call__(self, logger: object, method: str, event: structlog.typing.EventDict) -> str:
        for sink in self._sinks:
            sink(event)
        raise structlog.DropEvent


def _to_file(stream: FileIO) -> Sink:
    full = False

    def write(event: Mapping[str, Any]) -> None:
        nonlocal full
        line = json.dumps(event, ensure_ascii=False) + "\n"
        try:
            if not full:
                stream.write(line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            full = True  # no reason to give up what the command is doing
            click.echo(f"The log file is not written any more: {error.strerror}.", err=True)

    return write


def _to_stderr() -> Sink:
    render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())

    def write(event: Mapping[str, Any]) -> None:
        shown = {**event, "timestamp": str(event["timestamp"])[11:19]}
        click.echo(render(None, "", shown), err=True)

    return write
