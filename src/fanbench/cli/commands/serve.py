"""`fanbench serve` and `fanbench stop`: the local server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fanbench.cli.options import data_option

__all__ = ["serve", "stop"]

_EXAMPLES = """
\b
Examples:
  fanbench serve                                  on 127.0.0.1:7777, until Ctrl-C
  fanbench serve --workers 4 --run-timeout 300    four notebooks at a time, five minutes each
  fanbench serve --data ./bench --port 0          state in ./bench, any free port
  fanbench serve --datasets ./datasets            ./datasets/OWNER/SLUG can be attached with -d OWNER/SLUG
"""


@click.command(epilog=_EXAMPLES)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder for state, runs and models.  [env: FANBENCH_DATA]",
)
@click.option(
    "--host", metavar="ADDRESS", default="127.0.0.1", show_default=True, help="The address to listen on."
)
@click.option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    default=7777,
    show_default=True,
    help="The port; 0 is any free port.",
)
@click.option("--any-port", is_flag=True, help="Use another port if the port is in use.")
@click.option(
    "--workers",
    metavar="N",
    type=click.IntRange(1),
    help="The number of notebooks to run at a time.  [default: the number of cores]",
)
@click.option(
    "--isolation",
    type=click.Choice(["fork", "process"]),
    default="fork",
    show_default=True,
    help="fork: runs are forked from a process that has imported the SDK. process: a new Python for each run, which "
    "starts ten times slower.",
)
@click.option(
    "--run-timeout",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=3600,
    show_default=True,
    help="The time limit for a run.",
)
@click.option(
    "--run-memory",
    "run_memory_mb",
    metavar="MB",
    type=click.IntRange(256),
    default=4096,
    show_default=True,
    help="The memory limit for a run.",
)
@click.option(
    "--run-env",
    "run_environment",
    multiple=True,
    metavar="NAME",
    help="An environment variable that runs can see. Repeatable.",
)
@click.option(
    "--log-limit",
    "log_limit_mb",
    metavar="MB",
    type=click.IntRange(1),
    default=256,
    show_default=True,
    help="How much of a run's log is kept.",
)
@click.option(
    "--datasets",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="A folder of OWNER/SLUG folders with datasets.",
)
@click.option(
    "--model-idle",
    metavar="SECONDS",
    type=click.FloatRange(1),
    default=600,
    show_default=True,
    help="Unload a model that has been idle for this long.",
)
@click.option(
    "--idle-timeout",
    metavar="SECONDS",
    type=click.FloatRange(1),
    help="Stop after this long without work.  [default: never]",
)
def serve(**options: Any) -> None:
    """Run the local server: the Kaggle Benchmarks API on this machine, with the real SDK and real models, offline.

    Task files are Python code, and anyone who has the server's token can run code as you. Unless --host says
    otherwise, only this machine can reach the server.
    """
    from fanbench.cli.views.serve import run_server

    run_server(options)


@click.command(epilog="\b\nExamples:\n  fanbench stop\n  fanbench stop --data ./bench")
@data_option
def stop(data: Path | None) -> None:
    """Stop the local server. Runs in progress start over when the server is started again."""
    import anyio

    from fanbench.local.launcher import stop_server

    pid = anyio.run(stop_server, data)
    click.echo("No local server is running." if pid is None else f"Stopped the local server (process {pid}).")
