"""Whatever is in a file or an answer, reading it ends with a value or with the documented error.

The inputs are examples that were cut and altered, with the pieces on which parsers fail: deep nesting, numbers out of
range, halves of surrogate pairs, bytes that are not UTF-8, dates at the end of time. `HYPOTHESIS_PROFILE=long` tries
fifty times as many.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import tempfile
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench.config import Anonymous, Config, credential_sources
from fanbench.errors import (
    ApiError,
    JournalError,
    LocalServerError,
    OutputError,
    TaskFileError,
    UsageError,
)
from fanbench.local.carriers.job import Outcome
from fanbench.local.folder import DataFolder, open_data_folder
from fanbench.local.kept_options import read_options
from fanbench.local.models import ModelFault
from fanbench.local.models.catalog import read_catalog, read_valid_entries
from fanbench.local.proxy import genai
from fanbench.local.proxy.requests import ChatRequest, GenerateRequest, read_request
from fanbench.local.requirements import read_requirements
from fanbench.local.verdicts import judge_run, read_outcome, read_run_files, result_of_run
from fanbench.operations.env_file import read_env_file, write_env_file
from fanbench.results import read_results
from fanbench.sweeps.journal import Journal, has_summary
from fanbench.sweeps.resume import read_saved
from fanbench.sweeps.spec import models_from
from fanbench.sweeps.state import read_event
from fanbench.sweeps.sweep_file import read_sweep_file
from fanbench.tasks import read_task_file
from fanbench.wire import protocol
from fanbench.wire.log_decoder import LogCutOff, StoredLogReader, entries_of_payload, entry_of
from fanbench.wire.messages import Leaderboard, ListModelsResponse, ListRunsResponse, LogEntry, Message, Task
from fanbench.wire.responses import decode_answer

# By a short name: Hypothesis prints the pieces of an example that fails.
PIECES = {
    "long number": b"9" * 5000,
    "open lists": b"[" * 20_000,
    "lists": b"[" * 20_000 + b"]" * 20_000,
    "tables": b'{"a":' * 20_000 + b"0" + b"}" * 20_000,
    "keys": b"a." * 5000 + b"a",
    "long name": b'"' + b"x" * 5000 + b'"',
    "half of a pair": b'"\\ud800"',
    "half of a pair in UTF-8": b"\xed\xa0\x80",
    "first date": b"0001-01-01T00:00:00+23:59",
    "last date": b"9999-12-31T23:59:59-23:59",
    "no date": b"2026-99-99",
    "control characters": b"\xe2\x80\xae\x1b]0;x\x07",
} | {
    piece.decode("latin-1"): piece
    for piece in [
        *(b'"', b"'", b"[", b"]", b"{", b"}", b"=", b",", b"#", b"\\", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf"),
        *(b"null", b"NaN", b"-1", b"1e999", b"1e400", b"9" * 30, b"true", b'"x"', b'"NaN"', b"[]", b"{}", b"${A}"),
    ]
}  # fmt: skip
# A quarter of what the profile says: there are many parsers.
QUARTER = settings(max_examples=settings().max_examples // 4)

_VALUE = re.compile(rb"'[^'\n]*'|\"[^\"\n]*\"|\b[\w.]+\b|[\[{]")


def values_of(sample: str) -> list[tuple[int, int]]:
    """Where the sample has values or names: the beginning and the length of each."""
    return [(match.start(), len(match[0])) for match in _VALUE.finditer(sample.encode())]


def each_replaced(sample: str) -> Iterator[bytes]:
    """The sample with one of its values replaced by each of the pieces that have broken the most parsers."""
    whole = sample.encode()
    for at, length in values_of(sample):
        for name in ("lists", "long number", "half of a pair"):
            yield whole[:at] + PIECES[name] + whole[at + length :]


def contents(sample: str) -> st.SearchStrategy[bytes]:
    """The sample with a few values or other parts replaced, or something else altogether."""
    whole, values = sample.encode(), values_of(sample)
    part = st.sampled_from(values) | st.tuples(st.integers(0, len(whole)), st.integers(0, 12))
    change = st.tuples(part, st.sampled_from([*PIECES]) | st.binary(max_size=4))

    def apply(changes: list[tuple[tuple[int, int], str | bytes]]) -> bytes:
        content = whole
        for (at, length), put in sorted(changes, key=lambda change: change[0], reverse=True):
            piece = PIECES[put] if isinstance(put, str) else put
            content = content[:at] + piece + content[at + length :]
        return content

    return st.lists(change, min_size=1, max_size=3).map(apply) | st.binary(max_size=40)


# --- Files ---

Read = Callable[[Path], object]


class File(NamedTuple):
    name: str
    sample: str
    read: Read
    errors: tuple[type[Exception], ...] = ()


def credentials(home: Path) -> list[object]:
    return list(credential_sources(env={}, home=home))


def outcome(path: Path) -> object:
    return read_outcome(path)


def verdict(path: Path) -> object:
    log = path.with_name("log.jsonl")
    log.touch()
    files = read_run_files(path.parent)
    result = result_of_run("a", "m", files)
    assert result is None or math.isfinite(result)
    return judge_run("a", Outcome(run_files=files), log)


def set_variable(path: Path) -> object:
    write_env_file(path, {"LLM_DEFAULT": "a b"})
    values = read_env_file(path)
    assert values["LLM_DEFAULT"] == "a b"
    return values


def check_data_folder(path: Path) -> None:
    with open_data_folder(path.parent):
        pass


RUN = {
    "pyRunId": "Run #1",
    "taskVersion": {"name": "A task", "versionNumber": 1},
    "modelVersion": {"slug": "a/b"},
    "state": "BENCHMARK_TASK_RUN_STATE_COMPLETED",
    "startTime": "2026-01-31T12:00:00.000Z",
    "endTime": "2026-01-31T12:00:01Z",
    "conversations": [{"requests": [{"metrics": {"inputTokens": 3, "inputTokensCostNanodollars": "7"}}]}],
    "results": [{"numericResult": {"value": 0.5, "confidenceInterval": 0.1}}],
    "assertions": [{"status": "PASSED"}],
    "subruns": [{"taskVersion": {"name": "B"}, "results": [{"dictResult": {"a": 1}}]}],
}
NOTEBOOK = {
    "nbformat": 4,
    "nbformat_minor": 5,
    "metadata": {"kernelspec": {"name": "python3"}},
    "cells": [
        {"cell_type": "markdown", "metadata": {}, "source": "# Title"},
        {
            "cell_type": "code",
            "metadata": {"tags": []},
            "source": ["import x\n", "%pip install y"],
            "outputs": [],
        },
    ],
}
METADATA = '# /// script\n# dependencies = ["a>=1"]\n# requires-python = ">=3.11"\n# ///\n'
SWEEP = (
    'tasks = ["a.py"]\nmodels = ["m-*"]\nrepeats = 2\n'
    '[limits]\nmax_cost = 5.0\ntimeout = 600\n[policy]\nmax_failures = "10%"\n'
)
MODELS = (
    'default = "a/b"\n[[model]]\nslug = "a/b"\nkind = "scripted"\nrules = [{ match = "2 . 2", reply = "4" }]\n'
    '[[model]]\nslug = "c/d"\nkind = "upstream"\nurl = "http://127.0.0.1:9/v1"\nalias = ["*"]\ninput_price = 0.1\n'
)
OAUTH = {"access_token": "abc", "access_token_expiration": "2999-01-31T12:00:00+00:00"}
OPTIONS = {
    "judge": "a/b",
    "model_aliases": [["*", "a/b"]],
    "datasets": "/d",
    "run_timeout": 300.0,
    "workers": 4,
    "isolation": "fork",
}

FILES = [
    File("a.run.json", json.dumps(RUN), lambda path: read_results(path)),
    File("b.run.json", json.dumps(RUN), verdict),
    File("outcome.json", '{"error": "no", "choice": {"name": "a", "discarded": ["b"]}}', outcome),
    File("a.ipynb", json.dumps(NOTEBOOK), read_task_file, (TaskFileError,)),
    File("a.py", f"{METADATA}# %%\nimport x\n# %time y\n", read_task_file, (TaskFileError,)),
    File("sweep.toml", SWEEP, read_sweep_file, (UsageError,)),
    File("models.txt", "a\n# b\nc-*\n", models_from, (UsageError,)),
    File("summary.json", '{"fanbench": "1", "tasks": []}', lambda path: has_summary(path.parent)),
    File("models.toml", MODELS, read_catalog, (LocalServerError,)),
    File("valid.toml", MODELS, read_valid_entries, (LocalServerError,)),
    File(
        "serve.json",
        json.dumps(OPTIONS),
        lambda path: read_options(DataFolder(path.parent)),
        (LocalServerError,),
    ),
    File("format.json", '{"fanbench-data": 1}', check_data_folder, (LocalServerError,)),
    File(
        "needs.txt",
        "a>=1 # why\nb @ https://x.example/b.whl --hash=sha256:0\n-f .\n",
        read_requirements,
        (LocalServerError,),
    ),
    File(".env", "export A='b'\nLLM_DEFAULT=x # why\nC=\"${A}\"\n", set_variable, (OutputError, UsageError)),
    File(
        ".kaggle/kaggle.json", '{"username": "me", "key": "0123"}', lambda path: credentials(path.parents[1])
    ),
    File(".kaggle/access_token", "KGAT_0123\n", lambda path: credentials(path.parents[1])),
    File(".kaggle/credentials.json", json.dumps(OAUTH), lambda path: credentials(path.parents[1])),
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_any_file_is_read_or_refused(file: File) -> None:
    """A file with any content is read, or is refused with the error that its reader documents."""

    def read(content: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, file.name)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
            file.read(path)

    def check(content: bytes) -> None:
        with contextlib.suppress(*file.errors):
            read(content)

    read(file.sample.encode())
    for content in each_replaced(file.sample):
        check(content)
    QUARTER(given(contents(file.sample))(check))()


def test_a_damaged_journal_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A journal with any bytes altered or cut off is read, or refused with JournalError."""
    root = tmp_path_factory.mktemp("sweep")
    with Journal.open(root) as journal:
        journal.save_value("name", "value")
        journal.save_spec("{}")
        journal.save_foreign_runs("task", [1, 2, 3])
    (file,) = [path for path in root.rglob("*") if path.is_file() and path.read_bytes().startswith(b"SQLite")]
    whole = file.read_bytes()

    def read_all() -> tuple[object, ...]:
        journal = Journal.read(root)
        assert journal is not None
        with journal:
            return (
                journal.tasks(),
                journal.attempts(),
                journal.value("name"),
                journal.saved_spec(),
                journal.foreign_runs("task"),
            )

    assert "value" in read_all()

    @QUARTER
    @given(
        st.lists(st.tuples(st.integers(0, len(whole) - 1), st.binary(min_size=1, max_size=8)), max_size=4),
        st.just(len(whole)) | st.integers(0, len(whole)),
    )
    def check(changes: list[tuple[int, bytes]], length: int) -> None:
        content = bytearray(whole)
        for at, put in changes:
            content[at : at + len(put)] = put
        file.write_bytes(content[:length])
        with contextlib.suppress(JournalError):
            read_all()

    check()


