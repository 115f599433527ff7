"""`doctor`: what is missing on this machine, and how to mend it. Changes nothing, and starts nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.to_thread

from fanbench._util.concurrency import InOrder, settle
from fanbench._version import __version__
from fanbench.config import Anonymous, Basic, Bearer, Config, credential_sources, resolve_config
from fanbench.errors import ApiError, CredentialsError, FanbenchError, Forbidden, Unauthorized
from fanbench.operations.events import Event, Report, ignore_events
from fanbench.wire import protocol
from fanbench.wire.messages import (
    IntrospectTokenRequest,
    IntrospectTokenResponse,
    ListTasksRequest,
    ListTasksResponse,
)

if TYPE_CHECKING:
    from fanbench.wire.transport import Transport

__all__ = ["Check", "Checked", "Patient", "examine"]

Level = Literal["ok", "warn", "fail"]

_PYTHONS = ((3, 11), (3, 13))
_TOKENS = "make a token on https://www.kaggle.com/settings and put it into ~/.kaggle/access_token"


@dataclass(frozen=True, slots=True)
class Check:
    """What one look has shown. `fix` is what to do about it, mostly a command."""

    name: str
    level: Level
    message: str
    fix: str | None = None


class Checked(Event, frozen=True):
    """One check has ended."""

    check: Check

    @property
    def text(self) -> str:
        return f"{self.check.name}: {self.check.message}"


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at: the server as `resolve_config` takes it, or the local one, and an env file."""

    endpoint: str | None = None
    token: str | None = field(default=None, repr=False)
    local: bool = False
    data: Path | None = None
    env_file: Path = Path(".env")
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    home: Path | None = None


Look = Callable[[], Awaitable[list[Check]]]


async def examine(patient: Patient, *, report: Report = ignore_events) -> list[Check]:
    """All checks at the same time, reported as `Checked` in their order, each as soon as it is its turn."""
    from fanbench.operations import doctor_local as machine

    looks: list[Look] = [
        partial(_at_once, _python),
        partial(_at_once, lambda: [Check("fanbench", "ok", f"fanbench {__version__}")]),
        partial(_server, patient),
        partial(_at_once, partial(_env_file, patient.env_file)),
        partial(_at_once, partial(machine.extra, patient.local)),
        machine.sdk,
        machine.llama,
        partial(_at_once, partial(machine.models, patient.data)),
        partial(_at_once, partial(machine.folder, patient.data)),
        machine.mounts,
        partial(_at_once, partial(machine.port, patient.data)),
    ]
    found: list[Check] = []

    def say(checks: list[Check] | FanbenchError) -> None:
        for check in [_of_error("doctor", checks)] if isinstance(checks, FanbenchError) else checks:
            found.append(check)
            report(Checked(check))

    await settle(looks, limit=len(looks), done=InOrder(say))
    return found


async def _at_once(look: Callable[[], list[Check]]) -> list[Check]:
    # In a thread, as it looks at the disk, while the server's answer is timed.
    return await anyio.to_thread.run_sync(look)


def _of_error(name: str, error: FanbenchError) -> Check:
    return Check(name, "fail", str(error), error.hint)


def _python() -> list[Check]:
    here = sys.version_info[:2]
    text = f"Python {'.'.join(map(str, sys.version_info[:3]))} ({sys.executable})"
    if _PYTHONS[0] <= here <= _PYTHONS[1]:
        return [Check("python", "ok", text)]
    return [Check("python", "warn", f"{text} is not tested", "use Python 3.11, 3.12 or 3.13")]


# --- The server ---------------------------------------------------------------------------------------------


async def _server(patient: Patient) -> list[Check]:
    """Credentials, endpoint and account, which hang on each other."""
    if patient.local:
        return await _local_server(patient)
    credentials = _credentials(patient)
    try:
        config = resolve_config(
            endpoint=patient.endpoint, token=patient.token, env=patient.env, home=patient.home
        )
    except CredentialsError:
        return [*credentials, await _reachable(patient)]
    except FanbenchError as error:
        return [*credentials, _of_error("endpoint", error)]
    return [*credentials, *await _ask(config, introspect=True)]


async def _local_server(patient: Patient) -> list[Check]:
    """Its token is its own, so there is nothing to find and nobody to introspect."""
    from fanbench.operations import doctor_local as machine

    server = machine.running_server(patient.data)
    if server is None:
        return [Check("endpoint", "ok", "no local server runs; the next command with --local starts one")]
    config = resolve_config(endpoint=server.url, token=server.token, env=patient.env, home=patient.home)
    return await _ask(config, introspect=False)


def _credentials(patient: Patient) -> list[Check]:
    found = credential_sources(token=patient.token, env=patient.env, home=patient.home)
    if not found:
        return [_no_credentials(patient)]
    (source, first), *others = found
    if isinstance(first, CredentialsError):
        return [Check("credentials", "fail", str(first), first.hint)]
    unused = f"; not used: {', '.join(name for name, _ in others)}" if others else ""
    kind = "a legacy key" if isinstance(first, Basic) else "a token"
    return [Check("credentials", "ok", f"{kind} from {source}{unused}"), *_readable_by_others(patient)]


