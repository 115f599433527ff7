"""Reading a single run file."""

from __future__ import annotations

import hashlib
import math
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanbench.results.run_file import NotARunFile, read_run_file
from tests.results.build import errored, run, write

_HUGE = b"9" * 400


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        ({"booleanResult": True}, ("boolean", True, None)),
        ({"booleanResult": False}, ("boolean", False, None)),
        ({}, ("boolean", False, None)),
        ({"numericResult": {"value": 0.5}}, ("numeric", 0.5, None)),
        ({"numericResult": {"value": 3}}, ("numeric", 3.0, None)),
        ({"numericResult": {}}, ("numeric", 0.0, None)),
        ({"numericResult": {"confidenceInterval": 0.1}}, ("numeric", 0.0, 0.1)),
        ({"numericResult": {"value": 0.5, "confidenceInterval": 0.0}}, ("numeric", 0.5, 0.0)),
        ({"numericResult": {"value": "Infinity"}}, ("numeric", math.inf, None)),
        ({"dictResult": {"a": 1.5}}, ("dict", {"a": 1.5}, None)),
        ({"dictResult": {}}, ("dict", {}, None)),
        (None, (None, None, None)),
    ],
)
def test_omitted_defaults_are_restored(
    tmp_path: Path, result: dict[str, Any] | None, outcome: object
) -> None:
    """Zeros and falses that proto3 JSON omits are restored, and a missing result stays unknown."""
    assert read_run_file(write(tmp_path / "a.run.json", run(result=result))).outcome() == outcome


@pytest.mark.parametrize("text", ['"NaN"', "NaN"])
def test_nan_is_read_in_both_spellings(tmp_path: Path, text: str) -> None:
    """NaN is accepted as a string, as in proto3, and bare, as Python's json module writes it."""
    source = '{"taskVersion": {"name": "A"}, "results": [{"numericResult": {"value": NUMBER}}]}'
    _, value, _ = read_run_file(write(tmp_path / "a.run.json", source.replace("NUMBER", text))).outcome()
    assert isinstance(value, float)
    assert math.isnan(value)


def test_half_of_a_surrogate_pair(tmp_path: Path) -> None:
    """Half of a surrogate pair, which Python's json module writes as an escape, is read as U+FFFD."""
    read = read_run_file(write(tmp_path / "a.run.json", errored("bad \ud800 \\ud800 \U0001f600 \udcff")))
    assert read.error_message == "bad \ufffd \\ud800 \U0001f600 \ufffd"


@pytest.mark.parametrize("text", ["-Infinity", '"-Infinity"'])
def test_infinities_of_a_dict_are_numbers(tmp_path: Path, text: str) -> None:
    """In a dict, infinities are numbers in both spellings, as elsewhere."""
    source = f'{{"taskVersion": {{"name": "A"}}, "results": [{{"dictResult": {{"a": {text}, "b": "x"}}}}]}}'
    path = write(tmp_path / "a.run.json", source)
    assert read_run_file(path).outcome() == ("dict", {"a": -math.inf, "b": "x"}, None)


@pytest.mark.parametrize("text", ["NaN", "-Infinity"])
def test_a_bare_number_does_not_change_the_prompt(tmp_path: Path, text: str) -> None:
    """A file with a bare NaN or infinity has the same prompt as one without."""
    parts = '[\n  {"text": "say \\"NaN\\""}\n]'
    talk = f'[{{"requests": [{{"contents": [{{"role": "CONTENT_ROLE_USER", "parts": {parts}}}]}}]}}]'
    result = f'[{{"type": "AGGREGATED", "numericResult": {{"value": 0.5, "confidenceInterval": {text}}}}}]'
    body = f'{{"taskVersion": {{"name": "A"}}, "conversations": {talk}, "results": {result}}}'
    found = read_run_file(write(tmp_path / "a.run.json", body))
    assert found.outcome() == ("numeric", 0.5, None)
    whole = read_run_file(write(tmp_path / "b.run.json", body.replace(f": {text}", ": 0")))
    assert found.prompt == whole.prompt != ""


def test_a_null_does_not_hide_the_prompt(tmp_path: Path) -> None:
    """A file with a null is read as a whole, the texts of its conversations included."""
    contents = [{"role": "CONTENT_ROLE_USER", "parts": [{"text": "hi"}]}]
    content = run(conversations=[{"id": "c", "requests": [{"contents": contents}]}], errorMessage=None)
    assert read_run_file(write(tmp_path / "a.run.json", content)).prompt


@pytest.mark.parametrize("text", ['"NaN', '"a\\\\"' * 20_000, "NaN" * 20_000, "\\"])
def test_damage_is_found_at_once(tmp_path: Path, text: str) -> None:
    """However a file is cut off, looking for bare numbers in it ends."""
    with pytest.raises(NotARunFile, match="damaged"):
        read_run_file(write(tmp_path / "a.run.json", '{"taskVersion": {"name": ' + text))


