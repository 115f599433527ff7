"""The parts of the server that need no server: verdicts, logs, zips, pages, the catalogue, environments."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import zipfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fanbench.errors import LocalServerError, UsageError
from fanbench.local.carriers.job import Outcome
from fanbench.local.executor.environment import model_variables, run_environment
from fanbench.local.executor.forkserver_executor import ForkserverExecutor
from fanbench.local.executor.job import Exit, Job, NotebookOutcome
from fanbench.local.executor.mounts import attach
from fanbench.local.executor.notebook import format_failure
from fanbench.local.executor.sdk import LazyModels
from fanbench.local.logs import LiveLog, stored_as_list
from fanbench.local.models.catalog import Catalog, read_catalog, write_catalog
from fanbench.local.models.embedded import Embedded
from fanbench.local.models.provision import provide_endpoint, provide_file
from fanbench.local.models.scripted import Rule, Scripted
from fanbench.local.models.upstream import Upstream
from fanbench.local.verdicts import (
    failure_of,
    judge_creation,
    judge_run,
    read_outcome,
    read_run_files,
    result_of_run,
)
from fanbench.local.wire import WireError, page_of
from fanbench.local.zips import write_output_zip
from fanbench.results import read_results
from fanbench.wire.messages import CreationState, RunState

# --- Verdicts ---


def run_file(name: str = "My Task", state: str = "COMPLETED", **fields: Any) -> dict[str, Any]:
    return {
        "taskVersion": {"name": name},
        "modelVersion": {"slug": "a/b"},
        "state": f"BENCHMARK_TASK_RUN_STATE_{state}",
        **fields,
    }


def write_run_files(folder: Path, *files: dict[str, Any] | str) -> Path:
    for number, file in enumerate(files):
        # Named against the order of time: the newest counts, not the last of the alphabet.
        path = folder / f"{9 - number}.run.json"
        path.write_text(file if isinstance(file, str) else json.dumps(file))
        os.utime(path, (number, number))
    return folder


def outcome_of(folder: Path, failure: str | None = None) -> Outcome:
    return Outcome(failure=failure, run_files=read_run_files(folder))


@pytest.mark.parametrize(
    ("files", "failure", "state", "words"),
    [
        ([run_file()], None, RunState.COMPLETED, ""),
        ([run_file()], "boom", RunState.ERRORED, "boom"),
        ([], None, RunState.ERRORED, "no .run.json"),
        (["{damaged"], None, RunState.ERRORED, "no .run.json"),
        ([run_file(state="ERRORED", errorMessage="Err: x")], None, RunState.ERRORED, "Err: x"),
        ([run_file(state="ERRORED", errorMessage="MemoryError")], None, RunState.ERRORED, "--run-memory"),
        (
            [],
            "ModuleNotFoundError: No module named 'a.b'",
            RunState.ERRORED,
            "\nThe module a.b is not installed",
        ),
        ([run_file(state="ERRORED"), run_file()], None, RunState.COMPLETED, ""),
        ([run_file("Other", state="ERRORED"), run_file()], None, RunState.COMPLETED, ""),
        ([run_file("Other")], None, RunState.COMPLETED, ""),
        (
            [run_file(state="ERRORED", errorMessage="old"), run_file(state="ERRORED", errorMessage="new")],
            None,
            RunState.ERRORED,
            "new",
        ),
    ],
)
def test_the_state_of_a_run(
    tmp_path: Path, files: list[Any], failure: str | None, state: RunState, words: str
) -> None:
    """A run is judged by the run files of its own task, never by the exit code alone."""
    found, error = judge_run(
        "my-task", outcome_of(write_run_files(tmp_path, *files), failure), empty_log(tmp_path)
    )
    assert found is state
    assert words in error
    assert bool(error) == (state is RunState.ERRORED)


TRUE, FALSE = ({"type": "AGGREGATED", "booleanResult": True}, {"type": "AGGREGATED"})


def number(value: object) -> dict[str, Any]:
    return {"type": "AGGREGATED", "numericResult": {"value": value, "confidenceInterval": 0.1}}


_NAMED = {"taskVersion": {"name": "My Task"}, "pyRunId": "r", "state": "BENCHMARK_TASK_RUN_STATE_COMPLETED"}


@pytest.mark.parametrize(
    ("files", "result"),
    [
        ([run_file(results=[TRUE])], True),
        ([run_file(results=[FALSE])], False),
        ([run_file(results=[number(0.25)])], 0.25),
        ([run_file(results=[{"type": "AGGREGATED", "numericResult": {}}])], 0.0),
        ([run_file(results=[number("NaN")])], None),
        ([run_file(results=[{"dictResult": {"a": 1}}])], None),
        ([run_file(results=[])], None),
        ([run_file(results=[{"booleanResult": True}, number(0.5)])], 0.5),
        ([run_file(results=[{"booleanResult": True}, {"booleanResult": False}])], None),
        ([run_file(results=[TRUE]), run_file(results=[FALSE]), run_file(results=[TRUE])], 2 / 3),
        ([run_file(results=[number(0.5)]), run_file(results=[number(1.0)]), run_file(results=[FALSE])], 0.75),
        ([run_file(results=[number(1)]), run_file(state="ERRORED", results=[])], 1.0),
        ([run_file("Other", results=[number(7)]), run_file(results=[TRUE])], True),
        ([run_file("Other", results=[number(7)])], 7.0),
        ([run_file(results=[number(1)], modelVersion={"slug": "a/judge"}), run_file(results=[TRUE])], True),
        ([run_file(results=[FALSE]), run_file(results=[number(0.5)], subruns=[_NAMED])], 0.5),
    ],
)
def test_the_result_of_a_run_is_that_of_its_output(
    tmp_path: Path, files: list[Any], result: bool | float | None
) -> None:
    """The server says what clients compute from the run files that they download."""
    folder = tmp_path / "my-task/1/b/7"
    folder.mkdir(parents=True)
    rows = [
        {"pyRunId": f"r{at}", "startTime": f"2026-01-01T00:00:0{at}Z", **file}
        for at, file in enumerate(files)
    ]
    write_run_files(folder, *rows)
    assert result_of_run("my-task", "b", read_run_files(folder)) == result
    (downloaded,) = read_results(tmp_path).runs
    value = downloaded.value if isinstance(downloaded.value, bool | float) else None
    assert value == result or (value is not None and math.isnan(value) and result is None)


def empty_log(folder: Path) -> Path:
    (folder / "log.jsonl").touch()
    return folder / "log.jsonl"


MISSING = "FileNotFoundError: [Errno 2] No such file or directory: '/kaggle/input/x'"


@pytest.mark.parametrize(
    ("noted", "words"),
    [
        ("", "only datasets that the push attached with -d"),
        (
            "[fanbench] This run has no /kaggle of its own: mounts are not possible here (denied).\n",
            "(denied)",
        ),
    ],
)
def test_a_file_that_is_missing_below_kaggle_is_explained(tmp_path: Path, noted: str, words: str) -> None:
    """The last line of the error says that a dataset is not attached, or that the run has no /kaggle."""
    log = LiveLog(tmp_path / "log.jsonl", 10_000)
    log.open()
    log.append("stderr", noted.encode())
    log.close()
    for judge in (judge_run, judge_creation):
        _, error = judge("my-task", Outcome(failure=f"Traceback\n{MISSING}\n"), log.path)
        last = error.splitlines()[-1]
        assert last.startswith(MISSING)
        assert words in last
    write_run_files(tmp_path, run_file(state="ERRORED", errorMessage=MISSING))
    assert words in judge_creation("my-task", outcome_of(tmp_path), log.path)[1]


def test_a_traceback_has_only_the_users_frames() -> None:
    """The traceback of a cell has no frame of the machinery that ran it, also where one exception caused another."""
    models = LazyModels(["a/one"], load=str)

    def cell() -> None:
        try:
            models["b/two"]
        except KeyError as error:
            raise ValueError("no") from error

    with pytest.raises(ValueError) as caught:
        cell()
    shown = format_failure(caught.value)
    assert "local/executor" not in shown
    assert shown.count("in cell") == 2
    assert "Unknown model 'b/two'" in shown


def test_a_result_that_cannot_be_stored_is_named(tmp_path: Path) -> None:
    """If the SDK logged why it could not write a run file, and the task has none, the errors of a run and of a
    creation have the reason, also beside run files of other tasks.
    """
    log = LiveLog(tmp_path / "log.jsonl", 10_000)
    log.append(
        "stderr", b"WARNING:kaggle_benchmarks.tasks:Failed to store run Run #1: Couldn't parse NaN.\nmore\n"
    )
    log.close()
    for judge in (judge_run, judge_creation):
        _, error = judge("my-task", outcome_of(tmp_path), log.path)
        reason = "The SDK could not write a run file: Couldn't parse NaN. Return a bool"
        assert error.splitlines()[-1].startswith(reason)
    write_run_files(tmp_path, run_file("Part"), run_file("Whole"))
    for judge, state in ((judge_run, RunState.ERRORED), (judge_creation, CreationState.VALIDATION_FAILED)):
        found, error = judge("my-task", outcome_of(tmp_path), log.path)
        assert found is state
        assert error.startswith(
            "The notebook left run files of part, whole, but none of the task my-task. The SDK"
        )
        assert "a run file: Couldn't parse NaN. Return a bool" in error


@pytest.mark.parametrize(
    ("files", "failure", "state"),
    [
        ([run_file()], None, CreationState.COMPLETED),
        ([run_file(state="ERRORED"), run_file()], None, CreationState.COMPLETED),
        ([run_file()], "boom", CreationState.ERRORED),
        ([], None, CreationState.KERNEL_WITHOUT_RUN),
        ([run_file("Other")], None, CreationState.VALIDATION_FAILED),
        ([run_file(modelVersion={})], None, CreationState.NO_MODEL_SPECIFIED),
        ([{"foreign": 1}], None, CreationState.VALIDATION_FAILED),
    ],
)
def test_the_state_of_a_creation(
    tmp_path: Path, files: list[Any], failure: str | None, state: CreationState
) -> None:
    """A creation is judged by whether the pushed task has a run on a model."""
    found, _ = judge_creation(
        "my-task", outcome_of(write_run_files(tmp_path, *files), failure), empty_log(tmp_path)
    )
    assert found is state


def test_a_trial_run_that_errored_is_mentioned(tmp_path: Path) -> None:
    """A creation whose trial run errored is COMPLETED, because other models may succeed, and has the error."""
    found = judge_creation(
        "my-task",
        outcome_of(write_run_files(tmp_path, run_file(state="ERRORED", errorMessage="a\nOops"))),
        empty_log(tmp_path),
    )
    assert found == (CreationState.COMPLETED, "The task raised in its trial run: Oops")


@pytest.mark.parametrize(
    ("outcome", "code", "limit", "words"),
    [
        (NotebookOutcome(), 0, None, None),
        (NotebookOutcome(error="Boom"), 1, None, "Boom"),
        (None, 0, None, "exit code 0 before"),
        (None, 3, None, "exit code 3 before"),
        (None, -11, None, "SIGSEGV"),
        (NotebookOutcome(error="KeyboardInterrupt"), 1, 5.0, "after 5 s"),
        (None, -9, 5.0, "after 5 s"),
        (None, -40, None, "signal 40"),
    ],
)
def test_how_a_process_ended(
    outcome: NotebookOutcome | None, code: int, limit: float | None, words: str | None
) -> None:
    """The process's own report counts before its exit code, and a time limit before both."""
    said = failure_of(outcome, Exit(code=code), limit)
    assert said is None if words is None else words in str(said)


