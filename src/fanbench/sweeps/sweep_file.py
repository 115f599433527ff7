"""`sweep.toml`: its keys, its JSON schema, and the line on which each mistake is."""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from bisect import bisect_right
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
from msgspec import UNSET, Meta, UnsetType

from fanbench._util.files import read_text
from fanbench.errors import TaskFileError, UsageError
from fanbench.operations.queue import EnqueueMode
from fanbench.results.scales import UNIT, Scale
from fanbench.sweeps.spec import (
    MAX_REPEATS,
    CancelPolicy,
    MaxFailures,
    SweepSpec,
    TaskChoice,
    choices,
    expanded,
    files_like,
    models_from,
)
from fanbench.tasks.page_block import Reference, page_of
from fanbench.wire.metadata import Metadata
from fanbench.wire.slugs import slugify_task

__all__ = [
    "SCHEMA",
    "KeyPath",
    "Limits",
    "Loaded",
    "Policy",
    "SweepFile",
    "TaskTable",
    "line_of",
    "lines_of",
    "read_sweep_file",
    "schema_text",
    "sweep_schema",
]

#: The schema as it is shipped, for editors; `schema_text` makes it.
SCHEMA = Path(__file__).with_name("sweep.schema.json")

#: The path to a value: keys of tables, and indexes of lists.
KeyPath = tuple[str | int, ...]


# --- Keys ---------------------------------------------------------------------------------------------------

_Text = Annotated[str, Meta(pattern=r"\S")]
_Dataset = Annotated[str, Meta(pattern=r"^[^/\s]+/[^/\s]+$")]
_Datasets = list[_Dataset]
_Share = Annotated[str, Meta(pattern=r"^(100(\.0+)?|[0-9]{1,2}(\.[0-9]+)?)%$")]
_Seconds = Annotated[float, Meta(gt=0)]
_Several = Annotated[int, Meta(ge=1)]


