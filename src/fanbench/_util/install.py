"""How fanbench was installed, for hints that name the command which adds an extra."""

from __future__ import annotations

import importlib.util
import json
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

__all__ = ["install_command"]


def install_command(extra: str = "local") -> str:
    """The command that adds an extra: with the tool that made this environment, from the place that it used.

    A checkout or a wheel is named by its path, because the package index need not have this version.
    A checkout has the versions that are tested in `constraints.txt`.
    """
    if extra != "local" and importlib.util.find_spec("sqlalchemy") is not None:
        extra = f"local,{extra}"  # uv and pipx keep only the extras that are named.
    source = _source()
    requirement = f"fanbench[{extra}] @ {source['url']}" if source else f"fanbench[{extra}]"
    prefix = Path(sys.prefix)
    if (prefix / "uv-receipt.toml").is_file():
        return f"uv tool install --force {shlex.quote(requirement)}"
    if (prefix / "pipx_metadata.json").is_file():
        return f"pipx install --force {shlex.quote(requirement)}"
    if source.get("dir_info", {}).get("editable"):
        folder = unquote(urlsplit(source["url"]).path)
        wanted = f"-e {shlex.quote(f'{folder}[{extra}]')}"
        if (constraints := Path(folder, "constraints.txt")).is_file():
            wanted = f"-c {shlex.quote(str(constraints))} {wanted}"
    else:
        wanted = shlex.quote(requirement)
    return f"{_installer()} {wanted}"


def _source() -> dict[str, Any]:
    """What PEP 610 records of an installation that is not from an index: its `url`, and what is there."""
    try:
        text = metadata.distribution("fanbench").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return {}
    source: dict[str, Any] = json.loads(text) if text else {}
    if version_control := source.get("vcs_info"):
        source["url"] = f"{version_control['vcs']}+{source['url']}@{version_control['commit_id']}"
    return source


def _installer() -> str:
    """pip or uv, so that it works on this environment from any terminal."""
    python = shlex.quote(sys.executable)
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {python}"
    beside = Path(sys.executable).parent
    pip = shutil.which("pip")
    return "pip install" if pip and Path(pip).parent == beside else f"{python} -m pip install"