# --- Logs ---


@given(data=st.binary(max_size=300), cuts=st.lists(st.integers(0, 300), max_size=6))
def test_a_log_is_the_text_however_it_was_cut(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cuts: list[int]
) -> None:
    """The entries of a log add up to the decoded output, wherever the pipe cut it, live and stored."""
    path = tmp_path_factory.mktemp("log") / "1.jsonl"
    log = LiveLog(path, limit=10_000)
    log.open()
    points = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    for start, end in pairwise(points):
        if end > start:
            log.append("stdout", data[start:end])
    log.append("stdout", b"")
    log.close()

    async def read() -> tuple[list[bytes], bytes]:
        live = [entry async for entry in log.follow()]
        return live, b"".join([piece async for piece in stored_as_list(path)])

    live, stored = anyio.run(read)
    wanted = data.decode("utf-8", "replace")
    assert "".join(json.loads(entry)["data"] for entry in live) == wanted
    assert "".join(entry["data"] for entry in json.loads(stored)) == wanted


@pytest.mark.anyio
async def test_a_follower_gets_each_entry_as_it_comes(tmp_path: Path) -> None:
    """A client that follows from the start and one that comes late both get every entry once."""
    log = LiveLog(tmp_path / "1.jsonl", limit=1000)
    log.open()
    got: dict[str, list[str]] = {"early": [], "late": []}

    async def follow(name: str) -> None:
        async for entry in log.follow():
            got[name].append(json.loads(entry)["data"])

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow, "early")
        await anyio.wait_all_tasks_blocked()
        log.append("stdout", b"one\n")
        await anyio.wait_all_tasks_blocked()
        assert got["early"] == ["one\n"]
        tasks.start_soon(follow, "late")
        log.append("stderr", b"two\n")
        log.close()
    assert got == {"early": ["one\n", "two\n"], "late": ["one\n", "two\n"]}


