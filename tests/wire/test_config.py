"""The configuration: where the endpoint and the credentials come from; secrets are never shown."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fanbench import Anonymous, Basic, Bearer, Config, CredentialsError, UsageError, resolve_config

SECRET = "KGAT_5ecret"


def write(home: Path, name: str, content: str | dict[str, object]) -> Path:
    file = home / ".kaggle" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def oauth(**changes: object) -> dict[str, object]:
    later = datetime.now(UTC) + timedelta(hours=1)
    return {
        "refresh_token": "r",
        "access_token": SECRET,
        "access_token_expiration": later.isoformat(),
        "username": "me",
        "scopes": [],
        **changes,
    }


# --- Where from ---


def test_argument_first(tmp_path: Path) -> None:
    """A token passed as an argument takes precedence over every other source."""
    env = {"KAGGLE_API_TOKEN": "other", "KAGGLE_USERNAME": "me", "KAGGLE_KEY": "k"}
    assert resolve_config(token=SECRET, env=env, home=tmp_path).credentials == Bearer(SECRET)


def test_sources_in_order(tmp_path: Path) -> None:
    """Each source takes precedence over the ones after it."""
    env = {"KAGGLE_API_TOKEN": "one", "KAGGLE_USERNAME": "me", "KAGGLE_KEY": "four"}
    files = [
        write(tmp_path, "access_token", "two\n"),
        write(tmp_path, "access_token.txt", "three"),
        write(tmp_path, "kaggle.json", {"username": "me", "key": "five"}),
        write(tmp_path, "credentials.json", oauth(access_token="six")),
    ]

    def found() -> object:
        return resolve_config(env=env, home=tmp_path).credentials

    seen = [found()]
    del env["KAGGLE_API_TOKEN"]
    seen.append(found())
    for gone in files[:2]:
        gone.unlink()
        seen.append(found())
    del env["KAGGLE_KEY"]
    seen.append(found())
    files[2].unlink()
    seen.append(found())
    assert seen == [
        Bearer("one"),
        Bearer("two"),
        Bearer("three"),
        Basic("me", "four"),
        Basic("me", "five"),
        Bearer("six"),
    ]


def test_token_variable_names_a_file(tmp_path: Path) -> None:
    """KAGGLE_API_TOKEN may be the path of a file that contains the token, also with `~`."""
    file = tmp_path / "token"
    file.write_text(f"  {SECRET}\n")
    for value in (str(file), "~/token"):
        assert resolve_config(env={"KAGGLE_API_TOKEN": value}, home=tmp_path).credentials == Bearer(SECRET)


def test_config_folder_moves(tmp_path: Path) -> None:
    """KAGGLE_CONFIG_DIR is the folder of kaggle.json."""
    (tmp_path / "kaggle.json").write_text('{"username": "me", "key": "k"}')
    env = {"KAGGLE_CONFIG_DIR": str(tmp_path)}
    assert resolve_config(env=env, home=tmp_path / "nowhere").credentials == Basic("me", "k")


def test_xdg_folder(tmp_path: Path) -> None:
    """kaggle.json is also found in ~/.config/kaggle, where Kaggle's tools keep it without a ~/.kaggle."""
    folder = tmp_path / ".config" / "kaggle"
    folder.mkdir(parents=True)
    (folder / "kaggle.json").write_text('{"username": "me", "key": "k"}')
    assert resolve_config(env={}, home=tmp_path).credentials == Basic("me", "k")


def test_none_found(tmp_path: Path) -> None:
    """Kaggle requires credentials, and the hint explains how to get a token; other servers are called anonymously."""
    with pytest.raises(CredentialsError) as caught:
        resolve_config(env={}, home=tmp_path)
    assert "kaggle.com/settings" in (caught.value.hint or "")
    local = resolve_config(endpoint="http://localhost:7777", env={}, home=tmp_path)
    assert local.credentials == Anonymous()


