"""What came of a sweep, by its journal and its folder, and as files for other programs."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fanbench.errors import OutputError
from fanbench.results.scales import Scale
from fanbench.sweeps.artifacts import contents_of, saved_output
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, SavedLog, TaskPhase, TaskRecord
from fanbench.sweeps.decide import RunStatus
from fanbench.sweeps.events import DrainReason, RunMissing, SweepEnded, SweepStarted
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.preview import preview
from fanbench.sweeps.report import FIELDS, SweepReport, build_report, records, summary, write_summary
from fanbench.sweeps.state import SweepState
from fanbench.wire.messages import RunState
from tests.disk import Disk
from tests.results.build import errored, number, passed, talk, write
from tests.sweeps.records import MemoryRecords

IDENTITY = "content-1:a"
DOCUMENT = Path(__file__).parents[2] / "docs" / "sweep.md"


class Folder:
    """A sweep's folder with a journal, filled as the engine does."""

    def __init__(self, root: Path, models: tuple[str, ...] = ("m", "n"), repeats: int = 1) -> None:
        self.root = root
        self.records = MemoryRecords()
        tasks = tuple(PlannedTask(slug, IDENTITY, None) for slug in ("a", "b"))
        self.plan = SweepPlan(tasks, models, root, repeats)
        self._next = 10

    def attempt(self, planned_run: PlannedRun, *, number: int = 1, **fields: Any) -> Attempt:
        fields = {"identity": IDENTITY, "phase": Phase.FOUND, "run_id": self._next, **fields}
        self._next += 1
        made = Attempt(planned_run=planned_run, number=number, version=3, intended_at=0.0, **fields)
        self.records.save_attempts([made])
        return made

    def collected(
        self,
        planned_run: PlannedRun,
        content: dict[str, Any] | None,
        *,
        state: RunState = RunState.COMPLETED,
        **fields: Any,
    ) -> Attempt:
        """Add an attempt with its output and log; `content` is that of its run file."""
        made = self.attempt(planned_run, phase=Phase.ENDED, state=state, **fields)
        path = f"{planned_run.task}/3/{planned_run.model}/{made.run_id}"
        folder = self.root / path
        if content is not None:
            write(folder / "x.run.json", content)
        else:
            write(folder / "other.txt", "nothing")
        write(self.root / f"{path}.log", "hello\n")
        made = made.with_(
            output=saved_output(path, contents_of(folder)),
            log=SavedLog(f"{path}.log", 1, 6),
        )
        self.records.save_attempts([made])
        return made

    def report(self) -> SweepReport:
        return build_report(self.plan, self.records)

    def cell(self) -> str:
        """Return the first cell of the table."""
        return self.report().table().rows[0][1]


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "results")


AM, AN, BM, BN = (PlannedRun(task, model) for task in "ab" for model in "mn")


def named(content: dict[str, Any], task: str = "a") -> dict[str, Any]:
    return {**content, "taskVersion": {"name": task, "versionNumber": 1}}


def test_nothing_has_begun(folder: Folder) -> None:
    """There is one row per planned run, in the order of the plan, without a folder or a journal."""
    report = build_report(folder.plan, None)
    assert [row.planned_run for row in report.rows] == [AM, AN, BM, BN]
    assert report.counts[RunStatus.UNSCHEDULED] == 4
    assert not report.ok
    assert (report.tokens_in, report.cost_usd, report.seconds) == (None, None, None)


def test_a_complete_sweep_is_ok(folder: Folder) -> None:
    """The report is ok only if all outputs and logs are there."""
    for planned_run in folder.plan.planned_runs:
        folder.collected(planned_run, named(passed(), planned_run.task))
    report = folder.report()
    assert report.ok
    assert report.counts[RunStatus.COMPLETED] == 4
    assert report.table().rows == (("a", "✓", "✓"), ("b", "✓", "✓"))
    row = report.rows[0]
    assert (row.output, row.log) == ("a/3/m/10", "a/3/m/10.log")
    assert (row.version, row.attempt, row.attempts, row.run_id) == (3, 1, 1, 10)


