"""`fanbench skill`."""

from __future__ import annotations

from importlib.resources import files

import click

from fanbench.cli.command import Settings, command

__all__ = ["skill"]


@command()
def skill(settings: Settings) -> None:
    """Print instructions for coding agents that write and run benchmarks with fanbench.

    \b
    Examples:
      fanbench skill > SKILL.md
    """
    click.echo(files("fanbench.cli").joinpath("SKILL.md").read_text("utf-8"), nl=False)
