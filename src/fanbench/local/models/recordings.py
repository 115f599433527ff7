"""Answers of models, kept as files by `serve --record`, and given again by `serve --replay`.

A file holds one request and all answers to it, in the order in which they came; its name is the digest of the
request. Nothing of the HTTP messages around them is kept: no URL, no header, no key.
"""

from __future__ import annotations

import difflib
import hashlib
import heapq
import json
import re
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import msgspec

from fanbench._util import files
from fanbench._util.text import many
from fanbench.errors import LocalServerError
from fanbench.local.models import BaseSpec, ModelEngine, ModelFault

__all__ = ["NotRecorded", "Recorder", "Replayer", "describe_difference", "find_nearest"]

# Clients do not try again after these: they would get the same answer, or pay twice.
_NOT_RECORDED = 404
_NOT_WRITTEN = 400

_REFUSALS = frozenset({400, 413, 422})
"""Statuses that the same request gets again. Others tell of keys, limits and outages, and are not recorded."""

_CONTEXT_LINES = 2
_DIFFERENCE_LINES = 24
_LINE_WIDTH = 160

# Bounds on comparing requests word by word, whose time grows with the square of their length.
_CANDIDATES = 500
_COMPARED = 20
_COMPARED_TEXT = 4000


class NotRecorded(ModelFault):
    """The request was not recorded. The message shows the difference to the nearest one that was."""


class Completion(msgspec.Struct, tag_field="kind", tag="completion", forbid_unknown_fields=True):
    completion: dict[str, Any]


class Stream(msgspec.Struct, tag_field="kind", tag="stream", forbid_unknown_fields=True):
    chunks: list[dict[str, Any]]


class Refusal(msgspec.Struct, tag_field="kind", tag="refusal", forbid_unknown_fields=True):
    status: int
    message: str


Answer = Completion | Stream | Refusal


class Recording(msgspec.Struct, forbid_unknown_fields=True):
    """The content of a file."""

    request: dict[str, Any]
    answers: list[Answer]

    def __post_init__(self) -> None:
        other = Completion if self.request.get("stream") else Stream
        if not self.answers or any(isinstance(answer, other) for answer in self.answers):
            kind = "a stream" if self.request.get("stream") else "a completion"
            raise ValueError(f"the answers must be one or more, each {kind} or a refusal")

    def encode(self) -> str:
        """JSON for people: the same recording is always the same text."""
        content = {
            "request": json.loads(canonical(self.request)),
            "answers": [msgspec.to_builtins(answer) for answer in self.answers],
        }
        return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def canonical(request: dict[str, Any]) -> str:
    """The request as JSON for people, the same for requests that differ only in the order of keys."""
    return json.dumps(request, indent=2, sort_keys=True, ensure_ascii=False)


def digest(request: dict[str, Any]) -> str:
    return hashlib.sha256(canonical(request).encode()).hexdigest()[:32]


def _identity(model: str, request: dict[str, Any], *, stream: bool) -> dict[str, Any]:
    """What decides which answers belong to `request`, by whichever alias it named the model, and of either API."""
    kept = {key: value for key, value in request.items() if key not in ("stream", "stream_options")}
    return {**kept, "model": model} | ({"stream": True} if stream else {})


class Recorder:
    """Writes answers into `folder`.

    The first answer to a request replaces those of earlier servers, and the others are added to it. So a recording
    is renewed by recording again.
    """

    def __init__(self, folder: Path) -> None:
        """Raises LocalServerError if the folder cannot be written."""
        self._folder = folder
        self._renewed: set[str] = set()
        self._writing = anyio.Lock()
        with files.output_errors(f"record in {folder}", kind=LocalServerError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".fanbench-record.part").touch()
            (folder / ".fanbench-record.part").unlink()

    def engine(self, spec: BaseSpec, log: Path) -> ModelEngine:
        """The engine of the model. It records if its kind is recorded. Raises what `spec.make_engine` raises."""
        engine = spec.make_engine(log)
        return _RecordedEngine(spec.slug, engine, self) if spec.recorded else engine

    async def add(self, request: dict[str, Any], answer: Answer) -> None:
        """Raises ModelFault if the answer cannot be written: without it the recording would be incomplete."""
        async with self._writing:
            file = self._folder / f"{digest(request)}.json"
            try:
                await anyio.to_thread.run_sync(self._write, file, request, answer)
            except (OSError, LocalServerError) as error:
                reason = f"cannot record the answer in {file}: {error}"
                raise ModelFault(f"model {request['model']}: {reason}", status=_NOT_WRITTEN) from None

    def _write(self, file: Path, request: dict[str, Any], answer: Answer) -> None:
        earlier = _read(file).answers if file.name in self._renewed and file.exists() else []
        files.write(file, Recording(request, [*earlier, answer]).encode())
        self._renewed.add(file.name)


class _RecordedEngine(ModelEngine):
    def __init__(self, slug: str, engine: ModelEngine, recorder: Recorder) -> None:
        self._slug = slug
        self._engine = engine
        self._recorder = recorder

    @property
    def busy(self) -> int:  # type: ignore[override]
        return self._engine.busy

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        asked = _identity(self._slug, request, stream=False)
        try:
            answer = await self._engine.complete(request)
        except ModelFault as fault:
            await self._add_refusal(asked, fault)
            raise
        await self._recorder.add(asked, Completion(answer))
        return answer

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        asked = _identity(self._slug, request, stream=True)
        chunks: list[dict[str, Any]] = []
        try:
            async for chunk in self._engine.stream(request):
                # A copy, as the Model Proxy adds the cost to the chunk.
                chunks.append(dict(chunk))
                yield chunk
        except ModelFault as fault:
            if not chunks:
                await self._add_refusal(asked, fault)
            raise
        await self._recorder.add(asked, Stream(chunks))

    async def _add_refusal(self, asked: dict[str, Any], fault: ModelFault) -> None:
        if fault.status in _REFUSALS:
            await self._recorder.add(asked, Refusal(fault.status, fault.message))

    async def unload(self, idle: float) -> None:
        await self._engine.unload(idle)

    async def close(self) -> None:
        await self._engine.close()


