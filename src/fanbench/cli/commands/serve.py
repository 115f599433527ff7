"""`fanbench serve` and `fanbench stop`: the local server."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import click
from click.core import ParameterSource

from fanbench.cli.options import AT_LEAST_1, FOLDER, data_option, value_option
from fanbench.errors import UsageError
from fanbench.local.executor import Isolation
from fanbench.local.state.database_url import DATABASE_VARIABLE, check_database_url

__all__ = ["serve", "stop"]

_RAY_PORT = 6379
_SECONDS = click.FloatRange(1)

_EXAMPLES = """
\b
Examples:
  fanbench serve                                  on 127.0.0.1:7777, until Ctrl-C
  fanbench serve --workers 4 --run-timeout 300    four notebooks at a time, five minutes each
  fanbench serve --data ./bench --port 0          state in ./bench, any free port
  fanbench serve --requirements needed.txt        runs can also import the packages in needed.txt
  fanbench serve --datasets ./datasets            ./datasets/OWNER/SLUG can be attached with -d OWNER/SLUG
  fanbench serve --files s3://bucket/lab          keep outputs in an object store
  fanbench serve --record answers                 keep what models answer in ./answers
  fanbench serve --replay answers                 answer the same requests again, offline and without keys
  fanbench serve --engine ray://10.0.0.1:6379 --host 0.0.0.0
                                                  runs on the machines of a Ray cluster
  fanbench serve --faults flaky                   a server on a bad day, for tests (docs/faults.md)
  fanbench serve --model-alias '*=test/echo'      test/echo answers for every model that the server does not have
