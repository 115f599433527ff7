"""The environment that a run's code sees: what it needs, and none of the server's secrets."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from fanbench.local.aliases import ALIASES_VARIABLE
from fanbench.local.executor.sdk import FIXED_ENVIRONMENT

_PASSED_ON = frozenset({"HOME", "LANG", "TZ", "TMPDIR", "USER", "LOGNAME", "LD_LIBRARY_PATH"})
_PASSED_ON_PREFIXES = (
    "LC_",
    "PIP_",
    "SSL_CERT_",
    "REQUESTS_CA_",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
)
_FOR_INSTALLERS = frozenset({"ALL_PROXY", "NO_PROXY", "PATH", "all_proxy", "no_proxy"})
_FOR_INSTALLERS_PREFIXES = ("GIT_", "NETRC", "SSH_", "UV_", "XDG_")


def no_proxy(outside: Mapping[str, str], proxy_url: str = "") -> str:
    """`NO_PROXY` with this machine and the host of `proxy_url` added: a Model Proxy is not behind the HTTP proxy."""
    hosts = ["127.0.0.1,localhost", urlsplit(proxy_url).hostname, outside.get("NO_PROXY")]
    return ",".join(filter(None, hosts))


def model_variables(
    *,
    proxy_url: str,
    proxy_key: str,
    model: str,
    judge: str,
    available: Iterable[str],
    aliases: Iterable[str] = (),
) -> dict[str, str]:
    """The variables of Kaggle's notebooks that say which models there are, and where."""
    return {
        "MODEL_PROXY_URL": proxy_url,
        "MODEL_PROXY_API_KEY": proxy_key,
        "LLM_DEFAULT": model,
        "LLM_DEFAULT_EVAL": judge,
        "LLMS_AVAILABLE": ",".join(available),
        ALIASES_VARIABLE: ",".join(aliases),
    }


def run_environment(
    variables: Mapping[str, str],
    *,
    expires: str,
    pass_on: Iterable[str] = (),
    constraints: Path | None = None,
    outside: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The environment of a run on this machine: `variables` on top of the harmless part of `outside`.

    `expires` is when its key of the Model Proxy does, and `constraints` a file that applies to packages which the run
    installs itself.
    """
    passed = _pass_on(outside, pass_on)
    if constraints is not None:
        for name in ("PIP_CONSTRAINT", "UV_CONSTRAINT"):
            # Spaces separate the files, so that a path must not have any.
            passed[name] = " ".join(filter(None, [passed.get(name), constraints.as_uri()]))
    # `!pip` and `!python` must be the ones of this environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), outside.get("PATH", os.defpath)])
    return {
        **passed,
        **FIXED_ENVIRONMENT,
        "PATH": path,
        "NO_PROXY": no_proxy(outside, variables.get("MODEL_PROXY_URL", "")),
        "PYTHONUTF8": "1",
        "MODEL_PROXY_EXPIRY_TIME": expires,
        **variables,
    }


def forkserver_environment(outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What the parent of all runs needs of `outside`. They can read it in `/proc`, so it is no more than a run gets."""
    return _pass_on(outside, ("PATH", "VIRTUAL_ENV"), ("PYTHON",))


def installer_environment(outside: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What uv and pip need of `outside`. They may execute code of packages, which sees no more than a run does."""
    passed = _pass_on(outside, _FOR_INSTALLERS, _FOR_INSTALLERS_PREFIXES)
    # Neither reads the other's settings, but both need the package index of a company's network.
    index_of_uv = passed.get("UV_DEFAULT_INDEX") or passed.get("UV_INDEX_URL")
    index_of_pip = passed.get("PIP_INDEX_URL")
    if index_of_pip and not index_of_uv:
        passed["UV_DEFAULT_INDEX"] = index_of_pip
    elif index_of_uv and not index_of_pip:
        passed["PIP_INDEX_URL"] = re.sub(r"^[\w.-]+=", "", index_of_uv)  # uv takes NAME=URL, too
    return passed


def add_packages(environment: Mapping[str, str], packages: Path | None) -> dict[str, str]:
    """The environment in which Python also imports from the folder `packages`, and finds the commands in its `bin`."""
    if packages is None:
        return dict(environment)
    added = {"PYTHONPATH": packages, "PATH": packages / "bin"}
    return {
        **environment,
        **{
            name: os.pathsep.join(filter(None, [str(folder), environment.get(name)]))
            for name, folder in added.items()
        },
    }


def _pass_on(
    outside: Mapping[str, str], names: Iterable[str], prefixes: tuple[str, ...] = ()
) -> dict[str, str]:
    wanted, beginnings = {*_PASSED_ON, *names}, (*_PASSED_ON_PREFIXES, *prefixes)
    return {name: value for name, value in outside.items() if name in wanted or name.startswith(beginnings)}
