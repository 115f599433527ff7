"""What the simulated server knows: tasks with their versions, runs with their logs and outputs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from fanbench.errors import FanbenchError
from fanbench.faults.fault import connection_lost
from fanbench.testing.scenario import RunScript, Scenario
from fanbench.wire.candidates import Candidate, config_slug, normalize_label
from fanbench.wire.messages import (
    CandidateType,
    CreationState,
    LogEntry,
    Run,
    RunResult,
    RunState,
    Task,
    TaskOptions,
    TaskSlug,
)
from fanbench.wire.metadata import Metadata
from fanbench.wire.slugs import split_task

__all__ = ["EPOCH", "SimulatedRun", "SimulatedTask", "SimulatedVersion"]

#: The wall clock at second 0 of a simulation, in seconds since 1970: one day in 2027.
EPOCH = 1_800_000_000.0
_BLANK = Metadata(description="", provenance="", citations=())


def wall_time(second: float) -> datetime:
    return datetime.fromtimestamp(EPOCH + max(second, -1e9), UTC)


@dataclass(frozen=True, slots=True)
class SimulatedVersion:
    """One version of a task. Times are seconds of the simulation."""

    number: int
    text: str
    datasets: tuple[str, ...]
    pushed_at: float
    ready_at: float
    end: CreationState
    creating: CreationState = CreationState.RUNNING
    metadata: Metadata = _BLANK

    def state(self, now: float) -> CreationState:
        return self.end if now >= self.ready_at else self.creating


@dataclass(slots=True, eq=False)
class SimulatedTask:
    """A task with all its versions and runs."""

    slug: str
    owner: str
    versions: list[SimulatedVersion] = field(default_factory=list)
    runs: list[SimulatedRun] = field(default_factory=list)
    candidate_type: CandidateType = CandidateType.UNSPECIFIED
    is_public: bool = False
    is_notebook_public: bool = False
    tags: tuple[str, ...] = ()
    _last_runs: dict[tuple[int, str], SimulatedRun] = field(default_factory=dict)

    @property
    def newest(self) -> SimulatedVersion:
        return self.versions[-1]

    def push(self, text: str, datasets: tuple[str, ...], at: float, scenario: Scenario) -> None:
        """Add a version at second `at`. Its page says what that of the version before it says."""
        number = self.newest.number + 1 if self.versions else 1
        end = CreationState.ERRORED if number <= scenario.failed_creations else scenario.creation_end
        creation = scenario.creation
        seconds = creation if isinstance(creation, float | int) else creation(self.slug)
        version = SimulatedVersion(number, text, datasets, at, at + seconds, end, scenario.creating)
        if self.versions:
            version = replace(version, metadata=self.newest.metadata)
        self.versions.append(version)
        self.candidate_type = scenario.candidate_type

    def visible(self, now: float, push_lag: float, number: int = 0) -> Task | None:
        """The newest version that the server shows at `now`, or version `number`; None if it shows none (yet)."""
        seen = [
            version
            for version in self.versions
            if version.pushed_at + push_lag <= now and number in (0, version.number)
        ]
        return self.message(now, seen[-1]) if seen else None

    def message(self, now: float, version: SimulatedVersion | None = None) -> Task:
        """A version (default: the newest) as the server's answer."""
        version = version or self.newest
        slug, state = self.version_slug(version.number), version.state(now)
        has_failed = now >= version.ready_at and version.end != CreationState.COMPLETED
        return Task(
            slug=slug,
            url=f"/benchmarks/tasks/{slug.owner_slug}/{slug.task_slug}/{version.number}",
            creation_state=state,
            create_time=wall_time(version.pushed_at),
            creation_error_message="It broke." if has_failed else "",
            is_public=self.is_public,
            candidate_type=self.candidate_type,
            is_backing_notebook_published=self.is_notebook_public,
            options=TaskOptions(dataset_data_sources=list(version.datasets)) if version.datasets else None,
            description=version.metadata.description or "",
            tags=list(self.tags),
            provenance_sources=version.metadata.provenance or "",
            citations=list(version.metadata.citations or ()),
        )

    def update(self, change: Metadata, number: int = 0) -> SimulatedVersion:
        """Change what the page of a version says, by default of the newest, and return the version."""
        index = number - 1 if number else -1
        if change.tags is not None:
            self.tags = change.tags
        version = self.versions[index]
        metadata = replace(change, tags=None).applied_to(version.metadata)
        self.versions[index] = replace(version, metadata=metadata)
        return self.versions[index]

    def version_slug(self, number: int) -> TaskSlug:
        name = split_task(self.slug)
        owner = name.owner_slug or self.owner
        return TaskSlug(owner_slug=owner, task_slug=name.task_slug, version_number=number)

    def add(self, run: SimulatedRun) -> None:
        self.runs.append(run)
        model = normalize_label(run.model)
        for version in (run.version, 0):
            last = self._last_runs.get((version, model))
            if last is None or last.ends <= run.ends:
                self._last_runs[version, model] = run

    def last_run(self, model: str, version: int = 0) -> SimulatedRun | None:
        """The run on the model that ends last, of one version or (0) of all."""
        return self._last_runs.get((version, normalize_label(model)))


