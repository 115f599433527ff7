"""Runs in containers: bubblewrap (`bwrap`) starts a new Python that sees the system's programs and its own files only.

Unlike with `mounts`, nothing is there that is not named here, and only the folder of the run can be changed. The
network is that of the machine: a run reaches the Model Proxy on 127.0.0.1, and everything else that you reach.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from fanbench.errors import LocalServerError
from fanbench.local.executor.job import Job
from fanbench.local.executor.mounts import KERNEL_SETTINGS, SCRATCH, WORKING, covers, dataset_places, needed

__all__ = ["check_containers", "command_in_container"]

_SYSTEM = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32", "opt", "nix")
# Not all of /etc: for a server that root runs, it has secrets that a run could read.
_SETTINGS = (
    "alternatives",
    "ca-certificates",
    "crypto-policies",
    "fonts",
    "group",
    "host.conf",
    "hosts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "pki",
    "protocols",
    "resolv.conf",
    "services",
    "ssl",
    "timezone",
)
_NAMESPACES = (
    "--unshare-user-try",
    "--unshare-pid",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
_TRY_SECONDS = 20.0


def check_containers() -> None:
    """Raise LocalServerError, with the remedy, if there can be no containers here."""
    if sys.platform != "linux":
        raise LocalServerError("--isolation container needs Linux.", hint="Omit --isolation.")
    program = shutil.which("bwrap")
    if program is None:
        raise LocalServerError(
            "--isolation container needs bubblewrap, and there is no program bwrap here.",
            hint="Run `apt install bubblewrap` (or dnf, pacman, apk), or omit --isolation.",
        )
    command = [program, *_NAMESPACES, "--cap-drop", "ALL", "--ro-bind", "/", "/", "--dev", "/dev"]
    command += ["--proc", "/proc", "true"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TRY_SECONDS)
        reason = "" if done.returncode == 0 else done.stderr.strip() or f"it ended with {done.returncode}"
    except (OSError, subprocess.TimeoutExpired) as error:
        reason = str(error)
    if reason:
        raise LocalServerError(
            f"bubblewrap can make no containers here: {reason}.",
            hint="Allow unprivileged user namespaces, or omit --isolation.",
        )


def command_in_container(job: Job, words: Sequence[str]) -> list[str]:
    """The command that executes `words` in a container of the job's, which ends with them and with its parent."""
    program = shutil.which("bwrap") or "bwrap"
    command = [program, *_NAMESPACES, "--cap-drop", "ALL", "--die-with-parent"]
    for name in _SYSTEM:
        folder = f"/{name}"
        if os.path.islink(folder):
            command += ["--symlink", os.readlink(folder), folder]
        else:
            command += ["--ro-bind-try", folder, folder]
    for name in _SETTINGS:
        command += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    command += ["--ro-bind-try", "/sys/devices/system", "/sys/devices/system"]  # the number of processors
    command += ["--dev", "/dev", "--proc", "/proc"]
    for name in KERNEL_SETTINGS:
        command += ["--ro-bind-try", f"/proc/{name}", f"/proc/{name}"]
    hidden = covers(job)
    shown = [place for place in needed(job) if place.exists() and place != Path("/")]
    # From the outside in: what is deeper has the last word.
    for place in sorted({*hidden, *shown}, key=lambda place: len(place.parts)):
        if place == Path(job.folder):
            command += ["--bind", job.folder, job.folder]
        elif place in shown:
            command += ["--ro-bind", str(place), str(place)]
        else:
            command += ["--bind", str(hidden[place]), str(place)]
    command += ["--dir", "/kaggle/input", "--bind", str(job.working), str(WORKING)]
    for name in SCRATCH:
        command += ["--bind", str(job.scratch), f"/kaggle/{name}"]
    for name, real in dataset_places(job).items():
        command += ["--ro-bind", real, f"/kaggle/input/{name}"]
    return [*command, "--chdir", str(WORKING), "--", *words]