# --- Zips ---


def output_zip(folder: Path, *, include_source: bool) -> Path:
    target = folder.parent / f"{folder.name}-{include_source}.zip"
    write_output_zip(folder, target, include_source=include_source)
    return target


def test_a_zip_from_another_machine_gives_the_same_zip_without_notebooks(tmp_path: Path) -> None:
    """Without the run's folder, the zip without notebooks is made of the other, which stays as it is."""
    run = tmp_path / "run"
    (run / "working").mkdir(parents=True)
    (run / "working/__notebook__.ipynb").write_text("a file of the run's")
    (run / "working/b.bin").write_bytes(bytes(range(256)) * 100)
    for name in ("source.ipynb", "executed.ipynb"):
        (run / name).write_text("{}")
    plain, full = tmp_path / "1.zip", tmp_path / "1-source.zip"

    def write_both() -> list[bytes]:
        write_output_zip(run, full, include_source=True)
        write_output_zip(run, plain, include_source=False)
        return [plain.read_bytes(), full.read_bytes()]

    expected = write_both()
    plain.unlink()
    shutil.rmtree(run)
    assert write_both() == expected
    assert zipfile.ZipFile(plain).namelist() == ["__notebook__.ipynb", "b.bin"]


def test_nothing_but_regular_files_is_read_or_sent(tmp_path: Path) -> None:
    """Links, pipes and sockets of a run, wherever they are, are left out, and nobody waits for a pipe."""
    secret = tmp_path / "secret.run.json"
    secret.write_text(json.dumps(run_file(errorMessage="a secret")))
    run = tmp_path / "run"
    working = run / "working"
    (working / "sub").mkdir(parents=True)
    (working / "sub/mine.txt").write_text("mine")
    (working / "link.run.json").symlink_to(secret)
    (working / "others").symlink_to(tmp_path)
    os.mkfifo(working / "pipe.run.json")
    os.mkfifo(run / "executed.ipynb")
    (run / "source.ipynb").symlink_to(secret)
    (run / "outcome.json").symlink_to(secret)
    assert read_run_files(working) == []
    assert read_outcome(run / "outcome.json") is None
    assert zipfile.ZipFile(output_zip(run, include_source=True)).namelist() == ["sub/mine.txt"]
    shutil.rmtree(working)
    working.symlink_to(tmp_path)
    assert read_run_files(working) == []
    assert zipfile.ZipFile(output_zip(run, include_source=False)).namelist() == []