def _no_credentials(patient: Patient) -> Check:
    try:
        resolve_config(endpoint=patient.endpoint, env=patient.env, home=patient.home)
    except CredentialsError as error:
        return Check("credentials", "fail", str(error), _TOKENS)
    except FanbenchError:
        pass  # the endpoint's own line says so
    return Check("credentials", "warn", "none found; this server may want some", "pass --token TOKEN")


def _readable_by_others(patient: Patient) -> list[Check]:
    folder = (patient.home or Path(os.path.expanduser("~"))) / ".kaggle"
    names = ("access_token", "access_token.txt", "kaggle.json", "credentials.json")
    files = [folder / name for name in names]
    open_ = [str(file) for file in files if file.is_file() and file.stat().st_mode & 0o077]
    if not open_ or os.name == "nt":
        return []
    text = f"others on this machine may read {', '.join(open_)}"
    return [Check("credentials", "warn", text, f"chmod 600 {' '.join(open_)}")]


async def _reachable(patient: Patient) -> Check:
    """Whether the server is there, asked as nobody."""
    config = resolve_config(endpoint=patient.endpoint, token="anonymous", env=patient.env, home=patient.home)  # noqa: S106
    endpoint, *_ = await _ask(Config(config.endpoint, Anonymous()), introspect=False)
    return endpoint


async def _ask(config: Config, *, introspect: bool) -> list[Check]:
    """One call without a second attempt: how fast is the server, and does it take the credentials?"""
    from fanbench.wire.retry import RetryPolicy
    from fanbench.wire.transport import Limits, Transport

    answer: str | FanbenchError
    async with Transport(config, Limits.of(1), RetryPolicy(attempts=1)) as transport:
        started = anyio.current_time()
        try:
            answer = await _who(transport) if introspect else await _any_call(transport)
        except FanbenchError as error:
            answer = error
        ms = round((anyio.current_time() - started) * 1000)
    if isinstance(answer, FanbenchError) and not isinstance(answer, ApiError):
        return [Check("endpoint", "fail", str(answer), answer.hint or "check the network and --endpoint")]
    endpoint = Check("endpoint", "ok", f"{config.endpoint} answers in {ms} ms")
    return [_of_answer(endpoint, answer), *_account(answer)]


async def _who(transport: Transport) -> str:
    """Whose credentials these are, in words."""
    credentials = transport.config.credentials
    if not isinstance(credentials, Bearer):
        await _any_call(transport)
        return "accepted"
    request = IntrospectTokenRequest(token=credentials.token)
    known = await transport.call(protocol.INTROSPECT_TOKEN, request, IntrospectTokenResponse)
    if not known.active:
        raise Unauthorized("the token is not valid any more", call="IntrospectToken", status=401)
    until = f", until {_date(known.exp)}" if known.exp else ""
    return f"accepted, {known.username or 'unnamed'}{until}"


def _date(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


async def _any_call(transport: Transport) -> str:
    """A small call that every server has and that wants credentials."""
    await transport.call(protocol.LIST_TASKS, ListTasksRequest(page_size=1), ListTasksResponse)
    return "accepted"


def _of_answer(endpoint: Check, answer: str | FanbenchError) -> Check:
    """A server that answers, but neither yes nor no, is not well."""
    if isinstance(answer, FanbenchError) and not isinstance(answer, Unauthorized | Forbidden):
        return Check("endpoint", "fail", str(answer), "is --endpoint a Kaggle Benchmarks server?")
    return endpoint


def _account(answer: str | FanbenchError) -> Sequence[Check]:
    match answer:
        case Unauthorized():
            return [Check("account", "fail", f"the credentials are refused: {answer}", _TOKENS)]
        case Forbidden():
            fix = "verify your phone and identity on https://www.kaggle.com/settings"
            return [Check("account", "fail", f"the account is refused: {answer}", fix)]
        case FanbenchError():
            return []
        case _:
            return [Check("account", "ok", answer)]


# --- The env file -------------------------------------------------------------------------------------------


def _env_file(path: Path) -> list[Check]:
    from fanbench.operations.env_file import read_env_file

    if not path.exists():
        return [Check("env-file", "warn", f"no {path}: task files cannot run here yet", "fanbench init")]
    try:
        values = read_env_file(path)
    except FanbenchError as error:
        return [_of_error("env-file", error)]
    lacking = [
        name for name in ("MODEL_PROXY_URL", "MODEL_PROXY_API_KEY", "LLM_DEFAULT") if not values.get(name)
    ]
    if lacking:
        return [Check("env-file", "warn", f"{path} lacks {', '.join(lacking)}", "fanbench init")]
    return [_expiry(path, values.get("MODEL_PROXY_EXPIRY_TIME", ""))]


def _expiry(path: Path, timestamp: str) -> Check:
    from fanbench.operations.environment import expiry_phrase

    if not timestamp:
        return Check("env-file", "ok", f"{path} has Model Proxy credentials")
    when = expiry_phrase(timestamp)
    if when == "expired":
        return Check(
            "env-file", "warn", f"the Model Proxy credentials in {path} have expired", "fanbench auth"
        )
    return Check("env-file", "ok", f"{path}: Model Proxy credentials, which expire {when}")