# --- Bad ones ---


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("access_token", "", "empty"),
        ("access_token", "two words", "spaces"),
        ("access_token", f"{SECRET}\nX-Header: evil", "line breaks"),
        ("access_token", "tökén", "characters"),
        ("kaggle.json", f'{{"username": "me", "key": "{SECRET}"', "not JSON"),
        ("kaggle.json", "[]", "not a JSON object"),
        ("kaggle.json", f'{{"key": "{SECRET}"}}', "'username'"),
        ("kaggle.json", '{"username": "me", "key": 5}', "'key'"),
        ("credentials.json", f'{{"access_token": "{SECRET}"}}', "'access_token_expiration'"),
        ("credentials.json", oauth(access_token_expiration="soon"), "not a date"),
        ("credentials.json", oauth(access_token_expiration="2020-01-01T00:00:00+00:00"), "expired"),
        ("credentials.json", oauth(access_token_expiration="2020-01-01T00:00:00"), "expired"),
    ],
)
def test_malformed_files(tmp_path: Path, name: str, content: str | dict[str, object], reason: str) -> None:
    """The error for an unusable file has its name, the reason and a hint, but not its content."""
    file = write(tmp_path, name, content)
    with pytest.raises(CredentialsError, match=reason) as caught:
        resolve_config(env={}, home=tmp_path)
    assert str(file) in str(caught.value)
    assert caught.value.hint
    assert SECRET not in f"{caught.value!r}{caught.value.hint}"


def test_unreadable_file(tmp_path: Path) -> None:
    """A folder in place of the file is an error that names it."""
    (tmp_path / ".kaggle" / "access_token").mkdir(parents=True)
    with pytest.raises(CredentialsError, match=r"\.kaggle/access_token.*directory"):
        resolve_config(env={}, home=tmp_path)


def test_binary_file(tmp_path: Path) -> None:
    """A file that is not text is an error that names it."""
    write(tmp_path, "access_token", "").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CredentialsError, match="access_token: it is not text"):
        resolve_config(env={}, home=tmp_path)


def test_path_that_leads_nowhere(tmp_path: Path) -> None:
    """An absolute path of no file in KAGGLE_API_TOKEN is not sent as a token."""
    with pytest.raises(CredentialsError, match="does not exist"):
        resolve_config(env={"KAGGLE_API_TOKEN": str(tmp_path / "none")}, home=tmp_path)


def test_long_tokens_are_tokens(tmp_path: Path) -> None:
    """A token that is too long for a file name is used as a token."""
    token = "t" * 5000
    assert resolve_config(env={"KAGGLE_API_TOKEN": token}, home=tmp_path).credentials == Bearer(token)


def test_secrets_are_not_shown() -> None:
    """The repr of a configuration contains no secret."""
    for credentials in (Bearer(SECRET), Basic("me", SECRET)):
        assert SECRET not in repr(Config("https://x", credentials)) + str(credentials)


# --- Endpoint and limits ---


def endpoint(given: str | None = None, **env: str) -> str:
    return resolve_config(endpoint=given, token="t", env=env).endpoint


def test_endpoint_order() -> None:
    """The endpoint comes from the argument, our variable, Kaggle's two variables, or is Kaggle, in this order."""
    env = {
        "FANBENCH_ENDPOINT": "http://b",
        "KAGGLE_API_ENDPOINT": "http://c",
        "KAGGLE_API_ENVIRONMENT": "TEST",
    }
    assert endpoint("http://a/", **env) == "http://a"
    assert endpoint(**env) == "http://b"
    del env["FANBENCH_ENDPOINT"]
    assert endpoint(**env) == "http://c"
    del env["KAGGLE_API_ENDPOINT"]
    assert endpoint(**env) == "http://localhost:7777"
    assert endpoint(KAGGLE_API_ENVIRONMENT="PROD") == endpoint() == "https://api.kaggle.com"


