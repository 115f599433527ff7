"""What the pages of tasks say: what servers make of it, and what a change is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench.wire.messages import Citation, UpdateTaskRequest, UpdateTaskVersionRequest
from fanbench.wire.metadata import Metadata, requested_change, stored_citations

TEXT = st.text(max_size=8)
METADATA = st.builds(
    Metadata,
    description=st.none() | TEXT,
    tags=st.none() | st.lists(TEXT).map(tuple),
    provenance=st.none() | TEXT,
    citations=st.none() | st.lists(st.builds(Citation, title=TEXT, url=TEXT | st.just("a.org"))).map(tuple),
)
BLANK = Metadata(description="", tags=(), provenance="", citations=())


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://a.org/b", "https://a.org/b"),
        (" a.org ", "http://a.org"),
        ("ftp://a.org", None),
        ("javascript:alert(1)", None),
        ("javascript:1", None),
        ("paper", None),
        ("A paper, 2024.", None),
        ("https://a.org/b c", None),
        ("a.org:8080/b", "http://a.org:8080/b"),
        ("http://localhost/b", "http://localhost/b"),
        ("https://me@a.org", None),
        ("http://", None),
        ("http://[", None),
        ("", None),
    ],
)
def test_citations_have_urls(url: str, stored: str | None) -> None:
    """URLs without a scheme get one, and citations without an http(s) URL are dropped."""
    assert [each.url for each in stored_citations([Citation(title="t", url=url)])] == [stored] * bool(stored)


@given(METADATA)
def test_what_is_stored_needs_no_change(wanted: Metadata) -> None:
    """Once a server has stored a change, the same change is none, however tags and URLs were written."""
    there = wanted.stored().applied_to(BLANK)
    assert wanted.changing(there) == Metadata()
    assert wanted.stored().stored() == wanted.stored()


@given(METADATA)
def test_a_request_names_what_it_changes(wanted: Metadata) -> None:
    """The update mask has exactly the given values, also the empty ones, and the server reads them from it."""
    request = UpdateTaskRequest(
        description=wanted.description or "",
        tags=list(wanted.tags or ()),
        provenance_sources=wanted.provenance or "",
        citations=list(wanted.citations or ()),
        update_mask=wanted.mask,
    )
    if wanted == Metadata():
        with pytest.raises(ValueError, match="names nothing"):
            requested_change(request)
    else:
        assert requested_change(request) == wanted


@pytest.mark.parametrize(
    "request_",
    [UpdateTaskVersionRequest(update_mask="tags"), UpdateTaskRequest(update_mask="description,slug")],
)
def test_other_paths_are_refused(request_: UpdateTaskRequest | UpdateTaskVersionRequest) -> None:
    """A mask that names what cannot be changed is refused: a version has no tags of its own."""
    with pytest.raises(ValueError, match="cannot name"):
        requested_change(request_)
