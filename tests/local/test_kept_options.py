"""The options of the last server on a data folder: kept, used by the next one, and replaced."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fanbench import Client, resolve_config
from fanbench._util.text import error_line
from fanbench.cli.commands.serve import serve
from fanbench.cli.views.serve import merge_settings
from fanbench.errors import LocalServerError, UsageError
from fanbench.local.address import find_server
from fanbench.local.folder import DataFolder
from fanbench.local.kept_options import flags_of, read_options, save_options
from fanbench.local.launcher import ensure_server, stop_server
from fanbench.local.settings import ServerSettings

from .server_process import run_server

words = st.text(st.characters(exclude_categories=["C"]), min_size=1)
numbers = st.integers(1, 10_000)
ADDRESSES: dict[str, Any] = {"host": "0.0.0.0", "advertise": "127.0.0.9"}
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "judge": words,
        "model_aliases": st.lists(st.tuples(words, words)).map(tuple),
        "datasets": words.map(Path),
        "record": words.map(Path),
        "replay": words.map(Path),
        "requirements_file": words.map(Path),
        "requirements": st.lists(words).map(tuple),
        "isolation": st.sampled_from(["fork", "process"]),
        "run_timeout": st.floats(1, 1e9),
        "run_memory_mb": numbers,
        "run_environment": st.lists(words).map(tuple),
        "log_limit_mb": numbers,
        "engine": st.sampled_from(["ray", "ray://10.0.0.1:6379"]),
        "workers": numbers,
        "stop_timeout": st.floats(0, 1e9),
        "model_idle": st.floats(1, 1e9),
    },
)


@pytest.mark.parametrize(
    "written", ["ray://", "ray://h:x", "ray://h/x", "ray://u@h:1", "ray://h:99999", "ray://[::1", "dask", ""]
)
def test_an_engine_that_is_none(written: str) -> None:
    """Whatever is no engine is refused with the ways to write one."""
    outcome = CliRunner().invoke(serve, ["--engine", written])
    assert isinstance(outcome.exception, UsageError)
    assert "is neither local, ray nor ray://HOST:PORT" in str(outcome.exception)


@given(SETTINGS)
def test_options_are_read_as_they_were_saved(given: dict[str, object]) -> None:
    """All options that decide what runs see come back unchanged, from a file for its owner only."""
    with tempfile.TemporaryDirectory() as root:
        folder = DataFolder(Path(root))
        settings = ServerSettings(data=folder.root, **given)  # type: ignore[arg-type]
        save_options(folder, settings)
        assert read_options(folder) == settings
        assert folder.options_file.stat().st_mode & 0o777 == 0o600


def test_a_process_has_an_address_of_its_own(tmp_path: Path) -> None:
    """Where a server listens and when it ends is not kept."""
    folder = DataFolder(tmp_path)
    save_options(folder, ServerSettings(host="::1", port=1, any_port=True, idle_timeout=2.0))
    assert read_options(folder) == ServerSettings(data=tmp_path)


@pytest.mark.parametrize(("engine", "kept"), [("ray://h:1", True), ("ray", False), ("local", False)])
def test_workers_of_a_cluster_reach_the_next_server(tmp_path: Path, engine: str, kept: bool) -> None:
    """Where the server listens and what it advertises is kept for an engine on other machines, and for no other."""
    folder = DataFolder(tmp_path)
    save_options(folder, ServerSettings(engine=engine, port=1, any_port=True, **ADDRESSES))
    expected = ServerSettings(data=tmp_path, engine=engine, **(ADDRESSES if kept else {}))
    assert merge_settings(folder, {}) == expected
    assert ("--advertise" in flags_of(expected)) == kept
    here = merge_settings(folder, {"engine": "local"})
    assert here == ServerSettings(data=tmp_path)
    assert merge_settings(folder, {"engine": "local", "host": "::"}) == replace(here, host="::")


def test_options_are_shown_as_they_are_typed() -> None:
    """The words of an option can be typed again, with quotes where the shell needs them."""
    settings = ServerSettings(
        judge="test/four",
        model_aliases=(("*", "test/four"), ("b", "test/wrong")),
        requirements_file=Path("/my needs.txt"),
        requirements=("roman",),
        run_timeout=300.0,
    )
    assert shlex.split(" ".join(flags_of(settings).values())) == [
        *("--judge", "test/four", "--model-alias", "*=test/four", "--model-alias", "b=test/wrong"),
        *("--requirements", "/my needs.txt", "--run-timeout", "300"),
    ]


@pytest.mark.parametrize("content", ["", "[]", '{"judge": 1}', '{"datasets": 1}', '{"gpu": true}'])
def test_a_file_that_is_not_understood_is_an_error(tmp_path: Path, content: str) -> None:
    """Options that cannot be read are not dropped: the error names the file and the command that replaces them."""
    folder = DataFolder(tmp_path)
    folder.options_file.write_text(content)
    with pytest.raises(LocalServerError, match=r"serve\.json") as caught:
        read_options(folder)
    assert f"`fanbench serve --data {tmp_path}`" in str(caught.value.hint)


@pytest.mark.anyio
@pytest.mark.e2e
async def test_the_next_server_has_the_options_of_the_last(tmp_path: Path) -> None:
    """`--local` starts a server with the options of the last `serve` and says which; a `serve` without drops them."""
    data, datasets = tmp_path / "my data", tmp_path / "some sets"
    (datasets / "me/words").mkdir(parents=True)
    (tmp_path / "reads.py").write_text("print(1)\n")
    with run_server(
        data, "--judge", "wrong", "--model-alias", "*=test/four", "--datasets", "some sets", runs=False
    ):
        pass
    kept = f"--judge wrong --model-alias '*=test/four' --datasets '{datasets}' --isolation process"

    def fanbench(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fanbench", *words, "--local", "--data", str(data)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60)

    try:
        first = fanbench("tasks", "list")
        server = find_server(data)
        assert server is not None
        async with Client(resolve_config(endpoint=server.url, token=server.token, env={})) as client:
            versions = [model.version for model in await client.list_models() if model.version]
        check = fanbench("check", "--run", str(tmp_path / "reads.py"), "-d", "me/others")
    finally:
        await stop_server(data)
    assert f"with the options of the last `fanbench serve`: {kept} (it stops" in first.stderr
    assert {each.slug: each.aliases for each in versions if each.aliases} == {"four": ["*"]}
    assert f"There is no dataset me/others below {datasets}." in check.stderr
    with run_server(data, "--judge", "test/four", runs=False), anyio.fail_after(60):
        while "apply" not in (said := (tmp_path / "my data.out").read_text()):
            await anyio.sleep(0.02)
    assert f"do not apply any more: --model-alias '*=test/four' --datasets '{datasets}'\n" in said
    assert flags_of(read_options(DataFolder(data))) == {
        "--judge": "--judge test/four",
        "--isolation": "--isolation process",
    }


@pytest.mark.anyio
@pytest.mark.e2e
async def test_the_error_of_a_server_that_does_not_start(tmp_path: Path) -> None:
    """The server's own error is the last line of the message, where a sweep looks for it, and its hint is a hint."""
    folder = DataFolder(tmp_path / "data")
    folder.root.mkdir()
    save_options(folder, ServerSettings(engine="ray://127.0.0.1:9", **ADDRESSES))
    with pytest.raises(LocalServerError) as caught:
        await ensure_server(folder.root)
    assert error_line(str(caught.value)) == (
        "The local server did not start: There is no Ray cluster at 127.0.0.1:9: Connection refused."
    )
    assert str(caught.value.hint).startswith("Name the head's address and port, as `ray start ")
    assert "It has the options of the last server on this data folder: --" in str(caught.value.hint)


@pytest.mark.e2e
def test_a_kept_option_that_cannot_be_met_starts_no_server(tmp_path: Path) -> None:
    """If the judge of the last server is gone, `--local` fails and names it, rather than run without."""
    folder = DataFolder(tmp_path / "data")
    folder.root.mkdir()
    save_options(folder, ServerSettings(judge="test/gone"))
    command = [sys.executable, "-m", "fanbench", "tasks", "list", "--local", "--data", str(folder.root)]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert refused.returncode == 1
    assert "--judge test/gone: this server has no model test/gone" in refused.stderr
    assert "the last server on this data folder: --judge test/gone. Run `fanbench serve" in refused.stderr
