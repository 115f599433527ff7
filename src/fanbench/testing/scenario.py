"""What a simulated Kaggle does: its runs, its delays and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from fanbench.errors import FanbenchError
from fanbench.faults.fault import Fault
from fanbench.wire.candidates import normalize_label
from fanbench.wire.messages import (
    CandidateType,
    CreationState,
    NotebookDefinition,
    QueueSettings,
    RunState,
    TaskDefinition,
)

__all__ = ["RunScript", "Runs", "Scenario", "ScriptOf"]


@dataclass(frozen=True, slots=True)
class RunScript:
    """What one run does. All times are in seconds, all amounts in US dollars.

    A run is queued, then running, then (unless `scoring` is 0) waiting for its score, and ends in the state
    `end`. Its log and output appear as the fields below say.
    """

    queued: float = 0.0
    running: float = 2.0
    scoring: float = 0.0
    #: The state while it runs.
    at_work: RunState = RunState.RUNNING
    end: RunState = RunState.COMPLETED
    #: The error message of a run that ends in `ERRORED`.
    error: str = ""
    #: So many calls to cancel the run leave it running, because its session cannot be reached.
    unreachable: int = 0
    #: Lists show the run this long after it was scheduled, and its end this long after it ended.
    list_lag: float = 0.0
    end_lag: float = 0.0

    #: Pieces of the log, each with its time since the run left the queue.
    log: Sequence[tuple[float, str]] = ((0.0, "begin\n"), (1.0, "half\nway\n"))
    #: The live log is not available (404) for this long after the run left the queue.
    log_delay: float = 0.0
    #: The complete log is not available (404) for this long after the run ended.
    kept_log_delay: float = 0.0
    #: A live log breaks off at each of these times, counted as in `log`.
    log_cuts: tuple[float, ...] = ()
    #: A live log ends at each of these times as if the run had ended.
    log_stops: tuple[float, ...] = ()
    #: The complete log comes in pieces of this many characters; 0 for the pieces of `log`.
    log_piece: int = 0
    #: The log, live or complete, ends in this error after its last piece. (Over HTTP, a live log breaks off.)
    log_error: FanbenchError | None = None

    #: The value in the run file: passed or failed, a number, or no result.
    result: bool | float | None = True
    #: What the run file reports as the cost; None leaves the cost out.
    cost: float | None = 0.001
    #: The files of the output by name. None stands for a run file and a small text file.
    output: Mapping[str, bytes] | None = None
    #: The output is not available (404) for this long after the run ended; `math.inf` for never.
    output_delay: float = 0.0
    #: The duration of a download, besides that of a call.
    download_time: float = 0.0
    #: The first downloads break off, and after these some deliver a damaged zip.
    broken_downloads: int = 0
    bad_zips: int = 0

    @classmethod
    def errored(cls, message: str = "ValueError: no") -> RunScript:
        """A run that fails with `message` after two seconds."""
        return cls(end=RunState.ERRORED, error=message)


#: Chooses the script of a run by its task, its model (also `MODEL@EFFORT`, or an agent), and how many runs of the two
#: there have been (from 1). None stands for a model that is skipped.
ScriptOf = Callable[[str, str, int], RunScript | None]
#: One script for all runs, one for each model (others follow the default script), or a function.
Runs = RunScript | Mapping[str, RunScript | None] | ScriptOf


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """How a simulated Kaggle behaves. All times are in seconds."""

    #: The duration of each call; the server does its work in the middle of it.
    latency: float = 0.1

    #: The duration of a task's creation, or a function from the task to it.
    creation: float | Callable[[str], float] = 2.0
    #: The state of a task while it is created.
    creating: CreationState = CreationState.RUNNING
    #: The state in which creations end.
    creation_end: CreationState = CreationState.COMPLETED
    #: The first creations of each task fail, whatever `creation_end` is.
    failed_creations: int = 0
    #: Pushes make no version, and are answered with this error in a message (status 200).
    push_error: str = ""
    #: After a push, the server still shows the previous version for this long.
    push_lag: float = 0.0

    #: What runs do.
    runs: Runs = field(default_factory=RunScript)
    #: A model is skipped while it runs the same version of the task.
    one_run_per_model: bool = True
    #: The same for a run of any version.
    one_run_of_any_version: bool = False
    #: What the versions of tasks say that they are run on; they are not run on anything else.
    candidate_type: CandidateType = CandidateType.UNSPECIFIED
    #: What the server says is behind tasks, if it is asked; None for a server that does not say it.
    definition: TaskDefinition | None = field(
        default_factory=lambda: TaskDefinition(notebook=NotebookDefinition())
    )
    #: Models of which one makes a whole schedule call fail with 404.
    unknown_models: frozenset[str] = frozenset()

    #: The answer to a schedule call names the runs.
    answers_run_ids: bool = True

    #: What the server makes of the description of a task.
    sanitize: Callable[[str], str] = str

    #: Lists show every run this long after it was scheduled.
    list_lag: float = 0.0
    list_order: Literal["newest", "oldest", "mixed"] = "newest"
    #: The most runs in one page of a list. None puts all runs into one page.
    page_size: int | None = None
    #: Lists of runs contain all models, whatever the request asks for.
    ignores_model_filter: bool = False
    #: Lists of runs contain those of the newest version, unless the request names another one; else, those of all.
    lists_newest_version: bool = False
    #: Runs are scheduled on the newest version, whichever the request names.
    schedules_newest_version: bool = False
    #: How lists spell the slug of a model.
    spell_model: Callable[[str], str] = str
    #: Lists show the result of each run that has one.
    shows_results: bool = False

    #: The server knows the calls that change what the page of a task says.
    can_update: bool = True
    #: The server knows the calls about the tasks of benchmarks. Otherwise lists of these are lists of all tasks.
    has_benchmarks: bool = True
    #: The limits of the server's queue, which count only the runs in it; None for an account without the queue.
    queue: QueueSettings | None = field(default_factory=lambda: QueueSettings(enabled=True))
    #: The server knows the call that says what is in the queue.
    has_queue_status: bool = True
    #: The server knows the call that cancels runs.
    can_cancel: bool = True
    #: The server knows the call that reports what was spent.
    has_quotas: bool = True
    #: The server knows the call that lists the efforts of models.
    has_configs: bool = True
    #: The server knows the call that deletes a task. Kaggle does not, fanbench's local server does.
    can_delete: bool = False

    faults: tuple[Fault, ...] = ()
    #: Chooses the calls of faults that have a `share`, and what else is random in faults.
    seed: int = 0
    #: A push or schedule call whose caller was cancelled or killed on the way still takes effect this much
    #: later; None for never.
    late_arrival: float | None = None

    def script_of(self, task: str, model: str, number: int) -> RunScript | None:
        """What run `number` (from 1) of the task on the model does; None if the model is skipped."""
        if isinstance(self.runs, RunScript):
            return self.runs
        if isinstance(self.runs, Mapping):
            by_model = {normalize_label(name): script for name, script in self.runs.items()}
            return by_model.get(normalize_label(model), RunScript())
        return self.runs(task, model, number)
