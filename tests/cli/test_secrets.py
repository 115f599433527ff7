"""-v and --log-file, and that no secret is ever printed or logged."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
from click.testing import CliRunner, Result

from fanbench.cli.app import root
from fanbench.cli.redact import hide, redact
from fanbench.testing import SimulatedKaggle
from tests.cli.conftest import Cli
from tests.wire.fake_server import Answer, FakeServer, Request, problem

SECRET = "kg-9f8e7d6c5b4a39281706f5e4d3c2b1a0"
PAIR = base64.b64encode(f"ada:{SECRET}".encode()).decode()
OAUTH = {"access_token": SECRET, "access_token_expiration": "2099-01-01T00:00:00Z"}


@dataclass(frozen=True)
class Form:
    """One way to give credentials: arguments, variables, files in the home folder."""

    words: tuple[str, ...] = ()
    env: Mapping[str, str] | None = None
    files: Mapping[str, str] | None = None


FORMS = {
    "--token": Form(("--token", SECRET)),
    "--token=": Form((f"--token={SECRET}",)),
    "--token FILE": Form(("--token", "~/secret"), files={"secret": SECRET}),
    "KAGGLE_API_TOKEN": Form(env={"KAGGLE_API_TOKEN": SECRET}),
    "KAGGLE_API_TOKEN, a file": Form(env={"KAGGLE_API_TOKEN": "~/secret"}, files={"secret": SECRET}),
    "access_token": Form(files={".kaggle/access_token": SECRET}),
    "access_token.txt": Form(files={".kaggle/access_token.txt": f"{SECRET}\n"}),
    "KAGGLE_KEY": Form(env={"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": SECRET}),
    "kaggle.json": Form(files={".kaggle/kaggle.json": json.dumps({"username": "ada", "key": SECRET})}),
    "KAGGLE_CONFIG_DIR": Form(
        env={"KAGGLE_CONFIG_DIR": "~/there"},
        files={"there/kaggle.json": json.dumps({"username": "ada", "key": SECRET})},
    ),
    "credentials.json": Form(files={".kaggle/credentials.json": json.dumps(OAUTH)}),
}


@pytest.fixture(autouse=True)
def nothing_known_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the secrets that other tests have hidden."""
    monkeypatch.setattr("fanbench.cli.redact._secrets", set())


def parrot(request: Request) -> Answer:
    """A server that repeats in an error what it received."""
    return problem(401, f"I do not take {request.headers['Authorization']}, nor {SECRET}.")


def broken(request: Request) -> Answer:
    """A server that repeats it in a page."""
    page = f"<html>{request.headers['Authorization']}</html>"
    return Answer(page.encode(), headers={"Content-Type": "text/html"})


@pytest.fixture(params=list(FORMS))
def form(request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Form:
    form = FORMS[request.param]
    for name, text in (form.files or {}).items():
        file = folder.parent / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    for name, value in (form.env or {}).items():
        monkeypatch.setenv(name, value)
    return form


def everything(result: Result) -> str:
    """Everything that was printed or logged."""
    return result.output + Path("log").read_text()


@pytest.mark.usefixtures("no_pauses")
@pytest.mark.parametrize("answer", [parrot, broken])
@pytest.mark.parametrize(
    "words", ["tasks list", "tasks status a b", "quota --format json", "doctor", "init -y"]
)
def test_no_secret_is_printed(
    form: Form,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[Request], Answer],
    words: str,
) -> None:
    """No secret is printed, however it is given, whatever the server does with it, and with any verbosity."""
    if words == "doctor":
        without_slow_checks(monkeypatch)
    monkeypatch.setenv("FANBENCH_DEBUG", "1")
    calls = ("ListBenchmarkTasks", "GetBenchmarkTask", "ListBenchmarkTaskRuns", "GetBenchmarkTaskQuota")
    more = ("IntrospectToken", "CreateDefaultModelProxyToken", "GetModelProxyQuotas", "ListBenchmarkModels")
    with FakeServer(dict.fromkeys([*calls, *more], answer)) as server:
        monkeypatch.setenv("FANBENCH_ENDPOINT", server.url)
        result = CliRunner().invoke(root, [*words.split(), "--verbose", "--log-file", "log", *form.words])
    assert server.requests, "the credentials were sent"
    assert result.exit_code in (1, 3)
    assert SECRET not in everything(result)
    assert PAIR not in everything(result)
    assert '"event": "end"' in Path("log").read_text()


