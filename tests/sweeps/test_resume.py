"""A folder keeps its sweep: another one is refused, and the same one can be planned again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio.to_thread
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanbench import Bearer, Config, UsageError
from fanbench.errors import JournalError, SweepError
from fanbench.results.scales import Scale
from fanbench.sweeps.attempts import version_identity
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.plan import PlannedTask, SweepPlan
from fanbench.sweeps.resume import read_saved, refuse_other_sweep, resumed, saved_text, spec_of
from fanbench.sweeps.spec import MaxFailures, Rules, SweepSpec, TaskChoice
from fanbench.wire.messages import Citation
from fanbench.wire.metadata import Metadata
from tests.sweeps.test_plan import client, file, plan

pytestmark = pytest.mark.anyio

URL = "http://one"
NAMES = ("a", "b", "c")
PAGE = Metadata(tags=("maths",), citations=(Citation(title="A", url="https://a.org"),))


def planned(
    tasks: Sequence[str] = NAMES, models: Sequence[str] = NAMES, repeats: int = 2, **more: Any
) -> SweepPlan:
    made = tuple(PlannedTask(name, version_identity(1), None) for name in tasks)
    return SweepPlan(made, tuple(models), Path("out"), repeats, **more)


def refusal(saved: str, plan: SweepPlan, endpoint: str) -> SweepError | None:
    try:
        refuse_other_sweep(saved, plan, endpoint)
    except SweepError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("later", "endpoint", "message"),
    [
        (planned(), URL, None),
        (planned(tasks=["c", "a", "b"], models=["b", "c", "a"]), URL, None),
        (planned(tasks=[*NAMES, "d"], models=["d", *NAMES], repeats=3), URL, None),
        (planned(rules=Rules(timeout=5)), URL, None),
        (planned(), "http://two", "runs on http://one, not on http://two"),
        (planned(tasks="ac"), URL, "this one lacks its task b"),
        (planned(tasks="ad"), URL, "this one lacks its tasks b, c"),
        (planned(models="ab"), URL, "this one lacks its model c"),
        (planned(judge="a"), URL, "its judge is the server's, that of this one is a"),
        (planned(repeats=1), URL, "it repeats 2 times, this one 1"),
        (planned(tasks="ab", models="ab"), URL, "lacks its task c; this one lacks its model c"),
    ],
)
def test_what_makes_another_sweep(later: SweepPlan, endpoint: str, message: str | None) -> None:
    """A plan with less than the folder has, or for another server, is refused; more extends it, in any order."""
    error = refusal(saved_text(planned(), URL), later, endpoint)
    assert (error is None) == (message is None)
    if error is not None and message is not None:
        assert message in error.message
        assert "--fresh" in str(error.hint)
        command = "fanbench sweep -o out" if endpoint == URL else f"--endpoint {URL}"
        assert command in str(error.hint)


def test_a_local_server_may_change_its_port() -> None:
    """A local server is the same one at any port: its data folder tells it from others."""

    def local(port: int, data: str) -> str:
        return Config(f"http://127.0.0.1:{port}", Bearer("t"), local_data=Path(data)).server

    saved = saved_text(planned(), local(1, "/my data"))
    assert refusal(saved, planned(), local(2, "/my data")) is None
    for other in (local(1, "/other"), "http://127.0.0.1:1"):
        error = refusal(saved, planned(), other)
        assert error is not None
        assert "add --local --data '/my data'" in str(error.hint)


@settings(deadline=None)
@given(
    *[st.lists(st.sampled_from(NAMES), unique=True) for _ in range(4)], st.integers(1, 3), st.integers(1, 3)
)
def test_a_plan_continues_a_sweep_only_with_all_of_its_runs(
    tasks: list[str], more: list[str], models: list[str], others: list[str], repeats: int, again: int
) -> None:
    """For every pair of plans, the later one must contain every run of the earlier one."""
    earlier, later = planned(tasks, models, repeats), planned(more, others, again)
    same = refusal(saved_text(earlier, URL), later, URL) is None
    assert same == (set(tasks) <= set(more) and set(models) <= set(others) and repeats <= again)


def test_another_judge_is_another_sweep() -> None:
    """The judge is part of a sweep, because the results depend on it."""
    saved = saved_text(planned(judge="a"), URL)
    assert refusal(saved, planned(judge="a"), URL) is None
    assert "its judge is a, that of this one is b." in str(refusal(saved, planned(judge="b"), URL))
    assert "its judge is a, that of this one is the server's." in str(refusal(saved, planned(), URL))


def test_a_folder_with_a_space_in_its_name() -> None:
    """The command in the hint can be typed as it is."""
    later = SweepPlan((), (), Path("my results"))
    error = refusal(saved_text(planned(), URL), later, URL)
    assert error is not None
    assert "fanbench sweep -o 'my results'" in str(error.hint)


def test_many_that_are_missing_are_counted() -> None:
    """Only the first five missing names are listed."""
    error = refusal(saved_text(planned(tasks=[f"t{at}" for at in range(20)]), URL), planned(tasks=[]), URL)
    assert error is not None
    assert "t0, t1, t2, t3, t4 and 15 more" in error.message


async def test_what_is_saved_makes_the_same_plan_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is the same in any folder, even if the patterns would match more models by now."""
    monkeypatch.chdir(tmp_path)
    file(tmp_path, "a", "b")
    rules = {"retry_errored": 1, "max_failures": MaxFailures(5, percent=True), "include_source": True}
    choices = (
        TaskChoice(file=Path("a.py"), datasets=("me/d",), scale=Scale(0, 100), page=PAGE),
        TaskChoice(slug="x", scale=Scale(higher_is_better=False)),
    )
    wanted = SweepSpec(
        tasks=choices,
        models=("gemini-*",),
        judge="x/gemini-a",
        repeats=2,
        timeout=5.0,
        **rules,  # type: ignore[arg-type]
    )
    server = client("x")
    first = await plan(server, wanted)
    saved = read_saved(await anyio.to_thread.run_sync(saved_text, first, URL))
    assert saved.spec is not None
    server.add_model("gemini-c")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    second = await plan(server, saved.spec)
    assert second.planned_runs == first.planned_runs
    assert [one.identity for one in second.tasks] == [one.identity for one in first.tasks]
    assert [one.scale for one in second.tasks] == [one.scale for one in first.tasks]
    assert [one.declared_page for one in second.tasks] == [PAGE, PAGE, None]
    assert saved.scales == {"a": Scale(0, 100), "b": Scale(0, 100), "x": Scale(higher_is_better=False)}
    assert (second.rules, second.output) == (first.rules, tmp_path / "results")
    assert (second.judge, first.judge) == ("gemini-a", "gemini-a")


