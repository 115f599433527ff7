"""Datasets where a task expects them: `/kaggle/input/<dataset>` and `../input/<dataset>`.

On Kaggle a notebook runs in `/kaggle/working` and finds its datasets in `/kaggle/input`. Here a run with datasets
gets a mount namespace of its own, in which `/kaggle` is a folder of this run; outside, nothing of it exists. If the
system does not allow such a namespace, `../input/<dataset>` still works, and the log mentions it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping
from pathlib import Path

_CLONE_NEWNS = 0x00020000
_CLONE_NEWUSER = 0x10000000
_MS_BIND, _MS_REC, _MS_PRIVATE, _MS_RDONLY, _MS_REMOUNT = 4096, 16384, 1 << 18, 1, 32


def attach(datasets: Mapping[str, str], working: Path) -> Path:
    """Make `datasets` (name → real folder) visible to this process. Return the folder in which the run starts."""
    if not datasets:
        return working
    for name, real in datasets.items():
        # For the relative paths that Kaggle notebooks often use.
        link = working.parent / "input" / name
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(real, target_is_directory=True)
    try:
        _mount_kaggle(datasets, working)
    except OSError as error:
        sys.stderr.write(
            f"[fanbench] /kaggle/input cannot be mounted here ({error.strerror}); use ../input/<dataset>\n"
        )
        return working
    return Path("/kaggle/working")


def _mount_kaggle(datasets: Mapping[str, str], working: Path) -> None:
    """Change to a root that has everything the old one has, and `/kaggle` as well."""
    uid, gid = os.getuid(), os.getgid()
    flags = _CLONE_NEWNS if uid == 0 else _CLONE_NEWNS | _CLONE_NEWUSER
    if ctypes.CDLL(None, use_errno=True).unshare(flags) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), "unshare")
    if uid != 0:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    root = working.parent / "root"
    root.mkdir(exist_ok=True)
    _mount("tmpfs", str(root), "tmpfs", 0)
    for entry in os.scandir("/"):
        target = root / entry.name
        if entry.name == "kaggle":
            continue
        if entry.is_symlink():
            target.symlink_to(os.readlink(entry.path))
        elif entry.is_dir():
            _bind(Path(entry.path), target)
    _bind(working, root / "kaggle/working")
    for name, real in datasets.items():
        _bind(Path(real), root / "kaggle/input" / name)
        _mount(None, str(root / "kaggle/input" / name), None, _MS_BIND | _MS_REMOUNT | _MS_RDONLY)
    os.chroot(root)


def _bind(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    _mount(str(source), str(target), None, _MS_BIND | _MS_REC)


def _mount(source: str | None, target: str, kind: str | None, flags: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    words = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    if libc.mount(*words, ctypes.c_ulong(flags), None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), target)
