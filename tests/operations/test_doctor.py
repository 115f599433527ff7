"""The doctor: what it finds, what it advises, and that no probe disturbs another."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import anyio
import pytest
from packaging.requirements import Requirement

from fanbench.config import Anonymous, Config
from fanbench.operations.doctor import Check, Checked, DoctorTarget, examine, machine
from fanbench.operations.doctor.check import Probe
from fanbench.operations.doctor.server import probe_server
from tests.local.wheels import fake_uv
from tests.operations.conftest import Reported
from tests.wire.fake_server import Answer, FakeServer, problem

pytestmark = [pytest.mark.anyio, pytest.mark.slow]

TOKEN = "kg-0123456789abcdef"
KNOWN = {"active": True, "username": "ada", "exp": 1900000000}
TASKS = {"ListBenchmarkTasks": [Answer({"tasks": []})]}


def levels(checks: list[Check]) -> list[tuple[str, str]]:
    return [(check.name, check.level) for check in checks]


async def server_checks(
    home: Path, endpoint: str, env: Mapping[str, str] | None = None, **options: str
) -> list[Check]:
    """Return the checks of the server and of its credentials."""
    return await probe_server(DoctorTarget(endpoint=endpoint, env=env or {}, home=home, **options))  # type: ignore[arg-type]


# --- Credentials and server ---


async def test_a_token_that_is_accepted(tmp_path: Path) -> None:
    """The checks name the source, user and expiry of the token and the server's latency, never the token itself."""
    with FakeServer({"IntrospectToken": [Answer(KNOWN)]}) as server:
        checks = await server_checks(tmp_path, server.url, {"KAGGLE_API_TOKEN": TOKEN})
    assert levels(checks) == [("credentials", "ok"), ("endpoint", "ok"), ("account", "ok")]
    assert checks[0].message == "a token from KAGGLE_API_TOKEN"
    assert checks[1].message.startswith(f"{server.url} answers in ")
    assert checks[2].message == "accepted, ada, until 2030-03-17 17:46 UTC"
    assert TOKEN not in str(checks)


async def test_a_legacy_key_is_checked_by_a_call(tmp_path: Path) -> None:
    """A key cannot be introspected, so a call tries it; sources that are not used are named."""
    (tmp_path / ".kaggle").mkdir()
    file = tmp_path / ".kaggle/kaggle.json"
    file.write_text(json.dumps({"username": "ada", "key": "k"}))
    file.chmod(0o600)
    with FakeServer(TASKS) as server:
        checks = await server_checks(
            tmp_path, server.url, {"KAGGLE_USERNAME": "ada", "KAGGLE_KEY": "0123456"}
        )
    assert checks[0].message == ("a legacy key from KAGGLE_USERNAME and KAGGLE_KEY; not used: kaggle.json")
    assert checks[2] == Check("account", "ok", "accepted")


@pytest.mark.parametrize(
    ("answer", "expected", "says"),
    [
        (Answer({"active": False}), [("endpoint", "ok"), ("account", "fail")], "no longer valid"),
        (problem(401, "Who?"), [("endpoint", "ok"), ("account", "fail")], "refused: Who?"),
        (problem(403, "Phone."), [("endpoint", "ok"), ("account", "fail")], "refused: Phone."),
        (problem(404, "No."), [("endpoint", "fail")], "No."),
        (Answer(b"<html>", headers={"Content-Type": "text/html"}), [("endpoint", "fail")], "IntrospectToken"),
    ],
)
async def test_refused_credentials_and_a_missing_server_are_told_apart(
    tmp_path: Path, answer: Answer, expected: list[tuple[str, str]], says: str
) -> None:
    """Refused credentials and a wrong server are different failures, each with its own hint."""
    with FakeServer({"IntrospectToken": [answer]}) as server:
        _, *checks = await server_checks(tmp_path, server.url, {"KAGGLE_API_TOKEN": TOKEN})
        assert len(server.requests) == 1
    assert levels(checks) == expected
    assert says in checks[-1].message
    assert checks[-1].fix


async def test_a_server_that_is_down(tmp_path: Path) -> None:
    """A refused connection is reported without retries."""
    checks = await server_checks(tmp_path, "http://127.0.0.1:9", token=TOKEN)
    assert levels(checks) == [("credentials", "ok"), ("endpoint", "fail")]
    assert checks[-1].fix


async def test_no_credentials(tmp_path: Path) -> None:
    """Missing credentials are only a warning for a server other than Kaggle."""
    with FakeServer(TASKS) as server:
        checks = await server_checks(tmp_path, server.url)
    assert levels(checks) == [("credentials", "warn"), ("endpoint", "ok"), ("account", "ok")]