def test_folders_of_any_depth_are_no_failure(tmp_path: Path) -> None:
    """A run whose folders are too deep for a path has the output that can be reached."""
    working = tmp_path / "run/working"
    working.mkdir(parents=True)
    (working / "mine.txt").write_text("mine")
    here = os.open(working, os.O_RDONLY)
    for _ in range(2500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert read_run_files(working) == []
    assert zipfile.ZipFile(output_zip(tmp_path / "run", include_source=False)).namelist() == ["mine.txt"]
    subprocess.run(["rm", "-rf", str(working)], check=True)  # deeper than what Python can delete


def test_the_same_output_makes_the_same_zip(tmp_path: Path) -> None:
    """The same output gives the same bytes, with the notebooks only on request."""
    for name in ("a", "b"):
        (tmp_path / name / "working/sub").mkdir(parents=True)
        (tmp_path / name / "working/x.txt").write_text("x")
        (tmp_path / name / "working/sub/y.txt").write_text("y")
        (tmp_path / name / "source.ipynb").write_text("{}")
    plain = [output_zip(tmp_path / name, include_source=False) for name in ("a", "b")]
    assert plain[0].read_bytes() == plain[1].read_bytes()
    assert zipfile.ZipFile(plain[0]).namelist() == ["sub/y.txt", "x.txt"]
    full = output_zip(tmp_path / "a", include_source=True)
    assert zipfile.ZipFile(full).namelist()[2:] == ["__notebook__.ipynb", "__notebook_source__.ipynb"]
    assert sorted(p.name for p in (tmp_path / "a").iterdir() if p.suffix == ".tmp") == []


def test_strange_file_names_are_zipped(tmp_path: Path) -> None:
    """Names that some system cannot unpack are replaced by unique portable ones."""
    working = tmp_path / "working"
    working.mkdir()
    strange = [
        os.fsdecode(b"bad-\xff.txt"),
        "a\\b.txt",
        "a:b.txt",
        "new\nline",
        "..x",
        "C:x",
        " ",
        "dots...",
        "A",
        "a",
    ]
    for name in [*strange, "good.txt"]:
        (working / name).write_text(name, errors="replace")
    names = zipfile.ZipFile(output_zip(tmp_path, include_source=False)).namelist()
    assert {"good.txt", "a_b.txt", "a_b.txt-2", "new_line", "..x", "_"} <= {*names}
    assert len({name.lower() for name in names}) == len(strange) + 1
    assert not [name for name in names if set(name) & set("\\:\n") or name != name.strip()]


def test_a_folder_that_the_task_removed_is_an_empty_zip(tmp_path: Path) -> None:
    """A run whose working folder no longer exists has an empty output."""
    assert zipfile.ZipFile(output_zip(tmp_path / "gone", include_source=True)).namelist() == []


# --- Pages ---


@given(count=st.integers(0, 40), size=st.integers(1, 12))
def test_pages_add_up(count: int, size: int) -> None:
    """Following the page tokens gives every row once, in order."""
    rows, token, seen = list(range(count)), "", []
    for _ in range(count + 1):
        page, token = page_of(rows, size, token, 0)
        seen += page
        if not token:
            break
    assert seen == rows


@given(token=st.text(min_size=1).filter(lambda t: not (t.isascii() and t.isdigit())))
def test_a_foreign_page_token_is_refused(token: str) -> None:
    """An invalid page token is an error of the caller, with status 400."""
    with pytest.raises(WireError) as caught:
        page_of([1], 1, token, 0)
    assert caught.value.status == 400


# --- The catalogue ---

words = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,10}", fullmatch=True)
slugs = st.builds("{}/{}".format, words, words)
urls = st.builds("https://{}.example:{}/v1".format, st.text("abc", min_size=1), st.integers(1, 65535))
aliases = st.lists(st.from_regex(r"alias/[a-z*?]+", fullmatch=True), max_size=2)
rules = st.builds(Rule, match=st.text().map(re.escape), reply=st.text())
specs = st.one_of(
    st.builds(
        Embedded, slug=slugs, path=st.text(min_size=1), context=st.integers(1, 9999), stop=st.lists(st.text())
    ),
    st.builds(
        Upstream,
        slug=slugs,
        url=urls,
        alias=aliases,
        name=st.text(),
        input_price=st.none() | st.floats(0, 100),
    ),
    st.builds(Scripted, slug=slugs, rules=st.lists(rules, max_size=2)),
)


