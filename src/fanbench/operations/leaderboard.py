"""`leaderboard`: what models reached in the tasks of a benchmark, as one table, and as a file."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from fanbench._util import files
from fanbench.config import Basic, Bearer
from fanbench.errors import UsageError
from fanbench.operations.api import Api
from fanbench.wire.messages import BenchmarkResult, Leaderboard, LeaderboardRow

__all__ = ["LeaderboardTable", "benchmark_name", "fetch_leaderboard", "score", "write_leaderboard"]

NO_SCORE = "N/A"


@dataclass(frozen=True, slots=True)
class LeaderboardTable:
    """`tasks` has slug → name, sorted by slug; `cells` a row a model, a column a task."""

    owner: str
    benchmark: str
    board: Leaderboard
    tasks: dict[str, str]

    @property
    def header(self) -> list[str]:
        return ["Model", *self.tasks.values()]

    @property
    def cells(self) -> list[list[str]]:
        """In the server's order of models; a task that a model has no result for is `N/A`."""
        return [self._cells_of(row) for row in self.board.rows]

    def _cells_of(self, row: LeaderboardRow) -> list[str]:
        scores = {result.benchmark_task_slug: score(result.result) for result in row.task_results}
        return [row.model_version_name, *(scores.get(slug, NO_SCORE) for slug in self.tasks)]

    def csv(self) -> str:
        text = io.StringIO(newline="")
        csv.writer(text).writerows([self.header, *self.cells])
        return text.getvalue()


def score(result: BenchmarkResult | None) -> str:
    """`0.85`, `Pass`, `Fail`, or `N/A` for a result that says neither."""
    if result is not None and result.numeric_result is not None:
        return str(result.numeric_result.value)
    if result is None or result.boolean_result is None:
        return NO_SCORE
    return "Pass" if result.boolean_result else "Fail"


def benchmark_name(text: str) -> tuple[str, str]:
    """Owner, empty where none is named, and slug.

    Raises:
        UsageError: it is neither OWNER/BENCHMARK nor BENCHMARK.
    """
    parts = text.strip().split("/")
    if len(parts) > 2 or not all(part.strip() for part in parts) or not _are_names(parts):
        raise UsageError(f"'{text}' is not a benchmark.", hint="Write it as OWNER/BENCHMARK.")
    return (parts[0], parts[1]) if len(parts) == 2 else ("", parts[0])


def _are_names(parts: list[str]) -> bool:
    """The slug becomes a file's name."""
    return all(part not in (".", "..") and part.isprintable() and "\\" not in part for part in parts)


async def fetch_leaderboard(client: Api, benchmark: str, *, version: int | None = None) -> LeaderboardTable:
    """The leaderboard of `OWNER/BENCHMARK`; without an owner, of the caller's own. No version: the newest.

    Raises:
        NotFound: there is no such benchmark, or version of it.
        UsageError: it is no name, or has no owner and the server does not say who the caller is.
    """
    owner, slug = benchmark_name(benchmark)
    owner = owner or await _caller(client)
    board = await client.leaderboard(owner, slug, version=version)
    names = {
        result.benchmark_task_slug: result.benchmark_task_name
        for row in board.rows
        for result in row.task_results
    }
    return LeaderboardTable(owner, slug, board, {slug: names[slug] or slug for slug in sorted(names)})


async def _caller(client: Api) -> str:
    match client.config.credentials:
        case Basic(username=username):
            return username
        case Bearer(token=token):
            if username := (await client.introspect_token(token)).username:
                return username
        case _:
            pass
    raise UsageError("The benchmark has no owner.", hint="Write it as OWNER/BENCHMARK.")


def write_leaderboard(table: LeaderboardTable, folder: Path) -> Path:
    """Writes `<folder>/<benchmark>_leaderboard.csv`, whole or not at all; its path.

    Raises:
        OutputError: it cannot be written.
    """
    path = folder / f"{table.benchmark}_leaderboard.csv"
    with files.output_errors(f"write {path}", hint="Name another folder with -p."):
        folder.mkdir(parents=True, exist_ok=True)
        files.write(path, table.csv().encode())
    return path
