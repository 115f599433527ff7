"""What a response means: a message, or one of our errors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from fanbench._util.text import as_utc, duration
from fanbench.config import Anonymous, Basic, Bearer, Config, Credentials
from fanbench.errors import ApiError, BadAnswer, Forbidden, Unauthorized, error_for_status
from fanbench.wire.messages import Message, decode
from fanbench.wire.protocol import Call
from fanbench.wire.retry import Unreadable

if TYPE_CHECKING:
    import httpx

__all__ = ["decode_answer", "error_in", "error_of", "invalid_answer"]

M = TypeVar("M", bound=Message)

MESSAGE_LIMIT = 4000
EXCERPT_LIMIT = 120
# A `Retry-After` of more seconds is said in the message: nobody expects it.
_LONG_WAIT = 60.0
_TOKENS = "Give a valid token (--token, KAGGLE_API_TOKEN or ~/.kaggle/access_token)."


def decode_answer(config: Config, call: Call, response: httpx.Response, body: bytes, kind: type[M]) -> M:
    """Return the message in the `body` of a response, or raise the error that it represents."""
    if (error := error_in(config, call, response, body)) is not None:
        raise error
    try:
        return decode(body.strip() or b"{}", kind)
    except msgspec.ValidationError as problem:
        raise _unexpected(config, call, response, body, str(problem)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _unexpected(config, call, response, body) from None


def error_of(config: Config, call: Call, response: httpx.Response, body: bytes, why: str = "") -> ApiError:
    """Return the error that a response represents, or else a `BadAnswer`, because it is not what was expected."""
    return error_in(config, call, response, body) or _unexpected(config, call, response, body, why)


def error_in(config: Config, call: Call, response: httpx.Response, body: bytes) -> ApiError | None:
    """Return the error that a response represents, if any. A 200 with an error code in its body is an error."""
    status, headers = response.status_code, response.headers
    if 300 <= status < 400:
        return BadAnswer(
            f"{config.endpoint} redirects to {headers.get('location', 'nowhere')!r}",
            call=call.method,
            status=status,
            hint="If the API is at that address, give it as the endpoint.",
        )
    fields: Mapping[str, Any] = {}
    if status >= 400 or b'"code"' in body:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            value = None
        fields = value if isinstance(value, dict) else {}
    if status < 400:
        code = fields.get("code")
        if isinstance(code, bool) or not isinstance(code, int) or code < 400:
            return None
        status = code
    message = _redact(config.credentials, _message(fields, status, headers, body))
    wait = retry_after(headers)
    if wait is not None and wait > _LONG_WAIT:
        message = f"{message.rstrip('.')}; the server asks to wait {duration(wait)}"
    error = error_for_status(call.method, status, message, wait)
    match error:
        case Unauthorized() if config.local_data is not None:
            error.hint = "Leave out --token: commands know the token of a local server."
        case Unauthorized() if isinstance(config.credentials, Anonymous):
            error.hint = f"No credentials were sent. {_TOKENS}"
        case Unauthorized():
            error.hint = f"The credentials were refused. {_TOKENS}"
        case Forbidden():
            error.hint = "Check the owner's name, and that your account is verified (phone number)."
    return error


def _unexpected(
    config: Config, call: Call, response: httpx.Response, body: bytes, why: str = ""
) -> Unreadable:
    """Return the error for a response that does not follow the protocol."""
    start = _redact(config.credentials, body[: 4 * EXCERPT_LIMIT].decode("utf-8", "replace"))
    start = " ".join(start.split())[:EXCERPT_LIMIT]
    what = f"{why}; it starts with {start!r}" if why else f"it starts with {start!r}"
    return Unreadable(
        f"The answer from {config.endpoint} is not an answer of Kaggle's API: {what}",
        call=call.method,
        status=response.status_code,
        hint="Check that this is the endpoint of the API, with no proxy or log-in page in between.",
    )


def invalid_answer(call: Call, problem: str) -> BadAnswer:
    """Return the error for an answer that follows the protocol but contradicts itself."""
    return BadAnswer(f"The server sent an invalid answer: {problem}", call=call.method, status=200)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks us to wait, given as a number or an HTTP date."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        # Measured by the server's own clock if it sends the time, because ours may be wrong.
        then, now = _http_date(value), _http_date(headers.get("date", ""))
        return max(0.0, (then - (now or datetime.now(UTC))).total_seconds()) if then else None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _http_date(value: str) -> datetime | None:
    from email.utils import parsedate_to_datetime

    try:
        return as_utc(parsedate_to_datetime(value))
    except (ValueError, IndexError, TypeError, OverflowError):
        return None


def _message(fields: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes) -> str:
    """Return the server's own message, or the standard phrase if it sent none or a page of HTML."""
    message = fields.get("message")
    if isinstance(message, str) and message.strip():
        return message.strip()[:MESSAGE_LIMIT]
    text = body[:MESSAGE_LIMIT].decode("utf-8", "replace").strip()
    if "text/plain" in headers.get("content-type", "") and text:
        return text
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "The server answered with an error"


def _redact(credentials: Credentials, text: str) -> str:
    """Remove our secret, which a server may repeat."""
    match credentials:
        case Bearer(token=secret) | Basic(key=secret):
            return text.replace(secret, "***")
        case _:
            return text
