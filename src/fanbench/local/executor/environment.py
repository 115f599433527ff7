"""The environment that a run's code sees: what it needs, and none of the server's secrets."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

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


def no_proxy(outside: Mapping[str, str]) -> str:
    """`NO_PROXY` with this machine added: a Model Proxy that runs here is not behind the HTTP proxy."""
    return ",".join(filter(None, ["127.0.0.1,localhost", outside.get("NO_PROXY", "")]))


def run_environment(
    *,
    proxy_url: str,
    proxy_key: str,
    expires: str,
    model: str,
    judge: str,
    available: Iterable[str],
    aliases: Iterable[str] = (),
    extra: Iterable[str] = (),
    outside: Mapping[str, str] = os.environ,
) -> dict[str, str]:
    """The variables that Kaggle sets for a task's notebook, on top of the harmless part of `outside`."""
    wanted = {*_PASSED_ON, *extra}
    passed = {k: v for k, v in outside.items() if k in wanted or k.startswith(_PASSED_ON_PREFIXES)}
    # `!pip` and `!python` must be the ones of this environment.
    path = os.pathsep.join([str(Path(sys.executable).parent), outside.get("PATH", os.defpath)])
    return (
        passed
        | FIXED_ENVIRONMENT
        | {
            "PATH": path,
            "NO_PROXY": no_proxy(outside),
            "PYTHONUTF8": "1",
            "MODEL_PROXY_URL": proxy_url,
            "MODEL_PROXY_API_KEY": proxy_key,
            "MODEL_PROXY_EXPIRY_TIME": expires,
            "LLM_DEFAULT": model,
            "LLM_DEFAULT_EVAL": judge,
            "LLMS_AVAILABLE": ",".join(available),
            ALIASES_VARIABLE: ",".join(aliases),
        }
    )
