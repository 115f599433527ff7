"""Results: run files → a `RunResult` per run, and an `Item` per attempt at a part of a task → scores, tables, records.

read, run_file      find the run files, and decide which of them belong to a run
known               what the journal of a sweep has of a run
combine             the run files of one run → its result
itemize, gather     the run files of one run → its items; what all runs together tell of them
scores              items → the score of each task and model
ranking, compare    scores → leaderboards and comparisons
statistics          intervals, tests and estimators
selection           which results are shown, and in which order
table, display      results as tables, and these as text and HTML
records, frames     results as records, and as tables of other packages
result_set          all of it, as methods of what was read
"""

from __future__ import annotations

from fanbench.results.display import Table
from fanbench.results.items import Item, ItemState
from fanbench.results.known import KnownRun
from fanbench.results.read import read_results
from fanbench.results.records import FIELDS, to_record
from fanbench.results.result_set import ResultSet
from fanbench.results.table import Usage, usage, usage_table
from fanbench.results.types import Cost, Problem, RunResult

__all__ = [
    "FIELDS",
    "Cost",
    "Item",
    "ItemState",
    "KnownRun",
    "Problem",
    "ResultSet",
    "RunResult",
    "Table",
    "Usage",
    "read_results",
    "to_record",
    "usage",
    "usage_table",
]