@given(models=st.lists(specs, max_size=4, unique_by=lambda m: m.slug.rpartition("/")[2]))
def test_a_catalogue_survives_its_file(tmp_path_factory: pytest.TempPathFactory, models: list[Any]) -> None:
    """Reading a written catalogue gives the same catalogue, whatever texts it has."""
    named = [alias for model in models for alias in model.alias]
    assume(len(named) == len({*named}))
    path = tmp_path_factory.mktemp("catalog") / "models.toml"
    catalog = Catalog(model=models, default=models[0].slug if models else "")
    write_catalog(path, catalog)
    assert read_catalog(path) == catalog


def test_a_users_comments_stay(tmp_path: Path) -> None:
    """Adding and removing a model keeps the rest of the file as it is."""
    path = tmp_path / "models.toml"
    typed = '# mine\ndefault = "a/one" # the best\n\n[[model]] # first\nslug = "a/one"\nkind = "scripted"\n'
    path.write_text(typed)
    catalog = read_catalog(path)
    write_catalog(path, catalog.with_model(Scripted(slug="b/two")))
    assert path.read_text().startswith(typed)
    assert [m.slug for m in read_catalog(path).model] == ["a/one", "b/two"]
    write_catalog(path, read_catalog(path).without("a/one"))
    assert read_catalog(path) == Catalog(model=[Scripted(slug="b/two")])
    assert path.read_text().startswith("# mine")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[model]\n", "line 1"),
        ("[[model]]\nkind = 'scripted'\n", "slug"),
        ("[[model]]\nslug = 'a/b'\nkind = 'magic'\n", "magic"),
        ("[[model]]\nslug = 'a/b'\nkind = 'scripted'\ncolour = 1\n", "colour"),
        ("[[model]]\nslug = 'a/b'\nkind = 'embedded'\n", "path"),
        ("default = 'x/y'\n", "x/y"),
        ("[[model]]\nslug='a/m'\nkind='scripted'\n[[model]]\nslug='b/m'\nkind='scripted'\n", "same API slug"),
        (
            "[[model]]\nslug='a/m'\nkind='scripted'\nalias=['*']\n"
            "[[model]]\nslug='b/n'\nkind='scripted'\nalias=['x', '*']\n",
            "b/n: the alias '*' is also an alias of a/m",
        ),
        (
            "[[model]]\nslug='a/m'\nkind='scripted'\nalias=['n']\n[[model]]\nslug='b/n'\nkind='scripted'\n",
            "a/m: the alias 'n' is the name of b/n",
        ),
        ("[[model]]\nslug='a/m'\nkind='scripted'\nalias=['']\n", "'' is not a name"),
        ("[[model]]\nslug='a/m'\nkind='scripted'\nmodalities=['smell']\n", "smell"),
        ("[[model]]\nslug='a/m'\nkind='embedded'\npath='x'\nmodalities=['image']\n", "takes text only"),
        ("[[model]]\nslug='a/m'\nkind='embedded'\npath='x'\nefforts=['low']\n", "has no efforts"),
        ("[[model]]\nslug='a/m'\nkind='scripted'\nefforts=['1']\n", "'1' is not a reasoning effort"),
        ("[[model]]\nslug='a/m'\nkind='scripted'\nefforts=['x','x']\n", "an effort is named twice"),
        ("[[model]]\nslug='a/m@low'\nkind='scripted'\n", "'low' would be taken for a reasoning effort"),
        ("[[model]]\nslug='a/'\nkind='scripted'\n", "not a model slug"),
        ("[[model]]\nslug='a/..'\nkind='scripted'\n", "not a model slug"),
        ("[[model]]\nslug='a/b c'\nkind='scripted'\n", "not a model slug"),
        ("[[model]]\nslug='a/b'\nkind='scripted'\nrules=[{match='('}]\n", "not a regular expression"),
        ("[[model]]\nslug='a/b'\nkind='upstream'\nurl='http://'\n", "not a URL"),
        ("[[model]]\nslug='a/b'\nkind='upstream'\nurl='http://x:99999'\n", "not a URL"),
    ],
)
def test_a_mistake_in_models_toml_is_named(tmp_path: Path, text: str, words: str) -> None:
    """The error has the path of the file and the word at fault, and ends with a period."""
    (tmp_path / "models.toml").write_text(text)
    with pytest.raises(LocalServerError) as caught:
        read_catalog(tmp_path / "models.toml")
    assert words in str(caught.value)
    assert "models.toml" in str(caught.value)
    assert str(caught.value).endswith(".")


