"""What the simulated Kaggle has: tasks with their versions, runs with their logs and outputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from fanbench import FanbenchError
from fanbench.sweeps.artifacts import contents_of
from fanbench.wire.messages import CreationState, Run, RunState, Task, TaskOptions, TaskSlug
from fanbench.wire.safe_unzip import UnpackedFile
from fanbench.wire.slugs import split_task
from tests.sweeps.scenario import Course, Scenario, cut

__all__ = ["Put", "ServedRun", "ServedTask", "put_output"]


@dataclass(frozen=True, slots=True)
class ServedVersion:
    number: int
    text: str
    datasets: tuple[str, ...]
    pushed_at: float
    ready_at: float
    end: CreationState

    def state(self, now: float) -> CreationState:
        return self.end if now >= self.ready_at else CreationState.RUNNING


@dataclass(slots=True, eq=False)
class ServedTask:
    """A task. `last_of` has, by version (0: any) and model, the run that ends last."""

    slug: str
    versions: list[ServedVersion] = field(default_factory=list)
    runs: list[ServedRun] = field(default_factory=list)
    last_of: dict[tuple[int, str], ServedRun] = field(default_factory=dict)

    def push(self, text: str, datasets: tuple[str, ...], at: float, scenario: Scenario) -> None:
        number = len(self.versions) + 1
        bad = number <= scenario.bad_creations
        end = CreationState.ERRORED if bad else scenario.creation_end
        creation = scenario.creation
        seconds = creation if isinstance(creation, float | int) else creation(self.slug)
        self.versions.append(ServedVersion(number, text, datasets, at, at + seconds, end))

    def shown(self, now: float, stale: float) -> Task | None:
        """What is to be seen of it, if anything is."""
        seen = [version for version in self.versions if version.pushed_at + stale <= now]
        return self.answer(now, seen[-1]) if seen else None

    def answer(self, now: float, version: ServedVersion | None = None) -> Task:
        """The newest version, or another one."""
        version, name = version or self.versions[-1], split_task(self.slug)
        state = version.state(now)
        return Task(
            slug=TaskSlug(
                owner_slug=name.owner_slug, task_slug=name.task_slug, version_number=version.number
            ),
            url=f"/benchmarks/tasks/me/{name.task_slug}/{version.number}",
            creation_state=state,
            creation_error_message="It broke." if state == CreationState.ERRORED else "",
            options=TaskOptions(dataset_data_sources=list(version.datasets)) if version.datasets else None,
        )

    def is_ready(self, now: float) -> bool:
        return self.versions[-1].state(now) == CreationState.COMPLETED

    def add(self, run: ServedRun) -> None:
        self.runs.append(run)
        for version in (run.version, 0):
            last = self.last_of.get((version, run.model))
            if last is None or last.ends <= run.ends:
                self.last_of[version, run.model] = run

    def in_order(self, order: str) -> Iterable[ServedRun]:
        match order:
            case "newest":
                return reversed(self.runs)
            case "oldest":
                return self.runs
            case _:
                return sorted(self.runs, key=lambda run: run.id * 7919 % 1009)


@dataclass(slots=True, eq=False)
class ServedRun:
    """A run; times are in the server's seconds. `ours`: the client scheduled it, not somebody else."""

    id: int
    task: str
    version: int
    model: str
    scheduled: float
    course: Course
    ours: bool
    downloads: int = 0
    _last_answer: Run | None = None

    @property
    def begins(self) -> float:
        return self.scheduled + self.course.queued

    @property
    def ends(self) -> float:
        return self.begins + self.course.running + self.course.scoring

    def state(self, now: float, unseen: float = 0.0) -> RunState:
        if now < self.begins:
            return RunState.QUEUED
        if now >= self.ends + unseen:
            return self.course.end
        return (
            RunState.SCORE_PENDING
            if now >= self.ends - self.course.scoring + unseen and self.course.scoring
            else RunState.RUNNING
        )

    def answer(self, now: float, spell: Callable[[str], str]) -> Run:
        """As lists have it. The last one is kept: a list of many runs that ended long ago is cheap."""
        state = self.state(now, self.course.unseen)
        if self._last_answer is None or self._last_answer.state != state:
            name = split_task(self.task)
            self._last_answer = Run(
                task_slug=TaskSlug(
                    owner_slug=name.owner_slug, task_slug=name.task_slug, version_number=self.version
                ),
                model_version_slug=spell(self.model),
                id=self.id,
                state=state,
                start_time=_moment(self.begins) if state != RunState.QUEUED else None,
                end_time=_moment(self.ends) if state.terminal else None,
                error_message=self.course.error if state == RunState.ERRORED else "",
            )
        return self._last_answer

    # --- The log ---

    @property
    def log(self) -> str:
        return "".join(text for _, text in self.course.log)

    def kept_log(self) -> Iterator[str]:
        text, size = self.log, self.course.recut
        if not size:
            yield from (text for _, text in self.course.log)
            return
        yield from (text[start : start + size] for start in range(0, len(text), size))

    def live_log(self, now: float) -> Iterator[tuple[float, str | FanbenchError | None]]:
        """What a stream that is opened now brings, and when: texts, then `None` for a good end or an error."""
        ahead = [second for second in (*self.course.cuts, *self.course.stops) if second > now - self.begins]
        stop = min(ahead, default=self.course.running)
        for second, text in self.course.log:
            if min(second, self.course.running) <= stop:
                yield min(second, self.course.running), text
        yield stop, (cut() if ahead and stop in self.course.cuts else None)

    # --- The output ---

    def output(self, include_source: bool = False) -> dict[str, bytes]:
        """The files by name; the same ones each time."""
        files = {
            f"{self.task.rpartition('/')[2]}.run.json": json.dumps(self._run_file()).encode(),
            "kernel/out.txt": f"the output of run {self.id}\n".encode(),
        }
        return {**files, "source.ipynb": b"{}"} if include_source else files

    def _run_file(self) -> dict[str, object]:
        failed = self.course.end == RunState.ERRORED
        metrics: dict[str, object] = {"inputTokens": 10, "outputTokens": 20}
        if self.course.cost is not None:
            metrics["inputTokensCostNanodollars"] = round(self.course.cost * 1e9)
            metrics["outputTokensCostNanodollars"] = 0
        return {
            "pyRunId": f"run-{self.id}",
            "taskVersion": {"name": self.task, "versionNumber": self.version},
            "modelVersion": {"slug": self.model},
            "state": self.course.end.value,
            "startTime": _moment(self.begins).isoformat(),
            "endTime": _moment(self.ends).isoformat(),
            "errorMessage": self.course.error,
            "results": [] if failed else [{"type": "AGGREGATED", "booleanResult": True}],
            "conversations": [{"id": "c", "requests": [{"metrics": metrics}], "metrics": metrics}],
        }


def _moment(second: float) -> datetime:
    return datetime.fromtimestamp(1_800_000_000 + max(second, -1e9), UTC)


# --- On the disk --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Put:
    path: Path
    files: tuple[str, ...]
    size: int
    contents: list[UnpackedFile]


def put_output(target: Path, files: dict[str, bytes], *, between: Callable[[], None]) -> Put:
    """The folder `target` in one step, as the real client has it; `between` comes before and after that step."""
    stage = target.with_name(f".{target.name}-0-stage.part")
    shutil.rmtree(stage, ignore_errors=True)
    for name, content in files.items():
        path = stage / "new" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    between()
    if target.exists():
        target.rename(stage / "old")
    (stage / "new").rename(target)
    shutil.rmtree(stage)
    between()
    return Put(target, tuple(sorted(files)), sum(map(len, files.values())), contents_of(target))
