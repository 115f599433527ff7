"""Find models and tasks by the names that users write, which may lack the owner."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fanbench._util.text import is_pattern
from fanbench.errors import NoResults, UnknownModel, UsageError
from fanbench.wire.candidates import normalize_label, same_label
from fanbench.wire.slugs import fits, slugify_task

__all__ = ["find_model", "find_models", "find_task", "find_tasks"]


def find_models(asked: Iterable[str], models: Sequence[str]) -> list[str]:
    """Return those of `models` that the names and patterns `asked` for mean, without duplicates.

    Raises:
        UnknownModel: A name or a pattern matches none.
    """
    return list(dict.fromkeys(model for name in asked for model in _matches(name, models)))


def find_model(asked: str, models: Sequence[str]) -> str:
    """Return the only one of `models` that is called so.

    Raises:
        UnknownModel: None is.
        UsageError: Several are.
    """
    found = _matches(asked, models)
    if len(found) > 1:
        raise UsageError(f"{asked} may be {' or '.join(found)}.", hint="Write the model with its owner.")
    return found[0]


def _matches(asked: str, models: Sequence[str]) -> list[str]:
    # What follows an @ is an effort, or a version, which results have after a hyphen.
    plain = asked.replace("@", "-")
    if is_pattern(asked):
        found = [[model for model in models if fits(model, pattern)] for pattern in (asked, plain)]
    else:
        owner, slash, _ = asked.rpartition("/")
        found = [_called(name, models) for name in (f"{owner}{slash}{normalize_label(asked)}", plain)]
    if not any(found):
        raise UnknownModel(f"There are no results of {asked}. The models are {', '.join(models) or 'none'}.")
    return found[0] or found[1]


def _called(name: str, models: Sequence[str]) -> list[str]:
    if name in models:
        return [name]
    owner = name.rpartition("/")[0]
    return [
        model
        for model in models
        if same_label(model) == same_label(name) and (not owner or model.rpartition("/")[0] in ("", owner))
    ]


def find_task(asked: str, tasks: Iterable[str]) -> str:
    """Return the only one of the slugs `tasks` that is called so, with or without its owner.

    Raises:
        NoResults: None is.
        UsageError: Several are, or the name is no task's.
    """
    slugs = sorted(set(tasks))
    name = slugify_task(asked)
    owner, _, bare = name.rpartition("/")
    found = [task for task in slugs if task == name] or [
        task for task in slugs if task == bare or (not owner and task.rpartition("/")[2] == bare)
    ]
    if not found:
        raise _no_results(asked, slugs)
    if len(found) > 1:
        raise UsageError(f"{asked} may be {' or '.join(found)}.", hint="Write the task with its owner.")
    return found[0]


def find_tasks(asked: Iterable[str], tasks: Iterable[str]) -> list[str]:
    """Return those of the slugs `tasks` that the names and patterns `asked` for mean, without duplicates.

    Raises:
        NoResults: A name or a pattern matches none.
        UsageError: A name may be several, or is no task's.
    """
    slugs = sorted(set(tasks))
    found: dict[str, None] = {}
    for name in asked:
        if not is_pattern(name):
            found[find_task(name, slugs)] = None
        elif matches := [slug for slug in slugs if fits(slug, name)]:
            found |= dict.fromkeys(matches)
        else:
            raise _no_results(name, slugs)
    return list(found)


def _no_results(asked: str, tasks: Iterable[str]) -> NoResults:
    return NoResults(f"There are no results of task '{asked}'. The tasks are {', '.join(tasks) or 'none'}.")