# --- Answers and requests ---

CONFIG = Config("https://api.example", Anonymous())
KINDS: list[tuple[type[Message], str]] = [
    (
        Task,
        '{"slug": {"ownerSlug": "a", "taskSlug": "b"}, "creationState": 2, "createTime": "2026-01-31T12:00:00Z"}',
    ),
    (
        ListRunsResponse,
        '{"runs": [{"id": "7", "modelVersionSlug": "m", "state": "COMPLETED", "result": {}}]}',
    ),
    (ListModelsResponse, '{"models": [{"slug": "a/b", "version": {"slug": "b", "inputModalities": [1]}}]}'),
    (
        Leaderboard,
        '{"rows": [{"modelVersionName": "m", "taskResults": [{"result": {"numericResult": {"value": 1}}}]}]}',
    ),
]


@pytest.mark.parametrize(("kind", "sample"), KINDS)
def test_any_answer_is_a_message_or_an_api_error(kind: type[Message], sample: str) -> None:
    """Whatever a server answers, with any status and headers, is the message or an ApiError that can be shown."""
    headers = st.dictionaries(
        st.sampled_from(["retry-after", "date", "location", "content-type"]),
        st.sampled_from(
            [
                *("1", "-1", "1e999", "nan", "9" * 400, "1_0", "", "soon", "text/plain"),
                *(
                    "Mon, 01 Jan 0001 00:00:00 +2359",
                    "Fri, 31 Dec 9999 23:59:59 -2359",
                    "Sat, 99 Foo 2026 1:2:3 GMT",
                ),
            ]
        )
        | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30),
    )

    @QUARTER
    @given(
        contents(sample), st.sampled_from([200, 204, 302, 400, 401, 403, 404, 429, 500, 503, 599]), headers
    )
    def check(body: bytes, status: int, headers: dict[str, str]) -> None:
        response = httpx.Response(status, headers=headers)
        try:
            answer = decode_answer(CONFIG, protocol.GET_TASK, response, body, kind)
        except ApiError as error:
            wait = error.retry_after or 0.0
        else:
            assert isinstance(answer, kind)
            wait = 0.0
        assert 0 <= wait < float("inf")

    decode_answer(CONFIG, protocol.GET_TASK, httpx.Response(200), sample.encode(), kind)
    check()


