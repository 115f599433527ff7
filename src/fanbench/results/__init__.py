"""Results: run files → a `RunResult` per run, and an `Item` per attempt at a part of a task → scores, tables, records.

read, run_file      find the run files, and decide which of them belong to a run
cache               the results of large folders, kept in the folder
known               what the journal of a sweep has of a run
combine             the run files of one run → its result
itemize, gather     the run files of one run → its items; what all runs together tell of them
transcript          what was said in a run
scores, figures     items → the score of each task and model, and what is known of a value
scales              the range of a task's values
ranking, passes     scores → leaderboards, with pass@k
compare, gate       scores → comparisons, and their verdict
statistics          intervals, tests and estimators
names, selection    which results are meant by a name, and which are shown in which order
table, display      results as tables, and these as text and HTML
records, frames     results as records, and as tables of other packages
types, items        a `RunResult` and an `Item`
result_set          all that was read; its methods lead to the rest
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