@pytest.mark.parametrize("types", [("PUBLIC", "PRIVATE"), ("", "")])
def test_several_results_need_an_aggregated_one(tmp_path: Path, types: tuple[str, str]) -> None:
    """Of several results none is chosen, unless one is aggregated."""
    results = [{"type": each, "numericResult": {"value": 0.9}} for each in types]
    path = write(tmp_path / "a.run.json", run(results=results))
    assert read_run_file(path).outcome() == (None, None, None)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "damaged"),
        (b'{"taskVersion": {"na', "damaged"),
        (b"\xff\xfe\x00", "damaged"),
        (b"PK\x03\x04", "damaged"),
        (b"[]", "not a run file"),
        (b"null", "not a run file"),
        (b"{}", "not a run file"),
        (b'{"taskVersion": {"name": ""}}', "no task name"),
        (b'{"taskVersion": "My Task"}', "not a run file"),
        (b'{"taskVersion": {"name": "A"}, "results": 3}', "not a run file"),
        (b'{"taskVersion": {"name": "A"}, "startTime": "yesterday"}', "not a run file"),
        (b'{"taskVersion": {"name": "A"}, "results": [{"numericResult": {"value": "x"}}]}', "not a number"),
        (
            b'{"taskVersion": {"name": "A"}, "results": [{"numericResult": {"value": 1e999}}]}',
            "not a run file",
        ),
        (b'{"taskVersion": {"name": "A"}, "subruns": [' * 5000, "deep"),
        (b'{"taskVersion": {"name": "A"}, "startTime": "0001-01-01T00:00:00+14:00"}', "outside the calendar"),
        (b'{"taskVersion": {"name": "A"}, "results": [{"dictResult": {"a": %s}}]}' % _HUGE, "too large"),
        (b'{"taskVersion": {"name": "A"}, "results": null, "subruns": [%s]}' % _HUGE, "not a run file"),
        *(
            (
                b'{"taskVersion": {"name": "A"}, "conversations": [{"metrics": {"%s": "%s"}}]}'
                % (name, _HUGE),
                "not a run file",
            )
            for name in (b"inputTokens", b"outputTokensCostNanodollars")
        ),
    ],
)
def test_invalid_files_raise_not_a_run_file(tmp_path: Path, content: bytes, what: str) -> None:
    """Damaged files and other JSON raise NotARunFile with different reasons, and nothing else is raised."""
    with pytest.raises(NotARunFile, match=what):
        read_run_file(write(tmp_path / "a.run.json", content))


def test_a_folder_cannot_be_read(tmp_path: Path) -> None:
    """A folder in place of the file raises NotARunFile with the system's reason."""
    with pytest.raises(NotARunFile, match="cannot be read"):
        read_run_file(tmp_path)


def test_nulls_count_as_omitted(tmp_path: Path) -> None:
    """A null field is read like one that is omitted."""
    path = write(
        tmp_path / "a.run.json", run(result={"booleanResult": None}, errorMessage=None, subruns=None)
    )
    assert read_run_file(path).last_error() is None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*run(), "value", "name", "numericResult"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_any_json_raises_not_a_run_file_at_most(tmp_path: Path, content: Any) -> None:
    """Whatever the fields contain, the file is either read or raises NotARunFile."""
    try:
        found = read_run_file(
            write(tmp_path / "a.run.json", {**run(), "results": content, "subruns": content})
        )
    except NotARunFile:
        return
    assert found.task_version.name == "My Task"


def test_all_that_was_sent_before_the_first_answer_tells_prompts_apart(tmp_path: Path) -> None:
    """Prompts are the same if all that was sent before the first answer is, and not only what was sent first."""

    def prompt(*contents: tuple[str, str]) -> str:
        texts = [{"role": f"CONTENT_ROLE_{role}", "parts": [{"text": text}]} for role, text in contents]
        content = run(conversations=[{"id": "c", "requests": [{"contents": texts}]}])
        return read_run_file(write(tmp_path / "a.run.json", content)).prompt

    system = ("SYSTEM", "Be brief.")
    first = prompt(system, ("USER", "2 + 2?"), ("ASSISTANT", "4"))
    assert prompt(system, ("USER", "2 + 2?")) == first
    assert prompt(("ASSISTANT", "Hi."), system, ("USER", "2 + 2?"), ("ASSISTANT", "5")) == first
    assert prompt(system, ("USER", "3 + 3?"), ("ASSISTANT", "4")) != first
    alone = hashlib.sha256(b'[{"text": "2 + 2?"}]').hexdigest()[:12]
    assert prompt(("USER", "2 + 2?"), ("ASSISTANT", "4"), ("USER", "Sure?")) == alone


def test_texts_are_not_kept_in_memory(tmp_path: Path) -> None:
    """Of a run file of a megabyte, no text is kept, nor the file itself."""
    contents = [
        {"role": "CONTENT_ROLE_ASSISTANT", "parts": [{"text": "hello"}]},
        {"role": "CONTENT_ROLE_USER", "parts": [{"text": "first"}]},
        {"role": "CONTENT_ROLE_USER", "parts": [{"text": "x" * 1_000_000}]},
    ]
    content = run(conversations=[{"id": "c", "requests": [{"contents": contents}]}])
    path = write(tmp_path / "a.run.json", {**content, "subruns": [content]})
    tracemalloc.start()
    try:
        found = read_run_file(path)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.prompt == next(found.nested()).prompt != ""
    assert kept < 100_000
