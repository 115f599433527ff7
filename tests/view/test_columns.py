"""Tables as columns of numbers."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fanbench.view.columns import changed_rows, column, pack, unpack

ROWS = st.lists(
    st.tuples(
        st.integers(0, 255),
        st.integers(0, 65535),
        st.integers(0, 2**32 - 1),
        st.floats(),
        st.text('aé\0\u202e"<'),
    )
)


@given(ROWS)
def test_what_is_packed_is_unpacked(rows: list[tuple[int, int, int, float, str]]) -> None:
    """Columns of all types, NaN among them, and texts are what they were."""
    small, middle, large, real, texts = map(list, zip(*rows, strict=True)) if rows else ([], [], [], [], [])
    columns, found = unpack(
        pack(
            {
                "s": column("u1", small),
                "m": column("u2", middle),
                "l": column("u4", large),
                "r": column("f8", real),
            },
            texts,
        )
    )
    assert (columns["s"], columns["m"], columns["l"], found) == (small, middle, large, texts)
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(columns["r"], real, strict=True))


@given(st.text(max_size=20))
def test_every_column_is_aligned(text: str) -> None:
    """A column of 8-byte numbers begins at a multiple of 8, as a browser demands, whatever the header's length is."""
    data = pack({"a": column("u1", [1]), "b": column("f8", [math.pi])}, [text])
    size = int.from_bytes(data[:4], "little")
    start = 4 + size + (-(4 + size) % 8)
    assert len(data) == start + 16
    assert unpack(data)[0]["b"] == [math.pi]


def test_changes_are_found_by_bytes() -> None:
    """NaN that stays is no change, and each changed row is named once."""
    old = {"a": column("f8", [math.nan, 1.0, 2.0]), "b": column("u1", [1, 2, 3])}
    new = {"a": column("f8", [math.nan, 1.5, math.nan]), "b": column("u1", [1, 2, 3])}
    assert dict(changed_rows(old, new)) == {"a": [1, 2]}