class Replayer:
    """Gives the answers that were recorded in `folder`, each once and in order, and then the last one again."""

    def __init__(self, folder: Path) -> None:
        """Read all recordings. Raises LocalServerError if one is invalid, or if there is none."""
        self._folder = folder
        self._recordings: dict[str, Recording] = {}
        """By the digests of the requests: a file may have another name, as after its request was edited."""
        self._given: Counter[str] = Counter()
        self._comparing = anyio.CapacityLimiter(1)
        paths = sorted(folder.glob("*.json"))
        if not paths:
            raise LocalServerError(
                f"There are no recordings in {folder}.",
                hint=f"Run `fanbench serve --record {folder}` to make some.",
            )
        for path in paths:
            recording = _read(path)
            known = self._recordings.setdefault(digest(recording.request), recording)
            if known is not recording:
                raise LocalServerError(
                    f"Cannot read {path}: another file in this folder has the same request.",
                    hint="Delete one of the two files.",
                )

    def engine(self, spec: BaseSpec, log: Path) -> ModelEngine:
        """The engine of the model. If its kind is recorded, it needs nothing of what is behind the model."""
        return _ReplayedEngine(spec.slug, self) if spec.recorded else spec.make_engine(log)

    async def next_answer(self, request: dict[str, Any]) -> Answer:
        """Raises NotRecorded."""
        name = digest(request)
        if (recording := self._recordings.get(name)) is None:
            raise await anyio.to_thread.run_sync(self._not_recorded, request, limiter=self._comparing)
        answers = recording.answers
        number, self._given[name] = self._given[name], self._given[name] + 1
        return answers[min(number, len(answers) - 1)]

    def _not_recorded(self, request: dict[str, Any]) -> NotRecorded:
        others = [recording.request for recording in self._recordings.values()]
        nearest = find_nearest(request, others)
        text = (
            f"model {request['model']}: this request was not recorded in {self._folder}. "
            f"The nearest recorded one, {digest(nearest)}, differs:\n{describe_difference(nearest, request)}"
        )
        return NotRecorded(text, status=_NOT_RECORDED)


class _ReplayedEngine(ModelEngine):
    def __init__(self, slug: str, replayer: Replayer) -> None:
        self._slug = slug
        self._replayer = replayer

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        match await self._replayer.next_answer(_identity(self._slug, request, stream=False)):
            case Completion(completion):
                return completion
            case Refusal(status, message):
                raise ModelFault(message, status=status)
            case Stream():
                raise AssertionError("a recording of a whole answer has no chunks")

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        match await self._replayer.next_answer(_identity(self._slug, request, stream=True)):
            case Stream(chunks):
                for chunk in chunks:
                    yield dict(chunk)  # the Model Proxy adds the cost to it
            case Refusal(status, message):
                raise ModelFault(message, status=status)
            case Completion():
                raise AssertionError("a recording of a stream has no whole answer")


def _read(path: Path) -> Recording:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Recording)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LocalServerError(
            f"Cannot read the recording {path}: {reason}.", hint="Restore the file, or delete it."
        ) from None


def find_nearest(request: dict[str, Any], others: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The one of `others` that differs from `request` in the fewest lines, and of these the one most like it."""
    asked = Counter(_lines(request))
    fewest = 0
    candidates: list[tuple[dict[str, Any], list[str], list[str]]] = []
    for other in others:
        theirs = Counter(_lines(other))
        missing, added = theirs - asked, asked - theirs
        count = (missing + added).total()
        if not candidates or count < fewest:
            fewest, candidates = count, []
        if count == fewest and len(candidates) < _CANDIDATES:
            candidates.append((other, _words(missing), _words(added)))
    likely = heapq.nlargest(_COMPARED, candidates, key=lambda each: _shared(each[1], each[2]))
    return max(likely, key=lambda each: difflib.SequenceMatcher(None, each[1], each[2]).ratio())[0]


def _words(lines: Iterable[str]) -> list[str]:
    return re.findall(r"\w+|[^\w\s]", "\n".join(lines)[:_COMPARED_TEXT])


def _shared(one: list[str], other: list[str]) -> float:
    """How many of the words are in both, in whatever order: from 0 to 1."""
    return 2 * (Counter(one) & Counter(other)).total() / (len(one) + len(other) or 1)


def describe_difference(recorded: dict[str, Any], asked: dict[str, Any]) -> str:
    """The two requests as a unified diff, which is short also if they are long."""
    changes = difflib.unified_diff(
        _lines(recorded), _lines(asked), "recorded", "asked", lineterm="", n=_CONTEXT_LINES
    )
    lines = [line if len(line) <= _LINE_WIDTH else f"{line[:_LINE_WIDTH]}…" for line in changes]
    if more := len(lines[_DIFFERENCE_LINES:]):
        lines[_DIFFERENCE_LINES:] = [f"… and {many(more, 'line')} more"]
    return "\n".join(lines)


# After a line end within a text, and in a long line after each sentence: so a change within a long
# prompt is a change of few lines.
_BREAKS = re.compile(r"(?<=\\n)(?!\")|(?<=[^\n]{60}[.:;!?] )")


def _lines(request: dict[str, Any]) -> list[str]:
    return _BREAKS.sub("\n", canonical(request)).split("\n")
