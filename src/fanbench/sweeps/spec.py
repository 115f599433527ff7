"""What a user asks of a sweep, before any server is asked: arguments, flags, and the rules that they set."""

from __future__ import annotations

import glob
import math
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import msgspec

from fanbench._util.files import read_text
from fanbench._util.polling import POLL_INTERVAL
from fanbench._util.text import is_pattern
from fanbench.errors import TaskFileError, UsageError
from fanbench.operations.queue import EnqueueMode
from fanbench.results.scales import Scale
from fanbench.tasks.source import SUFFIXES
from fanbench.wire.metadata import Metadata
from fanbench.wire.slugs import refuse_empty, slugify_task

__all__ = [
    "DEFAULT_OUTPUT",
    "MAX_REPEATS",
    "Arguments",
    "CancelPolicy",
    "MaxFailures",
    "Rules",
    "SweepSpec",
    "TaskChoice",
    "choices",
    "classify",
    "expanded",
    "files_like",
    "merge",
    "models_from",
    "rules_of",
    "to_json",
    "to_path",
]

DEFAULT_OUTPUT = Path("results")
MAX_REPEATS = 1000


# --- Rules --------------------------------------------------------------------------------------------------


class MaxFailures(msgspec.Struct, frozen=True):
    """The number of errored runs, or the percentage of planned runs, at which scheduling stops."""

    value: float
    percent: bool = False

    @classmethod
    def parse(cls, text: str) -> MaxFailures:
        """Parse `5` or `10%`.

        Raises:
            UsageError: The text is neither.
        """
        number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
        try:
            value = float(number) if percent else int(number)
        except ValueError:
            value = -1
        if not 0 <= value < math.inf or (percent and value > 100):
            raise UsageError(f"--max-failures takes a number or a percentage (5, 10%), not {text!r}.")
        return cls(float(value), percent)

    def reached(self, failures: int, planned: int) -> bool:
        """Return True if `failures` of `planned` runs are too many. A sweep never stops before a failure."""
        most = self.value * planned / 100 if self.percent else self.value
        return failures > 0 and failures >= most

    def __str__(self) -> str:
        return f"{self.value:g}%" if self.percent else f"{self.value:g}"


