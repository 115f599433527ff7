"""The results in folders, with what the journals of sweeps have of their runs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fanbench import results
from fanbench._util.text import iso_time
from fanbench.errors import JournalError
from fanbench.results import KnownRun, Problem, ResultSet
from fanbench.results.cache import Cache

if TYPE_CHECKING:
    from fanbench.sweeps.attempts import Attempt, PlannedRun, TaskRecord
    from fanbench.sweeps.history import History

__all__ = ["known_runs", "read_journals", "read_results"]

AnyPath = str | os.PathLike[str]

# Where a sweep keeps its journal. Without one, neither SQLite nor the rest of the journal's module is imported.
_OWN = ".fanbench"


def read_results(paths: AnyPath | Iterable[AnyPath]) -> ResultSet:
    """Read the results of all runs below `paths`: one or several run files, or folders of any depth.

    `items` has every attempt of a model at an item of a task, `runs` the result of every run. Where a folder is that of
    a sweep, is in one, or has some, the journal tells which runs were planned, made again, or left nothing.

    Results of many bytes of run files are kept in the folder, if it can be written, for the next time.

    Never raises because of what is on the disk: what cannot be used is listed in `problems`.
    """
    given = [Path(path) for path in ([paths] if isinstance(paths, str | os.PathLike) else paths)]
    known, problems = read_journals(given)
    # Several folders are not kept together: what their items are depends on all of them.
    cache = Cache(given[0], known) if len(given) == 1 and given[0].is_dir() and not problems else None
    read = partial(results.read_results, given, known=known)
    if cache is not None and (kept := cache.load(read)) is not None:
        return kept
    found = read()
    if cache is not None:
        cache.save(found)
    return replace(found, problems=(*problems, *found.problems))


def read_journals(
    given: Sequence[Path], histories: dict[Path, History] | None = None
) -> tuple[list[KnownRun], list[Problem]]:
    """Return the planned runs of the sweeps that are below `given`, or that have these, and all attempts at them.

    `histories`, by the folders of the sweeps, are brought up to date.
    """
    sweeps: dict[Path, Path] = {}
    for path in given:
        for root in _sweeps_of(path):
            sweeps.setdefault(Path(os.path.realpath(root)), root)
    known: list[KnownRun] = []
    problems: list[Problem] = []
    for root in sweeps.values():
        try:
            runs = list(_from_journal(root, histories))
        except JournalError as error:
            problems.append(Problem(root / _OWN, str(error)))
            continue
        # Where only parts of a sweep are given, what left nothing belongs to none of them.
        known += runs if _is_in(root, given) else (run for run in runs if _is_in(run.folder, given))
    return known, problems


def _is_in(folder: Path | None, given: Iterable[Path]) -> bool:
    if folder is None:
        return False
    real = Path(os.path.realpath(folder))
    return any(real.is_relative_to(os.path.realpath(path)) for path in given)


def _sweeps_of(path: Path) -> Iterator[Path]:
    """Yield the folder of the sweep that `path` is in, or else those of the sweeps below it."""
    above = next(
        (folder for folder in (path, *Path(os.path.abspath(path)).parents) if _has_journal(folder)), None
    )
    if above is not None:
        yield above
        return
    for place, subfolders, _ in os.walk(path):
        is_sweep = _has_journal(Path(place))
        if is_sweep:
            yield Path(place)
        # The runs of a task are in folders of its versions.
        is_task = any(name == "unset" or name.isdecimal() for name in subfolders)
        subfolders[:] = [] if is_task or is_sweep else sorted(n for n in subfolders if n[:1] != ".")


def _has_journal(folder: Path) -> bool:
    return (folder / _OWN / "journal.sqlite").is_file()


def _from_journal(root: Path, histories: dict[Path, History] | None) -> Iterator[KnownRun]:
    """Yield the planned runs of the sweep in `root`, and all attempts at them, by task and model as planned.

    Raises:
        JournalError: The journal cannot be read.
    """
    from fanbench.sweeps.attempts import expand_runs
    from fanbench.sweeps.history import History
    from fanbench.sweeps.journal import Journal
    from fanbench.sweeps.resume import read_saved

    journal = Journal.read(root)
    if journal is None:
        return
    with journal:
        text, tasks, attempts = journal.saved_spec(), journal.tasks(), journal.attempts()
        if histories is not None:
            histories.setdefault(root, History()).follow(journal)
    saved = read_saved(text) if text is not None else None
    planned = expand_runs(saved.tasks, saved.models, saved.repeats) if saved is not None else []
    scales = saved.scales if saved is not None else {}
    identities = {attempt.planned_run.task: attempt.identity for attempt in attempts}
    identities |= {slug: record.identity for slug, record in tasks.items()}
    places = {(each.task, each.model): place for place, each in enumerate(planned)}
    runs = known_runs(root, planned, identities, tasks, attempts)
    for run in sorted(runs, key=lambda run: places.get((run.task, run.model), len(places))):
        yield replace(run, scale=scales.get(run.task))


def known_runs(
    root: Path,
    planned: Iterable[PlannedRun],
    identities: Mapping[str, str],
    tasks: Mapping[str, TaskRecord],
    attempts: Iterable[Attempt],
) -> Iterator[KnownRun]:
    """Yield what the journal of the sweep in `root` has of each attempt, and of planned runs without any.

    `identities` are those of the contents of the tasks that are to be run, and `tasks` the records of the journal.
    """
    from fanbench.sweeps.attempts import Phase, by_planned_run

    made = by_planned_run(one for one in attempts if one.phase is not Phase.VOID)
    for each in planned:
        identity = identities.get(each.task, "")
        if any(one.identity == identity for one in made.get(each, ())):
            continue
        record = tasks.get(each.task)
        failed = record is not None and record.phase.unusable and record.identity == identity
        yield KnownRun(
            sweep=root,
            task=each.task,
            model=each.model,
            content=_content(identity),
            repeat=each.repeat,
            error=f"push: {record.error}" if record is not None and failed else "",
        )
    for mine in made.values():
        last = {one.identity: one.number for one in mine}
        for one in mine:
            yield _known_run(root, one, superseded=one.number < last[one.identity])


def _known_run(root: Path, attempt: Attempt, *, superseded: bool) -> KnownRun:
    from fanbench._util.layout import folder_of_log
    from fanbench.sweeps.attempts import Phase

    planned, folder = attempt.planned_run, None
    if attempt.output is not None:
        folder = Path(attempt.output.path)
    elif attempt.log is not None:
        folder = folder_of_log(Path(attempt.log.path))
    return KnownRun(
        sweep=root,
        folder=None if folder is None else Path(os.path.abspath(root / folder)),
        task=planned.task,
        model=planned.model,
        content=_content(attempt.identity),
        version=attempt.version or None,
        run_id=attempt.run_id,
        repeat=planned.repeat,
        attempt=attempt.number,
        superseded=superseded,
        state=attempt.state,
        error=attempt.error if attempt.phase is not Phase.CANCELLED else "The sweep cancelled it.",
        cancelled=attempt.phase is Phase.CANCELLED,
        scheduled=iso_time(datetime.fromtimestamp(attempt.intended_at, UTC)),
        result=attempt.result,
    )


def _content(identity: str) -> str:
    """Return `v3` for version 3 of a task that the sweep did not push: outside of a sweep, it is the same."""
    from fanbench.sweeps.attempts import version_identity

    prefix = version_identity(0).removesuffix("0")
    return f"v{identity.removeprefix(prefix)}" if identity.startswith(prefix) else identity
