"""Commands in hints have the flags of the server in use."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from fanbench.cli.command import Settings
from fanbench.cli.commands.local_models import models
from fanbench.local.folder import DataFolder
from fanbench.local.settings import data_flag


@pytest.mark.parametrize(
    ("hint", "wanted"),
    [
        ("See: fanbench tasks models", "See: fanbench tasks models --local"),
        ("Check; `fanbench tasks list` shows them.", "Check; `fanbench tasks list --local` shows them."),
        (
            "fanbench tasks status a; fanbench tasks status b",
            "fanbench tasks status a --local; fanbench tasks status b --local",
        ),
        ("Renew it: fanbench auth -y.", "Renew it: fanbench auth -y --local."),
        ("`fanbench models add smollm2` adds one", "`fanbench models add smollm2` adds one"),
        ("fanbench init", "fanbench init --local"),
        ("nothing to type", "nothing to type"),
    ],
)
def test_commands_in_hints_get_the_flags(hint: str, wanted: str) -> None:
    """Commands that use a server get its flags, and all other text stays as it is."""
    assert Settings(local=True).on_this_server(hint) == wanted
    assert Settings().on_this_server(hint) == hint


def test_commands_on_the_data_folder_get_its_flag() -> None:
    """Commands that work on the folder, not through a server, get --data and no other flag, and only once."""
    settings = Settings(local=True, data=Path("/d"))
    hint = "Run `fanbench models add smollm2`, then `fanbench stop --data /d`."
    assert settings.on_this_server(hint) == (
        "Run `fanbench models add smollm2 --data /d`, then `fanbench stop --data /d`."
    )


def test_a_folder_in_a_hint_is_not_named_again() -> None:
    """A hint that was written where the folder is known has its absolute path, and keeps it."""
    hint = "Run `fanbench serve --data /srv/d` with the options that runs need."
    assert Settings(local=True, data=Path("d")).on_this_server(hint) == hint


def test_a_data_folder_is_named_without_detours(tmp_path: Path) -> None:
    """`..` in `--data` is resolved as the system does it, behind a symbolic link, too."""
    (tmp_path / "far/away").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "far/away")
    assert data_flag(tmp_path / "link/../data") == f" --data {tmp_path / 'far/data'}"
    assert DataFolder(tmp_path / "far/../data").flag == f" --data {tmp_path / 'data'}"
    assert data_flag(tmp_path / "link") == f" --data {tmp_path / 'link'}"


def test_models_list_writes_nothing(tmp_path: Path) -> None:
    """Listing the models does not create the data folder, which may not be possible."""
    done = CliRunner().invoke(models, ["list", "--data", str(tmp_path / "data")])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "data").exists()


def test_folders_in_hints_can_be_typed() -> None:
    """A path with a space is quoted."""
    settings = Settings(local=True, data=Path("my data"))
    assert settings.fanbench_command("tasks list") == "fanbench tasks list --local --data 'my data'"
