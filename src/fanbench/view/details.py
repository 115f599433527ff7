"""What is behind one run: messages, assertions and errors of its items, its log, its files."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import msgspec

from fanbench._util.files import open_regular
from fanbench._util.layout import EARLIER_LOG, log_of_run
from fanbench._util.text import without_surrogates
from fanbench.results import Item, ItemState, ResultSet
from fanbench.results.itemize import below
from fanbench.results.run_file import NotARunFile, decode_run_file
from fanbench.results.scores import TaskKey
from fanbench.results.transcript import Said, Transcript, read_transcripts
from fanbench.sweeps.artifacts import path_of_part
from fanbench.view.document import PageRun, Place
from fanbench.wire.messages import Message

__all__ = ["Details", "Limits", "find_file", "items_by_run", "read_details", "read_log", "read_sources"]


# Numbers within names; longer ones are several.
_NUMBER = re.compile(r"([0-9]{1,18})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """How much of a run is shown. What is cut says so, and names the file that has all of it."""

    message: int = 20_000
    log: int = 50_000
    media: int = 200_000
    parts: int = 1_000
    files: int = 1_000


class MediaEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Something that is no text. `data` is base64, and empty for what is elsewhere, or too large."""

    type: str
    uri: str = ""
    data: str = ""


class MessageEntry(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One message of a conversation. `cut` is the number of characters that are left out."""

    role: str
    sender: str = ""
    text: str = ""
    cut: int = 0
    media: list[MediaEntry] = []
    reasoning: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None


class Conversation(msgspec.Struct, kw_only=True):
    """Messages in their order."""

    name: str
    messages: list[MessageEntry]


class AssertionEntry(msgspec.Struct, kw_only=True):
    """An assertion, with its line in the task file."""

    passed: bool
    expectation: str
    line: int | None
    source: str


class Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The run itself, or one of its items: a row, or a sub-run."""

    item: str = ""
    state: str = ""
    value: float | None = None
    error: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    cost_usd: float | None = None
    seconds: float | None = None
    assertions: list[AssertionEntry] = []
    conversations: list[Conversation] = []


class FileEntry(msgspec.Struct, kw_only=True):
    """A file of the run's output; `size` is in bytes."""

    name: str
    size: int


class LogPart(msgspec.Struct, kw_only=True):
    """The lines of a log from a position in it, in bytes, to the position `next`."""

    text: str
    next: int


class Details(msgspec.Struct, kw_only=True):
    """All that is shown of one run. `log_cut` is the number of characters left out of the middle of the log."""

    path: str
    parts: list[Part]
    more_parts: int
    log: str
    log_cut: int
    files: list[FileEntry]


def read_details(run: PageRun, items: Sequence[Item], limits: Limits) -> Details:
    """Read what is behind a run whose `items` these are. What cannot be read is left out."""
    log, cut = _log(run, limits.log)
    parts = _parts(run, sorted(items, key=_worst_first), limits)
    return Details(
        path=_text(_below(items, run.folder)) if run.folder else "",
        parts=parts[: limits.parts],
        more_parts=max(0, len(parts) - limits.parts),
        log=log,
        log_cut=cut,
        files=list(islice(_files(run.folder), limits.files)),
    )


class _Version(Message, frozen=True, kw_only=True):
    definition: str = ""


class _Task(Message, frozen=True, kw_only=True):
    task_version: _Version = _Version()


def read_sources(items: Iterable[Item], tasks: Sequence[TaskKey]) -> list[str]:
    """Return the source of each task's function, as the first of its run files has it; empty if none has."""
    found: dict[TaskKey, str] = {}
    for item in items:
        key = TaskKey(item.task, item.content)
        if found.get(key) or not _is_run_file(item):
            continue
        with suppress(NotARunFile):  # It was one a moment ago.
            file = decode_run_file(Path(_path(item)), _Task)
            found[key] = _text(file.task_version.definition)
    return [found.get(key, "") for key in tasks]


def items_by_run(found: ResultSet) -> Mapping[Place, list[Item]]:
    """Return the items of each run."""
    groups: dict[Place, list[Item]] = {}
    for item in found.items:
        place = Place(item.sweep, item.task, item.content, item.model, item.repeat, item.attempt)
        groups.setdefault(place, []).append(item)
    return groups


def _parts(run: PageRun, items: Sequence[Item], limits: Limits) -> list[Part]:
    if run.result is None:  # What its only item says may be older than what the journal does.
        return [Part(state="errored", error=_text(run.error))] if run.error else []
    places: dict[str, set[int]] = {}
    for item in items:
        if _is_run_file(item):
            places.setdefault(_path(item), set()).update(() if item.part is None else (item.part,))
    files = {path: _read(Path(path), parts) for path, parts in places.items()}
    parts = [_part(item, files.get(_path(item), {}).get(item.part), limits) for item in items]
    # What the task did around its sub-runs belongs to none of them.
    rest = [each[None] for each in files.values() if len(each) > 1]
    around = [_part(None, each, limits) for each in rest if each.messages or each.assertions or each.error]
    return [*around, *parts]


def _worst_first(item: Item) -> tuple[object, ...]:
    """The key that sorts errors before items without a value, low values before high ones, and row 9 before row 10."""
    name = [int(part) if at % 2 else part for at, part in enumerate(_NUMBER.split(item.item))]
    return item.state is not ItemState.ERRORED, item.value is not None, item.value or 0.0, name


def _is_run_file(item: Item) -> bool:
    """Whether the item has a run file to read: one in its sweep, and no link that leads out of it."""
    inside = os.path.realpath(_path(item)).startswith(os.path.join(os.path.realpath(item.sweep), ""))
    return inside and item.path.endswith(".run.json")


def _path(item: Item) -> str:
    return os.path.join(item.sweep, item.path)


def _read(path: Path, parts: Collection[int]) -> Mapping[int | None, Transcript]:
    try:
        return read_transcripts(path, parts)
    except NotARunFile:  # It was one a moment ago.
        return {}


def _part(item: Item | None, said: Transcript | None, limits: Limits) -> Part:
    error = said.error.strip() if said else ""
    part = Part(
        error=_text(error or (item.error if item else None) or ""),
        assertions=[
            AssertionEntry(
                passed=each.passed,
                expectation=_text(each.expectation),
                line=each.line,
                source=_text(each.source),
            )
            for each in (said.assertions if said else ())
        ],
        conversations=list(_conversations(said.messages, limits)) if said else [],
    )
    if item is not None:
        part.item, part.state, part.value = _text(item.item), item.state.value, item.value
        part.tokens_in, part.tokens_out = item.tokens_in, item.tokens_out
        part.cost_usd, part.seconds = item.cost_usd, item.seconds
    return part


def _conversations(messages: Iterable[Said], limits: Limits) -> Iterator[Conversation]:
    talk: Conversation | None = None
    for said in messages:
        if talk is None or talk.name != said.conversation:
            if talk is not None:
                yield talk
            talk = Conversation(name=_text(said.conversation), messages=[])
        talk.messages.append(_message(said, limits))
    if talk is not None:
        yield talk


def _message(said: Said, limits: Limits) -> MessageEntry:
    text = _text(said.words)
    return MessageEntry(
        role=said.role,
        sender=_text(said.sender),
        text=text[: limits.message],
        cut=max(0, len(text) - limits.message),
        media=[
            MediaEntry(
                type=_text(each.mime_type),
                uri=_text(each.uri[:2000]),
                data=each.data if len(each.data) <= limits.media else "",
            )
            for each in said.media
        ],
        reasoning=_text(said.reasoning)[: limits.message],
        tokens_in=said.tokens_in,
        tokens_out=said.tokens_out,
        cost_usd=said.cost_usd,
        seconds=said.seconds,
    )


def read_log(run: PageRun, start: int, limit: int) -> LogPart:
    """Read at most `limit` bytes of a run's log from `start`, as far as there are whole lines."""
    for path in _logs(run):
        with suppress(OSError), open_regular(path) as file:
            file.seek(start)
            text = file.read(limit)
            # The rest of a line may still be written, unless it is longer than all that is read.
            whole = text[: text.rfind(b"\n") + 1] or (text if len(text) == limit else b"")
            return LogPart(text=_text(whole.decode("utf-8", "replace")), next=start + len(whole))
    return LogPart(text="", next=start)


def _logs(run: PageRun) -> Iterator[Path]:
    """Yield where the log of a run may be: beside its folder, in it, or where a sweep writes it."""
    if run.folder is not None:
        yield log_of_run(run.folder)
        yield run.folder / EARLIER_LOG
    if run.known is not None and run.known.run_id is not None:
        yield path_of_part(run.known.sweep, run.known.run_id)


def _log(run: PageRun, limit: int) -> tuple[str, int]:
    """Return the beginning and the end of the run's log, and the number of bytes between them."""
    for path in _logs(run):
        with suppress(OSError), open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size <= limit:
                return file.read(limit).decode("utf-8", "replace"), 0
            start = file.read(limit // 2)
            file.seek(size - limit // 2)
            end = file.read(limit // 2)
            # A NUL of the log itself is none of those that mark what is left out.
            texts = (part.decode("utf-8", "replace").replace("\0", "␀") for part in (start, end))
            return "\n\0\n".join(texts), size - len(start) - len(end)
    return "", 0


def _below(items: Sequence[Item], folder: Path) -> str:
    """Return the run's folder within the folder of its sweep: a page that is sent tells nothing of this machine."""
    return below(items[0].sweep, folder) if items else folder.name


def find_file(run: PageRun, name: str) -> Path | None:
    """Return a file of the run by its name among `Details.files`; None if there is no such file."""
    return next((path for path in _paths(run.folder) if _name(run.folder, path) == name), None)


def _files(folder: Path | None) -> Iterator[FileEntry]:
    for path in _paths(folder):
        with suppress(OSError):  # It was there a moment ago.
            yield FileEntry(name=_name(folder, path), size=path.stat().st_size)


def _paths(folder: Path | None) -> Iterator[Path]:
    """Yield the files of the run's output, and its log; links are left out, as they may lead elsewhere."""
    if folder is None:
        return
    places = (
        []
        if folder.is_file()
        else [Path(place, name) for place, _, names in os.walk(folder) for name in names]
    )
    for path in [*([folder] if folder.is_file() else sorted(places)), log_of_run(folder)]:
        if path.is_file() and not path.is_symlink():
            yield path


def _name(folder: Path | None, path: Path) -> str:
    root = folder.parent if folder and folder.is_file() else folder or Path()
    return _text(os.path.relpath(path, root))


def _text(text: str) -> str:
    return without_surrogates(text)
