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
      fanbench skill
      fanbench init --skill .claude/skills
    """
    text = (files("fanbench.operations") / "texts" / "SKILL.md").read_text(encoding="utf-8")
    click.echo(text, nl=False)
