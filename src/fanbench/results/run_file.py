"""Read a `*.run.json`: the proto3 JSON that the SDK writes at the end of a run.

Fields with default values (0, false, an empty list) may be omitted, and 64-bit integers are strings.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from datetime import datetime
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec

from fanbench._util.text import error_line, iso_time
from fanbench.errors import UsageError
from fanbench.results.types import Kind, Value
from fanbench.wire.messages import Message, RunState, decode
from fanbench.wire.slugs import normalize_model, same_model, slugify

__all__ = ["Metrics", "NotARunFile", "RunFile", "decode_run_file", "read_run_file"]


M = TypeVar("M", bound=Message)

# A string, which may be cut off, or a number that JSON does not have.
_BARE = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)|(?P<bare>NaN|-?Infinity)', re.DOTALL)
# Escapes in a string: pairs of surrogates, halves of pairs, and all others.
_ESCAPE = re.compile(
    rb"\\u[dD][89abAB]\w\w\\u[dD][c-fC-F]\w\w|(?P<half>\\u[dD][89a-fA-F]\w\w)|\\.", re.DOTALL
)

_NOT_FINITE = ("NaN", "Infinity", "-Infinity")

ASSISTANT = "CONTENT_ROLE_ASSISTANT"
AGGREGATED = "AGGREGATED"


class NotARunFile(Exception):
    """The file is damaged or is something else. The message is shown to the user."""


Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Metrics(Message, frozen=True, kw_only=True, gc=False):
    input_tokens: Int64 | None = None
    output_tokens: Int64 | None = None
    input_tokens_cost_nanodollars: Int64 | None = None
    output_tokens_cost_nanodollars: Int64 | None = None
    total_backend_latency_ms: Int64 | None = None


class Content(Message, frozen=True, kw_only=True, gc=False):
    role: str = ""
    sender_name: str = ""
    #: Not decoded: texts, images and calls of tools, only ever compared.
    parts: msgspec.Raw = msgspec.Raw()


class Request(Message, frozen=True, kw_only=True, gc=False):
    contents: tuple[Content, ...] = ()
    metrics: Metrics = Metrics()

    @property
    def model(self) -> str:
        """The slug of the model that answered; empty if none did."""
        answers = [content.sender_name for content in self.contents if _is_answer(content)]
        return answers[-1] if answers else ""

    def first_sent(self) -> bytes:
        """Return the parts of all that was sent before the first answer, as in the file."""
        sent = dropwhile(_is_answer, self.contents)
        return b"".join(
            bytes(content.parts) for content in takewhile(lambda each: not _is_answer(each), sent)
        )


def _is_answer(content: Content) -> bool:
    return content.role == ASSISTANT


class Conversation(Message, frozen=True, kw_only=True, gc=False):
    requests: tuple[Request, ...] = ()
    metrics: Metrics = Metrics()


class Numeric(Message, frozen=True, kw_only=True, gc=False):
    # NaN and the infinities are strings in this JSON.
    value: float | str = 0.0
    confidence_interval: float | str | None = None


class Result(Message, frozen=True, kw_only=True, gc=False):
    type: str = ""
    boolean_result: bool | None = None
    numeric_result: Numeric | None = None
    dict_result: dict[str, Any] | None = None


class Assertion(Message, frozen=True, kw_only=True, gc=False):
    status: str = ""


class TaskVersion(Message, frozen=True, kw_only=True, gc=False):
    name: str = ""
    version_number: int | None = None
    #: The task's source. Not decoded, only ever compared.
    definition: msgspec.Raw = msgspec.Raw()

    @property
    def digest(self) -> str | None:
        """Of the definition; None if there is none."""
        source = bytes(self.definition)
        return None if source in (b"", b'""', b"null") else hashlib.sha256(source).hexdigest()[:12]


class ModelVersion(Message, frozen=True, kw_only=True, gc=False):
    slug: str = ""


class RunFile(Message, frozen=True, kw_only=True, gc=False):
    """The parts of a run file that results are made of. The texts of the conversations are skipped."""

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
    #: No field of the file: a digest of all that was sent before the first answer; empty if nothing was sent.
    prompt: str = ""
    #: No field of the file: whether the SDK merged other run files into it. It leaves stubs of them as sub-runs.
    merged: bool = False

    @property
    def task(self) -> str:
        """The task's slug, or its name if no slug can be derived from it."""
        name = self.task_version.name
        try:
            return slugify(name) or name
        except UsageError:
            return name

    @property
    def model(self) -> str:
        """The model's slug without its owner."""
        return normalize_model(self.model_version.slug)

    @property
    def has_ended(self) -> bool:
        """Whether its result, if it has any, is final. An error is not a result."""
        return self.state in (RunState.COMPLETED, RunState.UNSPECIFIED)

    @property
    def identity(self) -> tuple[str, datetime | None]:
        """Equal for a run's own file and for its copy among the sub-runs of another run."""
        return self.py_run_id, self.start_time

    @property
    def is_stub(self) -> bool:
        """Whether it is all that a merged run file has of another run: its id, its model, its state and its results."""
        return self.start_time is None and not self.conversations

    def nested(self) -> Iterator[RunFile]:
        """Yield the runs within this one, at any depth."""
        todo = [*self.subruns]
        while todo:
            yield (run := todo.pop(0))
            todo = [*run.subruns, *todo]

    def outcome(self) -> tuple[Kind | None, Value | None, float | None]:
        """Return the kind, value and interval of the result. Of several, it is the aggregated one, if there is one."""
        only = self.results[0] if len(self.results) == 1 else None
        result = next((result for result in self.results if result.type == AGGREGATED), only)
        if result is None:
            return None, None, None
        if (numeric := result.numeric_result) is not None:
            stated = numeric.confidence_interval
            interval = math.nan if stated is None else float(stated)
            return "numeric", float(numeric.value), interval if 0 <= interval < math.inf else None
        if result.dict_result is not None:
            values = result.dict_result.items()
            return (
                "dict",
                {key: float(value) if value in _NOT_FINITE else value for key, value in values},
                None,
            )
        # A number or a dict is written even if it is 0 or empty, so this was an omitted false.
        return "boolean", bool(result.boolean_result), None

    def requests(self) -> Iterator[tuple[str, Metrics]]:
        """Yield the model and the metrics of every request, including those of sub-runs."""
        for run in (self, *self.nested()):
            for talk in run.conversations:
                # A file that was merged or truncated has only the conversation's total.
                yield from [(each.model, each.metrics) for each in talk.requests] or [("", talk.metrics)]

    def requests_by_role(self) -> tuple[list[Metrics], list[Metrics]]:
        """Return the metrics of the requests to the model under test, and of those to others, such as a judge."""
        slug = self.model_version.slug
        own: list[Metrics] = []
        judge: list[Metrics] = []
        for model, metrics in self.requests():
            is_own = model in ("", slug) or not slug or same_model(model) == same_model(slug)
            (own if is_own else judge).append(metrics)
        return own, judge

    def digest_texts(self) -> None:
        """Set `prompt`, and let go of all texts. Each of them keeps the whole file in memory, of which it is a part."""
        requests = [request for talk in self.conversations for request in talk.requests]
        sent = next(filter(None, (request.first_sent() for request in requests)), b"")
        msgspec.structs.force_setattr(self, "prompt", hashlib.sha256(sent).hexdigest()[:12] if sent else "")
        for content in (each for request in requests for each in request.contents):
            msgspec.structs.force_setattr(content, "parts", msgspec.Raw())

    def last_error(self) -> str | None:
        """Return the line of the error message that names the exception."""
        return error_line(self.error_message) or None