def _key(description: str, *examples: object) -> Meta:
    """Document a key. Errors show its `examples`."""
    return Meta(description=description, examples=list(examples))


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all tables: keys that do not exist are errors."""


class TaskTable(_Table, frozen=True):
    """One task: a `file`, with `task` to select one of several in it, or a `slug`."""

    file: Annotated[
        _Text | UnsetType,
        _key("A task file or a pattern of files, relative to the folder of this file.", "tasks/sums.py"),
    ] = UNSET
    task: Annotated[
        _Text | UnsetType, _key("The task of the file to run (default: all of them).", "sums")
    ] = UNSET
    slug: Annotated[
        _Text | UnsetType, _key("A task that the server already has: TASK or OWNER/TASK.", "my-task")
    ] = UNSET
    datasets: Annotated[
        _Datasets | UnsetType,
        _key(
            "The datasets attached to the tasks of this file, instead of the ones for all.", ["owner/dataset"]
        ),
    ] = UNSET
    scale: Annotated[
        tuple[float, float] | UnsetType,
        _key(
            "The lowest and the highest value that the tasks can have (default: 0 and 1). It is for reading the "
            "results: when it changes, nothing is run again.",
            [0, 100],
        ),
    ] = UNSET
    higher_is_better: Annotated[
        bool | UnsetType,
        _key("Whether the highest value is the best (default: true). Like scale, it is for reading.", False),
    ] = UNSET
    description: Annotated[
        str | UnsetType,
        _key(
            "What the pages of the tasks of this file say, in Markdown. Like the three keys below, it is sent once a "
            "version has been created, and takes the place of what the file says.",
            "Sums of two numbers.",
        ),
    ] = UNSET
    tags: Annotated[list[_Text] | UnsetType, _key("The tags of the tasks.", ["mathematics"])] = UNSET
    provenance: Annotated[
        str | UnsetType, _key("Where the data and the code of the tasks come from.", "Written by hand.")
    ] = UNSET
    citations: Annotated[
        list[Reference] | UnsetType,
        _key(
            "References of the tasks: tables with url and title.",
            [{"title": "A paper", "url": "https://example.org/paper"}],
        ),
    ] = UNSET


#: The keys of a task that say what its page is to say.
_PAGE_KEYS = ("description", "tags", "provenance", "citations")


#: The keys of a task that can be used with `file` only.
_WITH_FILE = ("task", "datasets", *_PAGE_KEYS)


class Limits(_Table, frozen=True):
    """How much to do at a time, for how long, and for how much money."""

    concurrency: Annotated[
        _Several | UnsetType,
        _key("Calls in flight at a time (default: 16). It adapts downwards by itself.", 16),
    ] = UNSET
    streams: Annotated[_Several | UnsetType, _key("Log streams read at a time (default: 64).", 64)] = UNSET
    downloads: Annotated[_Several | UnsetType, _key("Downloads at a time (default: 16).", 8)] = UNSET
    max_cost: Annotated[
        _Seconds | UnsetType, _key("US dollars that the sweep may cost (default: no limit).", 2.5)
    ] = UNSET
    timeout: Annotated[
        _Seconds | UnsetType, _key("Seconds for each run, from its scheduling (default: no limit).", 600)
    ] = UNSET
    deadline: Annotated[
        _Seconds | UnsetType, _key("Seconds for the whole sweep (default: no limit).", 7200)
    ] = UNSET
    poll_interval: Annotated[
        _Seconds | UnsetType,
        _key("The longest pause between two polls, in seconds (default: 60; the first is 1).", 60),
    ] = UNSET
    confirm_within: Annotated[
        _Seconds | UnsetType,
        _key(
            "Seconds for which the effect of a call without an answer is looked for, before the call is made again "
            "(default: 60; with a local server 10).",
            60,
        ),
    ] = UNSET


class Policy(_Table, frozen=True):
    """What to do about runs that fail."""

    retry_errored: Annotated[
        Annotated[int, Meta(ge=0)] | UnsetType,
        _key("How many times to schedule a run again after it errored (default: 0).", 1),
    ] = UNSET
    max_failures: Annotated[
        Annotated[int, Meta(ge=0)] | _Share | UnsetType,
        _key("Stop scheduling at this number of errored runs, or percentage of the planned ones.", 5, "10%"),
    ] = UNSET
    cancel: Annotated[
        CancelPolicy | UnsetType,
        _key(
            "Which runs to cancel on the server when the sweep leaves them because of max_failures, timeout, deadline "
            "or max_cost (default: never).",
            "queued",
            "all",
        ),
    ] = UNSET
    cancel_on_interrupt: Annotated[
        bool | UnsetType,
        _key("Whether Ctrl-C cancels runs in flight on the server (default: false).", True),
    ] = UNSET
    adopt: Annotated[
        bool | UnsetType,
        _key("Whether to take over runs of the same content that are on the server (default: false).", True),
    ] = UNSET
    enqueue: Annotated[
        EnqueueMode | UnsetType,
        _key(
            "Whether to put runs into the server's queue: if the account has one (auto), or always "
            "(default: never).",
            "auto",
        ),
    ] = UNSET


class SweepFile(_Table, frozen=True):
    """A sweep: tasks × models × repeats, where its results go, and how it is run.

    Flags of the command line override this file. Relative paths start at the folder of the file.
    """

    tasks: Annotated[
        Annotated[list[_Text | TaskTable], Meta(min_length=1)] | UnsetType,
        _key(
            "Task files, folders and patterns of files, slugs of tasks on the server, or a table for each task.",
            ["tasks/*.py", "my-task"],
        ),
    ] = UNSET
    benchmark: Annotated[
        _Text | UnsetType,
        _key("A benchmark, whose tasks are run as they are on the server.", "owner/their-benchmark"),
    ] = UNSET
    datasets: Annotated[
        _Datasets | UnsetType,
        _key("Datasets for the tasks of files that have none of their own.", ["owner/dataset"]),
    ] = UNSET
    models: Annotated[
        Annotated[list[_Text], Meta(min_length=1)] | UnsetType,
        _key("Names of models, or patterns.", ["gemini-*", "claude-haiku-4-5"]),
    ] = UNSET
    models_from: Annotated[
        _Text | UnsetType, _key("A file with more models: one name or pattern per line.", "models.txt")
    ] = UNSET
    all_models: Annotated[
        bool | UnsetType, _key("Run on every model that the server has, instead of `models`.", True)
    ] = UNSET
    efforts: Annotated[
        list[_Text] | UnsetType,
        _key("Reasoning efforts: each model is run at each of them.", ["low", "high"]),
    ] = UNSET
    agents: Annotated[
        list[_Text] | UnsetType,
        _key("Agents, for tasks that are run on agents.", ["claude-code-2.1.216-opus-4.8-high"]),
    ] = UNSET
    judge: Annotated[_Text | UnsetType, _key("Local server: the model behind judge_llm.", "gemma-3-270m")] = (
        UNSET
    )
    repeats: Annotated[
        Annotated[int, Meta(ge=1, le=MAX_REPEATS)] | UnsetType,
        _key("Runs for each task and model (default: 1).", 3),
    ] = UNSET
    output: Annotated[
        _Text | UnsetType, _key('The folder for results and the journal (default: "results").', "results")
    ] = UNSET
    include_source: Annotated[
        bool | UnsetType, _key("Also download the notebooks of the runs (default: false).", True)
    ] = UNSET
    limits: Annotated[Limits | UnsetType, Meta(examples=[{"concurrency": 16}])] = UNSET
    policy: Annotated[Policy | UnsetType, Meta(examples=[{"retry_errored": 1}])] = UNSET


# --- Reading ------------------------------------------------------------------------------------------------


def read_sweep_file(path: Path) -> SweepSpec:
    """Return the sweep that a `sweep.toml` describes (see `SweepFile`), with absolute paths.

    Raises:
        UsageError: The file cannot be read, or has a mistake (`FILE:LINE: message`; the first one counts).
    """
    loaded = Loaded(path, read_text(path))
    file, base = loaded.file, Path(os.path.abspath(path)).parent
    limits, policy = (
        {} if isinstance(table, UnsetType) else msgspec.to_builtins(table)
        for table in (file.limits, file.policy)
    )
    if "max_failures" in policy:
        policy["max_failures"] = MaxFailures.parse(str(policy["max_failures"]))
    for key, value in limits.items():
        if value == math.inf:  # TOML has `inf`, which no schema can refuse.
            raise loaded.error(
                ("limits", key), f"{key} takes a number, not inf.", "Leave it out for no limit."
            )
    tasks: list[TaskChoice] = []
    for index, entry in enumerate(file.tasks or ()):
        try:
            tasks += choices(entry, base) if isinstance(entry, str) else _table_choices(entry, base)
        except (UsageError, TaskFileError) as error:
            raise loaded.error(("tasks", index), str(error), error.hint) from None
    models = list(file.models or ())
    if file.models_from:
        try:
            models += models_from(base / expanded(file.models_from))
        except UsageError as error:
            raise loaded.error(("models_from",), error.message, error.hint) from None
    return SweepSpec(
        tasks=tuple(tasks),
        benchmark=file.benchmark or None,
        datasets=tuple(file.datasets or ()),
        models=tuple(models),
        all_models=file.all_models is True,
        efforts=tuple(file.efforts or ()),
        agents=tuple(file.agents or ()),
        judge=file.judge or None,
        repeats=file.repeats or None,
        output=base / expanded(file.output) if file.output else None,
        include_source=None if file.include_source is UNSET else file.include_source,
        **limits,
        **policy,
    )


def _table_choices(table: TaskTable, base: Path) -> list[TaskChoice]:
    scale = _scale(table)
    if table.slug:
        return [TaskChoice(slug=slugify_task(table.slug), scale=scale)]
    datasets = None if table.datasets is UNSET else tuple(table.datasets)
    return [
        TaskChoice(file=file, name=table.task or None, datasets=datasets, scale=scale, page=_page(table))
        for file in files_like(str(table.file), base)
    ]


def _page(table: TaskTable) -> Metadata | None:
    """Return what the table says about the pages of its tasks; None if it says nothing."""
    given = {key: getattr(table, key) for key in _PAGE_KEYS if getattr(table, key) is not UNSET}
    return page_of(**given) if given else None


def _scale(table: TaskTable) -> Scale | None:
    """Return the scale that the table declares; None if it declares neither its ends nor its direction."""
    if table.scale is UNSET and table.higher_is_better is UNSET:
        return None
    low, high = (UNIT.low, UNIT.high) if table.scale is UNSET else table.scale
    return Scale(low, high, higher_is_better=table.higher_is_better is not False)


class Loaded:
    """A sweep file that is valid as far as can be seen without its folder. `error` makes errors with lines."""

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        self._text = text
        try:
            content = tomllib.loads(text)
        except RecursionError:
            raise UsageError(f"{path}:1: The file is nested too deeply.") from None
        except ValueError as error:  # tomllib's own is one, and Python's for numbers of thousands of digits
            raise _syntax_error(path, text, error) from None
        try:
            self.file = msgspec.convert(content, SweepFile)
        except msgspec.ValidationError as error:
            self._refuse(str(error))
        self._check()

    def error(self, place: KeyPath, message: str, hint: str | None = None) -> UsageError:
        """Return the error for a mistake in the value at `place`."""
        line = line_of(lines_of(self._text), place)
        return UsageError(f"{self.path}:{line}: {message}", hint=hint or _example(place))

    def _refuse(self, message: str) -> NoReturn:
        """Raise msgspec's validation error in words that fit a TOML file."""
        what, _, where = message.partition(" - at `")
        # msgspec writes a path as `$.tasks[0].file`.
        found = re.findall(r"\.([A-Za-z_]\w*)|\[(\d+)\]", where.removesuffix("`"))
        place: KeyPath = tuple(key or int(index) for key, index in found)
        unknown = re.fullmatch(r"Object contains unknown field `(.*)`", what, re.DOTALL)
        if unknown is None:
            raise self.error(place, _sentence(place, what))
        table = f" of {next(str(key) for key in place if isinstance(key, str))}" if place else ""
        known = ", ".join(_keys_at(place))
        raise self.error(
            (*place, unknown[1]), _unknown_key(place, unknown[1]), f"The keys{table} are: {known}"
        )

    def _check(self) -> None:
        """Check what types cannot express."""
        if self.file.all_models is True:
            for other in ("models", "models_from"):
                if getattr(self.file, other) is not UNSET:
                    message = f"{other} and all_models = true cannot be used together."
                    raise self.error((other,), message, "Remove one of the two lines.")
        for index, task in enumerate(self.file.tasks or ()):
            if isinstance(task, str):
                continue
            place: KeyPath = ("tasks", index)
            if (task.file is UNSET) == (task.slug is UNSET):
                which = "neither file nor slug" if task.file is UNSET else "both file and slug"
                hint = 'Write file = "tasks/sums.py", or slug = "my-task" for a task that the server already has.'
                raise self.error(place, f"The task has {which}.", hint)
            if task.scale is not UNSET and not 0 < task.scale[1] - task.scale[0] < math.inf:
                low, high = task.scale
                message = f"scale takes two finite numbers, the lower one first, not {low:g} and {high:g}."
                raise self.error((*place, "scale"), message)
            for key in _WITH_FILE:
                if task.slug is not UNSET and getattr(task, key) is not UNSET:
                    message = f"{key} can be used with file only, not with slug."
                    edits = key in _PAGE_KEYS
                    hint = f"Remove {key}{'; `fanbench tasks edit` changes the page of a task' if edits else ''}."
                    raise self.error((*place, key), message, hint)
            for key in _PAGE_KEYS:
                try:
                    page_of(**{key: getattr(task, key)})
                except ValueError as error:
                    message = str(error)
                    raise self.error((*place, key), f"{message[0].upper()}{message[1:]}.") from None


