"""The preview tells what will be done before anything is changed, and its numbers add up."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench import FanbenchError, ServerFault
from fanbench.operations.quota import Quota, Quotas
from fanbench.sweeps.attempts import (
    Attempt,
    Phase,
    PlannedRun,
    SavedLog,
    SavedOutput,
    TaskPhase,
    TaskRecord,
    content_identity,
    version_identity,
)
from fanbench.sweeps.decide import PushStep, Step
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.preview import Counts, Preview, preview, read_quotas
from fanbench.sweeps.spec import Rules
from fanbench.tasks import Finding
from fanbench.testing import Fault
from fanbench.wire.messages import (
    CreationState,
    QuotaBalance,
    RefillPeriod,
    Run,
    RunState,
    Task,
    TaskQuota,
)
from fanbench.wire.metadata import Metadata
from tests.operations.conftest import simulated, task
from tests.sweeps.records import MemoryRecords
from tests.wire.scripted import in_virtual_time

MINE = content_identity("{}", [])
PLAIN = Rules()
OUTPUT, LOG = SavedOutput("o", 1, 2, "d"), SavedLog("o/run.log", 1, 2)


def pushed(slug: str = "t", seen: Task | None = None, datasets: Sequence[str] = ()) -> PlannedTask:
    return PlannedTask(slug, MINE, seen, Path(f"{slug}.py"), "{}", tuple(datasets))


def existing(slug: str, state: CreationState = CreationState.COMPLETED) -> PlannedTask:
    return PlannedTask(slug, version_identity(1), task(slug, state))


def plan(
    *tasks: PlannedTask, models: Sequence[str] = "abc", repeats: int = 1, rules: Rules = PLAIN
) -> SweepPlan:
    return SweepPlan(tasks, tuple(models), Path("out"), repeats, rules)


def attempt(model: str, phase: Phase, *, number: int = 1, identity: str = MINE, repeat: int = 1) -> Attempt:
    return Attempt(PlannedRun("t", model, repeat), number, identity, 1, phase, 0.0)


def records(*attempts: Attempt, task: TaskRecord | None = None) -> MemoryRecords:
    made = MemoryRecords()
    made.save_attempts(attempts)
    if task is not None:
        made.save_task(task)
    return made


def only(made: Preview) -> tuple[PushStep, bool, Counts, int]:
    (one,) = made.tasks
    return one.push, one.pushed, one.counts, one.calls


# --- Counts and calls ---


def test_a_first_sweep_needs_everything() -> None:
    """A push takes a create call and three polls; runs take a list, calls per repeat, polls, logs and outputs."""
    made = preview(plan(pushed(), repeats=2))
    assert only(made) == (PushStep.NEW, True, Counts(schedule=6), 4 + 3 + 5 + 12)
    assert (made.pushes, made.counts.planned, made.nothing_to_do) == (1, 6, False)


def test_each_run_is_counted_by_what_it_needs_next() -> None:
    """Each run is counted by its next step, and attempts at an earlier content do not count."""
    ended = attempt("d", Phase.ENDED)
    made = preview(
        plan(pushed(seen=task("t", version=1)), models="abcdefgh"),
        records(
            attempt("b", Phase.INTENDED),
            attempt("c", Phase.FOUND),
            ended,
            attempt("e", Phase.ENDED).with_(output=OUTPUT),
            attempt("f", Phase.ENDED).with_(output=OUTPUT, log=LOG),
            attempt("g", Phase.ENDED, identity="earlier").with_(output=OUTPUT, log=LOG),
            attempt("h", Phase.VOID),
            task=TaskRecord("t", MINE, TaskPhase.READY, 1),
        ),
    )
    counts = Counts(schedule=3, find=1, watch=1, collect=2, done=1)
    # Scheduling, watching, five runs to the end, and three pieces that are missing.
    assert only(made) == (PushStep.UNCHANGED, False, counts, 2 + 5 + 10 + 3)


def test_a_task_whose_runs_are_all_done_is_left_alone() -> None:
    """A task whose runs are all done is not pushed, even if the server has another version."""
    done = [attempt(model, Phase.ENDED).with_(output=OUTPUT, log=LOG) for model in "abc"]
    known = records(*done, task=TaskRecord("t", MINE, TaskPhase.READY, 1))
    made = preview(plan(pushed(seen=task("t", version=2))), known)
    assert only(made) == (PushStep.NEW_VERSION, False, Counts(done=3), 0)
    assert made.nothing_to_do
    assert any(line.startswith("Everything is done.") for line in made.lines())


def test_errored_runs_are_scheduled_again_on_request() -> None:
    """What is missing of the earlier attempt is fetched, too."""
    from fanbench.wire.messages import RunState

    errored = attempt("a", Phase.ENDED).with_(state=RunState.ERRORED)
    known = records(errored, task=TaskRecord("t", MINE, TaskPhase.READY, 1))
    there = pushed(seen=task("t", version=1))
    assert preview(plan(there, models="a"), known).counts == Counts(collect=1)
    again = preview(plan(there, models="a", rules=Rules(retry_errored=1)), known)
    assert only(again) == (PushStep.UNCHANGED, False, Counts(schedule=1, again=1), 2 + 5 + 2 + 2)
    assert "schedule 1 (1 again)" in again.lines()[0]


@st.composite
def known_attempts(draw: st.DrawFn) -> list[Attempt]:
    attempts = []
    for model in "abc":
        for repeat in (1, 2):
            for number in range(1, 1 + draw(st.integers(0, 2))):
                phase = draw(st.sampled_from(Phase))
                one = attempt(
                    model, phase, number=number, repeat=repeat, identity=draw(st.sampled_from([MINE, "x"]))
                )
                attempts.append(one.with_(output=draw(st.sampled_from([None, OUTPUT]))))
    return attempts


def test_a_call_for_each_repeat_that_is_left() -> None:
    """Only repeats with runs to schedule need a call."""
    known = records(attempt("a", Phase.FOUND, repeat=2), task=TaskRecord("t", MINE, TaskPhase.READY, 1))
    made = preview(plan(pushed(seen=task("t", version=1)), models="a", repeats=2), known)
    assert only(made) == (PushStep.UNCHANGED, False, Counts(schedule=1, watch=1), 2 + 5 + 4)


@settings(deadline=None)
@given(known_attempts(), st.integers(0, 2))
def test_every_planned_run_is_counted_once(attempts: list[Attempt], retry_errored: int) -> None:
    """Whatever the journal has, calls are needed if and only if something is to be done."""
    made = preview(
        plan(pushed(), existing("u"), repeats=2, rules=Rules(retry_errored=retry_errored)), records(*attempts)
    )
    assert made.counts.planned == 12
    assert [one.counts.planned for one in made.tasks] == [6, 6]
    first = made.tasks[0]
    assert (first.calls > 0) == (first.counts.done < 6)
    assert first.pushed == (first.counts.schedule > 0)
    json.dumps(made.record)


# --- Quotas and warnings ---


def quota(used: float, total: float) -> Quota:
    return Quota("task_runs", "daily", used, total)


def proxy(used: float, total: float) -> Quota:
    return Quota("model_proxy", "monthly", used, total)


@pytest.mark.parametrize(
    ("left", "max_cost", "warning"),
    [
        (quota(0, 3), None, None),
        (quota(1, 3), None, "3 runs to schedule, and only 2 left of the daily quota."),
        (quota(5, 3), None, "3 runs to schedule, and only 0 left of the daily quota."),
        (proxy(1, 2), None, None),
        (proxy(1, 2), 1.0, None),
        (proxy(2, 2), None, "Nothing is left of the monthly quota of the Model Proxy."),
        (
            proxy(1, 2),
            1.5,
            "The monthly quota of the Model Proxy has $1.00 left, less than the $1.50 that the sweep may cost.",
        ),
    ],
)
def test_a_small_quota_gives_a_warning(left: Quota, max_cost: float | None, warning: str | None) -> None:
    """There is a warning before the server refuses the runs."""
    made = preview(plan(pushed(), rules=Rules(max_cost=max_cost)), quotas=Quotas((left,)))
    assert made.warnings == ((warning,) if warning else ())


def test_no_warning_without_runs_to_schedule() -> None:
    """Runs that exist already need no quota."""
    known = records(*(attempt(model, Phase.FOUND) for model in "abc"))
    assert preview(plan(pushed()), known, Quotas((quota(3, 3), proxy(2, 2)))).warnings == ()


def test_lost_datasets_give_a_warning() -> None:
    """The server attaches only the datasets of the push."""
    there = task("t", version=4, datasets=["me/a", "me/b"])
    lost, _ = preview(plan(pushed(seen=there, datasets=["me/b"]))).warnings
    assert lost == "t loses the datasets of its version 4: me/a."
    assert "datasets" not in "".join(preview(plan(pushed(seen=there, datasets=["me/b", "me/a"]))).warnings)


@pytest.mark.parametrize("state", CreationState)
def test_a_failed_creation_gives_a_warning(state: CreationState) -> None:
    """A task by its slug whose creation has failed gives a warning, and one in creation does not."""
    fine = ("COMPLETED", "QUEUED", "RUNNING", "VALIDATING", "UNSPECIFIED")
    warnings = preview(plan(existing("x", state))).warnings
    assert warnings == (
        () if state.label in fine else (f"x cannot be run: its creation ended as {state.label}.",)
    )


def test_a_new_version_of_a_task_that_is_there_gives_a_warning() -> None:
    """A sweep into a new folder cannot tell whether the server has the same content, and says what it does."""
    there = [pushed(f"t{number}", seen=task(f"t{number}", version=number)) for number in range(1, 8)]
    names = ", ".join(f"t{number} (version {number})" for number in range(1, 6))
    (warning,) = preview(plan(*there)).warnings
    assert warning.startswith(f"On the server already: {names} and 2 more. No run of it shows")
    assert preview(plan(existing("x", CreationState.COMPLETED), pushed())).warnings == ()


def test_warnings_about_files_are_few_and_the_worst_come_first() -> None:
    """Ten findings are warnings, first those with which a push fails, and the last line counts the others."""
    found = tuple(Finding("warning", f"Odd {line}.", line) for line in range(1, 13))
    fatal = Finding("warning", "Fatal.", 20, fails=("t",))
    shown = preview(plan(replace(pushed(), warnings=(*found, fatal))))
    *lines, rest = shown.warnings
    assert lines == ["t.py:20: Fatal.", *(f"t.py:{line}: Odd {line}." for line in range(1, 10))]
    assert rest == "3 more warnings about the files: fanbench check t.py"
    (there,) = shown.tasks
    assert there.fails


def test_no_warning_for_a_task_with_nothing_to_schedule() -> None:
    """Its files can be fetched all the same."""
    there = task("t", version=1, datasets=["me/a"])
    known = records(*(attempt(model, Phase.FOUND) for model in "abc"))
    assert preview(plan(pushed(seen=there)), known).warnings == ()
    gone = existing("t", CreationState.ERRORED)
    found = (attempt(model, Phase.FOUND, identity=gone.identity) for model in "abc")
    assert preview(plan(gone), records(*found)).warnings == ()


def test_an_unchanged_version_loses_no_datasets() -> None:
    """A task that is not pushed again keeps its datasets."""
    there = task("t", version=1, datasets=["me/a"])
    known = records(task=TaskRecord("t", MINE, TaskPhase.READY, 1))
    assert preview(plan(pushed(seen=there)), known).warnings == ()


def test_large_quotas_are_printed_in_full() -> None:
    """A million runs are 1000000, not 1e+06."""
    shown = preview(plan(pushed()), quotas=Quotas((quota(1, 1_234_568),))).lines()
    assert "Left of the daily quota: 1234567 of 1234568 runs" in shown


# --- Reading quotas ---


def test_quotas_are_read() -> None:
    """Runs, and dollars by period, are read."""
    balance = QuotaBalance(quota_used=1.0, total_quota_allowed=5.0, refill_period=RefillPeriod.MONTHLY)
    server = simulated()
    server.run_quota = TaskQuota(daily_quota_used=3, total_daily_quota_allowed=10)
    server.balances = [balance]
    found = anyio.run(read_quotas, server)
    assert found is not None
    assert found.known == (quota(3, 10), proxy(1, 5))


@pytest.mark.parametrize(
    "error",
    [
        FanbenchError("no"),
        ServerFault("broken", call="x", status=500),
        ServerFault("none", call="x", status=501),
    ],
)
def test_a_failing_quota_call_is_ignored(error: FanbenchError) -> None:
    """The sweep does not need the quotas."""
    faults = (Fault("task_quota", raises=error), Fault("proxy_quotas", raises=error))
    assert anyio.run(read_quotas, simulated(faults=faults)) is None


def test_slow_quotas_are_not_waited_for() -> None:
    """The quotas are shown only if they come in time."""

    async def main() -> tuple[object, float]:
        begun = anyio.current_time()
        return await read_quotas(simulated(latency=60.0)), anyio.current_time() - begun

    assert in_virtual_time(main) == (None, 5.0)


# --- Text ---


def test_the_text_of_a_plan() -> None:
    """The text has one line per task, the totals, the quotas and the warnings, without control characters."""
    known = records(
        *(attempt(model, Phase.ENDED).with_(output=OUTPUT, log=LOG) for model in "ab"),
        attempt("c", Phase.FOUND),
        task=TaskRecord("t", MINE, TaskPhase.READY, 4),
    )
    tasks = (
        pushed(seen=task("t", version=4)),
        pushed("new-task"),
        existing("me/x"),
        pushed("again", task("again")),
    )
    made = preview(plan(*tasks), known, Quotas((quota(5, 10), proxy(0.5, 2.25))))
    assert "\n".join(made.lines()) == (
        "t         unchanged (version 4)  watch 1; 2 done already\n"
        "new-task  new                    schedule 3\n"
        "me/x      existing (version 1)   schedule 3\n"
        "again     new version            schedule 3\n"
        "\n"
        "4 tasks × 3 models: 12 runs, results in out\n"
        "Will push 2 tasks, schedule 9, watch 1; 2 done already; about 54 calls\n"
        "Left of the daily quota: 5 of 10 runs\n"
        "Left of the monthly quota of the Model Proxy: $1.75 of $2.25\n"
        "Warning: On the server already: again (version 1). No run of it shows whether it is the same, so a "
        "new version is pushed, also of a file that has not changed, and earlier runs stay with their version. To run "
        "what is there, name the task, not its file.\n"
        "Warning: 9 runs to schedule, and only 5 left of the daily quota."
    )


def listed(*models: str, state: RunState = RunState.COMPLETED) -> tuple[Run, ...]:
    return tuple(Run(id=at, model_version_slug=model, state=state) for at, model in enumerate(models, 1))


def test_a_task_that_the_server_has_is_not_pushed() -> None:
    """A version with the same content is run as it is, without a push or a warning; any other is pushed."""
    there = pushed(seen=task("t", version=3))
    same = preview(plan(replace(there, same_as_server=True)))
    assert only(same)[:3] == (PushStep.SAME, False, Counts(schedule=3))
    assert same.lines()[0] == "t  same as version 3  schedule 3"
    assert same.warnings == ()
    other = preview(plan(replace(there, same_as_server=False)))
    assert only(other)[:2] == (PushStep.NEW_VERSION, True)
    assert other.warnings == ()


def test_runs_on_the_server_are_offered_and_taken_on_request() -> None:
    """The plan tells how many runs --adopt would take, and with it how many it takes: one for each planned run."""
    there = replace(pushed(seen=task("t", version=3)), same_as_server=True, runs=listed("a", "a", "b", "z"))
    offered = preview(plan(there))
    assert offered.counts == Counts(schedule=3)
    assert "2 runs of the same content are on the server: --adopt takes them." in offered.lines()
    taken = preview(plan(there, rules=Rules(adopt=True)))
    assert taken.counts == Counts(adopt=2, schedule=1)
    assert (taken.counts.planned, taken.counts.steps) == (3, frozenset({Step.SCHEDULE}))
    assert taken.lines()[0] == "t  same as version 3  adopt 2, schedule 1"
    assert not any("--adopt" in line for line in taken.lines())


def test_what_was_made_or_is_taken_already_is_not_taken() -> None:
    """A run of the journal is nobody else's, and a planned run with an attempt of its own takes none."""
    there = replace(pushed(seen=task("t", version=1)), runs=listed("a", "b", "b"))
    known = records(
        attempt("a", Phase.ENDED).with_(run_id=8, state=RunState.ERRORED),
        attempt("c", Phase.FOUND).with_(run_id=2),
        task=TaskRecord("t", MINE, TaskPhase.READY, 1),
    )
    made = preview(plan(there, rules=Rules(adopt=True, retry_errored=1)), known)
    assert made.counts == Counts(adopt=1, schedule=1, watch=1, again=1)