def test_each_status(folder: Folder) -> None:
    """Each kind of attempt has its status, and attempts at another content do not count."""
    folder.attempt(AM)
    folder.attempt(AN, phase=Phase.INTENDED, run_id=None)
    folder.attempt(BM, phase=Phase.ENDED, state=RunState.COMPLETED)
    folder.collected(BN, named(errored(), "b"), state=RunState.ERRORED, error="Traceback\nno")
    assert [row.status for row in folder.report().rows] == [
        RunStatus.RUNNING,
        RunStatus.RUNNING,
        RunStatus.MISSING,
        RunStatus.ERRORED,
    ]
    assert folder.report().table().rows == (("a", "running", "running"), ("b", "–", "errored"))
    other = Folder(folder.root)
    other.attempt(AM, identity="content-1:b")
    other.attempt(AN, phase=Phase.VOID, run_id=None)
    assert other.report().counts[RunStatus.UNSCHEDULED] == 4


def test_a_task_that_failed(folder: Folder) -> None:
    """The runs of a failed task are missing, with the reason; a failure of another content does not count."""
    folder.records.save_task(TaskRecord("a", IDENTITY, TaskPhase.FAILED, error="no run"))
    folder.records.save_task(TaskRecord("b", "content-1:b", TaskPhase.FAILED, error="old"))
    rows = folder.report().rows
    assert [(row.status.value, row.error) for row in rows] == [
        ("missing", "push: no run"),
        ("missing", "push: no run"),
        ("unscheduled", ""),
        ("unscheduled", ""),
    ]


def test_a_deleted_output_is_missing(folder: Folder) -> None:
    """The report checks the disk, whatever the journal has."""
    made = folder.collected(AM, named(passed()))
    assert folder.report().rows[0].status is RunStatus.COMPLETED
    assert made.output is not None
    (folder.root / made.output.path / "x.run.json").unlink()
    row = folder.report().rows[0]
    assert row.status is RunStatus.MISSING
    assert (row.output, row.result) == (None, None)


def test_a_deleted_log_is_missing(folder: Folder) -> None:
    """A run without its log is missing, but its result is still shown."""
    made = folder.collected(AM, named(passed()))
    assert made.log is not None
    (folder.root / made.log.path).unlink()
    row = folder.report().rows[0]
    assert (row.status, row.log) == (RunStatus.MISSING, None)
    assert row.result is not None


def test_an_errored_run_is_errored_without_its_files(folder: Folder) -> None:
    """An errored run needs no files to be errored."""
    folder.attempt(AM, phase=Phase.ENDED, state=RunState.ERRORED, error="no")
    row = folder.report().rows[0]
    assert (row.status, row.error) == (RunStatus.ERRORED, "no")


def test_only_attempts_at_this_content_are_counted(folder: Folder) -> None:
    """Earlier attempts do not count, but their numbers are continued."""
    folder.attempt(AM, identity="content-1:b")
    folder.attempt(AM, number=2)
    row = folder.report().rows[0]
    assert (row.attempt, row.attempts) == (2, 1)


def test_what_the_events_add(folder: Folder) -> None:
    """Events add why runs were given up, how long the sweep took, and why it stopped."""
    folder.collected(AM, named(passed()))
    folder.attempt(AN)
    state = SweepState()
    state.absorb(SweepStarted("r", "e", ("a", "b"), ("m", "n"), 1, 4, 0))
    for planned_run in (AM, AN, BM):
        state.absorb(RunMissing(planned_run, 1, "timeout", "too long"))
    state.absorb(SweepEnded(4, 1, 0, 2, 1, 12.5, DrainReason.FAILURES))
    report = folder.report().after(state)
    assert [row.status.value for row in report.rows] == ["completed", "missing", "missing", "unscheduled"]
    assert report.rows[1].error == "timeout: too long"
    assert (report.seconds, report.stopped) == (12.5, DrainReason.FAILURES)


