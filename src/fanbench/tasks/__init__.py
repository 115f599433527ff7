"""Task files: the tasks that they define, what is wrong with them, and the notebook that Kaggle runs.

Nothing in this package executes a task file.
"""

from __future__ import annotations

from fanbench.tasks.notebook import notebook_of, to_notebook
from fanbench.tasks.read import choose_task, join_errors, raise_for_errors, read_task_file
from fanbench.tasks.script_metadata import ScriptMetadata, read_script_metadata
from fanbench.tasks.task_file import Finding, TaskDefinition, TaskFile

__all__ = [
    "Finding",
    "ScriptMetadata",
    "TaskDefinition",
    "TaskFile",
    "choose_task",
    "join_errors",
    "notebook_of",
    "raise_for_errors",
    "read_script_metadata",
    "read_task_file",
    "to_notebook",
]
