"""What the tests of the verbs share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import pytest

from fanbench import FanbenchError
from fanbench.operations.events import Event

T = TypeVar("T")


class Said(list[Event]):
    """A `report` that keeps what was said."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def said() -> Said:
    return Said()


def only(outcomes: Sequence[T | FanbenchError]) -> T:
    """Return the outcome of an operation on a single task, or raise its error."""
    (outcome,) = outcomes
    if isinstance(outcome, FanbenchError):
        raise outcome
    return outcome