def _syntax_error(path: Path, text: str, error: ValueError) -> UsageError:
    message = str(error)
    found = re.search(r" \(at line (\d+), column \d+\)$", message)
    if found:
        line, message = int(found[1]), message[: found.start()]
    else:
        line, message = text.rstrip().count("\n") + 1, message.removesuffix(" (at end of document)")
    hint = 'Write valid TOML: text in quotes, lists in brackets, such as models = ["gemini-*"]'
    return UsageError(f"{path}:{line}: {message[:1].upper()}{message[1:]}.", hint=hint)


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
# The keys whose text has a form of its own.
_FORMS = {
    "datasets": "names of the form OWNER/DATASET",
    "max_failures": "a whole number, or a percentage of at most 100%",
    "scale": "two numbers, the lowest and the highest value",
}
# How msgspec writes the pattern of `_Text`.
_ANY_TEXT = r"'\\S'"


def _sentence(place: KeyPath, what: str) -> str:
    """Turn msgspec's `Expected `int`, got `str`` into a sentence about the key at `place`."""

    def kinds(words: str) -> str:
        return re.sub(r"\w+", lambda word: _KINDS.get(word[0], word[0]), words).replace(" | ", " or ")

    name = next((str(key) for key in reversed(place) if isinstance(key, str)), "The file")
    if wrong := re.fullmatch(r"Invalid enum value (.*)", what, re.DOTALL):
        *words, last = map(json.dumps, _schema_of(place)["enum"])
        return f"{name} takes {', '.join(words)} or {last}, not {wrong[1]}."
    match = re.fullmatch(r"Expected `(.*?)`(?: (matching|of length|[<>]=?)(.*?))?(?:, got `(.*)`)?", what)
    if match is None:
        return f"{name}: {what}."
    kind, relation, bound, got = match.groups()
    if name != "scale" and (relation == "of length" or (relation == "matching" and _ANY_TEXT in bound)):
        return f"{name} is empty."
    if relation in ("matching", "of length"):
        return f"{name} takes {_FORMS[name]}."
    limit = f" {relation} {float(bound):g}" if relation else ""
    return f"{name} takes {kinds(kind)}{limit}{f', not {kinds(got)}' if got else ''}."


