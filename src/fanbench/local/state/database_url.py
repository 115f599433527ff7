"""Checks the URL after --database without SQLAlchemy, so that it can be imported without the extra."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode, urlsplit

from fanbench.errors import UsageError

__all__ = ["DATABASE_VARIABLE", "check_database_url", "without_password"]

DATABASE_VARIABLE = "FANBENCH_DATABASE"
"""The variable that may have the URL, so that a password need not be on a command line."""

_SCHEMES = ("postgresql", "postgres")
_SECRET = ("password", "sslpassword")


def check_database_url(url: str) -> str:
    """The URL of a PostgreSQL database in its usual spelling.

    Raises:
        UsageError: It is not such a URL. The message does not repeat it, because it may have a password.
    """
    hint = "Write postgresql://USER@HOST/NAME; without it, the state is in the data folder."
    scheme, separator, rest = url.partition("://")
    if not separator:
        raise UsageError("The database is not a URL.", hint=hint)
    if scheme not in _SCHEMES:
        kind = scheme if scheme.isalnum() and scheme.isascii() else "this kind"
        raise UsageError(f"The server cannot use a database of {kind}.", hint=hint)
    try:
        parts = urlsplit(url)
        extra = parts.netloc.count("@") > 1 or "@" in parts.path + parts.query or parts.fragment
        misplaced = bool(extra) or parts.port == 0
    except ValueError:
        misplaced = True
    if misplaced or not parts.path.strip("/"):
        hint = f"{hint} In a password, write %2F for /, %3F for ?, %23 for # and %40 for @."
        raise UsageError("The URL of the database cannot be read.", hint=hint)
    return f"postgresql://{rest}"


def without_password(url: str) -> str:
    """The URL as people and logs may see it."""
    parts = urlsplit(url)
    user, at, place = parts.netloc.rpartition("@")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    query = urlencode([pair for pair in pairs if pair[0] not in _SECRET], safe="/")
    return f"{parts.scheme}://{user.partition(':')[0]}{at}{place}{parts.path}{query and '?'}{query}"