#: Which runs in flight are cancelled on the server when a sweep leaves them.
CancelPolicy = Literal["never", "queued", "all"]


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How a sweep is run. Times are in seconds, `max_cost` in US dollars; `None` means no limit.

    `streams` and `downloads` bound the log streams and the outputs that are read at the same time. The number of
    calls in flight is the client's `concurrency`, which adapts downwards. `timeout` applies to each run from its
    scheduling, and once more to whatever blocks it before that; `deadline` applies to the whole sweep. After a push or
    schedule call without an answer, what it may have done is looked for `confirm_within`, before it is made again;
    `None` means 10 for a local server, whose lists are never behind, and 60 for others. `cancel` applies to what the
    sweep leaves because of `max_failures`, `timeout`, `deadline` or `max_cost`; with `cancel_on_interrupt`, the first
    Ctrl-C cancels, too: all runs in flight, or only queued ones if `cancel` says so. With `adopt`, runs of the same
    content that are on the server are taken over. `enqueue` says whether runs are put into the server's queue.
    """

    retry_errored: int = 0
    max_failures: MaxFailures | None = None
    timeout: float | None = None
    deadline: float | None = None
    max_cost: float | None = None
    poll_interval: float = POLL_INTERVAL
    confirm_within: float | None = None
    streams: int = 64
    downloads: int = 16
    include_source: bool = False
    cancel: CancelPolicy = "never"
    cancel_on_interrupt: bool = False
    adopt: bool = False
    enqueue: EnqueueMode = "never"

    @property
    def retry_failed(self) -> bool:
        """Whether content whose creation failed is pushed again, unchanged."""
        return self.retry_errored > 0


# --- Tasks --------------------------------------------------------------------------------------------------


class TaskChoice(msgspec.Struct, frozen=True, kw_only=True):
    """A request for the tasks of a `file` (all, or the one called `name`), or for a task on the server by `slug`.

    `datasets` are "owner/slug"; `None` stands for the datasets of the sweep. The file of an `in_folder` was found in
    a folder: if it has no tasks, it is skipped. `scale` is that of the values; it changes how results are read, not
    what is run. `page` is what pages of tasks from a file are to say, in place of what the file says.
    """

    file: Path | None = None
    name: str | None = None
    slug: str | None = None
    datasets: tuple[str, ...] | None = None
    in_folder: bool = False
    scale: Scale | None = None
    page: Metadata | None = None

    def __str__(self) -> str:
        if self.file is None:
            return self.slug or ""
        return f"{self.file}::{self.name}" if self.name else str(self.file)


def choices(word: str, base: Path = Path()) -> list[TaskChoice]:
    """Return the tasks that `word` stands for: `FILE`, `FILE::TASK`, a folder, a pattern of files, or a slug.

    Relative paths start at `base`. A word that names a file, or ends like one, is never taken for a slug. A folder
    stands for the task files that are directly in it; if there are none, its name may still be a slug.

    Raises:
        TaskFileError: No file matches the pattern, or the folder has no task files or cannot be read.
        UsageError: The word can be neither file nor slug.
    """
    path, separator, name = word.partition("::")
    if separator and not name:
        raise UsageError(
            f"{word!r} names no task.", hint=f"Write {path}::TASK, or {path} for all of its tasks."
        )
    if is_pattern(path) or path.endswith(SUFFIXES) or separator or _is_file(base / path):
        return [TaskChoice(file=file, name=name or None) for file in files_like(path, base)]
    if word and (found := _task_files(base / expanded(word))):
        return [TaskChoice(file=file, in_folder=True) for file in found]
    # A task may well be called like a folder, so only what cannot be a slug is refused.
    if word.endswith(("/", "\\")) or word.startswith((".", "/", "~")):
        if os.path.isdir(base / expanded(word)):
            raise TaskFileError(
                "There are no task files in this folder.",
                file=word,
                hint=f"Write '{word.rstrip('/')}/**/*.py' for the files in the folders below it.",
            )
        raise UsageError(
            f"{word!r} is neither a task file nor the name of a task.",
            hint="Names of task files end in .py or .ipynb.",
        )
    return [TaskChoice(slug=slugify_task(word))]


def _task_files(folder: Path) -> list[Path]:
    """Return the task files that are directly in `folder`, sorted; none if it is not a folder.

    Raises:
        TaskFileError: It is a folder that cannot be read.
    """
    try:
        files = [path for path in folder.iterdir() if path.suffix in SUFFIXES and path.is_file()]
    except (OSError, ValueError) as error:
        if isinstance(error, PermissionError) and os.path.isdir(folder):
            hint = f"Run `chmod u+rx {shlex.quote(str(folder))}` if it is yours."
            raise TaskFileError(
                f"The folder cannot be read: {error.strerror}.", file=str(folder), hint=hint
            ) from None
        return []
    return sorted(path for path in files if not path.name.startswith("."))


def files_like(pattern: str, base: Path = Path()) -> list[Path]:
    """Return the task files that match `pattern`, sorted. A path without `*?[` is returned as it is.

    Raises:
        TaskFileError: No file matches.
    """
    path = expanded(pattern)
    if not is_pattern(pattern) or _is_file(base / path):
        return [base / path]
    matches = (base / name for name in glob.glob(str(path), root_dir=base, recursive=True))
    found = sorted(match for match in matches if match.suffix in SUFFIXES and match.is_file())
    if not found:
        raise TaskFileError(
            "No task file matches.",
            file=pattern,
            hint=f"Relative patterns start at {base.absolute()}." if not path.is_absolute() else None,
        )
    return found


def expanded(path: str | Path) -> Path:
    """Return `path` with `~` replaced, which shells do not do within quotes or files.

    Raises:
        UsageError: The user after the `~` does not exist.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"The home folder in {str(path)!r} does not exist.") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # The name is too long, or has a zero byte in it.
        return False


