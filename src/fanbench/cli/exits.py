"""The one place where an error becomes text on stderr and an exit code, which is that of its class.

0 success; 1 failure, or some runs errored; 2 wrong usage; 3 missing or rejected credentials; 4 not found;
5 timed out; 6 a sweep's budget is used up; 7 a regression; 8 results cannot tell; 130 interrupted; 141 stdout was
closed; 143 ended by SIGTERM.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Mapping
from contextlib import suppress

import click

from fanbench.cli.redact import redact
from fanbench.errors import FanbenchError, leaf_errors

__all__ = ["INTERRUPTED", "TERMINATED", "end_line", "explain", "print_error"]

# What a shell shows for a program that was ended by SIGINT, SIGTERM or a closed pipe.
INTERRUPTED = 130
TERMINATED = 143
_BROKEN_PIPE = 141

# A full disk, a broken one, and a standard output that the shell has closed.
_UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)


def explain(error: BaseException, env: Mapping[str, str] = os.environ) -> int:
    """Print to stderr what went wrong, and return the exit code."""
    if isinstance(error, click.ClickException):
        _print(f"{click.style('error:', fg='red', bold=True)} {error.format_message()}")
        context = getattr(error, "ctx", None)
        if context is not None:
            _print(f"{click.style('hint:', bold=True)} Run `{context.command_path} --help` for usage.")
        return error.exit_code
    causes = leaf_errors(error)
    if any(isinstance(cause, click.Abort) for cause in causes):
        return INTERRUPTED  # at a prompt, whose line click has ended
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        end_line()
        for note in [note for cause in causes for note in getattr(cause, "__notes__", [])]:
            _print(note)
        return INTERRUPTED
    if any(isinstance(cause, BrokenPipeError) for cause in causes):
        _close_stdout()
        return _BROKEN_PIPE
    expected = [cause for cause in causes if isinstance(cause, FanbenchError)]
    unexpected = [cause for cause in causes if not isinstance(cause, FanbenchError)]
    printed = set[str]()
    for cause in expected:
        if str(cause) not in printed:
            printed.add(str(cause))
            print_error(cause)
    if unexpected:
        _print_unexpected(error, unexpected[0], env)
    return expected[0].exit_code if expected else 1


def print_error(error: FanbenchError) -> None:
    """Print an error with its notes and its hint; also used for errors that do not end the command."""
    context = click.get_current_context(silent=True)
    if error.hint and context is not None and hasattr(context.obj, "on_this_server"):
        error.hint = context.obj.on_this_server(error.hint)
    _print(f"{click.style('error:', fg='red', bold=True)} {error}")
    for note in getattr(error, "__notes__", []):
        _print(note)
    if error.hint:
        _print(f"{click.style('hint:', bold=True)} {error.hint}")


def end_line() -> None:
    """Start a new line on a terminal, which shows ^C wherever its cursor is."""
    terminal = next((stream for stream in (sys.stderr, sys.stdout) if stream.isatty()), None)
    if terminal is not None:
        click.echo(file=terminal)


def _print_unexpected(error: BaseException, cause: BaseException, env: Mapping[str, str]) -> None:
    label = click.style("error:", fg="red", bold=True)
    context = click.get_current_context(silent=True)
    if isinstance(cause, OSError) and cause.errno in _UNWRITABLE:
        _close_stdout()
        _print(f"{label} Cannot write the output: {cause.strerror}.")
    elif isinstance(cause, FileNotFoundError) and not _has_current_folder():
        _print(f"{label} The current folder does not exist any more.")
    elif env.get("FANBENCH_DEBUG") or getattr(getattr(context, "obj", None), "debug", False):
        import traceback

        _print("".join(traceback.format_exception(error)).rstrip())
    else:
        _print(f"{label} Unexpected {type(cause).__name__}: {cause}")
        _print("This is a bug in fanbench. Add --debug to see the traceback.")


def _has_current_folder() -> bool:
    try:
        os.getcwd()
    except FileNotFoundError:
        return False
    return True


def _print(text: str) -> None:
    click.echo(redact(text), err=True, color=False if os.environ.get("NO_COLOR") else None)


def _close_stdout() -> None:
    """Keep Python from complaining when it flushes stdout at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
