"""What is public is explained."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import fanbench

CALLABLES = [name for name in fanbench.__all__ if callable(getattr(fanbench, name))]
METHODS = [
    name
    for name, member in inspect.getmembers(fanbench.Client)
    if not name.startswith("_") and (callable(member) or isinstance(member, property))
]


@pytest.mark.parametrize("name", CALLABLES)
def test_every_public_name_has_words_of_its_own(name: str) -> None:
    """Neither inherited ones nor those that a dataclass makes up."""
    value = getattr(fanbench, name)
    words = value.__dict__.get("__doc__") if inspect.isclass(value) else value.__doc__
    assert words
    assert words.strip()
    assert not (dataclasses.is_dataclass(value) and words.startswith(f"{name}("))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_client_has_words(name: str) -> None:
    """Those of the verbs and of the calls below them."""
    assert inspect.getdoc(getattr(fanbench.Client, name))


def test_there_is_something_to_explain() -> None:
    """The lists above are not empty by mistake."""
    assert {"Client", "resolve_config", "NotFound", "local_server"} <= set(CALLABLES)
    assert {"push", "run", "wait", "lines", "download", "status", "local", "create_task"} <= set(METHODS)
