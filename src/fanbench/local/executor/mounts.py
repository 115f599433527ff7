"""Kaggle's folders where tasks expect them: `/kaggle/input`, `/kaggle/working`, and `/kaggle/tmp` or `/kaggle/temp`.

On Kaggle a notebook runs in `/kaggle/working`, whose files are its output. The dataset OWNER/SLUG is in
`/kaggle/input/datasets/OWNER/SLUG` and in `/kaggle/input/SLUG`. Here every run gets a mount namespace of its own, in
which `/kaggle` is made of this run's folders. Outside, nothing of it exists, and the kernel removes it with the last
process of the run. If the system does not allow such a namespace, a run starts in its working folder, finds its
datasets below `../input`, and the log mentions it if the task seems to need more.

Runs of the server see an empty folder of their own in place of the server's data folder, the home folder, and each
folder for temporary files. What their Python needs from there stays. Their `/proc` has no other processes than theirs
(`processes`), and their shared memory goes with them. So that they cannot undo this, they give up some rights of root:
in a user namespace, or where the server itself is run by root.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from fanbench._util.files import temporary_folder
from fanbench.local.executor.job import Job
from fanbench.local.executor.processes import PidNamespaces, enter_user_namespace, unshare

__all__ = [
    "KERNEL_SETTINGS",
    "NO_KAGGLE_FOLDER",
    "SCRATCH",
    "WORKING",
    "attach",
    "covers",
    "dataset_places",
    "find_obstacle",
    "needed",
]

WORKING = Path("/kaggle/working")
NO_KAGGLE_FOLDER = "This run has no /kaggle of its own"
# The text in new notebooks on Kaggle names `temp`; others use `tmp`.
SCRATCH = ("tmp", "temp")
_OWN = ("input", "working", *SCRATCH)

_PROC = {"/proc": ("proc", "")}
KERNEL_SETTINGS = ("sys", "sysrq-trigger")
"""What is in `/proc` of the whole machine, and belongs to root, as which a run may be executed."""

_CLONE_NEWNS = 0x00020000
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 1, 2, 4, 8
_MS_REMOUNT, _MS_BIND, _MS_MOVE, _MS_REC = 32, 4096, 8192, 16384
_MS_UNBINDABLE, _MS_PRIVATE = 1 << 17, 1 << 18
_PR_CAPBSET_DROP = 24
_CAPABILITY_VERSION_3 = 0x20080522
# What root may do in a container as well, except for MKNOD and NET_RAW: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL,
# SETGID, SETUID, SETPCAP, NET_BIND_SERVICE, SYS_CHROOT, AUDIT_WRITE, SETFCAP. Among the others are SYS_ADMIN, which
# mounts, SYS_PTRACE, which looks into processes, DAC_READ_SEARCH, which opens files by number, past mounts, and
# NET_RAW, which reads what others send: a run has the network of its machine, and tokens are sent there.
_KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 8, 10, 18, 29, 31})


def find_obstacle(*, processes: bool = False) -> str | None:
    """Why a run cannot have a `/kaggle` of its own on this machine; None if it can.

    With `processes`, it is to see only its own processes, too. It is tried in a fork, because a process that fails
    halfway cannot return. No thread may run in the caller.
    """
    if sys.platform != "linux":
        return "they need Linux"
    try:
        with temporary_folder(".fanbench-mounts-") as folder:
            working = folder / "working"
            working.mkdir()
            reader, writer = os.pipe()
            pid = os.fork()
            if pid == 0:
                try:
                    if processes and _fork_into_namespace():
                        os._exit(0)
                    _mount_kaggle({}, working, working, {}, {}, _PROC if processes else {})
                except OSError as error:
                    os.write(writer, _reason(error).encode())
                finally:
                    os._exit(0)
            os.close(writer)
            with open(reader, "rb") as stream:
                found = stream.read()
            os.waitpid(pid, 0)
    except OSError as error:
        return _reason(error)
    return found.decode() or None


def _fork_into_namespace() -> int:
    """Fork a process in a PID namespace; return 0 there, and its id here, once it has ended."""
    init = PidNamespaces().enter_next()
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        init.end()
    return pid


def attach(job: Job, obstacle: str | None, *, own_processes: bool = False) -> Path:
    """Make the job's folders visible to this process, and return the one in which the run starts.

    `obstacle` is the result of `find_obstacle`, and `own_processes` says that the PID namespace is this run's.
    """
    places = dataset_places(job)
    surprising = False
    try:
        job.scratch.mkdir(exist_ok=True)
        for place, real in places.items():
            # For the relative paths that notebooks often use.
            link = job.working.parent / "input" / place
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(real, target_is_directory=True)
        obstacle = obstacle or _hidden_by_ours(job)
        if obstacle is None:
            fresh = dict(_PROC) if own_processes else {}
            if job.hidden and os.path.isdir("/dev/shm"):  # noqa: S108 - where the C library has shared memory
                fresh["/dev/shm"] = "tmpfs", f"mode=1777,size={job.memory_mb}m"  # noqa: S108
            _mount_kaggle(places, job.working, job.scratch, covers(job), needed(job), fresh)
            if job.hidden:
                _give_up_capabilities()
            return WORKING
    except OSError as error:
        obstacle, surprising = _reason(error), True
    if surprising or job.datasets or _mentions_kaggle(job):
        note = (
            f"[fanbench] {NO_KAGGLE_FOLDER}: mounts are not possible here ({obstacle}). "
            "Its datasets are in ../input, and the current folder stands for /kaggle/working.\n"
        )
        os.write(2, note.encode())
    return job.working


def dataset_places(job: Job) -> dict[str, str]:
    """The real folders of the job's datasets, by their places below `/kaggle/input`."""
    places: dict[str, str] = {}
    for reference, real in job.datasets.items():
        places[f"datasets/{reference}"] = real
        short = reference.rpartition("/")[2]
        if short != "datasets":
            places.setdefault(short, real)
    return places