def test_a_moved_folder_continues_in_its_new_place(tmp_path: Path) -> None:
    """The sweep continues in the folder where it is now, with its own limits until others are given."""
    with Journal.open(tmp_path) as journal:
        rules = Rules(timeout=5, streams=3, downloads=4, poll_interval=6, retry_errored=2)
        journal.save_spec(saved_text(planned(rules=rules), URL))
    assert resumed(tmp_path) == SweepSpec(
        tasks=tuple(TaskChoice(slug=name) for name in NAMES),
        models=NAMES,
        repeats=2,
        output=tmp_path,
        include_source=False,
        streams=3,
        downloads=4,
        timeout=5,
        poll_interval=6,
        retry_errored=2,
        cancel="never",
        cancel_on_interrupt=False,
        adopt=False,
        enqueue="never",
    )


def test_a_folder_without_a_sweep_cannot_be_continued(tmp_path: Path) -> None:
    """A missing folder, an empty one, and a sweep of notebooks without files are refused."""
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="No task is given"):
            resumed(folder)
    with Journal.open(tmp_path) as journal:
        journal.save_spec(
            saved_text(SweepPlan((PlannedTask("a", "i", None, notebook="{}"),), ("m",), tmp_path), URL)
        )
    with pytest.raises(UsageError, match="started by a Python program"):
        resumed(tmp_path)


def test_a_plan_of_notebooks_without_files_cannot_be_planned_again() -> None:
    """It has no spec, but is compared like any other."""
    made = SweepPlan((PlannedTask("a", "i", None, notebook="{}"),), ("m",), Path("out"))
    assert spec_of(made) is None
    saved = saved_text(made, URL)
    assert read_saved(saved).spec is None
    refuse_other_sweep(saved, made, URL)
    with pytest.raises(SweepError, match="another sweep"):
        refuse_other_sweep(saved, made, "http://two")


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", '{"endpoint": 1}', msgspec.json.encode(SweepSpec()).decode()]
)
def test_a_saved_sweep_that_cannot_be_read_is_an_error(text: str) -> None:
    """It is never taken for a folder without a sweep."""
    with pytest.raises(JournalError, match="cannot be read"):
        refuse_other_sweep(text, planned(), URL)
