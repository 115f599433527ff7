"""Results: run files → one `RunResult` per run → tables and records.

`read.py` finds the run files and decides which of them belong to a run. `combine.py` turns the run files of one run
into its result. `table.py` and `records.py` present results.
"""

from __future__ import annotations

from fanbench.results.read import read_results
from fanbench.results.records import FIELDS, to_record
from fanbench.results.table import Table, Usage, table, usage, usage_table
from fanbench.results.types import Cost, NoResults, Problem, ResultSet, RunResult

__all__ = [
    "FIELDS",
    "Cost",
    "NoResults",
    "Problem",
    "ResultSet",
    "RunResult",
    "Table",
    "Usage",
    "read_results",
    "table",
    "to_record",
    "usage",
    "usage_table",
]