"""


def _read_aliases(
    _ctx: click.Context, _param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    pairs: dict[str, str] = {}
    for value in values:
        name, _, model = (part.strip() for part in value.partition("="))
        if not name or not model:
            raise UsageError(
                f"--model-alias {value!r} is not NAME=MODEL.",
                hint="Write for instance --model-alias 'google/gemini-2.5-flash=smollm2-135m-instruct'.",
            )
        if pairs.setdefault(name, model) != model:
            raise UsageError(
                f"--model-alias names two models for {name}: {pairs[name]} and {model}.",
                hint="Give each name one model.",
            )
    return tuple(pairs.items())


def _read_engine(_ctx: click.Context, _param: click.Parameter, value: str) -> str:
    if value in ("local", "ray"):
        return value
    try:
        parts = urlsplit(value)
        named = parts.scheme == "ray" and parts.hostname and parts.netloc == value.removeprefix("ray://")
        if named and "@" not in value:
            return value if parts.port else f"{value.rstrip(':')}:{_RAY_PORT}"
    except ValueError:
        pass  # the port is no number, or the address is no address
    raise UsageError(
        f"--engine {value!r} is neither local, ray nor ray://HOST:PORT.",
        hint=f"For a cluster, name the head's address and its port, which is {_RAY_PORT} by default.",
    )


def _check_database(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    return value if value is None else check_database_url(value)


@click.command(epilog=_EXAMPLES)
@value_option("--data", "DIR", "The folder for state, runs and models.  [env: FANBENCH_DATA]", FOLDER)
@value_option(
    "--database",
    "URL",
    "Keep the state in the PostgreSQL database postgresql://USER@HOST/NAME.  [default: SQLite in the data folder; env: "
    f"{DATABASE_VARIABLE}, where others do not see a password]",
    envvar=DATABASE_VARIABLE,
    callback=_check_database,
)
@value_option("--host", "ADDRESS", "The address to listen on.", default="127.0.0.1", show_default=True)
@value_option(
    "--allow-host allowed_hosts",
    "NAME",
    "A name by which clients may call the server, besides those of --host and --advertise, addresses and localhost. "
    "Repeatable.",
    multiple=True,
)
@value_option(
    "--advertise",
    "URL|HOST[:PORT]",
    "Where runs and clients on other machines reach this server, such as through a reverse proxy.  [default: where it "
    "listens]",
)
@value_option(
    "--port",
    "PORT",
    "The port; 0 is any free port.",
    click.IntRange(0, 65535),
    default=7777,
    show_default=True,
)
@click.option("--any-port", is_flag=True, help="Use another port if the port is in use.")
@value_option(
    "--engine",
    "ENGINE",
    "What carries out runs. local: this machine. ray: this machine, by a Ray of the server's own. ray://HOST:PORT: the "
    "Ray cluster with that head (docs/cluster.md).",
    default="local",
    show_default=True,
    callback=_read_engine,
)
@value_option(
    "--workers",
    "N",
    "The number of notebooks to run at a time; on a cluster, those that wait in its queue count as well.  [default: "
    "the number of cores; on a cluster 10,000]",
    AT_LEAST_1,
)
@value_option(
    "--proxy-workers",
    "N",
    "The number of processes that answer requests to models, on a port of their own. With 0, the server answers them.",
    click.IntRange(0, 64),
    default=0,
    show_default=True,
)
@value_option(
    "--proxy-port",
    "PORT",
    "The port of these processes; 0 is any free port.  [default: the one after --port]",
    click.IntRange(0, 65535),
)
@click.option(
    "--isolation",
    type=click.Choice(get_args(Isolation)),
    default="fork",
    show_default=True,
    help="fork: runs are forked from a process that has imported the SDK. process: a new Python for each run, which "
    "starts ten times slower. container: as process, in a container of bubblewrap, which must be installed.",
)
@value_option(
    "--run-timeout", "SECONDS", "The time limit for a run.", _SECONDS, default=3600, show_default=True
)
@value_option(
    "--run-memory run_memory_mb",
    "MB",
    "The memory limit for each process of a run, and for all of them.",
    click.IntRange(256),
    default=4096,
    show_default=True,
)
@value_option(
    "--run-disk run_disk_mb",
    "MB",
    "The limit for the room that the files of a run take.",
    AT_LEAST_1,
    default=20480,
    show_default=True,
)
@value_option(
    "--run-env run_environment",
    "NAME",
    "An environment variable that runs can see. Repeatable.",
    multiple=True,
)
@value_option(
    "--log-limit log_limit_mb",
    "MB",
    "How much of a run's log is kept.",
    AT_LEAST_1,
    default=256,
    show_default=True,
)
@value_option(
    "--requirements",
    "FILE",
    "A requirements file: packages for all runs, installed with uv or pip into the data folder.",
    click.Path(path_type=Path, exists=True, dir_okay=False),
)
@value_option(
    "--datasets",
    "DIR",
    "A folder of OWNER/SLUG folders with datasets.  [default: datasets in the data folder]",
    click.Path(path_type=Path, exists=True, file_okay=False),
)
@value_option(
    "--files",
    "URL",
    "Where outputs of runs go, such as s3://BUCKET/PREFIX or file:///FOLDER (docs/cluster.md).  [default: the data "
    "folder]",
)
@value_option(
    "--model-idle",
    "SECONDS",
    "Unload a model that has been idle for this long.",
    _SECONDS,
    default=600,
    show_default=True,
)
@value_option(
    "--model-alias model_aliases",
    "NAME=MODEL",
    "Let MODEL answer tasks that ask for the model NAME, which may be a pattern such as '*'. Repeatable.",
    multiple=True,
    callback=_read_aliases,
)
@value_option(
    "--record",
    "DIR",
    "Keep the answers of models in DIR, one file per request, without keys.",
    click.Path(path_type=Path, file_okay=False),
)
@value_option(
    "--replay",
    "DIR",
    "Answer from what --record has kept in DIR, without asking the models. Other requests fail.",
    click.Path(path_type=Path, exists=True, file_okay=False),
)
@value_option(
    "--judge", "MODEL", "The model behind judge_llm, unless a run names one.  [default: as models.toml says]"
)
@value_option(
    "--stop-timeout",
    "SECONDS",
    "How long runs in progress may continue when the server is stopped. The next server starts those that have not "
    "ended over.",
    click.FloatRange(0),
    default=5,
    show_default=True,
)
@value_option(
    "--faults",
    "FILE|PRESET",
    "Let answers fail on purpose, to test what uses them: as a TOML file says, or rate-limited, flaky, dying or "
    "hostile. The next server has no faults, even with --last-options.",
)
@click.option(
    "--last-options",
    is_flag=True,
    help="Where an option is not given, use that of the last `fanbench serve` on this data folder, as --local does.",
)
@value_option("--idle-timeout", "SECONDS", "Stop after this long without work.  [default: never]", _SECONDS)
@click.pass_context
def serve(ctx: click.Context, /, last_options: bool, **options: Any) -> None:
    """Run the local server: the Kaggle Benchmarks API on this machine, with the real SDK and real models, offline.

    Task files are Python code, and anyone who has the server's token can run code as you. Unless --host says
    otherwise, only this machine can reach the server.

    A server that --local starts on the same data folder later has the options of this one, except those that say where
    it listens and when it stops. With --engine ray://HOST:PORT, it has --host and --advertise, too.
    """
    from fanbench.cli.views.serve import run_server

    chosen = (name for name in options if ctx.get_parameter_source(name) is not ParameterSource.DEFAULT)
    run_server({name: options[name] for name in chosen}, last_options=last_options)


@click.command(epilog="\b\nExamples:\n  fanbench stop\n  fanbench stop --data ./bench")
@data_option
def stop(data: Path | None) -> None:
    """Stop the local server.

    Runs in progress may continue for a few seconds (`serve --stop-timeout`). Those that have not ended then start over
    when the server is started again.
    """
    import anyio

    from fanbench.local.launcher import stop_server

    pid = anyio.run(stop_server, data, _stopping)
    click.echo("No local server is running." if pid is None else f"Stopped the local server (process {pid}).")


def _stopping(pid: int, stop_timeout: float) -> None:
    click.echo(f"Stopping the local server (process {pid}): runs in progress have {stop_timeout:g} s to end.")
