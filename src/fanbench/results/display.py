"""Tables and sentences, which the command line, scripts and notebooks show alike."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape

from fanbench._util.text import align_rows, one_line

__all__ = [
    "MISSING",
    "NO_MODEL",
    "ROUNDING",
    "Display",
    "Displayed",
    "Table",
    "change_text",
    "interval_text",
    "money_text",
    "p_text",
    "score_text",
]

#: The model of a run that tells none.
NO_MODEL = "(no model)"
MISSING = "–"
# A notebook would show what is between two dollar signs as a formula.
_NO_MATH = 'class="tex2jax_ignore mathjax_ignore"'


@dataclass(frozen=True, slots=True, repr=False)
class Table:
    """Rows of text under a header. The first column is the label."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def plain(self) -> str:
        """The table as text, aligned with spaces, with one line per row."""
        return "\n".join(align_rows([self.header, *self.rows]))

    def html(self) -> str:
        """The table as HTML, in which no cell is more than text."""
        lines = [_row("th", self.header), *(_row("td", row) for row in self.rows)]
        return "\n".join((f"<table {_NO_MATH}>", *lines, "</table>"))

    def __repr__(self) -> str:
        return self.plain()

    def _repr_html_(self) -> str:
        return self.html()


def _row(element: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{element}>{_safe(cell)}</{element}>" for cell in cells) + "</tr>"


def _safe(text: str) -> str:
    return escape(one_line(text))


@dataclass(frozen=True, slots=True)
class Display:
    """What is shown of a result.

    Attributes:
        tables: The tables.
        legend: Sentences on what the tables mean.
        remarks: Sentences on what they leave out, and what follows.
    """

    tables: tuple[Table, ...] = ()
    legend: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def plain(self) -> str:
        """All of it as text: the tables, then one sentence per line."""
        sentences = "\n".join(map(one_line, (*self.legend, *self.remarks)))
        return "\n\n".join(filter(None, (*(table.plain() for table in self.tables), sentences)))

    def html(self) -> str:
        """All of it as HTML, in which no name is more than text."""
        sentences = (f"<p {_NO_MATH}>{_safe(sentence)}</p>" for sentence in (*self.legend, *self.remarks))
        return "\n".join((*(table.html() for table in self.tables), *sentences))


class Displayed:
    """What has a display: `print` and a console show it as text, and a notebook as HTML."""

    __slots__ = ()

    def display(self) -> Display:
        """Return the tables and the sentences that the command line prints."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.display().plain()

    def _repr_html_(self) -> str:
        return self.display().html()


# --- Numbers ----------------------------------------------------------------------------------------------------


#: Scores that differ by less are the same: the means of three and of seven repeats of 0.7 differ by a rounding error.
ROUNDING = 1e-9


def score_text(score: float | None) -> str:
    return MISSING if score is None else f"{score:.3f}"


def change_text(change: float) -> str:
    """`+0.025`, and `-0.0004` rather than a zero that has a sign; what only rounding leaves is `+0.000`."""
    return f"{change:+.1g}" if ROUNDING < abs(change) < 0.0005 else f"{change:+z.3f}"


def interval_text(low: float, high: float) -> str:
    return f"{low:.3f} – {high:.3f}"


def money_text(usd: float | None) -> str:
    """`$0.0123`, and two digits of what is less than a tenth of a cent: `$0.000012`."""
    if usd is None:
        return MISSING
    decimals = 1 - math.floor(math.log10(usd)) if 0 < usd < 0.001 else 4
    return f"${usd:.{decimals}f}"


def p_text(p: float) -> str:
    return "<0.001" if p < 0.001 else f"{p:.3f}"
