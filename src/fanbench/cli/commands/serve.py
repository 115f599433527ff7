"""`fanbench serve` and `fanbench stop`: the local server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fanbench.cli.exits import end_line

if TYPE_CHECKING:
    from fanbench.errors import LocalServerError
    from fanbench.local.serve import Address

_EXAMPLES = """
\b
Examples:
  fanbench serve                                  on 127.0.0.1:7777, until Ctrl-C
  fanbench serve --workers 4 --run-timeout 300    four notebooks at a time, five minutes each
  fanbench serve --data ./bench --port 0          state in ./bench, any free port
  fanbench serve --datasets ./datasets            ./datasets/OWNER/SLUG can be attached with -d OWNER/SLUG
"""


class _Terminal:
    """Tells the person who typed `fanbench serve`."""

    def listening(self, address: Address) -> None:
        click.echo(f"fanbench is listening on {address.url}")
        click.echo(f"Token file: {address.token_file}")
        click.echo(f"Use it:     fanbench tasks list --local     (or --endpoint {address.url})")
        click.echo("Stop it:    Ctrl-C, or `fanbench stop`")

    def trouble(self, error: LocalServerError) -> None:
        click.echo(f"warning: runs cannot be started: {error}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)


@click.command(epilog=_EXAMPLES)
@click.option(
    "--data", type=click.Path(path_type=Path), metavar="DIR", help="State, runs and models.  [FANBENCH_DATA]"
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=7777, show_default=True, help="0: any free port."
)
@click.option("--any-port", is_flag=True, help="Take another port where that one is in use.")
@click.option(
    "--workers", type=click.IntRange(1), help="Notebooks that run at the same time.  [default: the cores]"
)
@click.option(
    "--isolation",
    type=click.Choice(["fork", "process"]),
    default="fork",
    show_default=True,
    help="fork: from a parent that has imported the SDK. process: a new Python a run, ten times slower.",
)
@click.option(
    "--run-timeout", type=click.FloatRange(1), default=3600, show_default=True, help="Seconds a run may take."
)
@click.option(
    "--run-memory", type=click.IntRange(256), default=4096, show_default=True, help="MB a run may take."
)
@click.option("--run-env", multiple=True, metavar="NAME", help="A variable that runs may see. Repeat it.")
@click.option(
    "--log-limit", type=click.IntRange(1), default=256, show_default=True, help="MB of a run's log kept."
)
@click.option(
    "--datasets",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Holds OWNER/SLUG folders.",
)
@click.option(
    "--model-idle",
    type=click.FloatRange(1),
    default=600,
    show_default=True,
    help="Seconds until an idle model is unloaded.",
)
@click.option(
    "--idle-timeout",
    type=click.FloatRange(1),
    help="End after so many seconds without work.  [default: never]",
)
def serve(
    data: Path | None,
    host: str,
    port: int,
    any_port: bool,
    workers: int | None,
    isolation: str,
    run_timeout: float,
    run_memory: int,
    run_env: tuple[str, ...],
    log_limit: int,
    datasets: Path | None,
    model_idle: float,
    idle_timeout: float | None,
) -> None:
    """Run the local server: the Kaggle Benchmarks API, task files with the real SDK, real models, offline.

    Task files are Python code: whoever has the token can run code as you. The server listens on this machine
    only, unless --host says otherwise.
    """
    import anyio

    from fanbench.local.serve import serve as serve_
    from fanbench.local.settings import Settings

    if host not in ("127.0.0.1", "::1", "localhost"):
        click.echo(
            f"warning: {host} can be reached from elsewhere; who has the token runs code as you", err=True
        )
    given = {"data": data, "workers": workers}
    settings = Settings(
        host=host,
        port=port,
        any_port=any_port,
        isolation="process" if isolation == "process" else "fork",
        run_timeout=run_timeout,
        run_memory_mb=run_memory,
        run_environment=run_env,
        log_limit_mb=log_limit,
        datasets=datasets,
        model_idle=model_idle,
        idle_timeout=idle_timeout,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]
    )
    anyio.run(serve_, settings, _Terminal())
    end_line()


@click.command(epilog="\b\nExamples:\n  fanbench stop\n  fanbench stop --data ./bench")
@click.option("--data", type=click.Path(path_type=Path), metavar="DIR", help="The server's data folder.")
def stop(data: Path | None) -> None:
    """Stop the local server. Runs that are under way start over when a server takes up its data folder again."""
    import anyio

    from fanbench.local.launcher import stop_server

    pid = anyio.run(stop_server, data)
    click.echo("No local server is running." if pid is None else f"Stopped the local server (process {pid}).")