_GOOD = "default = 'a/b'\n\n[[model]]\nslug = 'a/b'\nkind = 'scripted'\n\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            f"{_GOOD}[[model]]\nslug = 'c/d'\nkind = 'scrpted'\n",
            9,
            "model c/d: kind is 'scrpted', and must be embedded, upstream or scripted",
        ),
        (
            f"{_GOOD}[[model]]\nslug = 'c/d'\n",
            7,
            "model c/d: the key kind is missing: embedded, upstream or scripted",
        ),
        (f"{_GOOD}[[model]]\nkind = 'scripted'\n", 7, "model number 2: the key slug is missing"),
        (
            f"{_GOOD}[[model]]\nslug = 'c/d'\nkind = 'scripted'\nreplly = 'x'\n",
            10,
            "model c/d: there is no key replly (did you mean reply?)",
        ),
        (
            f"{_GOOD}[[model]]\nslug = 'c/d'\nkind = 'scripted'\nrules = [{{repli = 'x'}}]\n",
            10,
            "model c/d: there is no key repli in rules",
        ),
        (
            f"{_GOOD}[[model]]\nslug = 'c/d'\nkind = 'upstream'\nurl = 3\n",
            10,
            "model c/d: url: expected a string, got an integer",
        ),
        (
            f"{_GOOD}[[model]]\nslug = 'c/d'\nkind = 'scripted'\nmodalities = ['smell']\n",
            10,
            "model c/d: modalities[0]: 'smell' is not one of text, image, audio, video or file",
        ),
        ("model = [3]\n", None, "model number 1: expected a table, got an integer"),
        ("defalt = 'a/b'\n", 1, "there is no key defalt (did you mean default?)"),
        ("[model]\nslug = 'a/b'\n", None, "model: expected an array, got a table"),
    ],
)
def test_a_mistake_is_placed(tmp_path: Path, text: str, line: int | None, words: str) -> None:
    """The error names the line, the model and the key, and what is right there."""
    (path := tmp_path / "models.toml").write_text(text)
    with pytest.raises(LocalServerError) as caught:
        read_catalog(path)
    assert str(caught.value) == f"{path}{f':{line}' if line else ''}: {words}."


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("b/two", "b/two"),
        ("two", "b/two"),
        ("google/gemini", "a/one"),
        ("google/gemini-9", "c/three"),
        ("google/other", "b/two"),
        ("meta/llama", "d/four"),
    ],
)
def test_the_most_specific_alias_answers(name: str, slug: str) -> None:
    """A model's own name goes before an alias, an exact alias before a pattern, and a longer pattern before `*`."""
    models: list[Any] = [
        Scripted(slug="d/four", alias=["*"]),
        Scripted(slug="a/one", alias=["google/gemini"]),
        Scripted(slug="b/two", alias=["google/*"]),
        Scripted(slug="c/three"),
    ]
    catalog = Catalog(model=models).with_aliases({"google/gemini-*": "three", "nobody": "e/five"})
    found = catalog.find_for_task(name)
    assert found is not None
    assert found.slug == slug


