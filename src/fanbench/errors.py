"""All errors of fanbench, as one tree.

FanbenchError                 the base; `exit_code` is that of the command line
├── UsageError                an invalid option, name or value                                 exit 2
├── UnknownModel              a model's name, or a pattern, that matches nothing                exit 4
├── TaskFileError             a task file that cannot be pushed, with file:line:column
├── CredentialsError          no credentials, or they cannot be read                           exit 3
├── ConnectionFailed          the server could not be reached, or the connection broke
├── ApiError                  the server answered with an error (call, status, message)
│   ├── BadRequest            400 and other 4xx
│   ├── Unauthorized          401                                                              exit 3
│   ├── Forbidden             403
│   ├── NotFound              404                                                              exit 4
│   ├── Conflict              409
│   ├── RateLimited           429, with `retry_after` in seconds if the server sent it
│   ├── ServerFault           5xx
│   └── BadAnswer             not an answer of the API (HTML, broken JSON, a redirect)
├── WaitTimeout               `--wait S` has passed and something is still running             exit 5
├── RunFailed                 some runs errored, or part of a batch failed
├── OutputError               an output could not be written, or a download is damaged
│   └── NoResults             there are no run files, or none of the task                      exit 4
├── SweepError                a sweep cannot start or continue
│   ├── JournalError          its journal cannot be read or written, or belongs to something else
│   ├── SweepLocked           another process is using its folder, with its `pid` if known
│   └── BudgetReached         one more run could exceed `--max-cost`                           exit 6
├── Regression                new results are worse than old ones, by a gate                   exit 7
├── CannotTell                results cannot be compared, or are too few to decide a gate      exit 8
└── LocalServerError          the local server cannot start, listen, or find its models
"""

from __future__ import annotations

import os
import re

__all__ = [
    "ApiError",
    "BadAnswer",
    "BadRequest",
    "BudgetReached",
    "CannotTell",
    "Conflict",
    "ConnectionFailed",
    "CredentialsError",
    "FanbenchError",
    "Forbidden",
    "JournalError",
    "LocalServerError",
    "NoResults",
    "NotFound",
    "OutputError",
    "RateLimited",
    "Regression",
    "RunFailed",
    "ServerFault",
    "SweepError",
    "SweepLocked",
    "TaskFileError",
    "Unauthorized",
    "UnknownModel",
    "UsageError",
    "WaitTimeout",
]