def test_singular_and_plural() -> None:
    """One is singular, and repeats are mentioned from two on."""
    lines = preview(plan(pushed(), models="a", repeats=2)).lines()
    assert "1 task × 1 model × 2 repeats: 2 runs, results in out" in lines
    judged = preview(replace(plan(pushed(), models="a"), judge="b")).lines()
    assert "1 task × 1 model (judge: b): 1 run, results in out" in judged
    assert "0 tasks × 1 model: 0 runs, results in out" in preview(plan(models="a")).lines()


def test_the_plan_says_that_runs_go_into_the_queue() -> None:
    """With `enqueue`, a plan that schedules runs says where to; one that does not says nothing."""
    for enqueue, said in (("auto", "if your account has one"), ("always", "into the server's queue.")):
        lines = preview(plan(pushed(), rules=Rules(enqueue=enqueue))).lines()  # type: ignore[arg-type]
        assert len([line for line in lines if said in line]) == 1
    assert "queue" not in "\n".join(preview(plan(pushed())).lines())
    assert "queue" not in "\n".join(preview(plan(rules=Rules(enqueue="auto"))).lines())


def test_the_record_of_a_plan() -> None:
    """The record for `--format json` has the same content."""
    record = json.loads(json.dumps(preview(plan(pushed(), models="a"), quotas=Quotas((quota(1, 2),))).record))
    others = ("find", "watch", "collect", "done", "blocked", "again", "adopt")
    counts = {"schedule": 1, **dict.fromkeys(others, 0)}
    assert record == {
        "output": "out",
        "models": ["a"],
        "repeats": 1,
        "judge": "",
        "enqueue": "never",
        "enqueued_for": "",
        "tasks": [
            {
                "task": "t",
                "push": "new",
                "pushed": True,
                "fails": False,
                "counts": counts,
                "calls": 13,
                "file": "t.py",
                "version": None,
                "datasets": [],
                "items": None,
                "offered": 0,
            }
        ],
        "counts": counts,
        "calls": 13,
        "quotas": [
            {"kind": "task_runs", "period": "daily", "used": 1, "total": 2, "refill": None, "remaining": 1}
        ],
        "warnings": [],
        "power": [],
        "planned": 1,
        "pushes": 1,
    }


