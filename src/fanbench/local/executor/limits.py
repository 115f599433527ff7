"""What a run takes as a whole: the memory of all its processes, which is known on Linux only, and room for files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from fanbench.local.executor.job import Job
from fanbench.local.executor.lifetime import descendants

__all__ = ["excess"]

_MB = 1 << 20
_RESIDENT = re.compile(rb"^Rss(?:Anon|Shmem):\s+(\d+) kB$", re.MULTILINE)
_PROPORTIONAL = re.compile(rb"^Pss:\s+(\d+) kB$", re.MULTILINE)


def excess(job: Job, pid: int) -> str | None:
    """A sentence if the run with the process `pid` takes more than its job allows."""
    if job.memory_mb:
        processes = [pid, *descendants(pid)]
        # Pages that forks share count for each of them here, and are divided there, which takes longer.
        used = sum(_kilobytes(each, "status", _RESIDENT) for each in processes) << 10
        if used > job.memory_mb * _MB:
            exact = [_kilobytes(each, "smaps_rollup", _PROPORTIONAL) for each in processes]
            used = sum(exact) << 10 if all(exact) else used
        if used > job.memory_mb * _MB:
            took = f"The processes of the run took {used // _MB:,} MB of memory"
            return f"{took}, over the server's limit (--run-memory)."
    if job.disk_mb and (size := sum(_sizes(job.folder))) > job.disk_mb * _MB:
        return f"The files of the run took {size // _MB:,} MB, over the server's limit (--run-disk)."
    return None


def _kilobytes(pid: int, file: str, pattern: re.Pattern[bytes]) -> int:
    try:
        return sum(map(int, pattern.findall(Path(f"/proc/{pid}/{file}").read_bytes())))
    except OSError:  # it has ended
        return 0


def _sizes(root: str) -> Iterator[int]:
    """The bytes on the disk of each file. A sparse file takes less than its length says."""
    folders = [root]
    while folders:
        try:
            for entry in os.scandir(folders.pop()):
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    yield entry.stat(follow_symlinks=False).st_blocks * 512
        except OSError:  # it has just been deleted
            continue
