"""Kaggle Benchmarks at scale: tasks, runs, logs and results for many tasks and models at once.

Except for the errors, public names are imported when first used, so that `import fanbench` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from fanbench import errors
from fanbench.errors import *  # noqa: F403
from fanbench.version import __version__

# The same names as below, for type checkers; tests/wire/test_public_face.py compares the two.
if TYPE_CHECKING:
    from fanbench.client import Client as Client
    from fanbench.client import local_server as local_server
    from fanbench.config import Anonymous as Anonymous
    from fanbench.config import Basic as Basic
    from fanbench.config import Bearer as Bearer
    from fanbench.config import Config as Config
    from fanbench.config import Credentials as Credentials
    from fanbench.config import resolve_config as resolve_config
    from fanbench.local.address import LocalServer as LocalServer
    from fanbench.local.launcher import ensure_server as ensure_server
    from fanbench.operations.download import DownloadReport as DownloadReport
    from fanbench.operations.download import DownloadRow as DownloadRow
    from fanbench.operations.push import Pushed as Pushed
    from fanbench.operations.run import RunReport as RunReport
    from fanbench.operations.status import TaskStatus as TaskStatus
    from fanbench.operations.watch import StillRunning as StillRunning
    from fanbench.results import Item as Item
    from fanbench.results import ItemState as ItemState
    from fanbench.results import ResultSet as ResultSet
    from fanbench.results import RunResult as RunResult
    from fanbench.results.compare import Comparison as Comparison
    from fanbench.results.compare import Verdict as Verdict
    from fanbench.results.gate import Gate as Gate
    from fanbench.results.ranking import Ranking as Ranking
    from fanbench.results.scales import Scale as Scale
    from fanbench.results.scores import Scores as Scores
    from fanbench.sweeps.decide import RunStatus as RunStatus
    from fanbench.sweeps.events import SweepEvent as SweepEvent
    from fanbench.sweeps.plan import SweepPlan as SweepPlan
    from fanbench.sweeps.report import RunRow as RunRow
    from fanbench.sweeps.report import SweepReport as SweepReport
    from fanbench.sweeps.results import read_results as read_results
    from fanbench.sweeps.sweep import Sweep as Sweep
    from fanbench.sweeps.sweep import plan_sweep as plan_sweep
    from fanbench.sweeps.sweep import sweep as sweep
    from fanbench.wire.messages import BenchmarkModel as BenchmarkModel
    from fanbench.wire.messages import Citation as Citation
    from fanbench.wire.messages import CreationState as CreationState
    from fanbench.wire.messages import LogEntry as LogEntry
    from fanbench.wire.messages import Run as Run
    from fanbench.wire.messages import RunState as RunState
    from fanbench.wire.messages import SkipPolicy as SkipPolicy
    from fanbench.wire.messages import Task as Task
    from fanbench.wire.queue import Enqueue as Enqueue

_NAMES = {
    "fanbench.client": "Client local_server",
    "fanbench.config": "Anonymous Basic Bearer Config Credentials resolve_config",
    "fanbench.local.address": "LocalServer",
    "fanbench.local.launcher": "ensure_server",
    "fanbench.operations.download": "DownloadReport DownloadRow",
    "fanbench.operations.push": "Pushed",
    "fanbench.operations.run": "RunReport",
    "fanbench.operations.status": "TaskStatus",
    "fanbench.operations.watch": "StillRunning",
    "fanbench.results": "Item ItemState ResultSet RunResult",
    "fanbench.results.compare": "Comparison Verdict",
    "fanbench.results.gate": "Gate",
    "fanbench.results.ranking": "Ranking",
    "fanbench.results.scales": "Scale",
    "fanbench.results.scores": "Scores",
    "fanbench.sweeps.decide": "RunStatus",
    "fanbench.sweeps.events": "SweepEvent",
    "fanbench.sweeps.plan": "SweepPlan",
    "fanbench.sweeps.report": "RunRow SweepReport",
    "fanbench.sweeps.results": "read_results",
    "fanbench.sweeps.sweep": "Sweep plan_sweep sweep",
    "fanbench.wire.messages": "BenchmarkModel Citation CreationState LogEntry Run RunState SkipPolicy Task",
    "fanbench.wire.queue": "Enqueue",
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = ["__version__", *errors.__all__, *_MODULE_OF]  # noqa: PLE0604


if not TYPE_CHECKING:  # Type checkers are to report names that do not exist.

    def __getattr__(name):
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
