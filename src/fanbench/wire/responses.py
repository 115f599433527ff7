"""What an answer means: a message, or an error of the tree."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec

from fanbench._util.text import as_utc
from fanbench.config import Anonymous, Basic, Bearer, Config, Credentials
from fanbench.errors import ApiError, BadAnswer, Forbidden, Unauthorized, error_for_status
from fanbench.wire.messages import Message, decode
from fanbench.wire.protocol import Call

__all__ = ["decode_answer", "error_in", "invalid_answer", "unexpected"]

M = TypeVar("M", bound=Message)

MESSAGE_LIMIT = 4000
EXCERPT_LIMIT = 120


def decode_answer(
    config: Config, call: Call, status: int, headers: Mapping[str, str], body: bytes, kind: type[M]
) -> M:
    """The message in an answer, or the error that it stands for, raised."""
    if (error := error_in(config, call, status, headers, body)) is not None:
        raise error
    try:
        return decode(body.strip() or b"{}", kind)
    except msgspec.ValidationError as problem:
        raise unexpected(config, call, status, body, str(problem)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise unexpected(config, call, status, body) from None


def error_in(
    config: Config, call: Call, status: int, headers: Mapping[str, str], body: bytes
) -> ApiError | None:
    """The error that the answer is, if it is one; a 200 with an error code in its body is."""
    if 300 <= status < 400:
        return _redirected(config, call, status, headers)
    fields = _json_object(body) if status >= 400 or b'"code"' in body else {}
    code = fields.get("code")
    if status < 400:
        if isinstance(code, bool) or not isinstance(code, int) or code < 400:
            return None
        status = code
    message = _clean(config.credentials, _message(fields, status, headers, body))
    return _with_hint(config, error_for_status(call.method, status, message, retry_after(headers)))


def unexpected(config: Config, call: Call, status: int, body: bytes, why: str = "") -> BadAnswer:
    """For an answer that is not what the protocol says."""
    start = _clean(config.credentials, body[: 4 * EXCERPT_LIMIT].decode("utf-8", "replace"))
    start = " ".join(start.split())[:EXCERPT_LIMIT]
    what = f"{why}; it starts with {start!r}" if why else f"it starts with {start!r}"
    return BadAnswer(
        f"The answer from {config.endpoint} is not what Kaggle's API answers: {what}",
        call=call.method,
        status=status,
        hint="Is that the endpoint of the API, and no proxy or log-in page in between?",
    )


def invalid_answer(call: Call, problem: str) -> BadAnswer:
    """Return the error for an answer that decodes but contradicts itself."""
    return BadAnswer(f"The server sent an invalid answer: {problem}", call=call.method, status=200)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asks to wait, from a number or an HTTP date."""
    value = headers.get("retry-after", "").strip()
    try:
        seconds = float(value)
    except ValueError:
        return _until(value, headers.get("date", ""))
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _until(value: str, date: str) -> float | None:
    """Measured on the server's own clock where it tells the time: ours may be wrong."""
    if (then := _http_date(value)) is None:
        return None
    return max(0.0, (then - (_http_date(date) or datetime.now(UTC))).total_seconds())


def _http_date(value: str) -> datetime | None:
    from email.utils import parsedate_to_datetime

    try:
        time = parsedate_to_datetime(value)
    except (ValueError, IndexError, TypeError, OverflowError):
        return None
    return as_utc(time)


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _message(fields: Mapping[str, Any], status: int, headers: Mapping[str, str], body: bytes) -> str:
    """The server's own words; a page of HTML has none worth showing."""
    said = fields.get("message")
    if isinstance(said, str) and said.strip():
        return said.strip()[:MESSAGE_LIMIT]
    text = body[:MESSAGE_LIMIT].decode("utf-8", "replace").strip()
    if "text/plain" in headers.get("content-type", "") and text:
        return text
    return _phrase(status)


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "The server answered with an error"


def _redirected(config: Config, call: Call, status: int, headers: Mapping[str, str]) -> BadAnswer:
    return BadAnswer(
        f"{config.endpoint} sends us on to {headers.get('location', 'nowhere')!r}",
        call=call.method,
        status=status,
        hint="Give that address as the endpoint, if it is the API's.",
    )


_TOKENS = "Give a valid token (--token, KAGGLE_API_TOKEN or ~/.kaggle/access_token)."


def _with_hint(config: Config, error: ApiError) -> ApiError:
    match error:
        case Unauthorized() if isinstance(config.credentials, Anonymous):
            error.hint = f"No credentials were sent. {_TOKENS}"
        case Unauthorized():
            error.hint = f"The credentials were refused. {_TOKENS}"
        case Forbidden():
            error.hint = "Is the owner's name right, and is your account verified (phone number)?"
        case _:
            pass
    return error


def _clean(credentials: Credentials, text: str) -> str:
    """`text` without our secret, in case the server repeats it."""
    match credentials:
        case Bearer(token=secret) | Basic(key=secret):
            return text.replace(secret, "***")
        case _:
            return text
