"""Which server to call, and with which credentials: resolved once, then passed on.

Credentials are looked up where Kaggle's own tools keep them, in the same order. The first place that has any
wins. A place whose credentials cannot be read is an error and is not skipped, because the user would otherwise
act as somebody else without noticing. Secrets are never part of a repr or of an error.
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
    "is_kaggle",
    "is_on_this_machine",
    "is_server",
    "resolve_config",
]

KAGGLE = "https://api.kaggle.com"
DEFAULT_CONCURRENCY = 16

# The environments of Kaggle's SDK, one of which `KAGGLE_API_ENVIRONMENT` names.
_ENVIRONMENTS = {
    "PROD": KAGGLE,
    "TEST": "http://localhost:7777",
    "LOCALHOST": "http://localhost",
    "STAGING": "https://staging.kaggle.com",
    "ADMIN": "https://admin.kaggle.com",
    "QA": "https://qa.kaggle.com",
}
_HELP = (
    "Create a token on https://www.kaggle.com/settings, and set KAGGLE_API_TOKEN to it"
    " or save it as ~/.kaggle/access_token."
)
_WITHOUT_ACCOUNT = "To try fanbench without an account, use --local (in Python: Client.local())."


@dataclass(frozen=True, slots=True)
class Bearer:
    """An API token."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Basic:
    """The legacy user name and key of `kaggle.json`."""

    username: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials, for servers that do not require any."""


Credentials = Bearer | Basic | Anonymous


@dataclass(frozen=True, slots=True)
class Config:
    """The server and how to call it.

    `endpoint` is a URL without a slash at the end; `concurrency` is the greatest number of calls in flight.
    `local_data` is the data folder of a local server, which may listen at another URL after each start: a client looks
    it up there when nobody listens at `endpoint`, and starts it if it has ended. `max_output` is the number of bytes
    that the files of an output may have; without it, a bound that only bombs exceed.
    """

    endpoint: str
    credentials: Credentials
    concurrency: int = DEFAULT_CONCURRENCY
    local_data: Path | None = None
    max_output: int | None = None

    @property
    def server(self) -> str:
        """A name for the server that stays the same when its URL changes."""
        return self.endpoint if self.local_data is None else f"local:{self.local_data}"


def is_on_this_machine(url: str) -> bool:
    """Whether the server of `url` is on this machine."""
    return urlsplit(url).hostname in ("localhost", "127.0.0.1", "::1")


def resolve_config(
    *,
    endpoint: str | None = None,
    token: str | None = None,
    concurrency: int | None = None,
    env: Mapping[str, str] = os.environ,
    home: Path | None = None,
) -> Config:
    """Return the configuration from arguments, then the environment, then files in `home`.

    Without credentials, Kaggle cannot be called; any other server is called anonymously.

    Raises:
        CredentialsError: There are no credentials, or they cannot be read, or have expired.
        UsageError: The endpoint is not a URL, or a number is not valid.
    """
    url = _endpoint(endpoint, env)
    _, credentials = next(credential_sources(token=token, env=env, home=home), ("", None))
    if isinstance(credentials, CredentialsError):
        raise credentials
    if credentials is None and url == KAGGLE:
        raise CredentialsError("No Kaggle credentials found.", hint=f"{_HELP} {_WITHOUT_ACCOUNT}")
    if concurrency is not None and concurrency < 1:
        raise UsageError(f"The concurrency must be at least 1, not {concurrency}.")
    return Config(
        url, credentials or Anonymous(), concurrency or DEFAULT_CONCURRENCY, max_output=_max_output(env)
    )


def is_kaggle(endpoint: str) -> bool:
    """Whether the endpoint is one of Kaggle's own."""
    host = urlsplit(endpoint).hostname or ""
    return host == "kaggle.com" or host.endswith(".kaggle.com")