def _unknown_key(place: KeyPath, key: str) -> str:
    import difflib

    if close := difflib.get_close_matches(key, _keys_at(place), n=1):
        return f"Unknown key {key!r}; did you mean {close[0]!r}?"
    for table in ((), ("limits",), ("policy",)):
        if key in _keys_at(table) and table != place:
            return f"{key!r} belongs {f'in the table [{table[0]}]' if table else 'before all tables'}."
    return f"Unknown key {key!r}."


def _keys_at(place: KeyPath) -> tuple[str, ...]:
    tables = {"limits": Limits, "policy": Policy, "tasks": Reference if "citations" in place else TaskTable}
    return (tables[str(place[0])] if place else SweepFile).__struct_fields__


def _keys_to(place: KeyPath) -> list[str]:
    """The table, if it is in one, and the key at `place`: of a list of tables, the list."""
    return [key for key in place if isinstance(key, str)][:2]


def _schema_of(place: KeyPath) -> dict[str, Any]:
    *table, key = _keys_to(place)
    tables = {"limits": "Limits", "policy": "Policy", "tasks": "TaskTable"}
    kind = tables.get(table[0], "SweepFile") if table else "SweepFile"
    schema: dict[str, Any] = sweep_schema()["$defs"][kind]["properties"][key]
    return schema