def read_run_file(path: Path) -> RunFile:
    """Read the run file at `path`.

    Raises:
        NotARunFile: The file cannot be read, is damaged, or is not a run file.
    """
    run = decode_run_file(path, RunFile)
    if not run.task_version.name:
        raise NotARunFile("not a run file: it has no task name")
    for each in (run, *run.nested()):
        _check_numbers(each)
        each.digest_texts()
    stubs = [part.task_version.name for part in run.subruns if part.is_stub]
    msgspec.structs.force_setattr(run, "merged", run.task_version.name in stubs)
    return run


def _check_numbers(run: RunFile) -> None:
    """Raise `NotARunFile` if any number or time cannot be computed with."""
    for result in run.results:
        number, values = result.numeric_result or Numeric(), result.dict_result or {}
        texts = (number.value, number.confidence_interval or 0)
        for value in (*texts, *(value for value in values.values() if isinstance(value, int))):
            try:
                float(value)
            except ValueError:
                raise NotARunFile(f"not a run file: {value!r} is not a number") from None
            except OverflowError:
                raise NotARunFile("not a run file: a result is too large for a number") from None
    for time in filter(None, (run.start_time, run.end_time)):
        try:
            iso_time(time)
        except OverflowError:
            raise NotARunFile(f"not a run file: the time {time} is outside the calendar") from None


def decode_run_file(path: Path, kind: type[M]) -> M:
    """Read those parts of a run file that `kind` has.

    Raises:
        NotARunFile: The file cannot be read, is damaged, or is not a run file.
    """
    try:
        return _decode(path.read_bytes(), kind)
    except OSError as error:
        raise NotARunFile(f"cannot be read: {error.strerror or error}") from None
    except msgspec.ValidationError as error:
        raise NotARunFile(f"not a run file: {error}") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise NotARunFile(f"damaged: {error}") from None
    except RecursionError:
        raise NotARunFile("not a run file: nested too deeply") from None


def _decode(body: bytes, kind: type[M]) -> M:
    try:
        return decode(body, kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Python's json module writes a bare NaN and halves of surrogate pairs, and so does the SDK when it merges run
        # files. All else stays as it is: prompts are the same if their bytes are.
        return decode(_BARE.sub(_quoted, body), kind)


def _quoted(found: re.Match[bytes]) -> bytes:
    return b'"%s"' % found[0] if found["bare"] else _ESCAPE.sub(_whole, found[0])


def _whole(found: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if found["half"] else found[0]