LOG = '[{"stream_name": "stdout", "time": 1.5, "data": "one\\n"},\n{"stream_name": "stderr", "time": 2, "data": "two"}]'


@QUARTER
@given(contents(LOG), st.integers(1, 50))
def test_any_log_is_read(content: bytes, size: int) -> None:
    """A log with any content, in any pieces, consists of entries or breaks off; so does any event of a stream."""
    text = content.decode("utf-8", "replace")
    reader = StoredLogReader()
    entries = [entry for at in range(0, len(text), size) for entry in reader.feed(text[at : at + size])]
    with contextlib.suppress(LogCutOff):
        entries += reader.close()
    assert all(isinstance(entry_of(entry), LogEntry) for entry in [*entries, *entries_of_payload(text)])


@QUARTER
@given(contents('{"kind": "RunStarted", "at": "2026-01-31T12:00:00Z", "task": "a", "model": "b"}'))
def test_any_line_of_a_sweep_is_an_event_or_no_json(line: bytes) -> None:
    """A line of a sweep's events, with any content, is an event and its time, or raises DecodeError."""
    try:
        _, at = read_event(line)
    except msgspec.DecodeError:
        return
    assert isinstance(at, datetime)


@QUARTER
@given(
    contents('{"endpoint": "x", "tasks": ["a"], "models": ["b"], "repeats": 1, "judge": null, "spec": {}}')
)
def test_any_saved_sweep_is_read_or_refused(content: bytes) -> None:
    """The sweep that a journal holds, with any content, is read, or refused with JournalError."""
    with contextlib.suppress(JournalError):
        read_saved(content.decode("utf-8", "replace"))


