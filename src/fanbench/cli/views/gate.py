"""What `fanbench gate` shows."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import Any

from fanbench.cli.folders import sweep_command
from fanbench.cli.output import Output
from fanbench.errors import CannotTell, Regression
from fanbench.results.compare import Verdict, interval_of
from fanbench.results.gate import Cause, Gate

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
            command = _comparison(old, new)
            raise Regression(found.conclusion, hint=f"Run `{command}` to see the items that changed.")
        case Verdict.CANNOT_TELL:
            raise CannotTell(found.conclusion, hint=_hint(found, old, new))


def _comparison(old: Path, new: Path) -> str:
    return shlex.join(["fanbench", "compare", str(old), str(new)])


def _hint(found: Gate, old: Path, new: Path) -> str:
    """What to do so that the results tell."""
    if found.refusal is None and found.items_to_tell is None:
        return f"Choose a larger --margin, or run `{_comparison(old, new)}` to see the items that changed."
    if found.refusal is None:
        return "Add items to the tasks, or choose a larger --margin."
    match found.refusal.cause:
        case Cause.MODEL:
            return "Add -m MODEL for models that both have."
        case Cause.CONTENT:
            return "Make both sweeps with the same task files."
        case Cause.VALUES:
            before, after = (shlex.join(["fanbench", "results", str(folder)]) for folder in (old, new))
            return f"Run `{before}` and `{after}` to see the values."
        case Cause.SCALE:
            return "Declare the same scale in both sweep files, and sweep again: what has been run is not run again."
        case Cause.COVERAGE:
            folders = [old if side == "old" else new for side in found.refusal.uncovered]
            commands = [sweep_command(folder, "--retry-errored", "1") for folder in folders]
            named = " and ".join(f"`{command}`" for command in commands if command)
            again = (
                f"Run again what errored or is missing: {named}, or, where only items of a run errored, with --rerun "
                "TASK:MODEL. "
                if named
                else ""
            )
            # Rounded down, so that it is accepted; but 0 is not, as nothing would be compared. 1 is what is asked for.
            least = min(0.999, math.floor(found.coverage * 1000) / 1000)
            accept = f"To accept this coverage, add --min-coverage {least:g}."
            return again + (accept if least else "Add -m MODEL for models that have scores on both sides.")
        case Cause.NOTHING:
            return f"Run `{_comparison(old, new)}` to see what there is."


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
