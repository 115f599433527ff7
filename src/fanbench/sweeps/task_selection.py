"""Which tasks and models a user means by the words and files that name them."""

from __future__ import annotations

import glob
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import msgspec

from fanbench.errors import UsageError
from fanbench.sweeps.sweep_file import read_text
from fanbench.wire.slugs import slugify_task

__all__ = ["TaskChoice", "choices", "expanded", "files_like", "models_from"]

_GLOB = re.compile(r"[*?\[]")


class TaskChoice(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for: tasks of a `file` (all, or the one called `name`), or one on the server by `slug`.

    `datasets` are "owner/slug"; `None` stands for those that the sweep has for all.
    """

    file: Path | None = None
    name: str | None = None
    slug: str | None = None
    datasets: tuple[str, ...] | None = None

    def __str__(self) -> str:
        if self.file is None:
            return self.slug or ""
        return f"{self.file}::{self.name}" if self.name else str(self.file)


def choices(word: str, base: Path = Path()) -> list[TaskChoice]:
    """The tasks that `word` stands for: `FILE.py`, `FILE.py::TASK`, a pattern of files, or a slug.

    Relative paths start at `base`. What is a file, or ends as one, is never taken for a slug.

    Raises:
        UsageError: no file is like the pattern, it is a folder, or it can be neither.
    """
    path, separator, name = word.partition("::")
    if separator and not name:
        raise UsageError(
            f"{word!r} names no task.", hint=f"Write {path}::TASK, or {path} for all of its tasks."
        )
    if _GLOB.search(path) or path.endswith(".py") or separator or _is_file(base / path):
        return [TaskChoice(file=file, name=name or None) for file in files_like(path, base)]
    _refuse_folder(word, base)
    return [TaskChoice(slug=slugify_task(word))]


def files_like(pattern: str, base: Path = Path()) -> list[Path]:
    """The Python files that `pattern` matches, sorted; a path without `*?[` is taken as it is.

    Raises:
        UsageError: there is none.
    """
    path = expanded(pattern)
    if not _GLOB.search(pattern) or _is_file(base / path):
        return [base / path]
    matches = (base / name for name in glob.glob(str(path), root_dir=base, recursive=True))
    found = sorted(match for match in matches if match.suffix == ".py" and match.is_file())
    if not found:
        raise UsageError(
            f"No Python file is like {pattern!r}.",
            hint=f"It is looked for in {base.absolute()}." if not path.is_absolute() else None,
        )
    return found


def expanded(path: str | Path) -> Path:
    """With the home folder for `~`, which shells do not put into quotes and files.

    Raises:
        UsageError: there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UsageError(f"{str(path)!r} begins with a home folder that there is not.") from None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # too long a name, or a zero byte in it
        return False


def _refuse_folder(word: str, base: Path) -> None:
    """Only what cannot be a slug: a task may well be called as a folder is."""
    if word.endswith(("/", "\\")) or word.startswith((".", "/", "~")):
        try:
            folder = (base / expanded(word)).is_dir()
        except (OSError, ValueError):
            folder = False
        what = "a folder" if folder else "neither a task file nor the name of a task"
        raise UsageError(
            f"{word!r} is {what}.", hint=f"Write {word.rstrip('/')}/*.py for the files in a folder."
        )


# --- Models -------------------------------------------------------------------------------------------------


def models_from(path: Path | str) -> list[str]:
    """The names and patterns in a file, one a line; `-` is stdin. Empty lines, and what follows a `#`, are skipped.

    Raises:
        UsageError: it cannot be read, has no model, or a line has several words (`FILE:LINE: message`).
    """
    if str(path) == "-":
        return models_in(sys.stdin, "stdin")
    return models_in(read_text(expanded(path)).splitlines(), str(path))


def models_in(lines: Iterable[str], source: str) -> list[str]:
    """`models_from` for lines that are there already; errors name `source`."""
    models = []
    for number, line in enumerate(lines, 1):
        words = re.sub(r"(^|\s)#.*", "", line.strip()).split()
        if len(words) > 1 or any("," in word for word in words):
            raise UsageError(
                f"{source}:{number}: there is more than one word: {' '.join(words)[:80]!r}.",
                hint="Write one name or pattern a line, such as gemini-*",
            )
        models += words
    if not models:
        raise UsageError(f"{source} names no model.", hint="Write one name or pattern a line.")
    return models
