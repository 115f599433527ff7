"""What `fanbench gate` shows."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from fanbench.cli.output import Output
from fanbench.errors import CannotTell, Regression
from fanbench.results.compare import Verdict, interval_of
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
    out.records([_record(found)], FIELDS, single=True)
    out.display(found.evidence())
    match found.verdict:
        case Verdict.NOT_WORSE:
            out.text(found.conclusion)
        case Verdict.REGRESSION:
            command = shlex.join(["fanbench", "compare", str(old), str(new)])
            raise Regression(found.conclusion, hint=f"Run `{command}` to see the items that changed.")
        case Verdict.CANNOT_TELL:
            hint = "Add items to the tasks, or choose a larger --margin."
            raise CannotTell(found.conclusion, hint=found.refusal.hint if found.refusal else hint)


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
