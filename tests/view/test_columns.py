"""Tables as columns of numbers."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from fanbench.view.columns import pack, unpack

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
        pack({"s": ("u1", small), "m": ("u2", middle), "l": ("u4", large), "r": ("f8", real)}, texts)
    )
    assert (columns["s"], columns["m"], columns["l"], found) == (small, middle, large, texts)
    assert all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(columns["r"], real, strict=True))


@given(st.text(max_size=20))
def test_every_column_is_aligned(text: str) -> None:
    """A column of 8-byte numbers begins at a multiple of 8, as a browser demands, whatever the header's length is."""
    data = pack({"a": ("u1", [1]), "b": ("f8", [math.pi])}, [text])
    size = int.from_bytes(data[:4], "little")
    start = 4 + size + (-(4 + size) % 8)
    assert len(data) == start + 16
    assert unpack(data)[0]["b"] == [math.pi]
