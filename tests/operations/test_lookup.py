"""Whether an error says that the server does not have a call, or something else."""

from __future__ import annotations

import pytest

from fanbench.errors import ApiError, error_for_status
from fanbench.operations.lookup import UnsupportedByServer, needs_call


@pytest.mark.parametrize(
    ("status", "message", "is_lacking", "is_lacking_if_nothing_is_named"),
    [
        (501, "not implemented", True, True),
        (405, "<html>", True, True),
        (404, "Unknown call /api/v1/benchmarks", True, True),
        (404, "No such call.", True, True),
        (404, "Not Found", True, True),
        (404, "No such task.", False, True),
        (403, "Not yours.", False, False),
        (400, "Unknown call", False, False),
    ],
)
def test_a_server_without_a_call(
    status: int, message: str, is_lacking: bool, is_lacking_if_nothing_is_named: bool
) -> None:
    """A 404 in the words of a resource is about the call only if the call names nothing that may be missing."""
    for names_nothing, expected in ((False, is_lacking), (True, is_lacking_if_nothing_is_named)):
        with (
            pytest.raises((ApiError, UnsupportedByServer)) as caught,
            needs_call("No", names_nothing=names_nothing),
        ):
            raise error_for_status("call", status, message)
        assert isinstance(caught.value, UnsupportedByServer) is expected
        assert message in str(caught.value)