class FanbenchError(Exception):
    """The base of all errors. `hint` is what to do next, and is shown below the message."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(FanbenchError):
    """An option, a name or a value is invalid."""

    exit_code = 2


class UnknownModel(FanbenchError):
    """A model name, or a pattern of names, matches no model. The message lists the known names."""

    exit_code = 4


class TaskFileError(FanbenchError):
    """A task file that cannot be pushed. `cell`, of a notebook, `line` and `column` count from 1."""

    def __init__(
        self,
        message: str,
        *,
        file: str,
        cell: int | None = None,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.cell = cell
        self.line = line
        self.column = column

    def __str__(self) -> str:
        return f"{place_text(self.file, self.cell, self.line, self.column)}: {self.message}"


def place_text(file: str, cell: int | None, line: int | None, column: int | None) -> str:
    """Return `file:line:column`, in a notebook `file:cell 3:line:column`, without what is `None`."""
    parts = (file, f"cell {cell}" if cell else None, line, column)
    return ":".join(str(part) for part in parts if part is not None)


class CredentialsError(FanbenchError):
    """There are no credentials, or they cannot be read."""

    exit_code = 3


class ConnectionFailed(FanbenchError):
    """`endpoint` could not be reached, timed out, or the connection broke."""

    def __init__(self, message: str, *, endpoint: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.endpoint = endpoint


class ApiError(FanbenchError):
    """The server answered `call` (such as "GetBenchmarkTask") with an error.

    `retry_after` is in seconds, or None if the server did not send it.
    """

    def __init__(
        self,
        message: str,
        *,
        call: str,
        status: int,
        retry_after: float | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.call = call
        self.status = status
        self.retry_after = retry_after

    def __str__(self) -> str:
        return f"{self.message} ({self.call}: HTTP {self.status})"


class BadRequest(ApiError):
    """400, and every 4xx without an error class of its own."""


class Unauthorized(ApiError):
    """401: the server does not accept the credentials."""

    exit_code = 3


class Forbidden(ApiError):
    """403: the user is not allowed to do this, or must be verified first."""


class NotFound(ApiError):
    """404: the requested object does not exist."""

    exit_code = 4


class Conflict(ApiError):
    """409: the request conflicts with the state of the server."""


class RateLimited(ApiError):
    """429: too many requests. `retry_after` is in seconds, or None if the server did not send it."""

    def __init__(
        self, message: str, *, call: str, status: int = 429, retry_after: float | None = None
    ) -> None:
        super().__init__(message, call=call, status=status, retry_after=retry_after)


class ServerFault(ApiError):
    """5xx: the server failed. `retry_after` is in seconds, or None if the server did not send it."""


class BadAnswer(ApiError):
    """The answer does not follow the protocol, such as a web page or a redirect."""


class WaitTimeout(FanbenchError):
    """The timeout has passed, and something is still running."""

    exit_code = 5


class RunFailed(FanbenchError):
    """Some runs errored, or part of a batch failed."""


class OutputError(FanbenchError):
    """An output could not be written, or a download is damaged."""


class NoResults(OutputError):
    """There are no run files, or none of the task that was asked for."""

    exit_code = 4


class SweepError(FanbenchError):
    """A sweep cannot start or continue."""


class JournalError(SweepError):
    """The journal of a sweep cannot be read or written, is damaged, or belongs to something else."""


class SweepLocked(SweepError):
    """Another process is using the sweep's folder. `pid` is its process id, or None if it is not known."""

    def __init__(self, message: str, *, pid: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class BudgetReached(SweepError):
    """Scheduling has stopped, because one more run could exceed `--max-cost`."""

    exit_code = 6


class Regression(FanbenchError):
    """A gate found that the new results are worse than the old ones."""

    exit_code = 7


class CannotTell(FanbenchError):
    """Results cannot be compared, or there are too few of them to decide a gate."""

    exit_code = 8


class LocalServerError(FanbenchError):
    """The local server cannot start, listen, stop, or find its models."""


_BY_STATUS: dict[int, type[ApiError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict}


def error_for_status(call: str, status: int, message: str, retry_after: float | None = None) -> ApiError:
    """Return the error for an HTTP `status` of 400 or more."""
    if status == 429:
        return RateLimited(message, call=call, retry_after=retry_after)
    if status >= 500:
        return ServerFault(message, call=call, status=status, retry_after=retry_after)
    return _BY_STATUS.get(status, BadRequest)(message, call=call, status=status)


def leaf_errors(error: BaseException) -> list[BaseException]:
    """Return the errors inside nested exception groups, or `error` itself."""
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for part in error.exceptions for leaf in leaf_errors(part)]


def root_cause(error: BaseException) -> BaseException:
    """Return the innermost cause of `error`: libraries above it only report "All connection attempts failed"."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif (deeper := error.__cause__ or error.__context__) is not None:
            error = deeper
        else:
            return error


def reason_of(error: Exception) -> str:
    """Return the message of the innermost cause of `error`, without a period."""
    import ssl

    cause = root_cause(error)
    if isinstance(cause, ssl.SSLError):
        # "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate (_ssl.c:1000)"
        return re.sub(r"^\[[^]]*\] | \(_ssl\.c:\d+\)$", "", str(cause.strerror or cause))
    if isinstance(cause, OSError) and cause.strerror:
        # Those of name servers are negative.
        return os.strerror(cause.errno) if cause.errno and cause.errno > 0 else cause.strerror
    return str(cause).rstrip(".") or str(error) or type(error).__name__
