"""`sweep.toml`: what may stand in it, and on which line a mistake is."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fanbench.errors import UsageError
from fanbench.sweeps.toml_lines import KeyPath, line_of, lines_of

__all__ = ["SCHEMA", "Limits", "Loaded", "Policy", "SweepFile", "TaskTable", "load", "sweep_schema"]

#: The schema as it is shipped, for editors; `sweep_schema` makes it.
SCHEMA = Path(__file__).with_name("sweep.schema.json")

MAX_REPEATS = 1000

_Text = Annotated[str, Meta(pattern=r"\S")]
_Dataset = Annotated[str, Meta(pattern=r"^[^/\s]+/[^/\s]+$")]
_Datasets = list[_Dataset]
_Share = Annotated[str, Meta(pattern=r"^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$")]
_Seconds = Annotated[float, Meta(gt=0)]
_Several = Annotated[int, Meta(ge=1)]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all tables."""


class TaskTable(_Table, frozen=True):
    """One task: `file`, with `task` where the file has several and not all are meant, or `slug`."""

    file: Annotated[
        _Text | UnsetType,
        Meta(
            description="A task file, or a pattern for several, seen from the folder of this file.",
            examples=["tasks/sums.py"],
        ),
    ] = UNSET
    task: Annotated[
        _Text | UnsetType,
        Meta(description="The one task of the file that is meant (default: all of them).", examples=["sums"]),
    ] = UNSET
    slug: Annotated[
        _Text | UnsetType,
        Meta(description="A task that is on the server already: TASK or OWNER/TASK.", examples=["my-task"]),
    ] = UNSET
    datasets: Annotated[
        _Datasets | UnsetType,
        Meta(
            description="What is attached to the tasks of this file, instead of the datasets for all.",
            examples=[["owner/dataset"]],
        ),
    ] = UNSET


class Limits(_Table, frozen=True):
    """How much at a time, for how long, and for how much money."""

    concurrency: Annotated[
        _Several | UnsetType,
        Meta(description="Calls at a time (default: 16); it adapts downwards by itself.", examples=[16]),
    ] = UNSET
    streams: Annotated[
        _Several | UnsetType,
        Meta(description="Log streams at a time (default: 64).", examples=[64]),
    ] = UNSET
    downloads: Annotated[
        _Several | UnsetType,
        Meta(description="Downloads at a time (default: 16).", examples=[8]),
    ] = UNSET
    max_cost: Annotated[
        _Seconds | UnsetType,
        Meta(description="US dollars that the sweep may cost (default: no limit).", examples=[2.5]),
    ] = UNSET
    timeout: Annotated[
        _Seconds | UnsetType,
        Meta(description="Seconds for each run, from its scheduling on (default: no limit).", examples=[600]),
    ] = UNSET
    deadline: Annotated[
        _Seconds | UnsetType,
        Meta(description="Seconds for the whole sweep (default: no limit).", examples=[7200]),
    ] = UNSET
    poll_interval: Annotated[
        _Seconds | UnsetType,
        Meta(
            description="The longest pause between two polls, in seconds (default: 60; they begin at 1).",
            examples=[60],
        ),
    ] = UNSET


class Policy(_Table, frozen=True):
    """What to do about runs that fail."""

    retry_errored: Annotated[
        Annotated[int, Meta(ge=0)] | UnsetType,
        Meta(description="How often a run that errored is scheduled again (default: 0).", examples=[1]),
    ] = UNSET
    max_failures: Annotated[
        Annotated[int, Meta(ge=0)] | _Share | UnsetType,
        Meta(
            description="From so many failed runs on, or such a share of the planned, none is scheduled.",
            examples=[5, "10%"],
        ),
    ] = UNSET


