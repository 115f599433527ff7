"""Fixtures for the tests of operations."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
import trio
from blockbuster import blockbuster_ctx

from fanbench import FanbenchError
from fanbench.operations.events import Event
from fanbench.testing import RunScript, Scenario, SimulatedKaggle
from fanbench.wire.messages import BenchmarkModel, CreationState, ModelVersion, Task, TaskOptions, TaskSlug
from fanbench.wire.slugs import split_task

T = TypeVar("T")
# Files, and the functions in them that may block the event loop.
MAY_BLOCK = [
    ("<frozen importlib._bootstrap>", {"_find_and_load"}),
    # The tests call these in the event loop, fanbench calls them in threads.
    ("operations/push.py", {"plan_push"}),
    ("tasks/read.py", {"read_task_file"}),
    # The simulated Kaggle writes small files in virtual time, which must not pass meanwhile.
    ("fanbench/testing/kaggle.py", {"_put_in_place"}),
    # Starting a process takes a moment.
    ("/subprocess.py", {"_execute_child"}),
    ("executor/forkserver_executor.py", {"__init__"}),
    # The doctor has nothing else to do while it reads small files.
    ("fanbench/config.py", {"resolve_config", "credential_sources"}),
    ("doctor/machine.py", {"installed_version"}),
    # A command for the hint of an error that ends the program.
    ("_util/install.py", {"install_command"}),
]


#: A run that takes no time and has no log.
INSTANT_RUN = RunScript(running=0, log=(), output={"a.run.json": b"{}"})
#: A server whose calls, creations and runs take no time.
INSTANT = Scenario(latency=0, creation=0, runs=INSTANT_RUN)


def simulated(
    *tasks: str, models: Sequence[str | BenchmarkModel] = (), versions: int = 1, **changes: Any
) -> SimulatedKaggle:
    """A Kaggle that has these tasks and follows the scenario `INSTANT` with `changes`."""
    kaggle = SimulatedKaggle(INSTANT, models=models)
    for slug in tasks:
        for _ in range(versions):
            kaggle.add_task(slug)
    kaggle.change(**changes)
    return kaggle


def task(
    slug: str,
    state: CreationState = CreationState.COMPLETED,
    *,
    version: int = 1,
    datasets: Sequence[str] = (),
) -> Task:
    """A task as the server describes it."""
    name = split_task(slug)
    return Task(
        slug=TaskSlug(owner_slug=name.owner_slug, task_slug=name.task_slug, version_number=version),
        url=f"/benchmarks/tasks/me/{name.task_slug}/{version}",
        creation_state=state,
        options=TaskOptions(dataset_data_sources=list(datasets)) if datasets else None,
    )


def model(slug: str, *, proxy: str = "", allowed: bool = True) -> BenchmarkModel:
    """A model as the server describes it; `proxy` is its slug at the Model Proxy."""
    version = ModelVersion(slug=slug, model_proxy_slug=proxy, allow_model_proxy=allowed)
    return BenchmarkModel(slug=slug, display_name=slug.title(), version=version)


class Reported(list[Event]):
    """An `emit` callback that keeps the events."""

    def __call__(self, event: Event) -> None:
        self.append(event)

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self if isinstance(event, kind)]


@pytest.fixture
def reported() -> Reported:
    return Reported()


def only(outcomes: Sequence[T | FanbenchError]) -> T:
    """Return the outcome of an operation on a single task, or raise its error."""
    (outcome,) = outcomes
    if isinstance(outcome, FanbenchError):
        raise outcome
    return outcome


@pytest.fixture(autouse=True, scope="module")
def no_blocking_calls() -> Iterator[None]:
    """Fail tests in which fanbench blocks the event loop of asyncio or trio."""

    def running_loop() -> object:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            return trio.lowlevel.current_task()  # raises RuntimeError outside of trio

    with pytest.MonkeyPatch.context() as patch, blockbuster_ctx("fanbench") as guard:
        patch.setattr("blockbuster.blockbuster.asyncio", SimpleNamespace(get_running_loop=running_loop))
        for function in guard.functions.values():
            for file, callers in MAY_BLOCK:
                function.can_block_in(file, callers)
        yield