def test_the_newest_attempt_counts(folder: Folder) -> None:
    """The newest attempt gives the status; earlier ones add to the attempts and the usage."""
    used = named(errored(conversations=[talk(inputTokens=5, outputTokens=1)]))
    folder.collected(AM, used, state=RunState.ERRORED)
    better = named(passed(conversations=[talk(inputTokens=7, outputTokens=2)]))
    folder.collected(AM, better, number=2)
    row = folder.report().rows[0]
    assert (row.status.value, row.attempt, row.attempts) == ("completed", 2, 2)
    assert folder.cell() == "✓"
    assert (folder.report().tokens_in, folder.report().tokens_out) == (12, 3)
    assert folder.report().usage().rows[0][:2] == ("m", "2")


def priced(nanodollars: str | None) -> dict[str, Any]:
    cost = {"inputTokensCostNanodollars": nanodollars} if nanodollars else {}
    return named(passed(conversations=[talk(inputTokens=1, outputTokens=1, **cost)]))


def test_cost_is_known_or_unknown(folder: Folder) -> None:
    """The total cost is unknown if one cost is; what is known of it is a lower bound."""
    folder.collected(AM, priced("1000000000"))
    folder.collected(AN, priced("500000000"))
    assert folder.report().cost_usd == 1.5
    folder.collected(BM, named(priced(None), "b"))
    report = folder.report()
    assert report.cost_usd is None
    assert str(report.cost) == "at least $1.5000 (2 of 3 runs)"
    assert (summary(report)["cost_usd"], summary(report)["cost_usd_at_least"]) == (None, 1.5)


def test_an_output_without_a_run_file_has_an_unknown_cost(folder: Folder) -> None:
    """A run without a run file may still have called a model."""
    folder.collected(AM, priced("1000000000"))
    folder.collected(AN, None, state=RunState.ERRORED)
    assert folder.report().cost_usd is None
    assert folder.report().rows[1].result is None


def errored_first(folder: Folder) -> Attempt:
    """Add an errored first attempt at a run whose second attempt is complete, with a cost."""
    first = folder.collected(AM, priced("5000000000"), state=RunState.ERRORED)
    folder.collected(AM, priced("1000000000"), number=2)
    return first


def test_the_cost_of_earlier_attempts_counts(folder: Folder) -> None:
    """The cost of earlier attempts is added; if it is not on disk, the total is unknown."""
    first = errored_first(folder)
    assert folder.report().cost_usd == 6.0
    assert first.output is not None
    (folder.root / first.output.path / "x.run.json").unlink()
    assert folder.report().cost_usd is None


@pytest.mark.parametrize(
    ("fields", "cost"),
    [
        ({"phase": Phase.ENDED, "state": RunState.ERRORED}, None),
        ({"phase": Phase.ENDED, "state": RunState.COMPLETED}, None),
        ({"phase": Phase.FOUND}, None),
        ({"phase": Phase.VOID, "run_id": None}, 1.0),
        ({"phase": Phase.INTENDED, "run_id": None}, 1.0),
    ],
    ids=["errored", "completed", "running", "void", "intended"],
)
def test_a_run_without_an_output_has_an_unknown_cost(
    folder: Folder, fields: dict[str, Any], cost: float | None
) -> None:
    """An attempt without an output makes the cost unknown, unless it never became a run."""
    folder.collected(AM, priced("1000000000"), number=2)
    folder.attempt(AM, **fields)
    assert folder.report().cost_usd == cost
    other = Folder(folder.root)
    other.collected(AM, priced("1000000000"))
    other.attempt(AN, **fields)
    assert other.report().cost_usd == cost


def test_the_run_file_of_the_task_is_taken(folder: Folder) -> None:
    """The result is that of the task's own run file, and belongs to the run by its folder."""
    made = folder.collected(AM, named(number(0.25)))
    assert made.output is not None
    path = folder.root / made.output.path
    write(path / "other.run.json", named(number(0.75), "Other"))
    output = saved_output(made.output.path, contents_of(path))
    folder.records.save_attempts([made.with_(output=output)])
    assert folder.cell() == "0.25"