def covers(job: Job) -> dict[Path, Path]:
    """The empty folders of the run, by the folders that they hide."""
    covers = {}
    for number, hidden in enumerate(dict.fromkeys(Path(folder).resolve() for folder in job.hidden)):
        if hidden.is_dir() and hidden != Path("/"):
            covers[hidden] = job.covers / str(number)
            covers[hidden].mkdir(parents=True, exist_ok=True)
            covers[hidden].chmod(stat.S_IMODE(hidden.stat().st_mode))
    return covers


def needed(job: Job) -> dict[Path, bool]:
    """What the run needs, wherever it is, and whether it may change that."""
    here = os.getcwd()  # in sys.path only because of how the forkserver was started
    places = dict.fromkeys([sys.prefix, sys.base_prefix, *(each for each in sys.path if each != here)], True)
    for name, value in job.environment.items():
        if name not in ("HOME", "TMPDIR"):
            places |= dict.fromkeys(value.split(os.pathsep), True)
    places[job.folder] = True
    fixed = [Path(folder).resolve() for folder in job.visible]
    found = {Path(place).resolve(): change for place, change in places.items() if os.path.isabs(place)}
    return {
        place: change for place, change in found.items() if not any(map(place.is_relative_to, fixed))
    } | dict.fromkeys(fixed, False)


def _reason(error: OSError) -> str:
    return f"{error.strerror or error}: {error.filename}" if error.filename else str(error.strerror or error)


def _hidden_by_ours(job: Job) -> str | None:
    """An obstacle if something that the run needs is in folders of the real `/kaggle` that ours would hide."""
    for needed in (job.folder, job.script, sys.prefix, sys.base_prefix):
        if needed and any(Path(needed).resolve().is_relative_to(f"/kaggle/{name}") for name in _OWN):
            return f"{needed} is in the real /kaggle"
    return None


def _mentions_kaggle(job: Job) -> bool:
    sources = [job.source, *([Path(job.script)] if job.script else [])]
    return any(b"/kaggle/" in source.read_bytes() for source in sources if source.exists())