def _max_output(env: Mapping[str, str]) -> int | None:
    text = env.get("FANBENCH_MAX_OUTPUT", "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdecimal():
        raise UsageError(f"FANBENCH_MAX_OUTPUT is {text!r}, which is not a number of bytes.")
    return int(text)


def _endpoint(given: str | None, env: Mapping[str, str]) -> str:
    source, url = "The endpoint", given
    for name in ("FANBENCH_ENDPOINT", "KAGGLE_API_ENDPOINT"):
        if not url:
            source, url = name, env.get(name, "").strip()
    if not url:
        source, known = "KAGGLE_API_ENVIRONMENT", ", ".join(_ENVIRONMENTS)
        name = env.get(source, "").strip() or "PROD"
        if name not in _ENVIRONMENTS:
            raise UsageError(
                f"{source} is {name!r}, which Kaggle does not know.", hint=f"Set it to one of {known}."
            )
        url = _ENVIRONMENTS[name]
    if _is_quoted(url):
        raise UsageError(f"{source} is in quotes, which are part of its value.", hint="Remove the quotes.")
    if not is_server(url):
        shown = re.sub(r"//[^/@]*@", "//…@", url)  # It may contain a password.
        raise UsageError(
            f"{shown!r} is not an endpoint.", hint="Write it as https://HOST or http://HOST:PORT."
        )
    return url.rstrip("/")


def is_server(url: str) -> bool:
    """Whether `url` is the address of an HTTP server, without a user name, a query or a fragment."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        # Both raise ValueError: a port that is no number below 65536, and a host that no name server can know.
        _ = parts.port, host.encode("idna")
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or re.search(r"[^\w.:%-]", host))
    return parts.scheme in ("http", "https") and bool(host) and plain


def _is_quoted(value: str) -> bool:
    """Whether quotes are part of `value`, as after `docker run --env-file`, which does not remove them."""
    return len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"


# --- Credentials ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Places:
    env: Mapping[str, str]
    home: Path
    kaggle: Path
    token: str | None = field(repr=False)


def credential_sources(
    *, token: str | None = None, env: Mapping[str, str] = os.environ, home: Path | None = None
) -> Iterator[tuple[str, Credentials | CredentialsError]]:
    """Yield every place that has credentials, with them or with why they cannot be used; the first one counts."""
    home = home or Path(os.path.expanduser("~"))
    places = _Places(env, home, home / ".kaggle", token)
    for name, source in _SOURCES:
        found: Credentials | CredentialsError | None
        try:
            found = source(places)
        except CredentialsError as error:
            found = error
        if found is not None:
            yield name, found


def _from_token_files(places: _Places) -> Credentials | None:
    for name in ("access_token", "access_token.txt"):
        if (text := _read(places.kaggle / name)) is not None:
            return _bearer(text, str(places.kaggle / name))
    return None


def _from_key_variables(places: _Places) -> Credentials | None:
    username, key = (places.env.get(name, "").strip() for name in ("KAGGLE_USERNAME", "KAGGLE_KEY"))
    return _basic(username, key, "KAGGLE_USERNAME or KAGGLE_KEY") if username and key else None


def _from_kaggle_json(places: _Places) -> Credentials | None:
    # Kaggle's tools keep the file in the XDG folder on machines without `~/.kaggle`.
    xdg = Path(places.env.get("XDG_CONFIG_HOME") or places.home / ".config")
    files = [places.kaggle / "kaggle.json", xdg / "kaggle" / "kaggle.json"]
    if moved := places.env.get("KAGGLE_CONFIG_DIR"):
        files = [Path(moved).expanduser() / "kaggle.json"]
    for file in files:
        if (data := _read_json(file)) is not None:
            return _basic(_text(data, "username", file), _text(data, "key", file), str(file))
    return None


def _from_oauth(places: _Places) -> Credentials | None:
    file = places.kaggle / "credentials.json"
    if (data := _read_json(file)) is None:
        return None
    try:
        expiry = as_utc(datetime.fromisoformat(_text(data, "access_token_expiration", file)))
    except ValueError:
        raise _malformed(file, "its access_token_expiration is not a date") from None
    if expiry <= datetime.now(UTC):
        raise CredentialsError(
            f"The access token in {file} has expired.",
            hint=f"Log in again, or delete the file. {_HELP}",
        )
    return _bearer(_text(data, "access_token", file), str(file))


_SOURCES: tuple[tuple[str, Callable[[_Places], Credentials | None]], ...] = (
    ("--token", lambda places: _token_or_its_file(places.token, "--token", places)),
    (
        "KAGGLE_API_TOKEN",
        lambda places: _token_or_its_file(
            places.env.get("KAGGLE_API_TOKEN", "").strip(), "KAGGLE_API_TOKEN", places
        ),
    ),
    ("~/.kaggle/access_token", _from_token_files),
    ("KAGGLE_USERNAME and KAGGLE_KEY", _from_key_variables),
    ("kaggle.json", _from_kaggle_json),
    ("~/.kaggle/credentials.json", _from_oauth),
)


def _token_or_its_file(value: str | None, source: str, places: _Places) -> Bearer | None:
    """Return the token `value`, or the one in the file of that name. A path of no file is not a token."""
    if not value:
        return None
    file = places.home / value[2:] if value.startswith("~/") else Path(value)
    try:
        is_file = file.is_file()
    except (OSError, ValueError):  # A long token is too long for a file name.
        is_file = False
    if is_file:
        return _bearer(_read(file) or "", str(file))
    if file.is_absolute():
        raise CredentialsError(
            f"{source} is the path of a file that does not exist.",
            hint="Correct the path, or give the token itself.",
        )
    return _bearer(value, source)


def _basic(username: str, key: str, source: str) -> Basic:
    """Check that the user name and the key can be sent as a header."""
    if _is_quoted(username) or _is_quoted(key):
        raise _quoted(source)
    if not f"{username}{key}".isprintable() or ":" in username:
        raise CredentialsError(f"{source} has line breaks or special characters.", hint=_HELP)
    return Basic(username, key)


def _quoted(source: str) -> CredentialsError:
    return CredentialsError(
        f"{source} is in quotes, which are part of its value.",
        hint="Remove the quotes; `docker run --env-file` keeps those in the file.",
    )


def _bearer(text: str, source: str) -> Bearer:
    """Check that the text can be sent as a header: one word of printable ASCII."""
    token = text.strip()
    if not token:
        raise CredentialsError(f"{source} is empty.", hint=f"Put a token into it, or delete it. {_HELP}")
    if _is_quoted(token):
        raise _quoted(source)
    if not token.isascii() or not token.isprintable() or " " in token:
        raise CredentialsError(
            f"{source} does not contain a token: a token has no spaces, line breaks or special characters.",
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
    except (ValueError, RecursionError):
        raise _malformed(file, "it is not JSON") from None
    if not isinstance(data, dict):
        raise _malformed(file, "it is not a JSON object")
    return data


def _text(data: Mapping[str, object], name: str, file: Path) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not value:
        raise _malformed(file, f"{name!r} is missing")
    return value


def _malformed(file: Path, reason: str) -> CredentialsError:
    return CredentialsError(
        f"The credentials in {file} cannot be used: {reason}.",
        hint=f"Correct or delete it. {_HELP}",
    )