class SweepFile(_Table, frozen=True):
    """A sweep: tasks × models × repeats, where its results go, and how it is run.

    Flags of the command line go before what stands here. Relative paths start at the folder of the file.
    """

    tasks: Annotated[
        Annotated[list[_Text | TaskTable], Meta(min_length=1)] | UnsetType,
        Meta(
            description="Task files, patterns of them, slugs of tasks on the server, or tables of one each.",
            examples=[["tasks/*.py", "my-task"]],
        ),
    ] = UNSET
    datasets: Annotated[
        _Datasets | UnsetType,
        Meta(
            description="Datasets for the tasks of all files that have none of their own.",
            examples=[["owner/dataset"]],
        ),
    ] = UNSET
    models: Annotated[
        Annotated[list[_Text], Meta(min_length=1)] | UnsetType,
        Meta(
            description="Names of models, or patterns of them.", examples=[["gemini-*", "claude-haiku-4-5"]]
        ),
    ] = UNSET
    models_from: Annotated[
        _Text | UnsetType,
        Meta(description="A file with one name or pattern a line, more models.", examples=["models.txt"]),
    ] = UNSET
    all_models: Annotated[
        bool | UnsetType,
        Meta(description="Every model that the server has, instead of `models`.", examples=[True]),
    ] = UNSET
    repeats: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_REPEATS)] | UnsetType,
        Meta(description="Runs for each task and model (default: 1).", examples=[3]),
    ] = UNSET
    output: Annotated[
        _Text | UnsetType,
        Meta(
            description='The folder for results and the journal (default: "results").', examples=["results"]
        ),
    ] = UNSET
    include_source: Annotated[
        bool | UnsetType,
        Meta(description="Download the notebooks of the runs, too (default: false).", examples=[True]),
    ] = UNSET
    limits: Annotated[Limits | UnsetType, Meta(examples=[{"concurrency": 16}])] = UNSET
    policy: Annotated[Policy | UnsetType, Meta(examples=[{"retry_errored": 1}])] = UNSET


# --- Reading ------------------------------------------------------------------------------------------------


class Loaded:
    """A sweep file that is good as far as it can be seen without its folder. `error` makes errors with lines."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text
        self.file = self._convert(self._parse())
        self._check()

    def error(self, place: KeyPath, message: str, hint: str | None = None) -> UsageError:
        """A mistake in the value at `place`."""
        line = line_of(lines_of(self._text), place)
        return UsageError(f"{self.path}:{line}: {message}", hint=hint or _example(place))

    def _parse(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._text)
        except RecursionError:
            raise UsageError(f"{self.path}:1: it is nested too deeply.") from None
        except ValueError as error:  # tomllib's own is one, and Python's for numbers of thousands of digits
            raise _syntax_error(self.path, self._text, error) from None

    def _convert(self, content: dict[str, Any]) -> SweepFile:
        try:
            return msgspec.convert(content, SweepFile)
        except msgspec.ValidationError as error:
            self._refuse(str(error))

    def _refuse(self, message: str) -> NoReturn:
        what, _, where = message.partition(" - at `")
        place = _place(where.removesuffix("`"))
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL)
        if unknown:
            key = unknown[1]
            raise self.error((*place, key), _unknown_key(place, key), _known_keys(place))
        raise self.error(place, _in_words(place, what))

    def _check(self) -> None:
        """What types cannot say."""
        if self.file.all_models is True:
            for other in ("models", "models_from"):
                if getattr(self.file, other) is not UNSET:
                    raise self.error(
                        (other,),
                        f"{other} and all_models = true exclude each other.",
                        "Take one of the two lines out.",
                    )
        for index, task in enumerate(self.file.tasks or ()):
            if isinstance(task, TaskTable):
                self._check_task(("tasks", index), task)

    def _check_task(self, place: KeyPath, task: TaskTable) -> None:
        if (task.file is UNSET) == (task.slug is UNSET):
            which = "neither file nor slug" if task.file is UNSET else "both file and slug"
            raise self.error(
                place,
                f"the task has {which}.",
                'Write file = "tasks/sums.py", or slug = "my-task" for one that is on the server already.',
            )
        for key in ("task", "datasets"):
            if task.slug is not UNSET and getattr(task, key) is not UNSET:
                raise self.error((*place, key), f"{key} goes with file, not with slug.", f"Take {key} out.")


def load(path: Path) -> Loaded:
    """Reads and checks the file; nothing that it names is looked at.

    Raises:
        UsageError: `FILE:LINE: message` for a mistake in it; or it cannot be read.
    """
    return Loaded(path, read_text(path))


def read_text(path: Path) -> str:
    """The text of a file that a user names.

    Raises:
        UsageError: it is missing, a folder, cannot be read, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UsageError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise UsageError(f"{path}: it is a folder, not a file.") from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: it cannot be read: {error}") from None
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{path}:{line}: it is not UTF-8 text.", hint="Save it as UTF-8.") from None


# --- Words for mistakes -------------------------------------------------------------------------------------


def _syntax_error(path: Path, text: str, error: ValueError) -> UsageError:
    message = str(error)
    found = re.search(r" \(at line (\d+), column \d+\)$", message)
    if found:
        line, message = int(found[1]), message[: found.start()]
    else:
        line, message = text.rstrip().count("\n") + 1, message.removesuffix(" (at end of document)")
    return UsageError(f"{path}:{line}: {message[:1].lower()}{message[1:]}.", hint=_QUOTES)