def test_an_owner_in_the_slug_is_a_folder(tmp_path: Path) -> None:
    """The results of "owner/task" are found in a nested folder."""
    folder = Folder(tmp_path)
    folder.plan = SweepPlan((PlannedTask("me/a", IDENTITY, None),), ("m",), tmp_path)
    folder.collected(PlannedRun("me/a", "m"), named(passed()))
    assert folder.cell() == "✓"


def test_a_sweep_behind_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are found through links and relative paths."""
    folder = Folder(tmp_path / "real")
    folder.collected(AM, named(passed()))
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    for root in (tmp_path / "link", Path("real"), Path("link/../real")):
        plan = SweepPlan(folder.plan.tasks, folder.plan.models, root)
        assert build_report(plan, folder.records).table().rows[0][1] == "✓"


# --- Cells ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("contents", "text"),
    [
        ([passed(), passed(False), passed()], "0.6667 [0.21, 0.94]"),
        ([number(0.5), number(0.75)], "0.625 [0.14, 0.94]"),
        ([passed(), errored()], "1 1/2"),
        ([number(float(each)) for each in range(5)], "2 (0 to 4)"),
        ([passed(), None], "1 1/2"),
        ([passed(), "errored", None, None], "1 1/4"),
        (["errored", "errored"], "errored"),
        ([None, None, None], "–"),
        ([None, "errored"], "1 errored, 1 missing"),
        ([number(0.5), None], "0.5 1/2"),
        ([number(0.9), number(0.9), passed(False), number(0.9)], "0.9 [0.36, 0.99] 3/4"),
    ],
)
def test_repeats_share_a_cell(tmp_path: Path, contents: list[dict[str, Any] | str | None], text: str) -> None:
    """A cell has the mean of all repeats that have a score, and how many these are."""
    folder = Folder(tmp_path, models=("m",), repeats=len(contents))
    for repeat, content in enumerate(contents, 1):
        if isinstance(content, dict):
            folder.collected(PlannedRun("a", "m", repeat), named(content))
        elif content is not None:
            folder.collected(PlannedRun("a", "m", repeat), named(errored()), state=RunState.ERRORED)
    assert folder.cell() == text


def test_the_interval_of_a_run_is_shown(tmp_path: Path) -> None:
    """A single run has the interval that its task stated; repeats have one that is computed."""
    folder = Folder(tmp_path, models=("m",), repeats=1)
    result = {"numericResult": {"value": 0.8, "confidenceInterval": 0.1}}
    folder.collected(
        PlannedRun("a", "m", 1), named({**number(0), "results": [{"type": "AGGREGATED", **result}]})
    )
    assert folder.cell() == "0.8 ± 0.1"
    folder.plan = SweepPlan(folder.plan.tasks, ("m",), tmp_path, 2)
    folder.collected(PlannedRun("a", "m", 2), named(number(0.7)))
    assert folder.cell() == "0.75 [0.2, 0.97]"


def test_a_declared_scale_changes_the_report_and_no_run(folder: Folder) -> None:
    """The table and the summary have intervals on the scale that the plan declares, and every run stays done."""
    folder.plan = SweepPlan(folder.plan.tasks[:1], ("m",), folder.root, 2)
    for repeat, value in enumerate((40.0, 60.0), 1):
        folder.collected(PlannedRun("a", "m", repeat), named(number(value)))
    assert (folder.cell(), summary(folder.report())["runs"][0]["method"]) == ("50 (40 to 60)", None)
    scaled = tuple(replace(task, scale=Scale(0, 100)) for task in folder.plan.tasks)
    folder.plan = replace(folder.plan, tasks=scaled)
    assert (folder.cell(), folder.report().ok) == ("50 [9.5, 91]", True)
    assert preview(folder.plan, folder.records).nothing_to_do


def test_a_report_shows_its_tables(folder: Folder) -> None:
    """`print` and notebooks show the results, and what each model used once there are results."""
    assert str(folder.report()) == folder.report().table().plain()
    folder.plan = SweepPlan(folder.plan.tasks[:1], ("m",), folder.root)
    folder.collected(PlannedRun("a", "m", 1), named(number(0.5)))
    report = folder.report()
    assert str(report) == f"{report.table().plain()}\n\n{report.usage().plain()}"
    assert report.table().html() in report._repr_html_()


def test_a_file_that_cannot_be_read_is_named(folder: Folder) -> None:
    """A completed run whose run file is damaged has no result, and the report says why."""
    folder.plan = SweepPlan(folder.plan.tasks[:1], ("m",), folder.root)
    folder.collected(PlannedRun("a", "m", 1), {"taskVersion": 1})
    report = folder.report()
    (problem,) = report.problems
    assert report.ok
    assert str(report).endswith(f"\n\nSkipped {problem.path}: {problem.what}")
    assert problem.what.startswith("not a run file")


def test_many_models_are_rows(tmp_path: Path) -> None:
    """With many models, each model is a row, in the order of the plan."""
    table = Folder(tmp_path, models=("z", "y", "x", "w", "v")).report().table()
    assert table.header == ("model", "a", "b")
    assert [row[0] for row in table.rows] == ["z", "y", "x", "w", "v"]


def test_models_stay_columns_if_there_are_as_many_tasks(tmp_path: Path) -> None:
    """Models are columns if there are no more of them than tasks."""
    slugs = ("a", "b", "c", "d", "e")
    tasks = tuple(PlannedTask(slug, IDENTITY, None) for slug in slugs)
    report = build_report(SweepPlan(tasks, ("z", "y", "x", "w", "v"), tmp_path), None)
    assert report.table().header == ("task", "z", "y", "x", "w", "v")


def test_usage_is_in_the_order_of_the_plan(tmp_path: Path) -> None:
    """The usage lists the models in the order of the plan."""
    folder = Folder(tmp_path, models=("n", "m"))
    for planned_run in folder.plan.planned_runs:
        folder.collected(
            planned_run, {**named(passed(), planned_run.task), "modelVersion": {"slug": planned_run.model}}
        )
    assert [row[0] for row in folder.report().usage().rows] == ["n", "m"]


# --- Files ----------------------------------------------------------------------------------------------------


def test_the_summary(folder: Folder) -> None:
    """The summary has everything as JSON and the runs as CSV, and no partial file is left."""
    folder.collected(AM, named(passed(conversations=[talk(inputTokens=5, outputTokens=1)])))
    folder.collected(AN, named(errored()), state=RunState.ERRORED, error='Traceback\nsay "no", é')
    report = folder.report()
    write_summary(report)
    write_summary(report)
    text = (folder.root / "summary.json").read_text()
    read = json.loads(text)
    assert text == json.dumps(read, ensure_ascii=False, indent=2) + "\n"
    assert read["format"] == 1
    assert (read["planned"], read["completed"], read["errored"], read["unscheduled"]) == (4, 1, 1, 2)
    assert read["ok"] is False
    assert [tuple(run) for run in read["runs"]] == [FIELDS] * 4
    first = read["runs"][0]
    assert (first["status"], first["value"], first["tokens_in"]) == ("completed", True, 5)
    with (folder.root / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == FIELDS
    assert rows[0]["value"] == "true"
    assert (read["runs"][1]["error"], rows[1]["error"]) == ('Traceback\nsay "no", é', 'say "no", é')
    assert rows[2]["run_id"] == ""
    assert sorted(os.listdir(folder.root)) == ["a", "summary.csv", "summary.json"]


def test_a_summary_with_unknown_values(folder: Folder) -> None:
    """Unknown values are null, times are in UTC, and text that is not Unicode is replaced."""
    folder.attempt(AM, phase=Phase.ENDED, state=RunState.ERRORED, error="no file \udcff")
    folder.records.save_attempts([one.with_(version=0) for one in folder.records.attempts()])
    content = summary(folder.report(), now=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    assert content["written"] == "2026-01-02T03:04:05.000Z"
    assert content["runs"][0]["version"] is None
    folder.root.mkdir()
    write_summary(folder.report())
    assert "no file ?" in (folder.root / "summary.csv").read_text()


def test_a_summary_that_cannot_be_written(folder: Folder) -> None:
    """The error names the folder, and no part is left."""
    folder.root.mkdir()
    (folder.root / "summary.json").mkdir()
    with pytest.raises(OutputError, match="summary"):
        write_summary(folder.report())
    assert os.listdir(folder.root) == ["summary.json"]


@pytest.mark.parametrize("step", range(2))
def test_a_summary_that_is_half_written(folder: Folder, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """On a full disk the earlier summary stays complete."""
    folder.root.mkdir()
    write_summary(folder.report())
    before = {path: path.read_bytes() for path in folder.root.iterdir()}
    folder.collected(AM, named(passed()))
    after = {*os.listdir(folder.root)}
    Disk(monkeypatch).fails_at = step
    with pytest.raises(OutputError, match="No space left"):
        write_summary(folder.report())
    assert {path: path.read_bytes() for path in before} == before
    assert {*os.listdir(folder.root)} == after


def test_a_summary_is_on_the_disk(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file reaches the disk before its name does."""
    folder.root.mkdir()
    disk = Disk(monkeypatch)
    write_summary(folder.report())
    assert [what for what, *_ in disk.asked] == ["fsync", "rename", "fsync"] * 2
    assert [content for what, _, content in disk.asked if what == "fsync"] == [
        (folder.root / "summary.json").read_bytes(),
        None,
        (folder.root / "summary.csv").read_bytes(),
        None,
    ]