def _example(place: KeyPath) -> str | None:
    """Show how to write the key at `place`, by the examples of its schema."""
    keys = _keys_to(place)
    if not keys:
        return None
    examples = _schema_of(place)["examples"]
    written = " or ".join(f"{keys[-1]} = {_toml(example)}" for example in examples)
    if isinstance(examples[0], dict):
        written = f"[{keys[0]}] on a line, and below it {_pairs(examples[0])}"
    return f"Write for example: {written}"


def _toml(value: Any) -> str:
    """Write a value of JSON in TOML, which differ only in tables."""
    if isinstance(value, dict):
        return f"{{ {_pairs(value)} }}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else json.dumps(value)


def _pairs(table: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {_toml(value)}" for key, value in table.items())


# --- The schema ---------------------------------------------------------------------------------------------


def sweep_schema() -> dict[str, Any]:
    """Return the JSON schema of the file, including what types cannot express and `Loaded` checks."""
    schema = msgspec.json.schema(SweepFile)
    for table in schema["$defs"].values():
        table["description"] = " ".join(table["description"].split())
    task, whole = schema["$defs"]["TaskTable"], schema["$defs"]["SweepFile"]
    task["oneOf"] = [{"required": ["file"]}, {"required": ["slug"]}]
    task["dependentRequired"] = {key: ["file"] for key in _WITH_FILE}
    whole["if"] = {"properties": {"all_models": {"const": True}}, "required": ["all_models"]}
    whole["then"] = {"properties": {"models": False, "models_from": False}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A sweep of fanbench (sweep.toml)",
        **schema,
    }


def schema_text() -> str:
    """Return what the file `SCHEMA` must contain."""
    return json.dumps(sweep_schema(), indent=2, ensure_ascii=False) + "\n"


# --- Lines --------------------------------------------------------------------------------------------------


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line (from 1) on which each key and list item of `text` begins. `text` must be valid TOML.

    A key that is written in several places, such as a table in the keys of others, has the first of them.
    """
    scanner = _Scanner(text)
    # Text that is nested too deeply is scanned as far as possible.
    with suppress(RecursionError):
        scanner.scan()
    return scanner.lines


def line_of(lines: dict[KeyPath, int], path: KeyPath) -> int:
    """Return the line of the value at `path`, or of the closest value around it that has one."""
    for length in range(len(path), 0, -1):
        if path[:length] in lines:
            return lines[path[:length]]
    return 1


_BLANK = re.compile(r"[ \t]*")
_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_GAP = re.compile(r"(?:[ \t\r\n,]|#[^\n]*)*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# The long forms come first. Up to two more quotes after the three that end a string belong to it.
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"""(?:"{0,2})' r"|'''.*?'''(?:'{0,2})" r'|"(?:\\.|[^"\\])*"' r"|'[^']*'", re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


