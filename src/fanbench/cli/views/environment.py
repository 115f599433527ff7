"""What `fanbench init` and `fanbench auth` show, ask and write."""

from __future__ import annotations

import importlib.util
import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from fanbench.cli.command import Settings
from fanbench.cli.output import Output, bold
from fanbench.cli.prompts import confirm
from fanbench.cli.session import call
from fanbench.errors import FanbenchError
from fanbench.operations.env_file import ensure_writable, exposure, read_env_file, write_env_file
from fanbench.operations.environment import (
    EXAMPLE_TASK,
    REFERENCE_NAME,
    Written,
    ensure_starters_writable,
    expiry_phrase,
    fetch_credentials,
    fetch_environment,
    nearly_over,
    write_skill,
    write_starters,
)

__all__ = ["initialize", "offer", "renew_credentials"]

_LABEL_WIDTH = 17


def renew_credentials(settings: Settings, env_file: Path, *, yes: bool) -> None:
    ensure_writable(env_file)
    renew = partial(call, settings, fetch_credentials)
    offer(settings.output, renew(), env_file, yes=yes, renew=renew)
    settings.output.note(f"Environment variables have been written to {env_file.absolute()}.")


def initialize(
    settings: Settings,
    env_file: Path,
    example_file: Path,
    *,
    yes: bool,
    all_models: bool,
    skills: Path | None,
) -> None:
    out = settings.output
    out.note(f"Initializing Kaggle Benchmarks environment\n  Target:  {env_file.absolute()}\n")
    # First, because it needs neither the server nor the user's consent.
    skill = write_skill(skills) if skills is not None else None
    try:
        _write_environment(settings, env_file, example_file, yes=yes, all_models=all_models)
    except FanbenchError as error:
        if skill is not None:
            left = f"{env_file}, {example_file} and {REFERENCE_NAME}"
            state = "was there already" if skill.existed else "has been written"
            error.add_note(f"{skill.path} {state}. This is left of init: {left}.")
        raise
    starters = write_starters(example_file)
    out.note("\nEnvironment initialized!\n")
    _list_files(out, env_file, [*starters, *filter(None, [skill])])
    steps = [("Find errors in the example file", f"check {example_file}")]
    if importlib.util.find_spec("kaggle_benchmarks") is not None:
        steps.append(("Run it once on this machine", f"check {example_file} --run"))
    steps.append(("Push it as your first task", f"tasks push {EXAMPLE_TASK} -f {example_file} --wait"))
    out.note("\nNext steps:")
    for step, words in steps:
        out.note(f"  {step}:\n  $ {bold(settings.fanbench_command(words))}")


def _write_environment(
    settings: Settings, env_file: Path, example_file: Path, *, yes: bool, all_models: bool
) -> None:
    out = settings.output
    ensure_writable(env_file)
    ensure_starters_writable(example_file)
    current = read_env_file(env_file)
    fetched = call(settings, lambda client: fetch_environment(client, current, all_models=all_models))
    if fetched.problem is not None:
        hint = settings.on_this_server(fetched.problem.hint or "")
        again = "The credentials are written without models; run this again later to add them."
        out.warn(str(fetched.problem), *filter(None, [hint]), again)
    offer(out, fetched.variables, env_file, yes=yes, renew=partial(call, settings, fetch_credentials))


def _list_files(out: Output, env_file: Path, written: Sequence[Written]) -> None:
    rows = [(str(env_file), "(API keys & configuration)")]
    meanings = ["(Starter template)", "(Syntax guide)", "(Instructions for coding agents)"]
    for file, meaning in zip(written, meanings, strict=False):
        rows.append((str(file.path), "(already exists, unchanged)" if file.existed else meaning))
    width = max(len(name) for name, _ in rows) + 3
    for name, meaning in rows:
        out.note(f"  {name:<{width}}{meaning}")


def offer(
    out: Output,
    values: Mapping[str, str],
    env_file: Path,
    *,
    yes: bool,
    renew: Callable[[], Mapping[str, str]],
) -> None:
    """Show `values`, ask whether to write them, and write them.

    Credentials that are about to expire, because the answer took long, are replaced by those from `renew`.

    Raises:
        FanbenchError: The answer was no.
        OutputError: The file cannot be written.
    """
    out.note("The following configuration will be set:")
    # Four characters tell one key from another, and are of no use to anyone else.
    out.note(f"  API Key  (ends in ...{values['MODEL_PROXY_API_KEY'][-4:]})")
    if expiry := values.get("MODEL_PROXY_EXPIRY_TIME"):
        out.note(f"  Expires: {expiry_phrase(expiry)}")
    for label, key in (("Default LLM", "LLM_DEFAULT"), ("Default Judge", "LLM_DEFAULT_EVAL")):
        if key in values:
            out.note(f"  {label:<{_LABEL_WIDTH}}{values[key]}")
    for number, name in enumerate(values.get("LLMS_AVAILABLE", "").split(",")):
        if name:
            out.note(f"  {'' if number else 'LLMs Available':<{_LABEL_WIDTH}}{name}")
    out.note()
    if not confirm(f"Write these settings to {env_file.name}?", yes=yes):
        raise FanbenchError(f"{env_file} was not written.")
    if nearly_over(values.get("MODEL_PROXY_EXPIRY_TIME", "")):
        values = {**values, **renew()}
    write_env_file(env_file, values)
    if exposed := exposure(env_file):
        out.warn(exposed, f"Run `chmod 600 {shlex.quote(str(env_file))}`.")
