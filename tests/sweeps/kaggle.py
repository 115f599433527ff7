"""A simulated Kaggle: `fanbench.operations.api.Api` without a wire, in the event loop's virtual time.

It is the server: what is pushed and scheduled stays, however often the engine in front of it is killed and
started anew, each time in an event loop of its own (`begin`). No call looks at more than the runs of one task.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TypeVar

import anyio

from fanbench import Anonymous, Config, ConnectionFailed, FanbenchError
from fanbench.wire.downloads import BadZip
from fanbench.wire.messages import (
    BenchmarkModel,
    LogEntry,
    ModelProxyQuotas,
    ModelVersion,
    QuotaBalance,
    RefillPeriod,
    Run,
    RunState,
    ScheduleResult,
    Task,
    TaskQuota,
)
from fanbench.wire.slugs import normalize_model
from tests.sweeps.life import Life
from tests.sweeps.others import OtherCalls
from tests.sweeps.scenario import Call, Course, Fault, Scenario, bad_request, not_found
from tests.sweeps.served import Put, ServedRun, ServedTask, put_output

__all__ = ["SimulatedKaggle"]

T = TypeVar("T")
IN_FLIGHT = "A run of this model is in flight already."
# The wall clock at the server's second 0: any will do.
EPOCH = 1_800_000_000.0


class SimulatedKaggle(OtherCalls):
    """`runs` by id and `tasks` by slug are what there is; `calls` counts what was asked, by kind.

    `history` has each call as (second, kind, what about), unless `remember` is off. `most` is how many calls
    of a kind there were at the same time.
    """

    def __init__(self, scenario: Scenario | None = None, *, remember: bool = True) -> None:
        self.scenario = scenario or Scenario()
        self.config = Config("http://simulated", Anonymous())
        self.life = Life()
        self.tasks: dict[str, ServedTask] = {}
        self.runs: dict[int, ServedRun] = {}
        self.calls: Counter[str] = Counter()
        self.history: list[tuple[float, str, object]] = []
        self.most: Counter[str] = Counter()
        self._remember = remember
        self._going, self._met = Counter[str](), Counter[int]()
        self._faults: dict[str, list[Fault]] = {}
        self._scheduled: Counter[tuple[str, str]] = Counter()
        self._to_come: list[tuple[float, int, str, str, Course | None]] = []
        self._on_the_wire: list[tuple[float, int, Callable[[], object]]] = []
        self._doing_at: float | None = None
        self._number = count()
        self._spending: list[tuple[float, float]] = []
        self._spent = self._ahead = self._last = 0.0
        self._kill_in: tuple[Call, bool] | None = None
        self.behave(self.scenario)

    def behave(self, scenario: Scenario) -> None:
        """From here on as `scenario` says; what runs already goes on as it was to."""
        self.scenario = scenario
        self._faults = _by_call(scenario.faults)
        self._met.clear()

    # --- Time and processes ---

    def begin(
        self, *, pause: float = 0.0, kill_after: int | None = None, kill_in: tuple[Call, bool] | None = None
    ) -> None:
        """A new process, in a new event loop, `pause` seconds after the last call of the one before.

        It is killed at its point number `kill_after`, or in its first call of the kind `kill_in`: once that is
        done, or just before.
        """
        self._ahead = self._last + pause - anyio.current_time()
        self._kill_in = kill_in
        self.life.begin(kill_after)

    def now(self) -> float:
        """Seconds since the server's beginning."""
        if self._doing_at is not None:
            return self._doing_at
        self._last = anyio.current_time() + self._ahead
        return self._last

    def wall(self) -> float:
        """The same as seconds since 1970."""
        return EPOCH + self.now()

    # --- What others do ---

    def have_task(self, slug: str, text: str = "there before", *, age: float = math.inf) -> ServedTask:
        """A version that was pushed without a call, `age` seconds ago."""
        task = self.tasks.setdefault(slug, ServedTask(slug))
        task.push(text, (), self._last - age, self.scenario)
        return task

    def have_run(
        self, slug: str, model: str, course: Course | None = None, *, version: int = 0, age: float = 0.0
    ) -> ServedRun:
        """A run that somebody else scheduled `age` seconds ago, of the newest version where none is given."""
        task = self.tasks[slug]
        return self._start(task, model, course, version or len(task.versions), self._last - age, ours=False)

    def will_run(self, at: float, slug: str, model: str, course: Course | None = None) -> None:
        """Somebody else schedules a run of the task, once it is there, at the server's second `at`."""
        heapq.heappush(self._to_come, (at, len(self._to_come), slug, model, course))

    def asked(self, kind: Call) -> list[tuple[float, object]]:
        """The calls of a kind: when, to the millisecond, and about what."""
        return [(round(second, 3), about) for second, called, about in self.history if called == kind]

    def ours(self, slug: str = "", model: str = "") -> list[ServedRun]:
        """The runs that were scheduled with calls to this client."""
        return [
            run
            for run in self.runs.values()
            if run.ours and slug in ("", run.task) and model in ("", run.model)
        ]

    # --- Calls ---

    async def create_task(self, slug: str, text: str, *, datasets: Sequence[str] = ()) -> Task:
        def create() -> Task:
            task = self.tasks.setdefault(slug, ServedTask(slug))
            task.push(text, tuple(datasets), self.now(), self.scenario)
            return task.answer(self.now())

        return await self._call("create", slug, create)

    async def get_task(self, task: str) -> Task:
        def look() -> Task:
            shown = self._task(task).shown(self.now(), self.scenario.stale)
            if shown is None:
                raise not_found()
            return shown

        return await self._call("task", task, look)

    async def schedule_runs(self, task: str, models: Sequence[str]) -> list[ScheduleResult]:
        assert len(set(models)) == len(models), f"a model twice in one call: {models}"
        return await self._call("schedule", (task, tuple(models)), lambda: self._schedule(task, models))

    def list_runs(self, task: str, *, models: Sequence[str] = ()) -> AsyncIterator[Run]:
        wanted = () if self.scenario.lies else tuple(map(normalize_model, models))
        return _Listing(lambda start: self._call("runs", task, lambda: self._page(task, wanted, start)))

    async def logs(self, run_id: int, *, silence: float | None = None) -> AsyncGenerator[LogEntry, None]:
        run = await self._call("logs", run_id, lambda: self._run_with_log(run_id))
        with self._counted("streams"):
            if run.state(self.now()).terminal:
                for text in run.kept_log():
                    yield LogEntry(data=text)
                return
            for second, word in run.live_log(self.now()):
                await self._until(run.begins + second)
                if isinstance(word, FanbenchError):
                    raise word
                if word is not None:
                    yield LogEntry(data=word, time=second)

    async def download_output(
        self,
        run_id: int,
        target: Path,
        *,
        include_source: bool = False,
        progress: Callable[[int, int | None], None] | None = None,
    ) -> Put:
        run = await self._call("download", run_id, lambda: self._run_with_output(run_id))
        files = run.output(include_source)
        if progress is not None:
            size = sum(map(len, files.values()))
            progress(size, size)
        return put_output(target, files, between=self.life.point)

    async def task_quota(self) -> TaskQuota:
        def read() -> TaskQuota:
            used = sum(self._scheduled.values())
            return TaskQuota(daily_quota_used=used, total_daily_quota_allowed=1_000_000.0)

        return await self._call("quota", "tasks", read)

    async def proxy_quotas(self) -> ModelProxyQuotas:
        return await self._call("quota", "proxy", self._balances)

    async def list_models(self) -> list[BenchmarkModel]:
        names = sorted({model for _, model in self._scheduled})
        return [BenchmarkModel(slug=name, version=ModelVersion(slug=name)) for name in names]

    # --- A call on its way ---

    async def _call(self, kind: Call, about: object, deed: Callable[[], T]) -> T:
        """`deed` in the middle of the call; before it, after it and at the answer the process can be killed."""
        if self.life.dead:
            self.life.point()
        self.calls[kind] += 1
        if self._remember:
            self.history.append((self.now(), kind, about))
        with self._counted(kind):
            fault = self._fault(kind)
            with self._sent(kind, fault, deed):
                await self._travel()
                self.life.point(last=self._kill_in == (kind, False))
            outcome = fault.error() if fault and not fault.after else self._done(deed)
            self.life.point(last=self._kill_in == (kind, True))
            await self._travel()
            self.life.point()
            if fault and fault.after:
                raise fault.error()
            if isinstance(outcome, FanbenchError):
                raise outcome
            return outcome

    @contextmanager
    def _sent(self, kind: Call, fault: Fault | None, deed: Callable[[], object]) -> Iterator[None]:
        """What the process had sent when it ended, or gave up, may be done all the same, a little later."""
        try:
            yield
        except BaseException:
            late = self.scenario.arrives_after
            if late is not None and kind in ("create", "schedule") and (fault is None or fault.after):
                at = self.now() + late
                heapq.heappush(self._on_the_wire, (at, next(self._number), deed))
            raise

    def catch_up(self) -> None:
        """What is on the wire from processes that are no more, as far as it has arrived by now."""
        while self._on_the_wire and self._on_the_wire[0][0] <= self.now():
            self._doing_at, _, deed = heapq.heappop(self._on_the_wire)
            try:
                with suppress(FanbenchError):
                    deed()
            finally:
                self._doing_at = None

    def _done(self, deed: Callable[[], T]) -> T | FanbenchError:
        self.catch_up()
        while self._to_come and self._to_come[0][0] <= self.now():
            at, _, slug, model, course = heapq.heappop(self._to_come)
            if slug in self.tasks:
                task = self.tasks[slug]
                self._start(task, model, course, len(task.versions), at, ours=False)
        try:
            return deed()
        except FanbenchError as error:
            return error

    async def _travel(self) -> None:
        await anyio.sleep(self.scenario.latency / 2)

    async def _until(self, second: float) -> None:
        await anyio.sleep(max(0.0, second - self.now()))
        self.life.point()

    @contextmanager
    def _counted(self, kind: str) -> Iterator[None]:
        self._going[kind] += 1
        self.most[kind] = max(self.most[kind], self._going[kind])
        try:
            yield
        finally:
            self._going[kind] -= 1

    def _fault(self, kind: Call) -> Fault | None:
        """Each fault counts the calls that it could have met; the first that applies is the one."""
        met = None
        for fault in self._faults.get(kind, ()):
            if not fault.since <= self.now() < fault.until:
                continue
            self._met[id(fault)] += 1
            if met is None and fault.first <= self._met[id(fault)] < fault.first + fault.times:
                met = fault
        return met

    # --- Deeds ---

    def _task(self, slug: str) -> ServedTask:
        if slug not in self.tasks:
            raise not_found()
        return self.tasks[slug]

    def _schedule(self, slug: str, models: Sequence[str]) -> list[ScheduleResult]:
        task = self._task(slug)
        if not task.is_ready(self.now()):
            raise bad_request()
        if self.scenario.refused.intersection(models):
            raise not_found()
        return [self._schedule_one(task, model) for model in models]

    def _schedule_one(self, task: ServedTask, model: str) -> ScheduleResult:
        version = len(task.versions)
        last = task.last_of.get((0 if self.scenario.of_any_version else version, model))
        if self.scenario.one_in_flight and last and not last.state(self.now()).terminal:
            return ScheduleResult(run_skipped_reason=IN_FLIGHT)
        self._start(task, model, None, version, self.now(), ours=True)
        return ScheduleResult(run_scheduled=True)

    def _start(
        self, task: ServedTask, model: str, course: Course | None, version: int, at: float, *, ours: bool
    ) -> ServedRun:
        self._scheduled[task.slug, model] += 1
        course = course or self.scenario.course(task.slug, model, self._scheduled[task.slug, model])
        run = ServedRun(len(self.runs) + 1001, task.slug, version, model, at, course, ours)
        self.runs[run.id] = run
        task.add(run)
        heapq.heappush(self._spending, (run.ends, course.cost or 0.0))
        return run

    def _page(self, slug: str, models: Sequence[str], start: int) -> tuple[list[Run], int | None]:
        """The runs from number `start` on as they are now, and where the next page starts."""
        now, scenario = self.now(), self.scenario
        listed = [
            run
            for run in self._task(slug).in_order(scenario.order)
            if run.scheduled + scenario.unlisted <= now and (not models or run.model in models)
        ]
        end = len(listed) if scenario.page is None else start + scenario.page
        page = [run.answer(now, scenario.spell) for run in listed[start:end]]
        return page, end if end < len(listed) else None

    def _run_with_log(self, run_id: int) -> ServedRun:
        run = self.runs[run_id]
        late = run.course.log_gap if run.state(self.now()).terminal else run.course.log_late
        since = run.ends if run.state(self.now()).terminal else run.begins
        if run.state(self.now()) == RunState.QUEUED or self.now() < since + late:
            raise not_found()
        return run

    def _run_with_output(self, run_id: int) -> ServedRun:
        run = self.runs[run_id]
        if self.now() < run.ends + run.course.output_gap:
            raise not_found()
        run.downloads += 1
        if run.downloads <= run.course.download_faults:
            raise ConnectionFailed("The download broke off", endpoint=self.config.endpoint)
        if run.downloads <= run.course.download_faults + run.course.bad_zips:
            raise BadZip("The download is damaged")
        return run

    def _balances(self) -> ModelProxyQuotas:
        if not self.scenario.quota:
            raise not_found()
        while self._spending and self._spending[0][0] <= self.now():
            self._spent += heapq.heappop(self._spending)[1]
        daily = QuotaBalance(
            quota_used=2.0 + self._spent, total_quota_allowed=50.0, refill_period=RefillPeriod.DAILY
        )
        monthly = QuotaBalance(
            quota_used=9.0 + self._spent, total_quota_allowed=500.0, refill_period=RefillPeriod.MONTHLY
        )
        return ModelProxyQuotas(quota_balances=[daily, monthly])


class _Listing(AsyncIterator[Run]):
    """All pages, each run once, as the real client gives them."""

    def __init__(self, fetch: Callable[[int], Awaitable[tuple[list[Run], int | None]]]) -> None:
        self._fetch = fetch
        self._page: Iterator[Run] = iter(())
        self._start: int | None = 0
        self._seen: set[int] = set()

    async def __anext__(self) -> Run:
        while True:
            for run in self._page:
                if run.id not in self._seen:
                    self._seen.add(run.id)
                    return run
            if self._start is None:
                raise StopAsyncIteration
            page, self._start = await self._fetch(self._start)
            self._page = iter(page)


def _by_call(faults: Sequence[Fault]) -> dict[str, list[Fault]]:
    by_call: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        by_call[fault.call].append(fault)
    return by_call
