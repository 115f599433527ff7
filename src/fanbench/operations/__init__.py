"""What the commands do, as typed coroutines that print nothing: they report events (`operations.events`).

Each takes an open `fanbench.Client` first, and runs on asyncio and on trio.
"""

from __future__ import annotations

from fanbench.operations.creation import ensure_created, wait_for_creation
from fanbench.operations.download import DownloadReport, DownloadRow, download_tasks
from fanbench.operations.models import resolve_models
from fanbench.operations.publish import Published, delete_tasks, publish_tasks
from fanbench.operations.push import Pushed, PushPlan, plan_push, push_tasks
from fanbench.operations.run import Launch, RunReport, Scheduled, ready_task, run_tasks, schedule
from fanbench.operations.status import TaskStatus, list_tasks, task_status, task_statuses, watch_tasks
from fanbench.operations.task_logs import LogReport, RunLog, show_logs
from fanbench.operations.watch import StillRunning, Watch, wait_for_runs

__all__ = [
    "DownloadReport",
    "DownloadRow",
    "Launch",
    "LogReport",
    "Published",
    "PushPlan",
    "Pushed",
    "RunLog",
    "RunReport",
    "Scheduled",
    "StillRunning",
    "TaskStatus",
    "Watch",
    "delete_tasks",
    "download_tasks",
    "ensure_created",
    "list_tasks",
    "plan_push",
    "publish_tasks",
    "push_tasks",
    "ready_task",
    "resolve_models",
    "run_tasks",
    "schedule",
    "show_logs",
    "task_status",
    "task_statuses",
    "wait_for_creation",
    "wait_for_runs",
    "watch_tasks",
]
