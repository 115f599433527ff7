"""Test a pipeline without Kaggle: two tasks on three models, half an hour in a second.

pip install fanbench pytest
pytest examples/test_my_pipeline.py
"""

from pathlib import Path

import fanbench
from fanbench.testing import (
    Fault,
    RunScript,
    Scenario,
    SimulatedKaggle,
    SimulatedTransport,
    run_in_virtual_time,
)

MODELS = ["google/gemini-2.5-pro", "anthropic/claude-haiku-4-5", "qwen/qwen3"]
TASK = """\
import kaggle_benchmarks as kbench

@kbench.task(name="{name}")
def ask(llm) -> bool:
    return "4" in llm.prompt("What is 2 + 2?")

ask.run(kbench.llm)
"""


# --- The pipeline under test ---


async def evaluate(client: fanbench.Client, folder: Path) -> dict[str, float]:
    """Run all tasks in `folder` on all models; return the share of passed tasks by model."""
    report = await fanbench.sweep(folder / "*.py", "*", client=client, output=folder / "results")
    passed = dict.fromkeys(report.models, 0)
    for row in report.rows:
        passed[row.planned_run.model] += row.result is not None and row.result.value is True
    return {model: count / len(report.tasks) for model, count in passed.items()}


# --- Its tests ---


def run_pipeline(kaggle: SimulatedKaggle, folder: Path) -> dict[str, float]:
    for name in ("first", "second"):
        (folder / f"{name}.py").write_text(TASK.format(name=name))

    async def main() -> dict[str, float]:
        async with fanbench.Client(kaggle.config, http=SimulatedTransport(kaggle)) as client:
            return await evaluate(client, folder)

    return run_in_virtual_time(main)


def test_the_shares_are_those_of_the_run_files(tmp_path: Path) -> None:
    """A model that fails its runs gets 0; the others get 1."""
    runs = {
        "qwen/qwen3": RunScript.errored("OutOfMemory: 80 GB"),
        "google/gemini-2.5-pro": RunScript(running=1800),
    }
    kaggle = SimulatedKaggle(Scenario(creation=12, runs=runs), models=MODELS)
    shares = run_pipeline(kaggle, tmp_path)
    assert shares == {"gemini-2.5-pro": 1.0, "claude-haiku-4-5": 1.0, "qwen3": 0.0}
    assert 1800 < kaggle.now() < 1900


def test_a_lost_answer_starts_no_second_run(tmp_path: Path) -> None:
    """Kaggle takes a batch of runs, but the answer is lost on the way: no run is started twice."""
    faults = (Fault("schedule_runs", took_effect=True), Fault("list_runs", 429, retry_after=30))
    kaggle = SimulatedKaggle(Scenario(faults=faults), models=MODELS)
    shares = run_pipeline(kaggle, tmp_path)
    assert set(shares.values()) == {1.0}
    assert len(kaggle.runs) == 6
