"""Find run files in folders and decide which of them belong to one run.

A run leaves a run file of its own, one for every sub-task that it ran, and, if a task was evaluated row by row, one
for every row.

- A run folder is a folder of the download layout, `<task>/<version>/<model>/<run_id>`. It gives one result. Its run
  files are those of the folder's task (or of the only task there is, if its slug differs), without sub-runs of
  another file, and those of the folder's model if there are any.
- Run files in any other folder are grouped by folder, task, version and model. Several files of the same row are those
  of several runs.
- A run folder without any run file has the state that the server reported, if the caller knows it. Otherwise it is
  an errored run: it was stopped, or it died before it recorded anything. If there is only the log, the state is
  unknown: the run may still be active, or only its log was requested. The log is beside the folder,
  `<model>/<run_id>.log`; earlier versions of fanbench wrote it into the folder, as `run.log`.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain
from operator import attrgetter
from pathlib import Path

from fanbench._util.layout import EARLIER_LOG, LOG
from fanbench._util.text import iso_time
from fanbench.results.combine import combine
from fanbench.results.gather import RowNames, RunFiles, gather
from fanbench.results.itemize import Found, lost_rows, row_name, with_rows
from fanbench.results.known import KnownRun, scales_of
from fanbench.results.result_set import ResultSet
from fanbench.results.run_file import NotARunFile, RunFile, read_run_file
from fanbench.results.types import Problem, RunResult
from fanbench.wire.candidates import Candidate
from fanbench.wire.messages import RunState

__all__ = ["read_results"]

SUFFIX = ".run.json"

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True, slots=True)
class _Folder:
    """A folder of the download layout; for any other folder, `task` is `None`."""

    path: Path
    task: str | None = None
    version: int | None = None
    model: str | None = None
    run_id: int | None = None


def read_results(
    paths: AnyPath | Iterable[AnyPath],
    *,
    known: Iterable[KnownRun] = (),
    read: Callable[[Path], RunFile] = read_run_file,
) -> ResultSet:
    """Read all runs below `paths`: one or several run files, or folders of any depth.

    `known` is what journals of sweeps have of their runs. The state that the server reported counts for a run that
    left no run file. Those that left nothing below `paths` have an item each. `read` reads a run file as
    `read_run_file` does.

    Never raises because of what is on the disk: what cannot be used is listed in `problems`.
    """
    # A string is one path, not the sequence of its letters.
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    known = list(known)
    problems: list[Problem] = []
    by_folder = {each.folder: each for each in known if each.folder is not None}
    sweeps = {Path(os.path.abspath(each.sweep)): str(each.sweep) for each in known}
    runs: list[RunFiles] = []
    rows = RowNames()
    for folder, (place, run_files) in _find_folders(map(Path, given), by_folder.values(), problems).items():
        sweep = next((sweeps[above] for above in folder.path.parents if above in sweeps), place)
        files, lost = _read_files(run_files, read)
        rows.add(files)
        files = with_rows(files)
        problems += lost
        runs += _runs_in(folder, sweep, files, lost, by_folder.get(folder.path), problems)
    runs = list(map(rows.name, runs))
    scales = scales_of(known)  # those of copies, too
    copies = _copies(runs)
    problems += (Problem(copy.result.path, f"the same run as {path}") for copy, path in copies)
    copied = {copy.result.path for copy, _ in copies}
    known = [each for each in known if each.folder not in copied]
    gathered = gather((run for run in runs if run.result.path not in copied), known, scales)
    gathered.runs.reverse()
    results = sorted(gathered.runs, key=lambda run: (run.task, run.full_model))
    problems.sort(key=lambda problem: str(problem.path))
    return ResultSet(tuple(results), tuple(problems), gathered.items, scales)


def _copies(runs: Iterable[RunFiles]) -> list[tuple[RunFiles, Path]]:
    """Return the runs that are copies of others in another folder, and where these are."""
    first: dict[str, RunFiles] = {}
    copies = []
    for run in runs:
        if run.digest is None or (same := first.setdefault(run.digest, run)) is run:
            continue
        # The ids of a server are unique; two runs may still be alike in all that their files tell.
        if run.result.run_id in (same.result.run_id, None) or same.result.run_id is None:
            copies.append((run, same.result.path))
    return copies


def _find_folders(
    given: Iterable[Path], known: Iterable[KnownRun], problems: list[Problem]
) -> dict[_Folder, tuple[str, list[Path]]]:
    """Return the folders in which runs left something: below which of `given` each is, and its run files."""
    folders: dict[_Folder, tuple[str, list[Path]]] = {}
    for place, path in _find(given, problems):
        if not path.is_file():
            folders.setdefault(_parse_layout(path) or _Folder(path), (place, []))
            continue
        parents = Path(os.path.abspath(path)).parents
        folder = next((found for parent in parents if (found := _parse_layout(parent))), _Folder(parents[0]))
        folders.setdefault(folder, (place, []))[1].append(path)
    # A task may delete all that its run would be known by.
    there = {folder.path for folder in folders}
    for each in known:
        if each.folder is not None and each.folder not in there and each.folder.is_dir():
            known_as = _Folder(each.folder, each.task, each.version, each.model, each.run_id)
            folders.setdefault(_parse_layout(each.folder) or known_as, (str(each.sweep), []))
    return folders


def _runs_in(
    folder: _Folder,
    place: str,
    files: list[Found],
    lost: list[Problem],
    known: KnownRun | None,
    problems: list[Problem],
) -> Iterator[RunFiles]:
    """Yield the runs that left something in `folder`, which is below `place`: `files`, and what cannot be read."""
    if folder.task is None:
        for result, rows in _loose_results(files):
            yield RunFiles.of(result, place, rows, files, lost=lost_rows(rows[0], lost))
    elif lost and not any(found.run.task == folder.task or lost_rows(found, lost) for found in files):
        yield RunFiles(_unreadable_result(folder, lost, known.state if known else None), place, known)
    elif files:
        for result, rows in _run_results(folder, files, problems):
            yield RunFiles.of(result, place, rows, files, known, lost_rows(rows[0], lost))
    else:
        yield RunFiles(_missing_result(folder, known.state if known else None), place, known)


def _read_files(paths: Iterable[Path], read: Callable[[Path], RunFile]) -> tuple[list[Found], list[Problem]]:
    found, lost = [], []
    for path in paths:
        try:
            found.append(Found(path, read(path)))
        except NotARunFile as error:
            lost.append(Problem(path, str(error)))
    return found, lost


def _find(paths: Iterable[Path], problems: list[Problem]) -> Iterator[tuple[str, Path]]:
    """Yield each run file and each run folder once, even if `paths` overlap, after the one of `paths` it is below.

    A run file that is given itself is below its folder. The folder of a run of which there is only the log does not
    exist.
    """

    def note(error: OSError) -> None:
        problems.append(Problem(Path(error.filename or path), f"cannot be read: {error.strerror}"))

    paths, seen = list(paths), set[str]()
    for path in paths:
        found = [path] if path.is_file() else []
        if not path.exists():
            problems.append(Problem(path, "no such file or folder"))
        elif path.is_dir():
            for folder, subfolders, files in os.walk(path, onerror=note):
                # A hidden folder is a download in progress.
                subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
                problems += _links_elsewhere((Path(folder, name) for name in subfolders), paths)
                if _parse_layout(Path(folder)) and (
                    any(name.endswith(".task.json") or name.startswith("__notebook") for name in files)
                    or os.listdir(folder) in ([], [EARLIER_LOG])
                ):
                    found.append(Path(folder))
                found += _lone_logs(Path(folder), files, subfolders)
                found += [Path(folder, name) for name in sorted(files) if name.endswith(SUFFIX)]
        for each in found:
            real = os.path.realpath(each)
            if real not in seen:
                seen.add(real)
                yield str(path if path.is_dir() else path.parent), each


def _links_elsewhere(folders: Iterable[Path], paths: Sequence[Path]) -> Iterator[Problem]:
    """Yield those of the `folders` that are links, and that lead to what is not below any of the `paths`."""
    for folder in filter(os.path.islink, folders):
        real = Path(os.path.realpath(folder))
        if not any(real.is_relative_to(os.path.realpath(path)) for path in paths):
            yield Problem(folder, f"a link to a folder, which is not followed: add the path {real}")


def _lone_logs(folder: Path, files: Iterable[str], subfolders: Sequence[str]) -> Iterator[Path]:
    """Yield the folders of the runs of which `folder` has only the log."""
    for name in sorted(files):
        run_id = name.removesuffix(LOG)
        if run_id == name or not _is_number(run_id) or run_id in subfolders:
            continue
        # What a task wrote may look like the layout as well.
        if _parse_layout(folder / run_id) and not any(map(_parse_layout, (folder, *folder.parents))):
            yield folder / run_id


def _parse_layout(path: Path) -> _Folder | None:
    """The parts of `path` if it is `<task>/<version>/<model>/<run_id>`."""
    folder = Path(os.path.abspath(path))
    run_id, model, version = folder.name, folder.parent.name, folder.parent.parent.name
    task = folder.parent.parent.parent.name
    if not task or not _is_number(run_id) or not (version == "unset" or _is_number(version)):
        return None
    return _Folder(folder, task, None if version == "unset" else int(version), model, int(run_id))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


_Result = tuple[RunResult, list[Found]]


def _loose_results(files: list[Found]) -> Iterator[_Result]:
    """The results of run files outside the download layout, each with its run files."""
    groups: dict[tuple[str, int | None, str], list[Found]] = defaultdict(list)
    for found in _without_sub_runs(files, files):
        run = found.run
        groups[run.task, run.task_version.version_number, run.model_version.slug].append(found)
    for rows in chain.from_iterable(map(_runs_of_rows, groups.values())):
        yield combine([file for _, file in rows], Path(os.path.abspath(rows[0].path))), rows


def _runs_of_rows(files: list[Found]) -> list[list[Found]]:
    """Tell runs apart that left their files in the same folder: the n-th file of a row is that of the n-th run.

    What rows were merged into is a run of its own.
    """
    runs: list[list[Found]] = []
    seen: Counter[str] = Counter()
    rows = [found for found in files if not found.run.merged]
    for found in sorted(rows, key=lambda each: iso_time(each.run.start_time) if each.run.start_time else ""):
        name = row_name(*found)
        if seen[name] == len(runs):
            runs.append([])
        runs[seen[name]].append(found)
        seen[name] += bool(name)
    runs += ([found] for found in files if found.run.merged)
    return [sorted(each, key=attrgetter("path")) for each in runs]


def _run_results(folder: _Folder, files: list[Found], problems: list[Problem]) -> Iterator[_Result]:
    """The result of a run folder and its run files, or none if its files do not show which of them is meant."""
    tasks = sorted({file.task for _, file in files})
    chosen = (
        files if tasks == [files[0][1].task] else [found for found in files if found[1].task == folder.task]
    )
    if not chosen:
        what = f"no run file of task {folder.task}, only of {', '.join(tasks)}"
        problems.append(Problem(folder.path, what))
        return
    rows = _without_sub_runs(chosen, files)
    # A run file has the model only, not its effort.
    model = Candidate.parse(folder.model or "").model
    rows = [found for found in rows if found.run.model == model] or rows
    rows = [found for found in rows if found.run.merged][:1] or rows
    yield _in_folder(folder, combine([file for _, file in rows], folder.path)), rows


def _without_sub_runs(chosen: list[Found], files: list[Found]) -> list[Found]:
    """Leave out the runs that are also recorded within another one of `files`, unless all of the `chosen` are."""
    parts = {run.identity for _, file in files for run in file.nested() if run.start_time}
    return [found for found in chosen if found.run.identity not in parts] or chosen


def _missing_result(folder: _Folder, reported: RunState | None) -> RunResult:
    """The result of a run that left no run file. Its state is the one `reported` by the server, if that is known."""
    log_only = not folder.path.is_dir()
    with suppress(OSError):
        log_only = log_only or os.listdir(folder.path) == [EARLIER_LOG]
    state, error = RunState.ERRORED, "the run was stopped, or it ended before it recorded anything"
    if log_only:
        state, error = RunState.UNSPECIFIED, "only the log was found"
    elif reported is RunState.COMPLETED:
        error = "the run completed without one"
    state = reported or state
    name = folder.task or ""
    result = RunResult(
        task=name, name=name, model="", state=state, error=f"no run file: {error}", path=folder.path
    )
    return _in_folder(folder, result)


def _unreadable_result(folder: _Folder, lost: Sequence[Problem], reported: RunState | None) -> RunResult:
    """The result of a run of whose run files none can be read."""
    name, state = folder.task or "", reported or RunState.COMPLETED
    error = f"the run file cannot be read: {lost[0].what}"
    result = RunResult(
        task=name, name=name, model="", state=state, rows=len(lost), error=error, path=folder.path
    )
    return _in_folder(folder, result)


def _in_folder(folder: _Folder, result: RunResult) -> RunResult:
    """Name the result after its folder rather than after its run file."""
    task, model = folder.task or result.task, folder.model or result.model
    return replace(result, task=task, version=folder.version, model=model, run_id=folder.run_id)
