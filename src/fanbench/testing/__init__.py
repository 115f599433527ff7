"""A simulated Kaggle for tests: in this process or over HTTP, with faults, on a real or a virtual clock.

    from fanbench.testing import Fault, RunScript, Scenario, SimulatedKaggle, SimulatedTransport

    kaggle = SimulatedKaggle(Scenario(creation=12, runs=RunScript(running=60)), models=["a", "b"])
    async with fanbench.Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
        ...

See docs/testing.md.
"""

from fanbench.faults.fault import ApiCall, Damage, Fault
from fanbench.faults.files import FaultPlan, read_faults
from fanbench.testing.http import SimulatedServer, SimulatedTransport, serve
from fanbench.testing.kaggle import SimulatedKaggle
from fanbench.testing.scenario import RunScript, Scenario, ScriptOf
from fanbench.testing.state import SimulatedRun, SimulatedTask, SimulatedVersion
from fanbench.testing.virtual_time import run_in_virtual_time

__all__ = [
    "ApiCall",
    "Damage",
    "Fault",
    "FaultPlan",
    "RunScript",
    "Scenario",
    "ScriptOf",
    "SimulatedKaggle",
    "SimulatedRun",
    "SimulatedServer",
    "SimulatedTask",
    "SimulatedTransport",
    "SimulatedVersion",
    "read_faults",
    "run_in_virtual_time",
    "serve",
]
