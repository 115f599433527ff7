"""Where to call and as whom: resolved once, then passed on.

Credentials are looked for in the places where the vendor's tools keep them, in their order; the first place
that has some wins, and one that is there but cannot be read is an error rather than skipped: the user would
otherwise act as somebody else without knowing. No secret is ever part of a repr or of an error.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from fanbench._util.text import as_utc
from fanbench.errors import CredentialsError, UsageError

__all__ = [
    "Anonymous",
    "Basic",
    "Bearer",
    "Config",
    "Credentials",
    "credential_sources",
    "resolve_config",
]

KAGGLE = "https://api.kaggle.com"
DEFAULT_CONCURRENCY = 16

# The environments of the vendor's SDK; `KAGGLE_API_ENVIRONMENT` names one.
_ENVIRONMENTS = {
    "PROD": KAGGLE,
    "TEST": "http://localhost:7777",
    "LOCALHOST": "http://localhost",
    "STAGING": "https://staging.kaggle.com",
    "ADMIN": "https://admin.kaggle.com",
    "QA": "https://qa.kaggle.com",
}
_HELP = (
    "Make a token on https://www.kaggle.com/settings and put it into KAGGLE_API_TOKEN"
    " or into the file ~/.kaggle/access_token."
)


@dataclass(frozen=True, slots=True)
class Bearer:
    """An API token."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Basic:
    """The legacy pair of `kaggle.json`."""

    username: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Anonymous:
    """Nobody: for servers that ask for no credentials."""


Credentials = Bearer | Basic | Anonymous


@dataclass(frozen=True, slots=True)
class Config:
    """`endpoint` has no slash at its end; `concurrency` bounds the calls that are under way at one time."""

    endpoint: str
    credentials: Credentials
    concurrency: int = DEFAULT_CONCURRENCY


def resolve_config(
    *,
    endpoint: str | None = None,
    token: str | None = None,
    concurrency: int | None = None,
    env: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> Config:
    """The configuration from arguments, then environment, then files below `home`.

    Without credentials anywhere, Kaggle itself cannot be called; another server may well be, anonymously.

    Raises:
        CredentialsError: there are none, or those that are there cannot be read or have expired.
        UsageError: the endpoint is no URL, or the concurrency is below 1.
    """
    places = _Places(env, home or Path(os.path.expanduser("~")), token)
    where = _endpoint(endpoint, env)
    credentials = next(_found(places), None)
    if credentials is None and where == KAGGLE:
        raise CredentialsError("No Kaggle credentials found.", hint=_HELP)
    return Config(where, credentials or Anonymous(), _concurrency(concurrency))


def _concurrency(given: int | None) -> int:
    number = DEFAULT_CONCURRENCY if given is None else given
    if number < 1:
        raise UsageError(f"The concurrency must be at least 1, not {number}.")
    return number


# --- Endpoint -------------------------------------------------------------------------------------------


def _endpoint(given: str | None, env: Mapping[str, str]) -> str:
    url = given or env.get("FANBENCH_ENDPOINT") or env.get("KAGGLE_API_ENDPOINT") or _environment(env)
    if not _is_web_address(url):
        # Somebody may have written a password into it.
        shown = re.sub(r"//[^/@]*@", "//…@", url)
        raise UsageError(
            f"{shown!r} is not an endpoint.", hint="Write it as https://HOST or http://HOST:PORT."
        )
    return url.rstrip("/")


def _is_web_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username)
    return parts.scheme in ("http", "https") and bool(parts.hostname) and plain


def _environment(env: Mapping[str, str]) -> str:
    name = env.get("KAGGLE_API_ENVIRONMENT") or "PROD"
    if name not in _ENVIRONMENTS:
        known = ", ".join(_ENVIRONMENTS)
        raise UsageError(f"KAGGLE_API_ENVIRONMENT is {name!r}, which is none of {known}.")
    return _ENVIRONMENTS[name]


# --- Credentials ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Places:
    env: Mapping[str, str]
    home: Path
    token: str | None = field(repr=False)

    @property
    def kaggle(self) -> Path:
        return self.home / ".kaggle"


def credential_sources(
    *, token: str | None = None, env: Mapping[str, str] = os.environ, home: Path | None = None
) -> list[tuple[str, Credentials | CredentialsError]]:
    """Every place that has credentials, with them or with why they cannot be used; the first one counts."""
    places = _Places(env, home or Path(os.path.expanduser("~")), token)
    outcomes = ((name, _tried(source, places)) for name, source in _SOURCES)
    return [(name, outcome) for name, outcome in outcomes if outcome is not None]


def _tried(
    source: Callable[[_Places], Credentials | None], places: _Places
) -> Credentials | CredentialsError | None:
    try:
        return source(places)
    except CredentialsError as error:
        return error


