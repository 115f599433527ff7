"""`fanbench init`."""

from __future__ import annotations

from pathlib import Path

import click

from fanbench.cli.command import Settings, command
from fanbench.cli.options import FILE, FOLDER, env_file_option, value_option, yes_option

__all__ = ["init"]


@command()
@yes_option
@env_file_option("The env file (default: .env). Other values in it are kept.")
@value_option(
    "--example-file",
    "FILE",
    "The example task, FILE.py or FILE.ipynb (default: example_task.py). The reference is written next to it.",
    FILE,
    default=Path("example_task.py"),
)
@value_option(
    "--skill",
    "DIR",
    "Also write instructions for coding agents to DIR/fanbench/SKILL.md, even without credentials.",
    FOLDER,
)
@click.option("--all-models", is_flag=True, help="List all models of the server, not a short choice of them.")
def init(
    settings: Settings,
    yes: bool,
    env_file: Path,
    example_file: Path,
    skill: Path | None,
    all_models: bool,
) -> None:
    """Set up a folder for benchmark tasks.

    Writes Model Proxy credentials and a choice of models to .env, and creates an example task and a reference of the
    task syntax. Of a long list, the choice has one fast model of each owner. Models that you have chosen in .env are
    kept as long as the server offers them. Existing files are never overwritten.

    \b
    Examples:
      fanbench init -y
      fanbench init --local
      fanbench init --env-file settings.env --example-file first_task.py
    """
    from fanbench.cli.views.environment import initialize

    initialize(settings, env_file, example_file, yes=yes, all_models=all_models, skills=skill)