_QUOTES = 'It is no TOML. Text goes in quotes, lists in brackets: models = ["gemini-*"]'

# How msgspec writes the pattern of `_Text`.
_ANY = r"'\\S'"
_PLACE = re.compile(r"\.([A-Za-z_]\w*)|\[(\d+)\]")


def _place(where: str) -> KeyPath:
    """msgspec's `$.tasks[0].file` as a path. Keys are fields, never odd ones."""
    return tuple(key or int(index) for key, index in _PLACE.findall(where))


_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text in quotes",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "date": "a date",
    "time": "a time",
    "datetime": "a time",
}


def _kind(words: str) -> str:
    return re.sub(r"\w+", lambda word: _KINDS.get(word[0], word[0]), words).replace(" | ", " or ")


def _in_words(place: KeyPath, what: str) -> str:
    """`Expected `int`, got `str`` as a sentence about the key at `place`."""
    name = next((str(key) for key in reversed(place) if isinstance(key, str)), "the file")
    match = re.fullmatch(r"Expected `(.*?)`(?: (matching|of length|[<>]=?)(.*?))?(?:, got `(.*)`)?", what)
    if match is None:
        return f"{name}: {what[:1].lower()}{what[1:]}."
    kind, relation, bound, got = match.groups()
    if relation == "matching":
        return f"{name} has text of the wrong form." if _ANY not in bound else f"{name} is empty."
    if relation == "of length":
        return f"{name} is empty."
    limit = f" {relation} {float(bound):g}" if relation else ""
    got_words = f", not {_kind(got)}" if got else ""
    return f"{name} takes {_kind(kind)}{limit}{got_words}."


def _unknown_key(place: KeyPath, key: str) -> str:
    import difflib

    if close := difflib.get_close_matches(key, _keys_at(place), n=1):
        return f"unknown key {key!r}; did you mean {close[0]!r}?"
    for table in ((), ("limits",), ("policy",)):
        if key in _keys_at(table) and table != place:
            return f"{key!r} belongs {f'into the table [{table[0]}]' if table else 'before all tables'}."
    return f"unknown key {key!r}."


def _known_keys(place: KeyPath) -> str:
    where = f" of {next(str(key) for key in place if isinstance(key, str))}" if place else ""
    return f"The keys{where} are: {', '.join(_keys_at(place))}"


def _keys_at(place: KeyPath) -> tuple[str, ...]:
    match place:
        case ("limits",):
            return Limits.__struct_fields__
        case ("policy",):
            return Policy.__struct_fields__
        case ("tasks", _):
            return TaskTable.__struct_fields__
        case _:
            return SweepFile.__struct_fields__


def _example(place: KeyPath) -> str | None:
    """How the key at `place` is written, as its schema has it. JSON's values are TOML's, tables apart."""
    keys = [key for key in place if isinstance(key, str)]
    if not keys:
        return None
    table = {"limits": "Limits", "policy": "Policy", "tasks": "TaskTable"}.get(keys[0]) if keys[1:] else None
    examples = sweep_schema()["$defs"][table or "SweepFile"]["properties"][keys[-1]]["examples"]
    written = " or ".join(f"{keys[-1]} = {json.dumps(example)}" for example in examples)
    if isinstance(examples[0], dict):
        written = f"[{keys[0]}] on a line, and below it " + ", ".join(
            f"{key} = {json.dumps(value)}" for key, value in examples[0].items()
        )
    return f"Write for example: {written}"


# --- The schema ---------------------------------------------------------------------------------------------


def sweep_schema() -> dict[str, Any]:
    """The JSON schema of the file. What types cannot say, and `Loaded` checks, is added by hand."""
    schema = msgspec.json.schema(SweepFile)
    for table in schema["$defs"].values():
        table["description"] = " ".join(table["description"].split())
    task, whole = schema["$defs"]["TaskTable"], schema["$defs"]["SweepFile"]
    task["oneOf"] = [{"required": ["file"]}, {"required": ["slug"]}]
    task["dependentRequired"] = {"task": ["file"], "datasets": ["file"]}
    whole["if"] = {"properties": {"all_models": {"const": True}}, "required": ["all_models"]}
    whole["then"] = {"properties": {"models": False, "models_from": False}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep of fanbench (sweep.toml)",
        **schema,
    }


def schema_text() -> str:
    """What `SCHEMA` must have in it."""
    return json.dumps(sweep_schema(), indent=2, ensure_ascii=False) + "\n"