class _Scanner:
    """Walks over TOML that is known to be valid, so that only nested values need to be told apart."""

    def __init__(self, text: str) -> None:
        self.lines: dict[KeyPath, int] = {}
        self._text = text
        self._at = 0
        self._breaks = [match.start() for match in re.finditer("\n", text)]
        # The index of the newest table of each `[[list]]`.
        self._tables: dict[KeyPath, int] = {}

    def scan(self) -> None:
        table: KeyPath = ()
        while self._skip(_SPACE):
            if self._text.startswith("[[", self._at):
                self._at += 2
                *above, name = self._keys()
                table = (*self._descend((), above), name)
                self._mark(table)
                self._tables[table] = self._tables.get(table, -1) + 1
                table = (*table, self._tables[table])
                self._mark(table)
                self._at += 2
            elif self._text[self._at] == "[":
                self._at += 1
                table = self._descend((), self._keys())
                self._at += 1
            else:
                self._pair(table)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        assert match is not None, f"invalid TOML at {self._at}"
        self._at = match.end()
        return match[0]

    def _skip(self, pattern: re.Pattern[str], end: str = "") -> bool:
        """Skip `pattern`. Return True if something else than `end` follows; otherwise skip that as well."""
        self._take(pattern)
        more = self._at < len(self._text) and self._text[self._at] != end
        self._at += not more
        return more

    def _mark(self, path: KeyPath) -> None:
        self.lines.setdefault(path, bisect_right(self._breaks, self._at - 1) + 1)

    def _descend(self, path: KeyPath, names: list[str]) -> KeyPath:
        """Walk down from `path`; within a list of tables, into its newest one."""
        for name in names:
            path = (*path, name)
            self._mark(path)
            if path in self._tables:
                path = (*path, self._tables[path])
        return path

    def _keys(self) -> list[str]:
        """Take a dotted key and return its parts."""
        names: list[str] = []
        while not names or self._text[self._at] == ".":
            self._at += bool(names)
            self._take(_BLANK)
            quoted = self._text[self._at] in "\"'"
            token = self._take(_STRING if quoted else _BARE)
            self._take(_BLANK)
            names.append(str(tomllib.loads(f"key = {token}")["key"]) if quoted else token)
        return names

    def _pair(self, table: KeyPath) -> None:
        path = self._descend(table, self._keys())
        self._at += 1
        self._take(_BLANK)
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        match self._text[self._at]:
            case '"' | "'":
                self._take(_STRING)
            case "[":
                self._at += 1
                index = 0
                while self._skip(_GAP, "]"):
                    self._mark((*path, index))
                    self._value((*path, index))
                    index += 1
            case "{":
                self._at += 1
                while self._skip(_GAP, "}"):
                    self._pair(path)
            case _:
                self._take(_SCALAR)
