"""`doctor`: what is missing on this machine, and how to fix it. Changes nothing and starts nothing.

A probe looks at one thing and returns checks. All of them are in `PROBES`, in the order of the report.
"""

from __future__ import annotations

from functools import partial

from fanbench._util.concurrency import InOrder, settle
from fanbench.errors import FanbenchError
from fanbench.operations.doctor import elsewhere, machine, server
from fanbench.operations.doctor.check import Check, Checked, DoctorTarget, Probe, failed_check
from fanbench.operations.events import Emit, ignore_events

__all__ = ["PROBES", "Check", "Checked", "DoctorTarget", "examine"]

PROBES: list[Probe] = [
    machine.probe_python,
    server.probe_server,
    machine.probe_env_file,
    machine.probe_sdk_env_file,
    machine.probe_packages,
    machine.probe_sdk,
    machine.probe_llama,
    machine.probe_models,
    machine.probe_data_folder,
    machine.probe_run_packages,
    machine.probe_mounts,
    machine.probe_isolation,
    machine.probe_port,
    elsewhere.probe_options,
    elsewhere.probe_engine,
    elsewhere.probe_database,
    elsewhere.probe_files,
]


async def examine(target: DoctorTarget, *, emit: Emit = ignore_events) -> list[Check]:
    """Run all probes at the same time. Their checks are reported as `Checked`, and returned, in the order above."""
    checks: list[Check] = []

    def collect(found: list[Check] | FanbenchError) -> None:
        for check in [failed_check("doctor", found)] if isinstance(found, FanbenchError) else found:
            checks.append(check)
            emit(Checked(check))

    jobs = [partial(probe, target) for probe in PROBES]
    await settle(jobs, limit=len(jobs), done=InOrder(collect))
    return checks