@pytest.mark.parametrize("tags", [("a",), ("A ",), ("b",)])
def test_a_declared_page_that_is_not_sent_is_said(tags: tuple[str, ...]) -> None:
    """The warning names what the page of an unchanged version says otherwise, and the command that changes it."""
    there = msgspec.structs.replace(task("t", version=1), tags=["a"])
    planned = replace(pushed(seen=there), declared_page=Metadata(tags=tags, description=""))
    made = preview(plan(planned), records(task=TaskRecord("t", MINE, TaskPhase.READY, 1)))
    said = [warning for warning in made.warnings if "page" in warning]
    assert len(said) == (tags == ("b",))
    assert all("(tags)" in each and "fanbench tasks edit t" in each for each in said)
    assert not any("page" in warning for warning in preview(plan(planned)).warnings)


def test_a_page_that_will_be_changed_is_said() -> None:
    """What another has written on the page of a version is not replaced before the plan has said so."""
    there = msgspec.structs.replace(task("t", version=1), description="by hand", tags=["a"])
    planned = replace(pushed(seen=there), same_as_server=True, page=Metadata(description="D", tags=("a",)))
    said = "The page of t will be changed to what the file says: description."
    assert said in preview(plan(planned)).warnings
    assert said not in preview(plan(replace(planned, same_as_server=None))).warnings
