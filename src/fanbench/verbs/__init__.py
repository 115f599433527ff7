"""The verbs of the command line as coroutines: typed, silent, progress through `fanbench.verbs.events`.

Each takes an open `fanbench.Client` first and runs on asyncio and on trio.
"""

from __future__ import annotations

from fanbench.verbs.check import Trial, try_files
from fanbench.verbs.credentials import ProxyTokens
from fanbench.verbs.download import DownloadReport, DownloadRow, download_runs, download_tasks
from fanbench.verbs.environment import fetch_credentials, fetch_environment, write_starters
from fanbench.verbs.log import LogReport, RunLog, show_logs, show_task_logs
from fanbench.verbs.models import list_models
from fanbench.verbs.publish import Published, delete_task, delete_tasks, publish_task, publish_tasks
from fanbench.verbs.push import Pushed, PushPlan, plan_push, push_all, push_task
from fanbench.verbs.run import Launch, RunReport, Scheduled, ready_task, resolve_models, run_tasks, schedule
from fanbench.verbs.start import start_runs
from fanbench.verbs.status import TaskStatus, list_tasks, task_status, task_statuses, watch_tasks
from fanbench.verbs.wait import StillRunning, Watch, ensure_created, wait_for_runs, wait_for_task

__all__ = [
    "DownloadReport",
    "DownloadRow",
    "Launch",
    "LogReport",
    "ProxyTokens",
    "Published",
    "PushPlan",
    "Pushed",
    "RunLog",
    "RunReport",
    "Scheduled",
    "StillRunning",
    "TaskStatus",
    "Trial",
    "Watch",
    "delete_task",
    "delete_tasks",
    "download_runs",
    "download_tasks",
    "ensure_created",
    "fetch_credentials",
    "fetch_environment",
    "list_models",
    "list_tasks",
    "plan_push",
    "publish_task",
    "publish_tasks",
    "push_all",
    "push_task",
    "ready_task",
    "resolve_models",
    "run_tasks",
    "schedule",
    "show_logs",
    "show_task_logs",
    "start_runs",
    "task_status",
    "task_statuses",
    "try_files",
    "wait_for_runs",
    "wait_for_task",
    "watch_tasks",
    "write_starters",
]
