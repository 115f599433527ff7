"""One `*.run.json`: the proto3 JSON that the SDK writes at the end of a run.

A field at its default (0, false, an empty list) may be left out, and 64-bit integers are text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from fanbench.results.model import Kind
from fanbench.wire.messages import Message, RunState, decode

__all__ = [
    "NANODOLLARS",
    "PASSED",
    "Metrics",
    "NotARunFile",
    "RunFile",
    "first_start",
    "read_run_file",
    "wall_seconds",
]

NANODOLLARS = 1_000_000_000
PASSED = "BENCHMARK_TASK_RUN_ASSERTION_STATUS_PASSED"


class NotARunFile(Exception):
    """Damaged, or something else under this name. The text is for the user."""


class Metrics(Message, frozen=True, kw_only=True):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_cost_nanodollars: int | None = None
    output_tokens_cost_nanodollars: int | None = None
    total_backend_latency_ms: int | None = None


class Request(Message, frozen=True, kw_only=True):
    metrics: Metrics = Metrics()


class Conversation(Message, frozen=True, kw_only=True):
    requests: tuple[Request, ...] = ()
    metrics: Metrics = Metrics()

    def measured(self) -> list[Metrics]:
        """Those of the requests; a file that was merged or cut down has only the sum."""
        return [request.metrics for request in self.requests] or [self.metrics]


class Numeric(Message, frozen=True, kw_only=True):
    # Not-a-number and the infinities are text in this JSON.
    value: float | str = 0.0
    confidence_interval: float | str | None = None


class Result(Message, frozen=True, kw_only=True):
    boolean_result: bool | None = None
    numeric_result: Numeric | None = None
    dict_result: dict[str, Any] | None = None


class Assertion(Message, frozen=True, kw_only=True):
    status: str = ""


class TaskVersion(Message, frozen=True, kw_only=True):
    name: str = ""
    version_number: int | None = None


class ModelVersion(Message, frozen=True, kw_only=True):
    slug: str = ""


class RunFile(Message, frozen=True, kw_only=True):
    """The parts of a run file that become a row; the conversations' texts are skipped."""

    py_run_id: str = ""
    task_version: TaskVersion
    model_version: ModelVersion = ModelVersion()
    state: RunState = RunState.UNSPECIFIED
    start_time: datetime | None = None
    end_time: datetime | None = None
    error_message: str = ""
    conversations: tuple[Conversation, ...] = ()
    results: tuple[Result, ...] = ()
    assertions: tuple[Assertion, ...] = ()
    subruns: tuple[RunFile, ...] = ()

    @property
    def identity(self) -> tuple[str, datetime | None]:
        """The same for a run's own file and for its copy among the sub-runs of another."""
        return self.py_run_id, self.start_time

    def nested(self) -> Iterator[RunFile]:
        """The runs within this one, at any depth."""
        todo = [*self.subruns]
        while todo:
            yield (run := todo.pop(0))
            todo = [*run.subruns, *todo]

    def outcome(self) -> tuple[Kind | None, bool | float | dict[str, Any] | None, float | None]:
        """Kind, value and interval of the result."""
        if not self.results:
            return None, None, None
        result = self.results[0]
        if (numeric := result.numeric_result) is not None:
            interval = numeric.confidence_interval
            return "numeric", float(numeric.value), None if interval is None else float(interval)
        if result.dict_result is not None:
            return "dict", result.dict_result, None
        # A number or a dict leaves its name behind even when it is 0 or empty: so this was a false.
        return "boolean", bool(result.boolean_result), None

    def metrics(self) -> list[Metrics]:
        """One for every request, those of the sub-runs included: their conversations stand by themselves."""
        runs = [self, *self.nested()]
        return [metrics for run in runs for talk in run.conversations for metrics in talk.measured()]

    def last_error(self) -> str | None:
        """The line of a traceback that says what happened."""
        lines = [line.strip() for line in self.error_message.splitlines() if line.strip()]
        return lines[-1] if lines else None


def wall_seconds(runs: Sequence[RunFile]) -> float | None:
    """From the first start to the last end: runs may have gone side by side."""
    starts = [_aware(run.start_time) for run in runs if run.start_time]
    ends = [_aware(run.end_time) for run in runs if run.end_time]
    return max(0.0, (max(ends) - min(starts)).total_seconds()) if starts and ends else None


def first_start(runs: Sequence[RunFile]) -> str | None:
    """ISO 8601, in UTC, so that texts sort as times do."""
    starts = [_aware(run.start_time) for run in runs if run.start_time]
    return min(starts).astimezone(UTC).isoformat() if starts else None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def read_run_file(path: Path) -> RunFile:
    """The run in `path`.

    Raises:
        NotARunFile: it cannot be read, is damaged, or is no run file.
    """
    try:
        run = _decode(path.read_bytes())
        if not run.task_version.name:
            raise NotARunFile("not a run file: it names no task")
        _check_numbers(run)
    except OSError as error:
        raise NotARunFile(f"cannot be read: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NotARunFile(_reason(error)) from None
    except RecursionError:
        raise NotARunFile("not a run file: nested too deeply") from None
    return run


def _decode(body: bytes) -> RunFile:
    try:
        return decode(body, RunFile)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Python's own json writes NaN as it stands, and so does the SDK's merge of run files.
        return msgspec.convert(_with_nan(body), RunFile, strict=False)


def _with_nan(body: bytes) -> Any:
    import json

    try:
        return json.loads(body)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from None


def _check_numbers(run: RunFile) -> None:
    numbers = [result.numeric_result for result in run.results if result.numeric_result]
    for number in numbers:
        try:
            math.isnan(float(number.value) + float(number.confidence_interval or 0))
        except ValueError:
            raise NotARunFile(f"not a run file: {number.value!r} is not a number") from None


def _reason(error: Exception) -> str:
    if isinstance(error, msgspec.ValidationError):
        return f"not a run file: {error}"
    return f"damaged: {error}"
