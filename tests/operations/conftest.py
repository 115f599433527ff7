"""What the tests of the verbs share."""

from __future__ import annotations

import pytest

from fanbench.operations.events import Event


class Said(list[Event]):
    """A `report` that keeps what was said."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def said() -> Said:
    return Said()
