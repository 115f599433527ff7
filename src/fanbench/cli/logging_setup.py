"""`-v` and `--log-file`: debug messages as lines on stderr, and as JSON lines in a file."""

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

from fanbench.cli.redact import redact
from fanbench.errors import UsageError
from fanbench.version import __version__

__all__ = ["logging_to"]

Sink = Callable[[Mapping[str, Any]], None]


@contextmanager
def logging_to(file: Path | None, command: str, *, on_stderr: bool) -> Iterator[None]:
    """Send what is logged in the block to `file` and to stderr, with a first and a last message of `command`.

    Raises:
        UsageError: The file cannot be written.
    """
    with ExitStack() as stack:
        sinks = [_stderr_sink()] if on_stderr else []
        if file is not None:
            try:
                # Unbuffered: someone may be following it, the process may be killed, or the disk may be full.
                stream = stack.enter_context(file.open("ab", buffering=0))
            except OSError as error:
                raise UsageError(
                    f"Cannot write the log file {file}: {error.strerror}.",
                    hint="Name another one with --log-file.",
                ) from None
            sinks.append(_file_sink(stream))

        def send(logger: object, method: str, event: structlog.typing.EventDict) -> str:
            # Texts may contain secrets; numbers and booleans cannot.
            safe = {
                key: value if isinstance(value, bool | int | float | None) else redact(str(value))
                for key, value in event.items()
            }
            for sink in sinks:
                sink(safe)
            raise structlog.DropEvent

        add_time = structlog.processors.TimeStamper(fmt="iso", utc=True)
        structlog.configure(processors=[structlog.processors.add_log_level, add_time, send])
        stack.callback(structlog.reset_defaults)
        log, started = structlog.get_logger("fanbench.cli"), time.monotonic()
        log.debug("begin", command=command, version=__version__)
        about: dict[str, str] = {}
        try:
            yield
        except BaseException as error:
            about = {"error": type(error).__name__, "message": str(error)}
            raise
        finally:
            log.debug("end", command=command, seconds=round(time.monotonic() - started, 3), **about)


def _file_sink(stream: FileIO) -> Sink:
    failed = False

    def write(event: Mapping[str, Any]) -> None:
        nonlocal failed
        line = json.dumps(event, ensure_ascii=False) + "\n"
        try:
            if not failed:
                stream.write(line.encode("utf-8", "backslashreplace"))
        except OSError as error:
            failed = True  # the command itself can continue
            click.echo(f"Stopped writing the log file: {error.strerror}.", err=True)

    return write


def _stderr_sink() -> Sink:
    render = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())

    def write(event: Mapping[str, Any]) -> None:
        shown = {**event, "timestamp": str(event["timestamp"])[11:19]}
        click.echo(render(None, "", shown), err=True)

    return write
