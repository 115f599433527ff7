"""docs/api.md has every call of Kaggle's services, and claims nothing that is not so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import click
import msgspec
import pytest
from kagglesdk.models.services import model_api_service, model_service

import fanbench
from fanbench.cli.app import root
from fanbench.local.app import CALLS
from fanbench.wire import protocol
from fanbench.wire.messages import Message
from fanbench.wire.protocol import Call
from tests.e2e.kagglesdk_calls import SERVICES, calls_of

OURS_ONLY = "benchmarks.BenchmarkTasksApiService/DeleteBenchmarkTask"
OTHER_MODEL_SERVICES = [model_api_service.ModelApiClient, model_service.ModelClient]


def _tables() -> dict[str, list[list[str]]]:
    """The rows of the table in each section, by its heading."""
    text = (Path(__file__).parent.parent / "docs/api.md").read_text()
    sections = re.split(r"^## (.+)$", text, flags=re.MULTILINE)[1:]
    return {
        heading: [
            [cell.strip() for cell in line.strip("|").split("|")]
            for line in body.splitlines()
            if line.startswith("| `")
        ]
        for heading, body in zip(sections[::2], sections[1::2], strict=True)
    }


MADE = _tables()["Calls that fanbench makes"]
OTHERS = _tables()["Calls that are not for clients of benchmarks"]
LEFT_OUT = _tables()["Fields that fanbench leaves out"]
NAMED = re.compile(r"`([^`]+)`")


def test_every_call_of_the_services_is_listed() -> None:
    """Each call of the `benchmarks` and `models` services is in one table, once, and no other call is in any."""
    listed = [row[0].strip("`") for row in [*MADE, *OTHERS]]
    known = {
        name
        for name in calls_of([*SERVICES, *OTHER_MODEL_SERVICES])
        if name.startswith(("benchmarks.", "models."))
    }
    whole = {name.removesuffix("*") for name in listed if name.endswith("/*")}
    single = [name for name in listed if not name.endswith("/*") and not name.startswith("security.")]
    assert len(single) == len({*single})
    assert {name for name in known if not name.startswith(tuple(whole))} == {*single} - {OURS_ONLY}
    assert all(any(name.startswith(service) for name in known) for service in whole)
    assert all(row[2] for row in OTHERS)


def test_the_calls_that_are_made_are_those_of_the_protocol() -> None:
    """The first table has exactly the calls of `wire/protocol.py`, and says which the local server answers."""
    calls = [call for call in vars(protocol).values() if isinstance(call, Call)]
    answered = {f"{call.service}/{call.method}": "yes" if call in CALLS else "no" for call in calls}
    assert {row[0].strip("`"): row[4] for row in MADE} == answered


def _fields_left_out(theirs: Any, ours: type[Message], found: dict[str, set[str]]) -> None:
    """Add the fields of the vendor's class that our message lacks, at any depth, by the name of the class."""
    known = {field.encode_name: field.type for field in msgspec.structs.fields(ours)}
    for field in theirs._fields:
        if field.json_name not in known:
            found.setdefault(theirs.__name__, set()).add(field.json_name)
        elif hasattr(field.field_type, "_fields"):
            _fields_left_out(field.field_type, _message_in(known[field.json_name]), found)


def _message_in(kind: Any) -> type[Message]:
    """The message in an annotation such as `Message`, `Message | None` or `list[Message]`."""
    return next(one for one in (kind, *get_args(kind)) if isinstance(one, type) and issubclass(one, Message))


def test_every_field_that_is_left_out_is_listed() -> None:
    """Each field of the calls that fanbench makes, in requests and answers, is known to it or in the last table."""
    found: dict[str, set[str]] = {}
    for call, (request, answer) in CALLS.items():
        if (theirs := calls_of(SERVICES).get(f"{call.service}/{call.method}")) is None:
            continue
        _fields_left_out(theirs.request, request, found)
        if theirs.answer is not None:
            _fields_left_out(theirs.answer, _message_in(get_type_hints(answer)["return"]), found)
    assert {row[0].strip("`"): {*NAMED.findall(row[1])} for row in LEFT_OUT} == found
    assert all(row[2] for row in LEFT_OUT)


@pytest.mark.parametrize("row", MADE, ids=lambda row: row[0].rpartition("/")[2])
def test_the_commands_and_methods_exist(row: list[str]) -> None:
    """Each command with its options, and each method, is one that fanbench has."""
    for words in NAMED.findall(row[2]):
        command: click.Command | None = root
        for word in words.split():
            assert command is not None
            if word.startswith("-"):
                assert any(word in param.opts for param in command.params), words
            else:
                assert isinstance(command, click.Group)
                command = command.get_command(click.Context(command), word)
        assert command is not None, words
    for name in NAMED.findall(row[3]):
        kind, _, method = name.partition(".")
        assert callable(getattr(getattr(fanbench, kind), method)), name
