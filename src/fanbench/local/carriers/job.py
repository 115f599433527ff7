"""What a carrier is given, and what it returns: plain data that goes to other machines, without paths of the server."""

from __future__ import annotations

import msgspec

from fanbench.local.executor.job import Choice

__all__ = ["NotebookJob", "Outcome", "RunFile", "RunLost"]


class NotebookJob(msgspec.Struct, frozen=True, kw_only=True):
    """One execution of a notebook."""

    name: str
    """The run's folder below the root of the carrier, such as `runs/12`. No other job in progress has it."""
    notebook: str
    """The text of the .ipynb file."""
    variables: dict[str, str]
    """The variables about models and the Model Proxy, as on Kaggle. All others come from the machine."""
    pass_on: tuple[str, ...] = ()
    """The names of further variables of the machine that the run may see."""
    requirements: list[str] = []
    """Lines of a requirements file: packages that the run needs besides those of fanbench."""
    datasets: list[str] = []
    """The datasets of the run, as OWNER/SLUG."""
    time_limit: float
    """Seconds after which the run is stopped."""
    memory_mb: int = 0
    """The most memory that a process of the run may allocate, and that all may take, in MB; 0 for no limit."""
    disk_mb: int = 0
    """The most room that the files of the run may take, in MB; 0 for no limit."""
    outputs: str = ""
    """Where `upload_output` stores the output; empty if it stays on the machine of the run."""


class RunFile(msgspec.Struct, frozen=True, kw_only=True):
    """What the verdict on a run needs of one of its run files."""

    task: str
    """The slug of the task."""
    state: str
    error: str
    model: str
    result: bool | float | None = None
    """What the task returned, if that is a boolean or a finite number."""
    merged: bool = False
    """Whether the SDK merged other run files of the task into it."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How a job ended."""

    failure: str | None = None
    """Why the notebook did not reach its end, with what to do about it."""
    choice: Choice | None = None
    """What its `%choose` lines did."""
    run_files: list[RunFile] = []
    """The run files of the SDK in its working folder, oldest first, without damaged ones."""


class RunLost(Exception):
    """The process or machine that executed a run is gone. Another attempt may succeed. The message has no period."""
