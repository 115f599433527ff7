"""`leaderboard`: the scores of models on the tasks of a benchmark, as a table and as a CSV file."""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from fanbench._util import files
from fanbench.operations.api import Api
from fanbench.operations.benchmarks import whole_name
from fanbench.wire.candidates import Candidate
from fanbench.wire.messages import (
    BenchmarkResult,
    CandidateClass,
    DisplayType,
    Leaderboard,
    TaskResult,
)

__all__ = [
    "LeaderboardTable",
    "fetch_leaderboard",
    "score",
    "shown_score",
    "write_leaderboard",
]

NO_SCORE = "N/A"


@dataclass(frozen=True, slots=True)
class LeaderboardTable:
    """One row per model, configuration or agent, and one column per task.

    `tasks` maps the slugs of the tasks, sorted, to their names.
    """

    owner: str
    benchmark: str
    board: Leaderboard
    tasks: dict[str, str]

    @property
    def header(self) -> list[str]:
        return ["Model", *self.tasks.values()]

    @property
    def names(self) -> list[str]:
        """The name of each row for programs; configurations and agents whose name others have get their slug, too."""
        counts = Counter(row.name for row in self.board.rows)
        return [
            f"{row.name} ({row.slug})"
            if counts[row.name] > 1 and row.kind is not CandidateClass.MODEL_VERSION
            else row.name
            for row in self.board.rows
        ]

    @property
    def labels(self) -> list[str]:
        """What fanbench calls the rows: the model's slug, `MODEL@EFFORT`, or the agent's slug."""
        return [Candidate.of_row(row).label for row in self.board.rows]

    @property
    def cells(self) -> list[list[str]]:
        """The rows for people, in the server's order: values are on the scale of their task, such as `85.0%`.

        The names of configurations and agents are followed by what fanbench calls them: `M High (m@high)`.
        """
        names = [
            row.name if row.kind is CandidateClass.MODEL_VERSION else f"{row.name} ({label})"
            for row, label in zip(self.board.rows, self.labels, strict=True)
        ]
        return self._cells(names, lambda result: shown_score(result.result, result.display_type))

    def csv(self, *, labelled: bool = False) -> str:
        """The rows for programs, with the values as they are stored, as the Kaggle CLI has them.

        If `labelled`, a column `model` with the `labels` comes before the others.
        """
        rows = [self.header, *self._cells(self.names, lambda result: score(result.result))]
        if labelled:
            rows = [[label, *row] for label, row in zip(["model", *self.labels], rows, strict=True)]
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        return text.getvalue()

    def _cells(self, names: Iterable[str], read: Callable[[TaskResult], str]) -> list[list[str]]:
        """One cell per task; `N/A` stands for one of which the row has no result."""
        rows = []
        for name, row in zip(names, self.board.rows, strict=True):
            scores = {result.benchmark_task_slug: read(result) for result in row.task_results}
            rows.append([name, *(scores.get(slug, NO_SCORE) for slug in self.tasks)])
        return rows


def score(result: BenchmarkResult | None) -> str:
    """The result as `0.85`, `Pass`, `Fail`, or otherwise `N/A`."""
    if result is not None and result.numeric_result is not None:
        return str(result.numeric_result.value)
    if result is None or result.boolean_result is None:
        return NO_SCORE
    return "Pass" if result.boolean_result else "Fail"


# As Kaggle's site shows values. Only whole dollars have separators there.
_SCALES: dict[DisplayType, Callable[[float], str]] = {
    DisplayType.PERCENTAGES: lambda value: f"{100 * value:.1f}%",
    DisplayType.RAW_PERCENTAGES: lambda value: f"{value:.1f}%",
    DisplayType.COUNTS: lambda value: f"{value:.0f}",
    DisplayType.FLOAT_COUNTS: lambda value: f"{value:.1f}",
    DisplayType.RAW_VALUES: lambda value: f"{value:.2f}",
    DisplayType.DOLLARS: lambda value: f"${value:.2f}",
    DisplayType.CENTS: lambda value: f"¢{value:.2f}",
    DisplayType.WHOLE_DOLLARS: lambda value: f"${value:,.0f}",
}


def shown_score(result: BenchmarkResult | None, scale: DisplayType) -> str:
    """The result as `score` has it, a number on the scale of the leaderboard: `85.0%`, `$1.50`."""
    if result is None or result.numeric_result is None:
        return score(result)
    value = result.numeric_result.value
    if value >= sys.float_info.max:
        return "undefeated"
    return _SCALES[scale](value) if scale in _SCALES else score(result)


async def fetch_leaderboard(client: Api, benchmark: str, *, version: int | None = None) -> LeaderboardTable:
    """Fetch the leaderboard of `OWNER/BENCHMARK`, by default the newest `version`. The default owner is the user.

    Raises:
        NotFound: The benchmark, or this version of it, does not exist.
        UsageError: The name is not valid, or has no owner and the server does not say who the user is.
    """
    owner, slug = await whole_name(client, benchmark)
    board = await client.leaderboard(owner, slug, version=version)
    names = {
        result.benchmark_task_slug: result.benchmark_task_name
        for row in board.rows
        for result in row.task_results
    }
    return LeaderboardTable(owner, slug, board, {slug: names[slug] or slug for slug in sorted(names)})


def write_leaderboard(table: LeaderboardTable, folder: Path) -> Path:
    """Write `<folder>/<benchmark>_leaderboard.csv`, completely or not at all, and return its path.

    Raises:
        OutputError: The file cannot be written.
    """
    path = folder / f"{table.benchmark}_leaderboard.csv"
    with files.output_errors(f"write {path}", hint="Name another folder with -p."):
        folder.mkdir(parents=True, exist_ok=True)
        files.write(path, table.csv())
    return path
