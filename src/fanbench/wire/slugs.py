"""Names as users write them and as they are sent: task slugs, model slugs, task URLs.

These are pure functions, because the command line, the checks and the server must agree on every slug.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from fanbench.errors import UsageError
from fanbench.wire.messages import TaskSlug

__all__ = [
    "DEFAULT",
    "fits",
    "full_task_url",
    "join_task",
    "normalize_model",
    "refuse_empty",
    "same_model",
    "slugify",
    "slugify_task",
    "split_task",
]

WEBSITE = "https://www.kaggle.com"
#: The end of the normalized names of models' default versions, which people and some answers leave out.
DEFAULT = "-default"


def slugify(name: str) -> str:
    """Return the slug of one name without an owner: "My Task" and "my_task" become "my-task".

    The result is empty if the name has no letter or digit. It is always what python-slugify returns, because
    Kaggle's own command line uses that library (`kaggle.api.kaggle_api_extended`).
    """
    if name.isascii() and "&" not in name:
        # The same result without the import of the library, which takes longer than `fanbench --help`.
        without_commas = re.sub(r"(?<=\d),(?=\d)", "", name.lower())
        return re.sub(r"[^a-z0-9]+", "-", without_commas).strip("-")
    from slugify import slugify

    return slugify(name)


def slugify_task(name: str) -> str:
    """Return the slug of a task as users name it: "My Task" is "my-task", "Me/My Task" is "me/my-task".

    Raises:
        UsageError: The task, or the owner before a slash, has no letter or digit, or there are more slashes.
    """
    parts = [slugify(part) for part in name.split("/")]
    if not all(parts) or len(parts) > 2:
        raise UsageError(
            f"{name!r} is not a task name.", hint="Write TASK or OWNER/TASK, each with a letter or a digit."
        )
    return "/".join(parts)


def refuse_empty(names: Iterable[str], what: str, flag: str) -> None:
    """Refuse an empty name of `what`, which comes from `flag`: it is usually a variable that is not set.

    Raises:
        UsageError: One of `names` is empty.
    """
    if any(not name.strip() for name in names):
        raise UsageError(
            f"The name of {what} is empty.",
            hint=f"Check the variable that it comes from, or leave {flag} out.",
        )


def fits(slug: str, pattern: str) -> bool:
    """Whether a slug matches a pattern, which is about its owner as well if it has a slash."""
    return fnmatchcase(slug if "/" in pattern else slug.rpartition("/")[2], pattern)


def split_task(slug: str, version: int = 0) -> TaskSlug:
    """Split "task" (owned by the caller) or "owner/task" into the message that is sent; version 0 is the newest."""
    owner, _, task = slug.rpartition("/")
    return TaskSlug(owner_slug=owner, task_slug=task, version_number=version)


def join_task(slug: TaskSlug) -> str:
    """The reverse of `split_task`, without the version."""
    return f"{slug.owner_slug}/{slug.task_slug}" if slug.owner_slug else slug.task_slug


def normalize_model(slug: str) -> str:
    """Return the form in which models are sent, compared and shown: "google/gemma@default" is "gemma-default"."""
    return slug.rpartition("/")[2].replace("@", "-")


def same_model(slug: str) -> str:
    """Return what all spellings of a model have in common: "google/gemma", "gemma@default" and "gemma" are "gemma"."""
    return normalize_model(slug).removesuffix(DEFAULT)


def full_task_url(url: str) -> str:
    """Prepend the website's address to `url` if the server left it out."""
    return f"{WEBSITE}{url}" if url.startswith("/") else url
