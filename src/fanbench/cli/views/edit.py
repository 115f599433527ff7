"""What `fanbench tasks edit` reads and shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fanbench._util.files import read_text
from fanbench._util.text import one_line
from fanbench.cli.command import Settings
from fanbench.cli.exits import print_error
from fanbench.cli.session import call, finish, split
from fanbench.cli.views.records import page_record
from fanbench.errors import FanbenchError, UsageError
from fanbench.operations.metadata import Edited, edit_tasks
from fanbench.wire.messages import Citation
from fanbench.wire.metadata import Metadata

__all__ = ["FIELDS", "edit_and_show", "requested"]

FIELDS = ("task", "owner", "version", "changed", "before", "after", "stored_otherwise", "unknown_tags")

_CITATION = re.compile(r"(?P<title>[^<>]*)<(?P<url>[^<>]+)>")
# Longer values are cut where people read.
_WIDTH = 60


def requested(
    description: str | None,
    description_file: Path | None,
    *,
    tags: Sequence[str],
    no_tags: bool,
    provenance: str | None,
    citations: Sequence[str],
    no_citations: bool,
) -> Metadata:
    """The change that options ask for.

    Raises:
        UsageError: Two of them contradict each other, nothing is to be changed, or a value cannot be read.
    """
    for flag, given, other, is_other in (
        ("--description", description is not None, "--description-file", description_file is not None),
        ("--tag", bool(tags), "--no-tags", no_tags),
        ("--citation", bool(citations), "--no-citations", no_citations),
    ):
        if given and is_other:
            raise UsageError(f"{flag} and {other} contradict each other.", hint="Remove one of them.")
    if description_file is not None:
        description = read_text(description_file).strip()
    change = Metadata(
        description=description,
        tags=_tags(tags) if tags or no_tags else None,
        provenance=provenance,
        citations=tuple(map(_citation, citations)) if citations or no_citations else None,
    )
    if not change.given:
        raise UsageError(
            "Nothing was given to change.", hint="Add --description, --tag, --provenance or --citation."
        )
    return change


def _tags(tags: Sequence[str]) -> tuple[str, ...]:
    if not all(tag.strip() for tag in tags):
        raise UsageError("A tag is empty.", hint="Use --no-tags to remove all tags.")
    return tuple(tags)


def _citation(text: str) -> Citation:
    match = _CITATION.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a citation.", hint="Write --citation 'TITLE <https://URL>'.")
    return Citation(title=match["title"].strip(), url=match["url"].strip())


def edit_and_show(
    settings: Settings, task_names: Sequence[str], change: Metadata, *, version: int, dry_run: bool
) -> None:
    if version and change.tags is not None:
        raise UsageError(
            "Tags belong to a task, not to one of its versions.", hint="Remove --version or the tags."
        )
    outcomes = call(
        settings,
        lambda client: edit_tasks(client, task_names, change, version=version, dry_run=dry_run),
    )
    edited, errors = split(outcomes)
    for outcome in outcomes:
        if not isinstance(outcome, FanbenchError):
            _show(settings, outcome, dry_run=dry_run)
        elif len(outcomes) > 1:
            print_error(outcome)
    settings.output.records([_record(one) for one in edited], FIELDS)
    finish(errors, len(outcomes), "tasks")
    if unknown := sorted({tag for one in edited for tag in one.unknown_tags}):
        raise FanbenchError(
            f"The server does not know these tags: {', '.join(map(one_line, unknown))}. They were left out.",
            hint=next(filter(None, map(_hint_to_put_back, edited)), None),
        )


def _hint_to_put_back(edited: Edited) -> str:
    """The command that puts back the tags that have made room for unknown ones; empty if none has."""
    before, after = edited.before.tags, edited.after.tags if edited.after else []
    if not edited.unknown_tags or set(before) <= set(after):
        return ""
    tags = " ".join(f"--tag {shlex.quote(one_line(tag))}" for tag in before)
    return f"To put back the tags that {edited.slug} had: `fanbench tasks edit {edited.slug} {tags}`"


def _show(settings: Settings, edited: Edited, *, dry_run: bool) -> None:
    out, changed = settings.output, edited.changed
    if changed:
        out.text(f"{edited.slug}:{' (nothing is changed yet)' if dry_run else ''}")
        before, after = Metadata.of(edited.before).given, _after(edited).given
        out.rows([[f"  {name}", f"{_text(before[name])} → {_text(after[name])}"] for name in changed])
    else:
        out.text(f"{edited.slug}: nothing to change")
    if edited.stored_otherwise:
        out.note(f"  The server has not stored this as it was sent: {', '.join(edited.stored_otherwise)}")


def _after(edited: Edited) -> Metadata:
    """What the page says after the change, as the server stored it; in a dry run, as it is asked for."""
    before = Metadata.of(edited.before)
    return (
        Metadata.of(edited.after) if edited.after is not None else edited.change.stored().applied_to(before)
    )


def _text(value: Any) -> str:
    """A value in one line, cut if it is long."""
    match value:
        case str():
            text = one_line(value)
        case [Citation(), *_]:
            text = ", ".join(one_line(each.text) for each in value)
        case _:
            text = one_line(", ".join(value))
    return (text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…") or "(none)"


def _record(edited: Edited) -> dict[str, Any]:
    slug, names = edited.before.slug, list(edited.changed)
    before, after = page_record(Metadata.of(edited.before)), page_record(_after(edited))
    return {
        "task": slug.task_slug,
        "owner": slug.owner_slug or None,
        "version": slug.version_number or None,
        "changed": names,
        "before": {name: before[name] for name in names},
        "after": {name: after[name] for name in names},
        "stored_otherwise": list(edited.stored_otherwise),
        "unknown_tags": list(edited.unknown_tags),
    }
