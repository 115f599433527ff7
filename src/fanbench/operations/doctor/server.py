"""Probes the server: credentials, endpoint and account, which depend on each other."""

from __future__ import annotations

import os
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread

from fanbench.config import Anonymous, Basic, Bearer, Config, credential_sources, resolve_config
from fanbench.errors import ApiError, CredentialsError, FanbenchError, Forbidden, Unauthorized
from fanbench.local.address import find_server
from fanbench.operations.doctor.check import Check, DoctorTarget, failed_check
from fanbench.wire import protocol
from fanbench.wire.messages import (
    IntrospectTokenRequest,
    IntrospectTokenResponse,
    ListTasksRequest,
    ListTasksResponse,
)

__all__ = ["probe_server"]

_GET_TOKEN = "create a token on https://www.kaggle.com/settings and save it as ~/.kaggle/access_token"  # noqa: S105


async def probe_server(target: DoctorTarget) -> list[Check]:
    if target.local:
        server = await anyio.to_thread.run_sync(find_server, target.data)
        if server is None:
            return [
                Check(
                    "endpoint", "ok", "no local server is running; the next command with --local starts one"
                )
            ]
        # Its token is its own: there are no credentials to find or to introspect.
        config = resolve_config(endpoint=server.url, token=server.token, env=target.env, home=target.home)
        return await _call(config, introspect=False)
    credentials = await anyio.to_thread.run_sync(_credentials, target)
    try:
        config = resolve_config(
            endpoint=target.endpoint, token=target.token, env=target.env, home=target.home
        )
    except CredentialsError:
        # Still find out whether the server is there, without credentials.
        config = resolve_config(endpoint=target.endpoint, token="none", env=target.env, home=target.home)  # noqa: S106
        endpoint, *_ = await _call(Config(config.endpoint, Anonymous()), introspect=False)
        return [*credentials, endpoint]
    except FanbenchError as error:
        return [*credentials, failed_check("endpoint", error)]
    return [*credentials, *await _call(config, introspect=True)]


def _credentials(target: DoctorTarget) -> list[Check]:
    found = list(credential_sources(token=target.token, env=target.env, home=target.home))
    if not found:
        try:
            resolve_config(endpoint=target.endpoint, env=target.env, home=target.home)
        except CredentialsError as error:
            return [Check("credentials", "fail", str(error), _GET_TOKEN)]
        except FanbenchError:
            pass  # the endpoint's own check reports it
        return [Check("credentials", "warn", "none found; this server may need some", "pass --token TOKEN")]
    (source, first), *others = found
    if isinstance(first, CredentialsError):
        return [failed_check("credentials", first)]
    unused = f"; not used: {', '.join(name for name, _ in others)}" if others else ""
    kind = "a legacy key" if isinstance(first, Basic) else "a token"
    checks = [Check("credentials", "ok", f"{kind} from {source}{unused}")]
    folder = (target.home or Path(os.path.expanduser("~"))) / ".kaggle"
    names = ("access_token", "access_token.txt", "kaggle.json", "credentials.json")
    files = [file for file in (folder / name for name in names) if file.is_file()]
    public = [str(file) for file in files if os.name != "nt" and file.stat().st_mode & 0o077]
    if public:
        text = f"other users of this machine may read {', '.join(public)}"
        checks.append(Check("credentials", "warn", text, f"chmod 600 {' '.join(public)}"))
    return checks


async def _call(config: Config, *, introspect: bool) -> list[Check]:
    """Make one call, without retries: is the server there, how fast is it, and does it accept the credentials?"""
    from fanbench.wire.retry import RetryPolicy
    from fanbench.wire.transport import CallLimits, Transport

    account = Check("account", "ok", "accepted")
    async with aclosing(Transport(config, CallLimits.of(1), RetryPolicy(attempts=1))) as transport:
        started = anyio.current_time()
        error: FanbenchError | None = None
        try:
            if introspect and isinstance(config.credentials, Bearer):
                request = IntrospectTokenRequest(token=config.credentials.token)
                known = await transport.call(protocol.INTROSPECT_TOKEN, request, IntrospectTokenResponse)
                if not known.active:
                    raise Unauthorized("the token is no longer valid", call="IntrospectToken", status=401)
                until = (
                    f", until {datetime.fromtimestamp(known.exp, UTC):%Y-%m-%d %H:%M} UTC"
                    if known.exp
                    else ""
                )
                account = Check("account", "ok", f"accepted, {known.username or 'unnamed'}{until}")
            else:
                # A small call that every server has, and that needs credentials.
                await transport.call(protocol.LIST_TASKS, ListTasksRequest(page_size=1), ListTasksResponse)
        except FanbenchError as raised:
            error = raised
        ms = round((anyio.current_time() - started) * 1000)
    endpoint = Check("endpoint", "ok", f"{config.endpoint} answers in {ms} ms")
    match error:
        case None:
            return [endpoint, account]
        case Unauthorized():
            return [endpoint, Check("account", "fail", f"the credentials are refused: {error}", _GET_TOKEN)]
        case Forbidden():
            fix = "verify your phone and identity on https://www.kaggle.com/settings"
            return [endpoint, Check("account", "fail", f"the account is refused: {error}", fix)]
        case ApiError():
            return [Check("endpoint", "fail", str(error), "is --endpoint a Kaggle Benchmarks server?")]
        case _:
            return [Check("endpoint", "fail", str(error), error.hint or "check the network and --endpoint")]