def _found(places: _Places) -> Iterator[Credentials]:
    for _, source in _SOURCES:
        if (credentials := source(places)) is not None:
            yield credentials


def _from_argument(places: _Places) -> Credentials | None:
    return _token_or_its_file(places.token, "--token", places) if places.token else None


def _from_token_variable(places: _Places) -> Credentials | None:
    value = places.env.get("KAGGLE_API_TOKEN", "").strip()
    return _token_or_its_file(value, "KAGGLE_API_TOKEN", places) if value else None


def _from_token_files(places: _Places) -> Credentials | None:
    for name in ("access_token", "access_token.txt"):
        if (text := _read(places.kaggle / name)) is not None:
            return _bearer(text, str(places.kaggle / name))
    return None


def _from_key_variables(places: _Places) -> Credentials | None:
    username, key = places.env.get("KAGGLE_USERNAME"), places.env.get("KAGGLE_KEY")
    return Basic(username, key) if username and key else None


def _from_kaggle_json(places: _Places) -> Credentials | None:
    for file in _kaggle_json_files(places):
        if (data := _read_json(file)) is not None:
            return Basic(_text(data, "username", file), _text(data, "key", file))
    return None


def _kaggle_json_files(places: _Places) -> list[Path]:
    """The vendor keeps the file in the XDG folder on machines that have no `~/.kaggle`."""
    if moved := places.env.get("KAGGLE_CONFIG_DIR"):
        return [Path(moved).expanduser() / "kaggle.json"]
    xdg = Path(places.env.get("XDG_CONFIG_HOME") or places.home / ".config")
    return [places.kaggle / "kaggle.json", xdg / "kaggle" / "kaggle.json"]


def _from_oauth(places: _Places) -> Credentials | None:
    file = places.kaggle / "credentials.json"
    if (data := _read_json(file)) is None:
        return None
    if _expiry(data, file) <= datetime.now(UTC):
        raise CredentialsError(
            f"The access token in {file} has expired.",
            hint=f"Log in again, or delete the file. {_HELP}",
        )
    return _bearer(_text(data, "access_token", file), str(file))


_SOURCES: tuple[tuple[str, Callable[[_Places], Credentials | None]], ...] = (
    ("--token", _from_argument),
    ("KAGGLE_API_TOKEN", _from_token_variable),
    ("~/.kaggle/access_token", _from_token_files),
    ("KAGGLE_USERNAME and KAGGLE_KEY", _from_key_variables),
    ("kaggle.json", _from_kaggle_json),
    ("~/.kaggle/credentials.json", _from_oauth),
)


def _expiry(data: Mapping[str, object], file: Path) -> datetime:
    try:
        time = datetime.fromisoformat(_text(data, "access_token_expiration", file))
    except ValueError:
        raise _malformed(file, "its access_token_expiration is no date") from None
    return as_utc(time)


def _token_or_its_file(value: str, source: str, places: _Places) -> Bearer:
    """`value` itself, or what the file of that name holds. A path that leads nowhere is no token."""
    file = places.home / value[2:] if value.startswith("~/") else Path(value)
    if _is_file(file):
        return _bearer(_read(file) or "", str(file))
    if file.is_absolute():
        raise CredentialsError(
            f"{source} is the path of a file that does not exist.",
            hint="Correct the path, or give the token itself.",
        )
    return _bearer(value, source)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a long token is too long for a file's name
        return False


def _bearer(text: str, source: str) -> Bearer:
    """A token is sent as a header: it must be one word of plain characters."""
    token = text.strip()
    if not token:
        raise CredentialsError(f"{source} is empty.", hint=f"Put a token into it, or delete it. {_HELP}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CredentialsError(
            f"{source} does not hold a token: it has spaces, lines or characters that a token cannot have.",
            hint=_HELP,
        )
    return Bearer(token)


# --- Files ----------------------------------------------------------------------------------------------


def _read(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise CredentialsError(
            f"Cannot read the credentials in {file}: {reason}.", hint="Make the file readable, or delete it."
        ) from None


def _read_json(file: Path) -> Mapping[str, object] | None:
    if (text := _read(file)) is None:
        return None
    try:
        data = json.loads(text)
    except ValueError:
        raise _malformed(file, "it is not JSON") from None
    if not isinstance(data, dict):
        raise _malformed(file, "it is not a JSON object")
    return data


def _text(data: Mapping[str, object], name: str, file: Path) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise _malformed(file, f"it has no {name!r}")
    return value


def _malformed(file: Path, reason: str) -> CredentialsError:
    return CredentialsError(
        f"The credentials in {file} cannot be used: {reason}.",
        hint=f"Correct or delete it. {_HELP}",
    )