def test_the_server_can_move_an_alias() -> None:
    """An alias of the command line is taken away from the model that has it in models.toml."""
    models: list[Any] = [Scripted(slug="a/one", alias=["*", "x"]), Scripted(slug="b/two")]
    moved = Catalog(model=models).with_aliases({"*": "b/two"})
    assert [model.alias for model in moved.model] == [["x"], ["*"]]


def test_unknown_prices_are_unknown() -> None:
    """A model that runs here is free, and an endpoint without prices has an unknown cost, not 0."""
    assert Embedded(slug="a/b", path="x").prices == (0.0, 0.0)
    assert Upstream(slug="a/b", url="x").prices is None
    assert Upstream(slug="a/b", url="x", output_price=2.0).prices == (0.0, 2.0)


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    """A file that is not GGUF, a missing file and an endpoint without a model's name are usage errors."""
    (tmp_path / "bad.gguf").write_text("not a model")
    with pytest.raises(UsageError, match="not a GGUF"):
        provide_file(tmp_path / "bad.gguf", None, {})
    with pytest.raises(UsageError, match="does not exist"):
        provide_file(tmp_path / "missing.gguf", None, {})
    with pytest.raises(UsageError, match="name for its model"):
        provide_endpoint("http://x/v1", None, {})


def test_requests_are_prepared_for_the_kind_of_model() -> None:
    """Embedded models are greedy by default, and an upstream keeps its own defaults."""
    asked: dict[str, Any] = {"messages": [], "temperature": None, "stop": "END"}
    embedded = Embedded(slug="a/b", path="x", max_tokens=9, stop=["Q:"]).prepare(asked)
    assert embedded == {"messages": [], "temperature": 0, "max_tokens": 9, "stop": ["END", "Q:"]}
    assert Upstream(slug="a/b", url="x").prepare(asked) == {"messages": [], "stop": "END"}


