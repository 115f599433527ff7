"""`fanbench init`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench.cli.command import Settings, Verb, pass_settings
from fanbench.cli.output import bold
from fanbench.cli.session import call
from fanbench.cli.views.environment import env_file_option, offer, yes_option

if TYPE_CHECKING:
    from fanbench.operations.environment import Written

__all__ = ["init"]


@click.command(cls=Verb)
@yes_option
@env_file_option
@click.option(
    "--example-file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("example_task.py"),
    metavar="FILE",
    help="The example task (default: example_task.py); the reference goes beside it.",
)
@pass_settings
def init(settings: Settings, yes: bool, env_file: Path, example_file: Path) -> None:
    """Set a folder up for benchmark tasks: Model Proxy credentials and models in .env, an example, a reference.

    Values in .env that you have chosen are kept as long as the server still has those models. Files that are
    there are left alone.

    \b
    Examples:
      fanbench init -y
      fanbench init --local
      fanbench init --env-file settings.env --example-file first_task.py
    """
    from fanbench.operations.env_file import ensure_writable, read_env_file
    from fanbench.operations.environment import fetch_credentials, fetch_environment, write_starters

    out = settings.output
    out.note(f"Initializing Kaggle Benchmarks environment\n  Target:  {env_file.absolute()}\n")
    ensure_writable(env_file)
    current = read_env_file(env_file)
    values = call(settings, lambda client: fetch_environment(client, current))
    offer(out, values, env_file, yes=yes, renew=partial(call, settings, fetch_credentials))
    _show(settings, env_file, example_file, write_starters(example_file))


def _show(settings: Settings, env_file: Path, example: Path, written: list[Written]) -> None:
    from fanbench.operations.environment import EXAMPLE_TASK

    out = settings.output
    meanings = ("(Starter template)", "(Syntax guide)")
    rows = [(env_file.name, "(API keys & configuration)")]
    rows += [
        (file.path.name, "(there already, left alone)" if file.existed else meaning)
        for file, meaning in zip(written, meanings, strict=True)
    ]
    width = max(len(name) for name, _ in rows) + 3
    out.note("\nEnvironment initialized!\n")
    for name, meaning in rows:
        out.note(f"  {name:<{width}}{meaning}")
    out.note("\nNext step:\n  Run your first task using the example file:")
    out.note(f"  $ {bold(settings.command(f'tasks push {EXAMPLE_TASK} -f {example} --wait'))}")