def test_the_document_names_every_field(folder: Folder) -> None:
    """docs/sweep.md has exactly the fields of the summary and of its runs."""
    text = DOCUMENT.read_text(encoding="utf-8")
    _, _, section = text.partition("\n## The summary\n")
    whole, _, runs = section.partition("\n### Runs\n")
    assert _fields(whole) == tuple(summary(folder.report(), now=datetime(2030, 1, 1, tzinfo=UTC)))
    assert _fields(runs.partition("\n## ")[0]) == FIELDS


def _fields(section: str) -> tuple[str, ...]:
    rows = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    return tuple(name.strip(" `") for row in rows for name in row.split(","))


def test_a_result_is_shown_before_its_output_is_there(folder: Folder) -> None:
    """What the server says of a run stands in the table, marked, until its run file does."""
    ended = folder.attempt(AM, phase=Phase.ENDED, state=RunState.COMPLETED, result=0.75)
    assert folder.cell() == "0.75 (server)"
    (record, *_) = records(folder.report())
    assert (record["value"], record["server_result"], record["status"]) == (None, 0.75, "missing")
    folder.collected(AM, named(number(0.75)), run_id=ended.run_id, result=0.75)
    assert folder.cell() == "0.75"
    assert folder.report().contradictions == ()


@pytest.mark.parametrize(
    ("said", "content", "told"),
    [
        (0.5, number(0.5), ""),
        (0.5000001, number(0.5), ""),
        (0.50001, number(0.5), "the server reports 0.50001, but the run file has 0.5"),
        (1e9 + 1, number(1e9), ""),
        (True, passed(), ""),
        (1.0, passed(), ""),
        (False, passed(), "the server reports Fail, but the run file has Pass"),
        (0.5, {**passed(), "results": []}, "the server reports 0.5, but the run file has nothing"),
        (0.5, {**passed(), "results": [{"dictResult": {"a": 1}}]}, ""),
        (None, number(0.5), ""),
        (0.5, None, ""),
    ],
)
def test_a_run_file_that_the_server_contradicts_is_named(
    folder: Folder, said: float | bool | None, content: dict[str, Any] | None, told: str
) -> None:
    """A difference of more than a millionth is told once, for the run; the run file counts."""
    made = folder.collected(AM, content and named(content), result=said)
    found = folder.report().contradictions
    assert len(found) == bool(told)
    assert all(one.startswith(f"Run {made.run_id} of a on m: ") and told in one for one in found)