# --- Executors ---


@pytest.mark.anyio
async def test_a_script_needs_a_process_of_its_own(tmp_path: Path) -> None:
    """Forks of a process that has imported the SDK refuse scripts, which must start in an empty Python."""
    job = Job(folder=str(tmp_path), environment={}, script="/task.py")
    async with ForkserverExecutor.open("fork", log=None) as executor:
        with pytest.raises(ValueError, match="isolation"):
            await executor.start(job, 1, 2)


# --- Environments ---


def test_a_runs_environment_is_an_allow_list() -> None:
    """Only named variables are passed on, so the secrets in the server's environment are not."""
    outside = {
        "PATH": "/bin",
        "HOME": "/h",
        "OPENAI_API_KEY": "s",
        "KAGGLE_KEY": "s",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AZURE_STORAGE_ACCOUNT_KEY": "s",
        "GOOGLE_SERVICE_ACCOUNT_KEY": "s",
        "LC_ALL": "C",
        "MINE": "m",
    }
    variables = model_variables(
        proxy_url="http://x/models", proxy_key="k", model="a/b", judge="c/d", available=["a/b", "c/d"]
    )
    environment = run_environment(variables, expires="t", pass_on=["MINE"], outside=outside)
    assert "s" not in environment.values()
    assert (environment["HOME"], environment["LC_ALL"], environment["MINE"]) == ("/h", "C", "m")
    assert (environment["LLM_DEFAULT"], environment["LLM_DEFAULT_EVAL"]) == ("a/b", "c/d")
    assert environment["LLMS_AVAILABLE"] == "a/b,c/d"
    assert environment["PATH"].endswith("/bin")
    assert environment["PATH"] != "/bin"
    assert environment["NO_PROXY"] == "127.0.0.1,localhost,x"


@pytest.mark.parametrize(
    ("text", "datasets", "noted"),
    [
        ("open('/kaggle/working/x', 'w')", [], True),
        ("open('x', 'w')", ["me/words"], True),
        ("open('x', 'w')", [], False),
    ],
)
def test_without_mounts_the_log_says_it_where_it_matters(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], text: str, datasets: list[str], noted: bool
) -> None:
    """A run without a /kaggle starts in its folder; the log mentions it if the task has datasets or names /kaggle."""
    real = tmp_path / "real"
    real.mkdir()
    job = Job(folder=str(tmp_path / "run"), environment={}, datasets=dict.fromkeys(datasets, str(real)))
    job.working.mkdir(parents=True)
    job.source.write_text(text)
    assert attach(job, "Operation not permitted") == job.working
    links = sorted(str(path.relative_to(job.folder)) for path in Path(job.folder).rglob("words"))
    assert links == ["input/datasets/me/words", "input/words"] * bool(datasets)
    error = capfd.readouterr().err
    assert error.count("Operation not permitted") == noted
    assert error.count("../input") == noted
