"""Finding tasks and runs on the server."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

from msgspec import structs

from fanbench.config import Basic, Bearer
from fanbench.errors import ApiError, FanbenchError, Forbidden, NotFound
from fanbench.operations.api import Api
from fanbench.wire.candidates import Candidate, spellings
from fanbench.wire.messages import Run, Task

__all__ = [
    "NO_SUCH_CALL",
    "UnsupportedByServer",
    "as_scheduled",
    "existing_task",
    "lacks_call",
    "model_of",
    "needs_call",
    "runs_of",
    "task_if_any",
    "username",
]

#: The HTTP statuses with which servers answer a call that they do not have.
NO_SUCH_CALL = (404, 405, 501)


def lacks_call(error: ApiError) -> bool:
    """Whether a server says that it does not have a call, rather than that something else does not exist.

    fanbench's servers say so in words; on others, a 404 without an answer of the API means it.
    """
    said = error.message.startswith(("Unknown call", "No such call")) or error.message == "Not Found"
    return error.status in NO_SUCH_CALL and (said or error.status != 404)


class UnsupportedByServer(FanbenchError):
    """The server does not have what is needed: it is older than that."""


@contextmanager
def needs_call(problem: str, *, hint: str | None = None, names_nothing: bool = False) -> Iterator[None]:
    """Say the `problem` if the server lacks the call in the block.

    `names_nothing` says that the call names nothing that may be missing, so that each 404 is about the call itself.

    Raises:
        UnsupportedByServer: The server lacks the call.
    """
    try:
        yield
    except ApiError as error:
        if lacks_call(error) or (names_nothing and error.status in NO_SUCH_CALL):
            raise UnsupportedByServer(f"{problem}: {error}", hint=hint) from None
        raise


async def task_if_any(client: Api, slug: str) -> Task | None:
    """Return the task, or None if it does not exist or is private to somebody else."""
    try:
        return await client.get_task(slug)
    except (NotFound, Forbidden):
        return None


async def existing_task(client: Api, slug: str, version: int = 0) -> Task:
    """Return one version of the task, by default the newest.

    Raises:
        NotFound: It does not exist, or is private to somebody else (Kaggle answers 403 to both).
    """
    try:
        return await client.get_task(slug, version=version)
    except (NotFound, Forbidden) as error:
        name = f"Version {version} of task '{slug}'" if version else f"Task '{slug}'"
        raise NotFound(
            f"{name} not found: {error.message}",
            call=error.call,
            status=error.status,
            hint="Check the name; run `fanbench tasks list` to list your tasks.",
        ) from None


async def username(client: Api) -> str:
    """Return the name of the user; empty if the server does not say, as for an anonymous user."""
    match client.config.credentials:
        case Basic(username=name):
            return name
        case Bearer(token=token):
            return (await client.introspect_token(token)).username
        case _:
            return ""


async def runs_of(client: Api, slug: str, models: Sequence[str] = (), version: int = 0) -> list[Run]:
    """Return the runs of a version of a task, by default the newest, or only those on `models` if any are given."""
    return [run async for run in client.list_runs(slug, models=models, version=version)]


def as_scheduled(runs: Sequence[Run], models: Collection[str]) -> list[Run]:
    """Return the runs, those on `models` with the names in `models`.

    A server may list a run that was scheduled on `gemini-2.5-pro` as one on `gemini-2.5-pro-default`.
    """
    labels = spellings(models)
    return [
        structs.replace(run, model_version_slug=Candidate.parse(labels[model_of(run)]).model)
        if model_of(run) in labels
        else run
        for run in runs
    ]


def model_of(run: Run) -> str:
    """The label of what a run is on, which is displayed, compared and used as a folder.

    It is the model in its normalized form, `MODEL@EFFORT`, or the slug of the agent.
    """
    return Candidate.of_run(run).label