def without_slow_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace the slow checks of the machine, which involve no secrets."""
    from fanbench.operations import doctor
    from fanbench.operations.doctor import server

    monkeypatch.setattr(doctor, "PROBES", [server.probe_server])


def test_a_refused_token_is_not_in_the_error(cli: Cli) -> None:
    """A refused token is not in the error, even if it is not a token at all."""
    result = cli("tasks", "list", "--token", f"{SECRET} {SECRET}", "-v", "--log-file", "log")
    assert result.exit_code == 3
    assert SECRET not in everything(result)


# --- The lines ---


@pytest.fixture(autouse=True)
def unconfigured() -> Iterator[None]:
    """Check that a command leaves the logging library as it was."""
    yield
    assert not structlog.is_configured()


def test_the_log_file_has_json_lines(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """The log file has the command, each call with its time, and the end as JSON lines; nothing is on the
    screen.
    """
    kaggle.add_task("t")
    for _ in range(2):
        result = cli("tasks", "list", "--log-file", "log", "--token", SECRET)
        assert result.exit_code == 0
    assert "debug" not in result.output
    lines = [json.loads(line) for line in Path("log").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["begin", "call", "end"] * 2
    begin, call, end = lines[:3]
    assert begin["command"].endswith("tasks list")
    assert (call["method"], call["status"], call["level"]) == ("ListBenchmarkTasks", 200, "debug")
    assert end["seconds"] >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]+Z", call["timestamp"])


def test_the_log_file_ends_with_the_error(cli: Cli) -> None:
    """The last line of the log file has the error."""
    cli("tasks", "status", "nope", "--log-file", "log")
    last = json.loads(Path("log").read_text().splitlines()[-1])
    assert (last["event"], last["error"]) == ("end", "NotFound")
    assert "'nope' not found" in last["message"]


def test_verbose_prints_messages_on_stderr(cli: Cli) -> None:
    """With -v, messages are on stderr, and stdout has only data."""
    result = cli("tasks", "list", "-v", "--format", "json")
    assert result.stdout == "[]\n"
    assert "ListBenchmarkTasks" in result.stderr


@pytest.mark.parametrize("place", [".", "missing/log"])
def test_a_log_file_that_cannot_be_written(cli: Cli, kaggle: SimulatedKaggle, place: str) -> None:
    """A log file that cannot be written is a usage error before anything is done."""
    result = cli("tasks", "list", "--log-file", place)
    assert result.exit_code == 2
    assert f"Cannot write the log file {place}" in result.stderr
    assert not kaggle.calls


# --- Hiding ---


def test_the_longer_secret_goes_first() -> None:
    """A secret that contains another one is hidden as a whole."""
    hide("abcdefgh", "abcdefghij")
    assert redact("x abcdefghij y abcdefgh") == "x [hidden] y [hidden]"


def test_short_texts_are_not_hidden() -> None:
    """Texts that are too short to be secrets are not hidden."""
    hide("", "a", "12345")
    assert redact("a 12345") == "a 12345"


def test_a_password_in_an_endpoint_is_not_printed(cli: Cli, tmp_path: Path) -> None:
    """A password in an endpoint is neither on stderr nor in the log file."""
    log = tmp_path / "log.jsonl"
    bad = ("--endpoint", "http://u:PASSWORD9@127.0.0.1:1", "--token", "x", "--log-file", str(log))
    result = cli("tasks", "list", *bad)
    assert result.exit_code == 2
    assert "PASSWORD9" not in result.stderr + (log.read_text() if log.exists() else "")
