"""What was said in a run: prompts, answers, assertions and errors, in full, as its run file has them.

Results are made without these texts (`run_file.py`), which make up most of a run file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from fanbench.results.combine import PASSED
from fanbench.results.itemize import part_index
from fanbench.results.run_file import ASSISTANT, decode_run_file, read_run_file
from fanbench.wire.messages import Message
from fanbench.wire.slugs import same_model

__all__ = ["Said", "Transcript", "Verified", "read_transcript"]


@dataclass(frozen=True, slots=True)
class Said:
    """One message.

    Attributes:
        conversation: The name of its conversation.
        role: `model` for the model under test, `judge` for any other model, and else `user`, `system`, `developer` or
            `context`, which is the result of a tool.
        sender: The name of the sender, such as that of the model.
        text: The text. An image, audio, video or file is named in brackets by its type.
    """

    conversation: str
    role: str
    sender: str
    text: str


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


def read_transcript(path: Path, item: str = "") -> Transcript:
    """Read what was said in an item of the run file at `path`: the run itself, or one of its sub-runs.

    Raises:
        NotARunFile: The file cannot be read, is damaged, or is not a run file.
    """
    index = part_index(path, read_run_file(path), item)
    run = decode_run_file(path, _Run)
    if index is not None:
        run = run.subruns[index]
    return Transcript(tuple(run.said()), tuple(run.verified()), run.error_message)


class _Data(Message, frozen=True, kw_only=True):
    mime_type: str = ""
    file_uri: str = ""


class _Part(Message, frozen=True, kw_only=True):
    text: str = ""
    file_data: _Data | None = None
    inline_data: _Data | None = None

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

    def said(self) -> Iterator[Said]:
        for talk in self.conversations:
            for content in (content for request in talk.requests for content in request.contents):
                text = "\n".join(map(str, content.parts))
                yield Said(talk.id, self._role(content), content.sender_name, text)
        for run in self.subruns:
            yield from run.said()

    def verified(self) -> Iterator[Verified]:
        for each in self.assertions:
            yield Verified(each.status == PASSED, each.expectation, each.line_number, each.definition)
        for run in self.subruns:
            yield from run.verified()

    def _role(self, content: _Content) -> str:
        if content.role != ASSISTANT:
            return content.role.removeprefix("CONTENT_ROLE_").lower()
        under_test = same_model(self.model_version.slug)
        is_own = not content.sender_name or not under_test or same_model(content.sender_name) == under_test
        return "model" if is_own else "judge"
