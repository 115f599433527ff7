"""What `fanbench leaderboard` shows."""

from __future__ import annotations

import click

from fanbench.cli.output import Output, iso_time
from fanbench.operations.leaderboard import LeaderboardTable, score
from fanbench.wire.messages import DisplayType
from fanbench.wire.slugs import normalize_model

__all__ = ["FIELDS", "show_leaderboard"]

#: One record per result of a row in a task. A CSV is the table itself, after a column `model`. The Kaggle CLI has one
#: record per row: its `Model` is a field here, too, and after it comes its field of the task, which has the name of
#: the task.
FIELDS = (
    "benchmark",
    "model",
    "name",
    "task",
    "task_name",
    "task_version",
    "value",
    "confidence_interval",
    "confidence_plus",
    "confidence_minus",
    "passed",
    "evaluated",
    "display_type",
    "candidate_class",
    "model_version",
    "config",
    "agent",
    "harness",
    "Model",
)


def show_leaderboard(out: Output, found: LeaderboardTable, *, as_kaggle: bool) -> None:
    """Print a leaderboard; with `as_kaggle`, the Kaggle CLI's CSV of it."""
    if out.format.tabular:
        click.echo(found.csv(labelled=not as_kaggle), nl=False)
        return
    benchmark = f"{found.owner}/{found.benchmark}"
    records = []
    for label, name, row in zip(found.labels, found.names, found.board.rows, strict=True):
        for result in row.task_results:
            got = result.result
            scaled = result.display_type is not DisplayType.UNSPECIFIED
            numeric = got.numeric_result if got else None
            interval = numeric.interval if numeric else None
            record = {
                "benchmark": benchmark,
                "model": label,
                "name": name,
                "task": result.benchmark_task_slug,
                "task_name": result.benchmark_task_name,
                "task_version": result.task_version or None,
                "value": numeric.value if numeric else None,
                "confidence_interval": numeric.confidence_interval if numeric else None,
                "confidence_plus": interval.plus if interval else None,
                "confidence_minus": interval.minus if interval else None,
                "passed": got.boolean_result if got else None,
                "evaluated": iso_time(got.evaluation_date) if got else None,
                "display_type": result.display_type.label if scaled else None,
                "candidate_class": row.kind.label,
                "model_version": normalize_model(row.model_version_slug) or None,
                "config": row.model_version_config_slug or None,
                "agent": row.agent_slug or None,
                "harness": row.harness_slug or None,
                "Model": name,
            }
            record.setdefault(found.tasks[result.benchmark_task_slug], score(got))
            records.append(record)
    out.records(records, FIELDS)
    if found.board.rows:
        out.table(found.header, found.cells)
