"""Checks messages with the vendor's SDK: the classes of each call, and what they reject in a message."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, NamedTuple

from google.protobuf.field_mask_pb2 import FieldMask
from kagglesdk.benchmarks.services import benchmark_tasks_api_service, benchmarks_api_service
from kagglesdk.models.services import model_proxy_api_service
from kagglesdk.security.services import oauth_service

SERVICES = [
    benchmark_tasks_api_service.BenchmarkTasksApiClient,
    benchmarks_api_service.BenchmarksApiClient,
    model_proxy_api_service.ModelProxyApiClient,
    oauth_service.OAuthClient,
]
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
DURATION = re.compile(r"\d+(\.\d{1,9})?s")
WIRE_TYPES: dict[type, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), bool: (bool,)}


class Classes(NamedTuple):
    """The vendor's classes for one call; the answer has none if it is a file."""

    request: Any
    answer: Any


class _Recorder:
    """Stands in for the SDK's HTTP client, and records what a service would send and what it expects back."""

    def __init__(self) -> None:
        self.calls: dict[str, Classes] = {}

    def call(self, service: str, method: str, request: Any, answer: Any) -> None:
        is_file = answer is not None and answer.__name__ in ("FileDownload", "HttpRedirect")
        self.calls[f"{service}/{method}"] = Classes(type(request), None if is_file else answer)


def classes() -> dict[str, Classes]:
    """Every call of the four services by its path, "service/method"."""
    return calls_of(SERVICES)


def calls_of(services: Iterable[Any]) -> dict[str, Classes]:
    recorder = _Recorder()
    for service in services:
        client = service(recorder)
        for name in vars(service):
            if not name.startswith("_"):
                getattr(client, name)()
    return recorder.calls


def objections(message: Any, kind: Any, path: str = "") -> Iterator[str]:
    """Yield what the vendor's class does not know in `message`, at any depth, or would write differently."""
    if not isinstance(message, dict):
        yield f"{path or 'the message'} is no object: {message!r}"
        return
    known = {field.json_name: field for field in kind._fields}
    for name, value in message.items():
        where = f"{path}.{name}".lstrip(".")
        if name not in known:
            yield f"{where} is unknown to {kind.__name__}"
        elif isinstance(known[name].default_value, list) != isinstance(value, list):
            yield f"{where}: a list in one, none in the other"
        else:
            for item in value if isinstance(value, list) else [value]:
                yield from _value_objections(item, known[name].field_type, where)


def _value_objections(value: Any, kind: Any, where: str) -> Iterator[str]:
    if hasattr(kind, "_fields"):
        yield from objections(value, kind, where)
    elif issubclass(kind, Enum):
        if value not in kind.__members__:
            yield f"{where}: {value!r} is no {kind.__name__}"
    elif kind is datetime:
        if not isinstance(value, str) or not TIME.fullmatch(value):
            yield f"{where}: {value!r} is no time with milliseconds and a Z"
    elif kind is timedelta:
        if not isinstance(value, str) or not DURATION.fullmatch(value):
            yield f"{where}: {value!r} is no duration in seconds"
    elif kind is FieldMask:
        mask = FieldMask()
        mask.FromJsonString(value)
        if mask.ToJsonString() != value:
            yield f"{where}: {value!r} is no list of paths"
    elif type(value) not in WIRE_TYPES[kind]:
        yield f"{where}: {value!r} is no {kind.__name__}"
