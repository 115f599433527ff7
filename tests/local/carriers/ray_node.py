"""One emulated machine of a Ray cluster, which dies with this process: `python -m … FOLDER IP CPUS [HEAD:PORT]`.

It does what `ray start` does, in the foreground. Each machine has an address of its own, such as 127.0.0.3. It is not
127.0.0.1, because Ray takes that for the address that leads out.
"""

from __future__ import annotations

import signal
import sys

from ray._private.node import Node
from ray._private.parameter import RayParams


def main(folder: str, ip: str, cpus: str, head: str = "") -> None:
    params = RayParams(
        gcs_address=head or None,
        node_ip_address=ip,
        num_cpus=int(cpus),
        object_store_memory=100_000_000,
        min_worker_port=0,
        max_worker_port=0,
        include_dashboard=False,
        include_log_monitor=False,
        no_monitor=True,
        temp_dir=folder,
    )
    node = Node(params, head=not head, shutdown_at_exit=False, spawn_reaper=True)
    print(node.gcs_address, flush=True)
    signal.pause()


if __name__ == "__main__":
    main(*sys.argv[1:])