@dataclass(slots=True, eq=False)
class SimulatedRun:
    """A run that follows its script. Times are seconds of the simulation.

    `model` may also be `MODEL@EFFORT`, or an agent if `model_of_agent` has its model. `ours` is False for a run that
    was not scheduled through the API.
    """

    id: int
    task: str
    slug: TaskSlug
    model: str
    scheduled: float
    script: RunScript
    ours: bool
    source: str = ""
    model_of_agent: str = ""
    downloads: int = 0
    cancelled: bool = False
    #: The benchmark ("owner/slug") for which it was put into the queue.
    benchmark: str = ""
    #: How many calls tried to cancel it while it was running.
    cancel_calls: int = 0
    #: The message that lists had last, and what it depends on.
    _last_message: tuple[object, Run] | None = None

    @property
    def version(self) -> int:
        return self.slug.version_number

    @property
    def candidate(self) -> Candidate:
        return Candidate.parse(self.model, {self.model} if self.model_of_agent else ())

    @property
    def slug_of_model(self) -> str:
        """The slug of the model, as it was asked for."""
        effort = self.candidate.effort
        return self.model_of_agent or (self.model.removesuffix(f"@{effort}") if effort else self.model)

    @property
    def begins(self) -> float:
        return self.scheduled + self.script.queued

    @property
    def ends(self) -> float:
        return self.begins + self.script.running + self.script.scoring

    def state(self, now: float, lag: float = 0.0) -> RunState:
        """The state at `now`, as someone sees it who learns of the end `lag` seconds late."""
        if now < self.begins:
            return RunState.QUEUED
        if now >= self.ends + lag:
            return self.script.end
        scoring = self.script.scoring and now >= self.ends - self.script.scoring + lag
        return RunState.SCORE_PENDING if scoring else self.script.at_work

    def begin_at(self, second: float) -> None:
        """Leave the queue then."""
        self.script = replace(self.script, queued=second - self.scheduled)

    def finish(self, now: float) -> None:
        """End the run by `now`, in the state of its script."""
        queued = min(self.script.queued, now - self.scheduled)
        running = now - self.scheduled - queued
        self.script = replace(self.script, queued=queued, running=running, scoring=0.0)

    def cancel(self, now: float, *, include_active: bool) -> RunState | None:
        """Cancel the run. Return the state that it was in, or None if it has ended, or is left to run."""
        state = self.state(now)
        if state.terminal or (state != RunState.QUEUED and not include_active):
            return None
        if state != RunState.QUEUED:
            self.cancel_calls += 1
            if self.cancel_calls <= self.script.unreachable:
                return None
        cost = self.script.cost
        if cost is not None:
            begun = 0.0 if state == RunState.QUEUED else now - self.begins
            cost *= begun / (self.ends - self.begins) if begun else 0.0
        self.finish(now)
        self.script = replace(self.script, end=RunState.ERRORED, error="Cancelled.", end_lag=0.0, cost=cost)
        self.cancelled = True
        return state

    def message(self, now: float, spelled_model: str, *, with_result: bool = False) -> Run:
        """The run as lists show it."""
        candidate = self.candidate
        state = self.state(now, self.script.end_lag)
        # Lists of many ended runs are cheap: their messages are made once.
        of = (state, spelled_model, with_result)
        if self._last_message is None or self._last_message[0] != of:
            message = Run(
                task_slug=self.slug,
                model_version_slug=spelled_model,
                model_version_config_slug=config_slug(candidate.model, candidate.effort)
                if candidate.effort
                else "",
                agent_slug=candidate.agent,
                id=self.id,
                state=state,
                start_time=wall_time(self.begins) if state != RunState.QUEUED else None,
                end_time=wall_time(self.ends) if state.terminal else None,
                error_message=self.script.error if state == RunState.ERRORED else "",
                result=self._result() if with_result and state == RunState.COMPLETED else None,
            )
            self._last_message = of, message
        return self._last_message[1]

    def _result(self) -> RunResult | None:
        match self.script.result:
            case None:
                return None
            case bool(passed):
                return RunResult(boolean_result=passed)
            case number:
                return RunResult(numeric_result=number)

    # --- The log ---

    @property
    def log(self) -> str:
        return "".join(text for _, text in self.script.log)

    def kept_log(self) -> Iterator[LogEntry]:
        """The log after the end of the run."""
        text, size = self.log, self.script.log_piece
        if not size:
            yield from (LogEntry(data=text, time=second) for second, text in self.script.log)
            return
        yield from (LogEntry(data=text[start : start + size]) for start in range(0, len(text), size))

    def live_log(self, now: float) -> Iterator[tuple[float, str | FanbenchError | None]]:
        """What a stream opened at `now` delivers, and when: texts, and last an error or (None) the end."""
        script, age = self.script, now - self.begins
        breaks = [second for second in (*script.log_cuts, *script.log_stops) if second > age]
        end = script.running
        if script.log_error is not None:
            end = max((min(second, script.running) for second, _ in script.log), default=0.0)
        stop = min(breaks, default=end)
        for second, text in script.log:
            if min(second, script.running) <= stop:
                yield min(second, script.running), text
        if breaks:
            yield stop, connection_lost() if stop in script.log_cuts else None
        else:
            yield stop, script.log_error

    # --- The output ---

    def output(self, include_source: bool = False) -> dict[str, bytes]:
        """The files of the output by name."""
        if self.script.output is None:
            files = {
                f"{self.slug.task_slug}.run.json": json.dumps(self._run_file()).encode(),
                "kernel/out.txt": f"the output of run {self.id}\n".encode(),
            }
        else:
            files = dict(self.script.output)
        notebooks = ("__notebook__.ipynb", "__notebook_source__.ipynb") if include_source else ()
        return {**files, **dict.fromkeys(notebooks, self.source.encode())}

    def _run_file(self) -> dict[str, object]:
        metrics: dict[str, object] = {"inputTokens": 10, "outputTokens": 20}
        if self.script.cost is not None:
            metrics["inputTokensCostNanodollars"] = round(self.script.cost * 1e9)
            metrics["outputTokensCostNanodollars"] = 0
        match self.script.result:
            case _ if self.script.end == RunState.ERRORED:
                results: list[dict[str, object]] = []
            case None:
                results = []
            case bool(passed):
                results = [{"type": "AGGREGATED", "booleanResult": passed}]
            case number:
                results = [{"type": "AGGREGATED", "numericResult": {"value": number}}]
        return {
            "pyRunId": f"run-{self.id}",
            "taskVersion": {"name": self.task, "versionNumber": self.version},
            "modelVersion": {"slug": self.slug_of_model},
            "state": self.script.end.value,
            "startTime": wall_time(self.begins).isoformat(),
            "endTime": wall_time(self.ends).isoformat(),
            "errorMessage": self.script.error,
            "results": results,
            "conversations": [{"id": "c", "requests": [{"metrics": metrics}], "metrics": metrics}],
        }
