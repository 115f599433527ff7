"""Run files to results: rows, the table of tasks and models, records for programs."""

from __future__ import annotations

from fanbench.results.model import NoResults, Problem, ResultSet, RunResult
from fanbench.results.read import read_results
from fanbench.results.records import FIELDS, to_record
from fanbench.results.table import Table, Usage, table, usage, usage_table

__all__ = [
    "FIELDS",
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
