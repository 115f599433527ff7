"""The one place where errors become words on stderr and an exit code.

0 done; 1 failed, or some runs errored; 2 usage; 3 no or bad credentials; 4 not found; 5 timed out;
6 the budget of a sweep is used up; 130 interrupted; 141 nobody reads stdout; 143 ended by SIGTERM.
"""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress

import click

from fanbench.cli.redact import hidden
from fanbench.errors import FanbenchError

__all__ = [
    "INTERRUPTED",
    "TERMINATED",
    "end_line",
    "explain",
    "explain_click",
    "leaves",
    "say_error",
    "speak_utf8",
]

# What a shell shows for a program that SIGINT, SIGTERM or a closed pipe has ended.
INTERRUPTED = 130
TERMINATED = 143
_BROKEN_PIPE = 141


def explain(error: BaseException, env: Mapping[str, str] = os.environ) -> int:
    """Says on stderr what went wrong; the exit code."""
    causes = list(leaves(error))
    if any(isinstance(cause, click.Abort) for cause in causes):
        return INTERRUPTED  # at a question, whose line click has ended
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        end_line()
        for cause in causes:
            _say_notes(cause)
        return INTERRUPTED
    if any(isinstance(cause, BrokenPipeError) for cause in causes):
        _close_stdout()
        return _BROKEN_PIPE
    known = [cause for cause in causes if isinstance(cause, FanbenchError)]
    if not known:
        return _explain_defect(error, causes[0], env)
    for text in dict.fromkeys(str(cause) for cause in known):
        say_error(next(cause for cause in known if str(cause) == text))
    if others := [cause for cause in causes if not isinstance(cause, FanbenchError)]:
        _explain_defect(error, others[0], env)
    return known[0].exit_code


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The single errors in a group of groups; one that is no group, itself."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def say_error(error: FanbenchError) -> None:
    """Also for errors that do not end the command: their hints are for the command's server, too."""
    context = click.get_current_context(silent=True)
    if error.hint and context is not None and hasattr(context.obj, "here"):
        error.hint = context.obj.here(error.hint)
    _say(f"{click.style('error:', fg='red', bold=True)} {error}")
    _say_notes(error)
    if error.hint:
        _say(f"{click.style('hint:', bold=True)} {error.hint}")


def end_line() -> None:
    """On a terminal, which has shown a Ctrl-C wherever its cursor was: what comes next has a line of its own."""
    terminal = next((stream for stream in (sys.stderr, sys.stdout) if stream.isatty()), None)
    if terminal is not None:
        click.echo(file=terminal)


def explain_click(error: click.ClickException) -> int:
    """A command line that cannot be read."""
    _say(f"{click.style('error:', fg='red', bold=True)} {error.format_message()}")
    context = getattr(error, "ctx", None)
    if context is not None:
        _say(f"{click.style('hint:', bold=True)} {context.command_path} --help")
    return error.exit_code


def _explain_defect(error: BaseException, cause: BaseException, env: Mapping[str, str]) -> int:
    if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
        _close_stdout()
        _say(f"{click.style('error:', fg='red', bold=True)} cannot write the output: {cause.strerror}")
        return 1
    if env.get("FANBENCH_DEBUG"):
        import traceback

        _say("".join(traceback.format_exception(error)).rstrip())
    else:
        _say(f"{click.style('error:', fg='red', bold=True)} unexpected {type(cause).__name__}: {cause}")
        _say("This is a defect of fanbench; run with FANBENCH_DEBUG=1 for the traceback.")
    return 1


def _say_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", []):
        _say(note)


def _say(text: str) -> None:
    click.echo(hidden(text), err=True, color=False if os.environ.get("NO_COLOR") else None)


def _close_stdout() -> None:
    """Python flushes stdout when it ends, and would complain then."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def speak_utf8() -> None:
    """The output has characters that not every locale knows; they must not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace")
