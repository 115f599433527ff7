"""The verbs of the command line as coroutines: typed, silent, progress through `fanbench.verbs.events`.

Each takes an open `fanbench.Client` first and runs on asyncio and on trio.
"""

from __future__ import annotations

from fanbench.verbs.download import DownloadReport, DownloadRow, download_runs
from fanbench.verbs.environment import fetch_credentials, fetch_environment, write_starters
from fanbench.verbs.log import LogReport, RunLog, show_logs
from fanbench.verbs.models import list_models
from fanbench.verbs.publish import Published, delete_task, publish_task
from fanbench.verbs.push import Pushed, PushPlan, plan_push, push_all, push_task
from fanbench.verbs.run import Launch, RunReport, Scheduled, ready_task, resolve_models, run_tasks, schedule
from fanbench.verbs.status import TaskStatus, list_tasks, task_status
from fanbench.verbs.wait import StillRunning, Watch, ensure_created, wait_for_runs, wait_for_task

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
    "delete_task",
    "download_runs",
    "ensure_created",
    "fetch_credentials",
    "fetch_environment",
    "list_models",
    "list_tasks",
    "plan_push",
    "publish_task",
    "push_all",
    "push_task",
    "ready_task",
    "resolve_models",
    "run_tasks",
    "schedule",
    "show_logs",
    "task_status",
    "wait_for_runs",
    "wait_for_task",
    "write_starters",
]