def _mount_kaggle(
    places: Mapping[str, str],
    working: Path,
    scratch: Path,
    covers: Mapping[Path, Path],
    needed: Mapping[Path, bool],
    fresh: Mapping[str, tuple[str, str]],
) -> None:
    """Change to a root that has everything the old one has, and a `/kaggle` of this run.

    `places` maps folders below `/kaggle/input` to the real folders, `covers` hidden folders to those in their place,
    `needed` what is to be seen nevertheless to whether it may be changed, and `fresh` the places of new file systems
    to their kinds and options.
    """
    _enter_namespace()
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root = working.parent / "root"
    root.mkdir(exist_ok=True)
    _mount("tmpfs", str(root), "tmpfs", 0)
    # Otherwise the copies of the old root would include it, and a task that deletes its folder would delete the system.
    _mount(None, str(root), None, _MS_UNBINDABLE)
    root.chmod(0o755)
    _bind_entries(Path("/"), root, {"kaggle"})
    for place, (kind, options) in fresh.items():
        _mount(kind, f"{root}{place}", kind, _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, options)
    for name in KERNEL_SETTINGS:
        if (root / "proc" / name).exists():
            _bind(root / "proc" / name, root / "proc" / name)
            _make_read_only(root / "proc" / name)
    _cover(root, covers, needed)
    kaggle = root / "kaggle"
    (kaggle / "input").mkdir(parents=True)
    if os.path.isdir("/kaggle"):
        _bind_entries(Path("/kaggle"), kaggle, _OWN)
    _bind(working, kaggle / "working")
    for name in SCRATCH:
        _bind(scratch, kaggle / name)
    for place, real in places.items():
        target = kaggle / "input" / place
        _bind(Path(real), target)
        _make_read_only(target)
    # Move it over the old root, as when a system starts: a process that is only in a chroot cannot create
    # namespaces of its own, which browsers and sandboxes do.
    os.chdir(root)
    _mount(".", "/", None, _MS_MOVE)
    os.chroot(".")
    os.chdir(WORKING)


def _cover(root: Path, covers: Mapping[Path, Path], needed: Mapping[Path, bool]) -> None:
    """Hide folders below the new root, and show again what is needed of them."""
    shown = {
        place: change
        for place, change in needed.items()
        if any(place.is_relative_to(hidden) for hidden in covers) and place.exists()
    }
    # From the outside in: what is deeper has the last word.
    for place in sorted({*covers, *shown}, key=lambda place: len(place.parts)):
        target = root / place.relative_to("/")
        if place in shown:
            _bind(place, target)
            if not shown[place]:
                _make_read_only(target)
        else:
            _bind(covers[place], target)


def _make_read_only(target: Path) -> None:
    # A user namespace may not drop these restrictions of the real file system. (statvfs has the same bits.)
    kept = os.statvfs(target).f_flag & (_MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    _mount(None, str(target), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY | kept)


def _give_up_capabilities() -> None:
    """Give up, for good and for all that is executed, the rights to undo mounts and to look into other processes."""
    libc = ctypes.CDLL(None, use_errno=True)
    given_up = [number for number in range(64) if number not in _KEPT]
    for number in given_up:
        # The kernel does not know all of them, and an ordinary user has none to give up.
        libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (
        ctypes.c_uint32 * 6
    )()  # effective, permitted and inheritable, for capabilities from 0 and from 32
    if libc.capget(header, sets) == 0:
        for number in given_up:
            for kind in range(3):
                sets[number // 32 * 3 + kind] &= ~(1 << number % 32) & 0xFFFFFFFF
        if libc.capset(header, sets) == 0:
            return
    raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _enter_namespace() -> None:
    """Give this process mounts of its own, with root's rights or else as the root of a user namespace."""
    try:
        unshare(_CLONE_NEWNS)
    except PermissionError:
        try:
            enter_user_namespace(_CLONE_NEWNS)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
            # The limit in /proc/sys/user is 0; nothing is full.
            raise OSError(errno.ENOSPC, "the system allows no namespaces") from None


def _bind_entries(source: Path, target: Path, without: Collection[str]) -> None:
    for entry in os.scandir(source):
        if entry.name in without:
            continue
        if entry.is_symlink():
            (target / entry.name).symlink_to(os.readlink(entry.path))
        else:
            _bind(Path(entry.path), target / entry.name)


def _bind(source: Path, target: Path) -> None:
    if source.is_dir():
        target.mkdir(parents=True, exist_ok=True)
    elif not target.exists():
        target.touch()
    _mount(str(source), str(target), None, _MS_BIND | _MS_REC)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str = "") -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), options.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)