# --- Models -------------------------------------------------------------------------------------------------


def models_from(path: Path | str) -> list[str]:
    """Return the names and patterns in a file, one per line; `-` is stdin. `#` begins a comment.

    Raises:
        UsageError: The file cannot be read, names no model, or has a line of several words.
    """
    source = "stdin" if str(path) == "-" else str(path)
    models: list[str] = []
    for number, line in enumerate(read_text(expanded(path)).splitlines(), 1):
        words = re.sub(r"(^|\s)#.*", "", line.strip()).split()
        if len(words) > 1 or any("," in word for word in words):
            raise UsageError(
                f"{source}:{number}: The line has more than one word: {' '.join(words)[:80]!r}.",
                hint="Write one name or pattern per line, such as gemini-*.",
            )
        models += words
    if not models:
        raise UsageError(f"{source} names no model.", hint="Write one name or pattern per line.")
    return models


# --- The whole ----------------------------------------------------------------------------------------------


class SweepSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Tasks × candidates × repeats and how to run them, as the user gave them; `None` where nothing was given.

    The tasks of `benchmark` (OWNER/BENCHMARK, or one's own by its slug) come after `tasks`, except those among them.
    `benchmark_tasks` are those that it had when the sweep was planned first; None before.
    `models` are names and patterns, perhaps `MODEL@EFFORT`, in the order in which they are reported. Those without an
    effort of their own are run at each of `efforts`, if there are any. `agents` are slugs. `datasets` ("owner/slug")
    apply to tasks from files that have none of their own. `judge` is the model behind `judge_llm`. `rerun` are names
    and patterns `TASK:MODEL` of the runs to make again this time. `concurrency` bounds the calls in flight; the rest
    is as in `Rules`.
    """

    tasks: tuple[TaskChoice, ...] = ()
    benchmark: str | None = None
    benchmark_tasks: tuple[str, ...] | None = None
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    all_models: bool = False
    efforts: tuple[str, ...] = ()
    agents: tuple[str, ...] = ()
    judge: str | None = None
    repeats: int | None = None
    output: Path | None = None
    include_source: bool | None = None
    concurrency: int | None = None
    streams: int | None = None
    downloads: int | None = None
    max_cost: float | None = None
    timeout: float | None = None
    deadline: float | None = None
    poll_interval: float | None = None
    confirm_within: float | None = None
    retry_errored: int | None = None
    max_failures: MaxFailures | None = None
    cancel: CancelPolicy | None = None
    cancel_on_interrupt: bool | None = None
    adopt: bool | None = None
    enqueue: EnqueueMode | None = None
    rerun: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Arguments:
    """The meaning of positional arguments."""

    tasks: tuple[TaskChoice, ...] = ()
    sweep_file: Path | None = None


def classify(words: Sequence[str | Path]) -> Arguments:
    """Sort positional arguments: `*.toml` is the sweep file, the rest are tasks (see `choices`).

    Raises:
        UsageError: There are two sweep files, or a word cannot be a task.
        TaskFileError: No file matches a pattern, or a folder has no task files.
    """
    texts = [str(word) for word in words]
    sweep_files = [text for text in texts if text.endswith(".toml")]
    if len(sweep_files) > 1:
        raise UsageError(f"Give one sweep file, not {len(sweep_files)}: {', '.join(sweep_files)}.")
    tasks = [choice for text in texts if text not in sweep_files for choice in choices(text)]
    return Arguments(tuple(tasks), Path(sweep_files[0]) if sweep_files else None)


def merge(base: SweepSpec | None, **flags: Any) -> SweepSpec:
    """Return `base` with the values that `flags` give; `None`, empty and `False` flags give nothing.

    A flag replaces what it names. `models` and `all_models` replace each other. A task's own datasets stay.

    Raises:
        UsageError: Both `models` and `all_models` are given, the benchmark or the output has no name, or
            `max_failures` is invalid.
    """
    given = {
        name: value
        for name, value in flags.items()
        if value is not None and value is not False and not (isinstance(value, list | tuple) and not value)
    }
    if given.get("models") and given.get("all_models"):
        raise UsageError("-m and --all-models cannot be used together.", hint="Leave one of them out.")
    for name in ("tasks", "models", "efforts", "agents", "datasets", "rerun"):
        if name in given:
            given[name] = (given[name],) if isinstance(given[name], str) else tuple(given[name])
    if "models" in given:
        given["all_models"] = False
    elif "all_models" in given:
        given["models"] = ()
    if isinstance(given.get("max_failures"), str):
        given["max_failures"] = MaxFailures.parse(given["max_failures"])
    if "benchmark" in given:
        refuse_empty([given["benchmark"]], "a benchmark", "--benchmark")
    if "output" in given:
        # An empty name is usually a variable that is not set, rarely the current folder.
        if not os.fspath(given["output"]):
            raise UsageError(
                "The name of the output folder is empty.", hint="Write `-o .` for the current folder."
            )
        given["output"] = Path(given["output"])
    return msgspec.structs.replace(base or SweepSpec(), **given)


_AT_LEAST = {"repeats": 1, "concurrency": 1, "streams": 1, "downloads": 1, "retry_errored": 0}
_UNITS = {
    "timeout": "seconds",
    "deadline": "seconds",
    "poll_interval": "seconds",
    "confirm_within": "seconds",
    "max_cost": "US dollars",
}


def rules_of(spec: SweepSpec) -> Rules:
    """Return the rules that `spec` gives, with the defaults for the rest.

    Raises:
        UsageError: A number is out of its range.
    """
    for name, least in _AT_LEAST.items():
        value = getattr(spec, name)
        if value is not None and not value >= least:
            raise UsageError(f"{name} must be {least} or more, not {value}.")
    if spec.repeats is not None and spec.repeats > MAX_REPEATS:
        raise UsageError(f"repeats must be {MAX_REPEATS} or less, not {spec.repeats}.")
    for name, unit in _UNITS.items():
        value = getattr(spec, name)
        if value is not None and not 0 < value < math.inf:
            raise UsageError(
                f"{name} must be more than 0 {unit}, not {value:g}.", hint="Leave it out for no limit."
            )
    if spec.cancel is not None and spec.cancel not in get_args(CancelPolicy):
        raise UsageError(f"cancel must be never, queued or all, not {spec.cancel!r}.")
    if spec.enqueue is not None and spec.enqueue not in get_args(EnqueueMode):
        raise UsageError(f"enqueue must be auto, always or never, not {spec.enqueue!r}.")
    given = {name: getattr(spec, name) for name in Rules.__struct_fields__}
    return Rules(**{name: value for name, value in given.items() if value is not None})


# --- JSON, for the journal ----------------------------------------------------------------------------------


def to_json(spec: msgspec.Struct) -> str:
    """Return the spec, or a struct that contains one, as JSON. Paths become absolute, so that they hold anywhere.

    Raises:
        UsageError: A path is not Unicode.
    """

    def absolute(value: object) -> str:
        if isinstance(value, Path):
            return str(value.absolute())
        raise NotImplementedError(f"Cannot encode {type(value).__name__}.")

    try:
        return msgspec.json.encode(spec, enc_hook=absolute).decode()
    except UnicodeEncodeError:
        raise UsageError("The path of a task file or of the output folder is not Unicode.") from None


def to_path(kind: type, value: Any) -> Path:
    """Decode a path from JSON: the `dec_hook` of msgspec."""
    if isinstance(value, str):
        return Path(value)
    raise ValueError(f"Expected a path, got {type(value).__name__}")