@pytest.mark.parametrize(
    "url",
    [
        "localhost:7777",
        "ftp://x",
        "http://",
        "http://x:port",
        "http://me:pw@x",
        "http://x?y",
        "x",
        "http://[x",
        "http://x:99999",
        "http://a b:3",
        "http://a..b",
        'http://a"b',
    ],
)
def test_bad_endpoints(url: str) -> None:
    """An invalid endpoint is a usage error whose hint shows the form."""
    with pytest.raises(UsageError) as caught:
        endpoint(url)
    assert "http://HOST:PORT" in (caught.value.hint or "")


@pytest.mark.parametrize("quote", ['"', "'"])
def test_quotes_are_noticed(tmp_path: Path, quote: str) -> None:
    """A value that still has its quotes is refused by name, wherever it comes from, and a secret is not shown."""
    quoted = f"{quote}{SECRET}{quote}"
    for env in (
        {"KAGGLE_API_TOKEN": f" {quoted}\n"},
        {"KAGGLE_USERNAME": "me", "KAGGLE_KEY": quoted},
        {"KAGGLE_API_TOKEN": str(write(tmp_path, "access_token", quoted))},
    ):
        with pytest.raises(CredentialsError, match="in quotes") as caught:
            resolve_config(env=env, home=tmp_path / "none")
        assert SECRET not in f"{caught.value} {caught.value.hint}"
    for name in ("FANBENCH_ENDPOINT", "KAGGLE_API_ENDPOINT"):
        with pytest.raises(UsageError, match=f"{name} is in quotes"):
            endpoint(**{name: f"{quote}http://a{quote}"})


def test_space_around_values_is_ignored(tmp_path: Path) -> None:
    """Spaces and line breaks around the values of variables are no part of them."""
    env = {"KAGGLE_USERNAME": "me\n", "KAGGLE_KEY": f" {SECRET} ", "FANBENCH_ENDPOINT": " http://a\n"}
    config = resolve_config(env=env, home=tmp_path)
    assert config == Config("http://a", Basic("me", SECRET))


def test_keys_that_cannot_be_sent(tmp_path: Path) -> None:
    """A user name or key of bytes that are not text is an error of credentials."""
    for env in (
        {"KAGGLE_USERNAME": "me\udcff", "KAGGLE_KEY": "k"},
        {"KAGGLE_USERNAME": "a:b", "KAGGLE_KEY": "k"},
    ):
        with pytest.raises(CredentialsError, match="special characters"):
            resolve_config(env=env, home=tmp_path)


def test_unknown_environment() -> None:
    """An unknown environment is refused, and the hint lists the known ones."""
    with pytest.raises(UsageError, match="MOON") as caught:
        endpoint(KAGGLE_API_ENVIRONMENT="MOON")
    assert "LOCALHOST" in (caught.value.hint or "")


def test_max_output() -> None:
    """The bound on the size of outputs is a number of bytes in the environment, and there is none by default."""
    assert resolve_config(token="t", env={}).max_output is None
    assert (
        resolve_config(token="t", env={"FANBENCH_MAX_OUTPUT": " 20000000000 "}).max_output == 20_000_000_000
    )
    for wrong in ("20 GB", "-1", "1e9", "²"):
        with pytest.raises(UsageError, match="FANBENCH_MAX_OUTPUT"):
            resolve_config(token="t", env={"FANBENCH_MAX_OUTPUT": wrong})


def test_concurrency() -> None:
    """The concurrency is 16 by default, and must be at least 1."""
    assert resolve_config(token="t", env={}).concurrency == 16
    assert resolve_config(token="t", env={}, concurrency=3).concurrency == 3
    with pytest.raises(UsageError, match="at least 1"):
        resolve_config(token="t", env={}, concurrency=0)


def test_real_environment_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without arguments, the environment of the process is used."""
    monkeypatch.setitem(os.environ, "KAGGLE_API_TOKEN", SECRET)
    monkeypatch.setitem(os.environ, "KAGGLE_API_ENDPOINT", "http://localhost:1")
    assert resolve_config() == Config("http://localhost:1", Bearer(SECRET))
