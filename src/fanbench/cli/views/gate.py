"""What `fanbench gate` shows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from fanbench._util.text import many
from fanbench.cli.output import Output
from fanbench.cli.views.compare import all_names, comparison_table, difference_text, left_out, p_text
from fanbench.cli.views.ranking import say
from fanbench.errors import CannotTell, Regression
from fanbench.results.compare import Verdict, interval_of, place_name
from fanbench.results.gate import Gate

__all__ = ["FIELDS", "show_gate"]

FIELDS = (
    "verdict",
    "reason",
    "margin",
    "difference",
    "low",
    "high",
    "p",
    "smallest",
    "items",
    "items_to_tell",
    "coverage",
    "models",
    "fallen",
)


def show_gate(out: Output, found: Gate, old: Path, new: Path) -> None:
    """Show the comparison of the results in `old` and `new`, what it leaves out, and the verdict.

    Raises:
        Regression: The new results are worse.
        CannotTell: They may be, or cannot be compared.
    """
    names = all_names(found.comparison)
    out.records([_record(found)], FIELDS, single=True)
    if out.for_people and found.comparison.pairs:
        out.tables([comparison_table(found.comparison, names)])
        out.text()
    for sentence in left_out(found.comparison, names, ("OLD", "NEW")):
        say(out, sentence)
    if found.refusal is not None:
        raise CannotTell(f"Cannot tell: {found.refusal.reason}.", hint=found.refusal.hint)
    difference, mean = found.comparison.difference, found.comparison.mean
    assert difference is not None
    assert mean is not None
    text = f"the difference is {difference_text(mean, difference)}, and the margin {found.margin:g}"
    match found.verdict:
        case Verdict.NOT_WORSE:
            out.text(f"Not worse: {text}.")
        case Verdict.REGRESSION:
            fallen = [
                f"{place_name((pair.key, pair.model), names)} fell by {-pair.difference:.3f} "
                f"(p adjusted {p_text(pair.adjusted)})"
                for pair in found.comparison.fallen(found.margin)
            ]
            command = shlex.join(["fanbench", "compare", str(old), str(new)])
            raise Regression(
                f"Worse: {'; '.join([text, *fallen])}.",
                hint=f"Run `{command}` to see the items that changed.",
            )
        case Verdict.CANNOT_TELL:
            raise CannotTell(
                f"Cannot tell: {text}, from {many(found.comparison.items, 'item')}. "
                f"About {found.items_to_tell:,} would tell, if nothing has changed.",
                hint="Add items to the tasks, or choose a larger --margin.",
            )


def _record(found: Gate) -> dict[str, Any]:
    comparison, difference = found.comparison, found.comparison.difference
    interval = interval_of(difference) if difference else None
    return {
        "verdict": found.verdict.value,
        "reason": found.refusal.reason if found.refusal else None,
        "margin": found.margin,
        "difference": comparison.mean,
        "low": interval.low if interval else None,
        "high": interval.high if interval else None,
        "p": difference.p if difference else None,
        "smallest": difference.smallest_seen() if difference else None,
        "items": comparison.items,
        "items_to_tell": found.items_to_tell,
        "coverage": found.coverage,
        "models": list(found.models),
        "fallen": [
            {
                "task": pair.key.task,
                "content": pair.key.content,
                "model": pair.model,
                "difference": pair.difference,
                "p_adjusted": pair.adjusted,
            }
            for pair in comparison.fallen(found.margin)
        ],
    }
