"""Every error that fanbench raises on purpose, as one tree.

FanbenchError                 anything below; `exit_code` is what the command line ends with
├── UsageError                the call itself is wrong: a bad flag, name or value              exit 2
├── TaskFileError             a task file that a push would refuse, with file:line:column
├── CredentialsError          none found, or they cannot be read                               exit 3
├── ConnectionFailed          the server could not be reached, or broke off
├── ApiError                  the server answered with an error (call, status, message)
│   ├── BadRequest            400 and other 4xx
│   ├── Unauthorized          401                                                              exit 3
│   ├── Forbidden             403
│   ├── NotFound              404                                                              exit 4
│   ├── Conflict              409
│   ├── RateLimited           429, with `retry_after` seconds where the server says so
│   ├── ServerFault           5xx
│   └── BadAnswer             a 200 that is not what the protocol says (HTML, broken JSON)
├── WaitTimeout               `--wait S` is over and something still runs                      exit 5
├── RunFailed                 some runs errored, or some of a batch failed
├── OutputError               an output could not be written, or a download is damaged
├── SweepError                a sweep cannot begin or go on
│   ├── JournalError          its journal cannot be read or written, or is of something else
│   ├── SweepLocked           another process works on its folder, with that `pid` where known
│   └── BudgetReached         one more run could go over `--max-cost`                          exit 6
└── LocalServerError          the embedded server: cannot start, listen, or find its models
"""

from __future__ import annotations

__all__ = [
    "ApiError",
    "BadAnswer",
    "BadRequest",
    "BudgetReached",
    "Conflict",
    "ConnectionFailed",
    "CredentialsError",
    "FanbenchError",
    "Forbidden",
    "JournalError",
    "LocalServerError",
    "NotFound",
    "OutputError",
    "RateLimited",
    "RunFailed",
    "ServerFault",
    "SweepError",
    "SweepLocked",
    "TaskFileError",
    "Unauthorized",
    "UsageError",
    "WaitTimeout",
]


class FanbenchError(Exception):
    """The root. `hint` says what to do next; it is shown below the message."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(FanbenchError):
    """The call itself is wrong: a bad flag, name or value."""

    exit_code = 2


class TaskFileError(FanbenchError):
    """A task file that cannot be pushed. `line` and `column` count from 1."""

    def __init__(
        self,
        message: str,
        *,
        file: str,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.file = file
        self.line = line
        self.column = column

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.message}"


class CredentialsError(FanbenchError):
    """There are no credentials, or they cannot be read."""

    exit_code = 3


class ConnectionFailed(FanbenchError):
    """No answer from `endpoint`: refused, timed out, or broken off in the middle."""

    def __init__(self, message: str, *, endpoint: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.endpoint = endpoint


class ApiError(FanbenchError):
    """The server answered `call` (such as "GetBenchmarkTask") with an error."""

    def __init__(self, message: str, *, call: str, status: int, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.call = call
        self.status = status

    def __str__(self) -> str:
        return f"{self.message} ({self.call}: HTTP {self.status})"


class BadRequest(ApiError):
    """400, and every 4xx that has no error of its own."""


class Unauthorized(ApiError):
    """401: the server does not know these credentials."""

    exit_code = 3


class Forbidden(ApiError):
    """403: not for this user, or a verification is missing."""


class NotFound(ApiError):
    """404: there is no such thing."""

    exit_code = 4


class Conflict(ApiError):
    """409."""


class RateLimited(ApiError):
    """429. `retry_after` is in seconds, `None` where the server did not say."""

    def __init__(
        self, message: str, *, call: str, status: int = 429, retry_after: float | None = None
    ) -> None:
        super().__init__(message, call=call, status=status)
        self.retry_after = retry_after


class ServerFault(ApiError):
    """5xx. `retry_after` is in seconds, `None` where the server did not say."""

    def __init__(self, message: str, *, call: str, status: int, retry_after: float | None = None) -> None:
        super().__init__(message, call=call, status=status)
        self.retry_after = retry_after


class BadAnswer(ApiError):
    """A 200 that is not what the protocol says, such as a web page."""


class WaitTimeout(FanbenchError):
    """The time is over, and something still runs."""

    exit_code = 5


class RunFailed(FanbenchError):
    """Some runs errored, or some of a batch failed."""


class OutputError(FanbenchError):
    """An output could not be written, or a download is damaged."""


class SweepError(FanbenchError):
    """A sweep cannot begin, or cannot go on."""


class JournalError(SweepError):
    """The journal of a sweep cannot be read or written, is damaged, or is of something else."""


class SweepLocked(SweepError):
    """Another process works on the sweep's folder. `pid` is that process, `None` where it is not known."""

    def __init__(self, message: str, *, pid: int | None = None, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.pid = pid


class BudgetReached(SweepError):
    """Nothing more was scheduled: one more run could cost more than `--max-cost` leaves."""

    exit_code = 6


class LocalServerError(FanbenchError):
    """The local server cannot start, listen or end, or find its models."""


_BY_STATUS: dict[int, type[ApiError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 409: Conflict}


def error_for_status(call: str, status: int, message: str, retry_after: float | None = None) -> ApiError:
    """The error of the tree that stands for an HTTP `status` >= 400."""
    if status == 429:
        return RateLimited(message, call=call, retry_after=retry_after)
    if status >= 500:
        return ServerFault(message, call=call, status=status, retry_after=retry_after)
    return _BY_STATUS.get(status, BadRequest)(message, call=call, status=status)