async def test_no_credentials_for_kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure says where to get a token, and the server is probed without credentials."""

    async def answered(config: Config, *, introspect: bool) -> list[Check]:
        assert (config.credentials, introspect) == (Anonymous(), False)
        return [Check("endpoint", "ok", "answers")]

    monkeypatch.setattr("fanbench.operations.doctor.server._call", answered)
    kaggle, _ = await probe_server(DoctorTarget(env={}, home=tmp_path))
    assert (kaggle.level, "kaggle.com/settings" in (kaggle.fix or "")) == ("fail", True)


@pytest.mark.parametrize("text", ["{", "[]", '{"username": "ada"}'])
async def test_credentials_that_cannot_be_read(tmp_path: Path, text: str) -> None:
    """Damaged credentials are a failure, and the server is probed nevertheless."""
    (tmp_path / ".kaggle").mkdir()
    (tmp_path / ".kaggle/kaggle.json").write_text(text)
    with FakeServer(TASKS) as server:
        checks = await server_checks(tmp_path, server.url)
    assert levels(checks) == [("credentials", "fail"), ("endpoint", "ok")]
    assert "kaggle.json" in checks[0].message


async def test_credentials_that_others_may_read(tmp_path: Path) -> None:
    """Credentials with loose permissions are a warning, with the command that fixes them."""
    (tmp_path / ".kaggle").mkdir()
    file = tmp_path / ".kaggle/access_token"
    file.write_text(TOKEN)
    file.chmod(0o644)
    with FakeServer({"IntrospectToken": [Answer(KNOWN)]}) as server:
        checks = await server_checks(tmp_path, server.url)
    assert checks[1].fix == f"chmod 600 {file}"


async def test_an_invalid_endpoint(tmp_path: Path) -> None:
    """An invalid endpoint is a failed check, not a crash."""
    checks = await server_checks(tmp_path, "nonsense", token=TOKEN)
    assert levels(checks) == [("credentials", "ok"), ("endpoint", "fail")]


async def test_no_local_server_is_no_failure(tmp_path: Path) -> None:
    """Without a local server the check is fine, and doctor does not start one."""
    (check,) = await probe_server(DoctorTarget(local=True, data=tmp_path / "data"))
    assert (check.level, "starts one" in check.message) == ("ok", True)
    assert not (tmp_path / "data").exists()


# --- The env file ---


FULL = "MODEL_PROXY_URL=u\nMODEL_PROXY_API_KEY=k\nLLM_DEFAULT=m\n"


@pytest.mark.parametrize(
    ("text", "level", "fix"),
    [
        (None, "warn", "fanbench init"),
        ("", "warn", "fanbench init"),
        (FULL.replace("LLM_DEFAULT", "OTHER"), "warn", "fanbench init"),
        (f"{FULL}MODEL_PROXY_EXPIRY_TIME=2020-01-01T00:00:00Z\n", "warn", "fanbench auth"),
        (f"{FULL}MODEL_PROXY_EXPIRY_TIME=2999-01-01T00:00:00Z\n", "ok", None),
        (FULL, "ok", None),
        ("\xff", "fail", "--env-file"),
    ],
)
async def test_the_env_file(tmp_path: Path, text: str | None, level: str, fix: str | None) -> None:
    """A file may be missing, incomplete, expired, complete or not text, and each has its level and fix."""
    path = tmp_path / ".env"
    if text is not None:
        path.write_bytes(text.encode("latin-1"))
        path.chmod(0o600)
    (check,) = await machine.probe_env_file(DoctorTarget(env_file=path))
    assert check.level == level
    assert (fix or "") in (check.fix or "")
    assert (fix is None) == (check.fix is None)


@pytest.mark.parametrize(("mode", "deed"), [(0o644, "read"), (0o660, "change"), (0o604, "read")])
async def test_an_env_file_that_others_may_read(tmp_path: Path, mode: int, deed: str) -> None:
    """A complete file with rights of other users is a warning, with the command that takes them away."""
    path = tmp_path / ".env"
    path.write_text(FULL)
    path.chmod(mode)
    (check,) = await machine.probe_env_file(DoctorTarget(env_file=path))
    assert check.level == "warn"
    assert f"may {deed} {path}" in check.message
    assert check.fix == f"chmod 600 {path}"


async def test_an_env_file_that_is_a_folder(tmp_path: Path) -> None:
    """An env file that is a folder is a failure."""
    assert (await machine.probe_env_file(DoctorTarget(env_file=tmp_path)))[0].level == "fail"


@pytest.mark.parametrize(
    ("installed", "level", "words"),
    [
        ("project/.venv/lib/site-packages", "ok", "reads "),
        ("elsewhere/lib/site-packages", "warn", "does not read "),
        ("other/lib/site-packages", "warn", "instead of "),
    ],
)
async def test_the_env_file_that_the_sdk_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str, level: str, words: str
) -> None:
    """An env file that is not the nearest one above the SDK's folder is a warning with the commands that work."""
    (package := tmp_path / installed / "kaggle_benchmarks").mkdir(parents=True)
    (package / "__init__.py").touch()
    (tmp_path / "project").mkdir(exist_ok=True)
    (tmp_path / "project/.env").write_text(FULL)
    (tmp_path / "other").mkdir(exist_ok=True)
    (tmp_path / "other/.env").touch()
    spec = ModuleSpec("kaggle_benchmarks", None, origin=str(package / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)
    target = DoctorTarget(env_file=tmp_path / "project/.env")
    (check,) = await machine.probe_sdk_env_file(target)
    assert check.level == level
    assert words in check.message
    if level == "warn":
        assert check.fix == f"fanbench check --run FILE, or dotenv -f {target.env_file} run -- python FILE"
    assert await machine.probe_sdk_env_file(DoctorTarget(env_file=tmp_path / "none")) == []


# Importing the SDK here would change asyncio for all tests: it applies nest_asyncio.
@pytest.mark.skipif(find_spec("kaggle_benchmarks") is None, reason="The SDK is not installed.")
@pytest.mark.long
def test_dotenv_run_gives_the_sdk_the_env_file(tmp_path: Path) -> None:
    """With `dotenv run`, the real SDK has the model of the `.env` in the working folder."""
    (tmp_path / ".env").write_text("MODEL_PROXY_URL=http://p\nMODEL_PROXY_API_KEY=k\nLLM_DEFAULT=test/mine\n")
    (tmp_path / "task.py").write_text("import kaggle_benchmarks as kbench\nprint(kbench.llm.name)\n")
    dotenv = Path(sys.executable).with_name("dotenv")
    command = [str(dotenv), "run", "--", sys.executable, "task.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "test/mine" in done.stdout, done.stderr


# --- The local server ---


@pytest.mark.parametrize(("local", "level"), [(True, "fail"), (False, "warn")])
async def test_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch, local: bool, level: str) -> None:
    """Missing packages are a failure only if the local server is used."""
    monkeypatch.setattr(machine, "PACKAGES", ("anyio", "no-such-package"))
    (check,) = await machine.probe_packages(DoctorTarget(local=local))
    assert check.level == level
    assert "no-such-package" in check.message
    assert "anyio" not in check.message


@pytest.mark.parametrize(
    ("bwrap", "words"), [("/bin/bwrap", "is possible"), (None, "apt install bubblewrap")]
)
async def test_isolation(monkeypatch: pytest.MonkeyPatch, bwrap: str | None, words: str) -> None:
    """Doctor says whether runs are kept from other processes and, if not, why, and whether there can be containers."""
    failures = iter([None, "Operation not permitted"])

    async def failure_of(_code: str) -> str | None:
        return next(failures)

    monkeypatch.setattr(machine, "failure_of", failure_of)
    monkeypatch.setattr("shutil.which", lambda _name: bwrap)
    (kept,) = await machine.probe_isolation(DoctorTarget())
    assert (kept.level, words in kept.message) == ("ok", True)
    (seen,) = await machine.probe_isolation(DoctorTarget())
    assert seen.level == "warn"
    assert "Operation not permitted" in seen.message
    assert "--isolation container" in (seen.fix or "")


def test_every_package_of_the_extra_is_looked_for() -> None:
    """A package that the extra gains is one that doctor looks for; hishel and xllamacpp have checks of their own."""
    needed = map(Requirement, metadata.requires("fanbench") or ())
    extra = {each.name for each in needed if each.marker and each.marker.evaluate({"extra": "local"})}
    assert set(machine.PACKAGES) == extra - {"hishel", "xllamacpp"}


@pytest.mark.parametrize("hishel", ["2.0.1", "3.0"])
async def test_the_hishel_trap(monkeypatch: pytest.MonkeyPatch, hishel: str) -> None:
    """A version of hishel that breaks the SDK is named, with the command that fixes it."""
    versions = {"kaggle-benchmarks": "0.6.1", "hishel": hishel}
    monkeypatch.setattr(machine, "installed_version", versions.get)
    assert await machine.probe_sdk(DoctorTarget()) == [
        Check(
            "sdk",
            "fail",
            f"kaggle-benchmarks 0.6.1 cannot be imported with hishel {hishel}",
            "pip install 'hishel[httpx]>1.1.8,<2'",
        )
    ]


async def test_optional_packages_that_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing SDK or xllamacpp is a warning: Kaggle needs neither."""
    monkeypatch.setattr(machine, "installed_version", {}.get)
    for probe in (machine.probe_sdk, machine.probe_llama):
        assert (await probe(DoctorTarget()))[0].level == "warn"


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        ("", None),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("import os; os.kill(os.getpid(), 11)", "it ended with -11"),
    ],
)
async def test_a_library_that_crashes_is_probed_in_a_process(code: str, failure: str | None) -> None:
    """A library that kills its process does not kill doctor."""
    assert await machine.failure_of(code) == failure


async def test_a_slow_machine_is_not_said_to_be_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What does not end in time is a warning that names the time, and nothing is to be installed again."""
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    monkeypatch.setattr(machine, "_TRY_SECONDS", 0.5)
    checks: list[Check] = []

    async def probe(one: Probe) -> None:
        checks.extend(await one(DoctorTarget()))

    async with anyio.create_task_group() as tasks:
        for one in (machine.probe_sdk, machine.probe_llama, machine.probe_mounts, machine.probe_isolation):
            tasks.start_soon(probe, one)
    assert {check.name for check in checks} == {"sdk", "xllamacpp", "mounts", "isolation"}
    for check in checks:
        assert check.level == "warn"
        assert "takes more than 0.5 s" in check.message
        assert check.fix == "fanbench doctor, when it has less to do"


async def test_models(tmp_path: Path) -> None:
    """No models, a missing model file, an existing one and an invalid list have different results."""
    assert (await machine.probe_models(DoctorTarget(data=tmp_path)))[
        0
    ].fix == "fanbench models add smollm2 gemma3"
    listed = tmp_path / "models.toml"
    listed.write_text(f'[[model]]\nslug = "a/b"\nkind = "embedded"\npath = "{tmp_path}/m.gguf"\n')
    assert (await machine.probe_models(DoctorTarget(data=tmp_path)))[0].level == "fail"
    (tmp_path / "m.gguf").write_text("")
    assert (await machine.probe_models(DoctorTarget(data=tmp_path))) == [
        Check("local-models", "ok", "1 model: a/b")
    ]
    listed.write_text("nonsense")
    assert (await machine.probe_models(DoctorTarget(data=tmp_path)))[0].level == "fail"


async def test_the_data_folder(tmp_path: Path) -> None:
    """The data folder need not exist, but it must be possible to create it."""
    assert (await machine.probe_data_folder(DoctorTarget(data=tmp_path / "new/data")))[0].level == "ok"
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("")
    assert (await machine.probe_data_folder(DoctorTarget(data=tmp_path / "file")))[0].level == "fail"


async def test_packages_of_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The installer is named, with the room that its packages take; without one, doctor says what to install."""
    fake_uv(tmp_path, monkeypatch, "exit 1")
    (folder := tmp_path / "data/environments/0123/packages").mkdir(parents=True)
    (folder / "module.py").write_bytes(bytes(1_200_000))
    (found,) = await machine.probe_run_packages(DoctorTarget(data=tmp_path / "data"))
    assert (found.level, found.message) == (
        "ok",
        "uv installs the packages that task files ask for; 1 set of 1.2 MB may be deleted: "
        f"{tmp_path}/data/environments",
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pip", None)
    monkeypatch.setitem(sys.modules, "ensurepip", None)
    (missing,) = await machine.probe_run_packages(DoctorTarget(data=tmp_path))
    assert (missing.level, "install uv" in str(missing.fix)) == ("warn", True)


async def test_the_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port may be free, or in use by another program."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr("fanbench.local.settings.DEFAULT_PORT", taken.getsockname()[1])
        (busy,) = await machine.probe_port(DoctorTarget(data=tmp_path))
    (free,) = await machine.probe_port(DoctorTarget(data=tmp_path))
    assert (busy.level, free.level) == ("warn", "ok")
    assert busy.fix == "fanbench serve --any-port"


# --- All of it ---


@pytest.mark.parametrize(
    "anyio_backend", ["asyncio"]
)  # one of the checks imports the SDK, which takes seconds
async def test_all_checks_are_reported_in_order(tmp_path: Path, reported: Reported) -> None:
    """On this machine nothing fails; each check is reported in order, and doctor leaves no file behind."""
    with FakeServer({"IntrospectToken": [Answer(KNOWN)]}) as server:
        target = DoctorTarget(
            endpoint=server.url,
            token=TOKEN,
            data=tmp_path / "data",
            env_file=tmp_path / ".env",
            env={},
            home=tmp_path,
        )
        checks = await examine(target, emit=reported)
    assert [check.name for check in checks] == [
        "python",
        "fanbench",
        "credentials",
        "endpoint",
        "account",
        "env-file",
        "local-extra",
        "sdk",
        "xllamacpp",
        "local-models",
        "data-folder",
        "run-packages",
        "mounts",
        "isolation",
        "port",
    ]
    assert [event.check for event in reported if isinstance(event, Checked)] == checks
    assert all(check.level != "fail" for check in checks), checks
    assert all(check.fix for check in checks if check.level != "ok")
    assert os.listdir(tmp_path) == []
