"""What was said in a run: prompts, answers, assertions and errors, in full, as its run file has them.

Results are made without these texts (`run_file.py`), which make up most of a run file.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from msgspec import structs

from fanbench.results.combine import PASSED, usage_of
from fanbench.results.run_file import ASSISTANT, Metrics, decode_run_file
from fanbench.wire.messages import Message
from fanbench.wire.slugs import same_model

__all__ = ["Media", "Said", "Transcript", "Verified", "read_transcript", "read_transcripts"]


@dataclass(frozen=True, slots=True)
class Media:
    """An image, audio, video or file of a message: its type, and its address or its content as base64."""

    mime_type: str
    uri: str
    data: str


@dataclass(frozen=True, slots=True)
class Said:
    """One message.

    Attributes:
        conversation: The name of its conversation.
        role: `model` for the model under test, `judge` for any other model, and else `user`, `system`, `developer` or
            `context`, which is the result of a tool.
        sender: The name of the sender, such as that of the model.
        text: The text. An image, audio, video or file is named in brackets by its type.
        words: The text alone, without these names.
        media: The images, audios, videos and files.
        reasoning: What a model wrote before its answer, if that is known.
        tokens_in: The input tokens of the request that this is the answer to; None if unknown, or no answer.
        tokens_out: Its output tokens.
        cost_usd: Its cost in US dollars.
        seconds: How long the model's backend took.
    """

    conversation: str
    role: str
    sender: str
    text: str
    words: str
    media: tuple[Media, ...] = ()
    reasoning: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """An assertion: whether it held, what was expected, and the line of the task file with its source."""

    passed: bool
    expectation: str
    line: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Transcript:
    """All messages and assertions of a run and its sub-runs, and its whole error message."""

    messages: tuple[Said, ...]
    assertions: tuple[Verified, ...]
    error: str


def read_transcript(path: Path, part: int | None = None) -> Transcript:
    """Read what was said in the run file at `path`: in the run itself, or in the sub-run number `part`, from 0.

    Raises:
        NotARunFile: The file cannot be read, is damaged, or is not a run file.
    """
    run = decode_run_file(path, _Run)
    return run.transcript() if part is None else _transcript_of(run, part)


def read_transcripts(path: Path, parts: Collection[int]) -> dict[int | None, Transcript]:
    """Read what was said in these sub-runs of a run file, and around them, by None.

    Raises:
        NotARunFile: The file cannot be read, is damaged, or is not a run file.
    """
    run = decode_run_file(path, _Run)
    others = tuple(each for index, each in enumerate(run.subruns) if index not in parts)
    found: dict[int | None, Transcript] = {part: _transcript_of(run, part) for part in parts}
    return {None: structs.replace(run, subruns=others).transcript(), **found}


def _transcript_of(run: _Run, part: int) -> Transcript:
    """What was said in a sub-run; nothing if it is not there anymore."""
    return run.subruns[part].transcript() if part < len(run.subruns) else Transcript((), (), "")


class _Data(Message, frozen=True, kw_only=True):
    mime_type: str = ""
    file_uri: str = ""
    data: str = ""


class _Part(Message, frozen=True, kw_only=True):
    text: str = ""
    file_data: _Data | None = None
    inline_data: _Data | None = None

    @property
    def media(self) -> Media | None:
        found = self.file_data or self.inline_data
        return None if found is None else Media(found.mime_type, found.file_uri, found.data)

    def __str__(self) -> str:
        if self.file_data is not None:
            return f"[{self.file_data.mime_type or 'file'}: {self.file_data.file_uri}]"
        return f"[{self.inline_data.mime_type or 'data'}]" if self.inline_data is not None else self.text


class _Content(Message, frozen=True, kw_only=True):
    role: str = ""
    sender_name: str = ""
    parts: tuple[_Part, ...] = ()


class _Request(Message, frozen=True, kw_only=True):
    contents: tuple[_Content, ...] = ()
    metrics: Metrics = Metrics()
    reasoning_traces: str | None = None


class _Conversation(Message, frozen=True, kw_only=True):
    id: str = ""
    requests: tuple[_Request, ...] = ()


class _Assertion(Message, frozen=True, kw_only=True):
    status: str = ""
    expectation: str = ""
    line_number: int | None = None
    definition: str = ""


class _Model(Message, frozen=True, kw_only=True):
    slug: str = ""


class _Run(Message, frozen=True, kw_only=True):
    model_version: _Model = _Model()
    error_message: str = ""
    conversations: tuple[_Conversation, ...] = ()
    assertions: tuple[_Assertion, ...] = ()
    subruns: tuple[_Run, ...] = ()

    def transcript(self) -> Transcript:
        return Transcript(tuple(self.said()), tuple(self.verified()), self.error_message)

    def said(self) -> Iterator[Said]:
        for talk in self.conversations:
            for request in talk.requests:
                yield from (self._said(talk, content) for content in request.contents[:-1])
                yield from (self._said(talk, content, request) for content in request.contents[-1:])
        for run in self.subruns:
            yield from run.said()

    def verified(self) -> Iterator[Verified]:
        for each in self.assertions:
            yield Verified(each.status == PASSED, each.expectation, each.line_number, each.definition)
        for run in self.subruns:
            yield from run.verified()

    def _said(self, talk: _Conversation, content: _Content, request: _Request | None = None) -> Said:
        """Return a message. The answer to a `request` is the last of its messages, and has its metrics."""
        said = Said(
            talk.id,
            self._role(content),
            content.sender_name,
            "\n".join(map(str, content.parts)),
            "\n".join(part.text for part in content.parts if part.media is None),
            tuple(media for part in content.parts if (media := part.media) is not None),
        )
        if request is None or content.role != ASSISTANT:
            return said
        usage = usage_of([request.metrics], [])
        latency = request.metrics.total_backend_latency_ms
        return replace(
            said,
            reasoning=request.reasoning_traces or "",
            tokens_in=usage["tokens_in"],
            tokens_out=usage["tokens_out"],
            cost_usd=usage["cost_usd"],
            seconds=None if latency is None else latency / 1000,
        )

    def _role(self, content: _Content) -> str:
        if content.role != ASSISTANT:
            return content.role.removeprefix("CONTENT_ROLE_").lower()
        under_test = same_model(self.model_version.slug)
        is_own = not content.sender_name or not under_test or same_model(content.sender_name) == under_test
        return "model" if is_own else "judge"
