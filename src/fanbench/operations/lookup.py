"""What several verbs do with tasks and runs."""

from __future__ import annotations

from collections.abc import Sequence

from fanbench.errors import Forbidden, NotFound
from fanbench.operations.api import Api
from fanbench.wire.messages import CreationState, Run, RunState, Task
from fanbench.wire.slugs import normalize_model

__all__ = [
    "creation_error",
    "existing_task",
    "model_of",
    "runs_of",
    "state_word",
    "task_if_any",
    "title_word",
]


async def task_if_any(client: Api, slug: str) -> Task | None:
    """The task, `None` where there is none; a foreign task that one may not see is none, too."""
    try:
        return await client.get_task(slug)
    except (NotFound, Forbidden):
        return None


async def existing_task(client: Api, slug: str) -> Task:
    """The task `slug`.

    Raises:
        NotFound: there is none, or it is somebody else's and not public (Kaggle answers 403 to both).
    """
    try:
        return await client.get_task(slug)
    except (NotFound, Forbidden) as error:
        raise NotFound(
            f"Task '{slug}' not found: {error.message}",
            call=error.call,
            status=error.status,
            hint="Check the name; `fanbench tasks list` shows the tasks that you have.",
        ) from None


async def runs_of(client: Api, slug: str, models: Sequence[str] = ()) -> list[Run]:
    """The runs of a task, of `models` only where some are given."""
    wanted = [normalize_model(model) for model in models]
    return [run async for run in client.list_runs(slug, models=wanted)]


def model_of(run: Run) -> str:
    """The model of a run in the form that is shown, compared and used as a folder."""
    return normalize_model(run.model_version_slug)


def state_word(state: CreationState | RunState) -> str:
    """`COMPLETED`, `KERNEL_WITHOUT_RUN`."""
    return state.label


def title_word(state: CreationState | RunState) -> str:
    """`Completed`, `Kernel_Without_Run`: the form of tables."""
    return state.label.title()


def creation_error(task: Task) -> str:
    """Why the creation of a task's version failed, as far as the server says it."""
    return task.error or task.creation_error_message