CHAT = json.dumps(
    {
        "model": "a/b",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "x"}]},
            {"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
        "max_tokens": 3,
    }
)
GENERATE: dict[str, Any] = {
    "contents": [
        {"role": "user", "parts": [{"text": "x"}, {"inlineData": {"mimeType": "image/png", "data": "QQ=="}}]}
    ],
    "generationConfig": {
        "maxOutputTokens": 9,
        "responseSchema": {"type": "OBJECT", "properties": {"a": {"type": "ARRAY", "minItems": "1"}}},
        "thinkingConfig": {"thinkingBudget": 0},
    },
    "tools": [{"functionDeclarations": [{"name": "f", "parameters": {"type": "OBJECT"}}]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
}


@QUARTER
@given(contents(CHAT), contents(json.dumps(GENERATE)))
def test_any_request_to_a_model_is_read_or_refused(chat: bytes, generate: bytes) -> None:
    """A request of either API with any content becomes a chat request, or is refused with ModelFault.

    The Model Proxy itself answers requests that are nested too deeply.
    """
    with contextlib.suppress(ModelFault, RecursionError):
        read_request(chat, ChatRequest, "chat")
    with contextlib.suppress(ModelFault, RecursionError):
        assert isinstance(genai.to_chat(read_request(generate, GenerateRequest, "generateContent")), dict)
