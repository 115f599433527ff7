"""Task files: what they define, what is wrong with them, and the notebook that Kaggle runs.

Nothing here runs a task file.
"""

from __future__ import annotations

from fanbench.tasks.files import choose_task, read_task_file, refuse_errors
from fanbench.tasks.model import Finding, TaskDefinition, TaskFile
from fanbench.tasks.notebook import to_notebook

__all__ = [
    "Finding",
    "TaskDefinition",
    "TaskFile",
    "choose_task",
    "read_task_file",
    "refuse_errors",
    "to_notebook",
]
