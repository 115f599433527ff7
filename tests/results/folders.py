"""Folders of results for tests, in the layout of downloads, with hand-made run files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fanbench.results.scales import Scale
from fanbench.sweeps.attempts import Attempt, Phase, PlannedRun, SavedOutput
from fanbench.sweeps.journal import Journal
from fanbench.sweeps.resume import Saved
from fanbench.sweeps.spec import SweepSpec, TaskChoice, to_json
from fanbench.wire.messages import RunState
from tests.results.build import errored, number, passed, write


def add_run(
    root: Path,
    model: str,
    values: Iterable[Any],
    *,
    task: str = "quiz",
    version: int = 1,
    run_id: int = 1,
    usd: float | None = None,
) -> Path:
    """Write a run that was evaluated row by row, with one run file for each value; None is a row that errored.

    `usd` is the cost of each row. The folder of the run is returned.
    """
    folder = root / task / str(version) / model.rpartition("/")[2] / str(run_id)
    for row, value in enumerate(values):
        fields: dict[str, Any] = {"modelVersion": {"slug": model}, "name": task}
        if usd is not None:
            metrics = {"inputTokens": "10", "inputTokensCostNanodollars": str(round(usd * 1e9))}
            fields["conversations"] = [{"id": "c", "requests": [{"metrics": metrics}]}]
        if value is None:
            fields.pop("name")
            content = errored(taskVersion={"name": task, "versionNumber": version}, **fields)
        else:
            content = passed(value, **fields) if isinstance(value, bool) else number(value, **fields)
        name = f"{task}-run_id_Run_1_run_param_id_{row}_{model.replace('/', '_')}.run.json"
        write(folder / name, content | {"pyRunId": f"Run_{row}"})
    return folder


def make_sweep(root: Path, scales: Mapping[str, Scale] | None = None) -> None:
    """Make `root` the folder of a sweep that made the runs in it, and declares `scales` for tasks."""
    attempts = []
    for folder in sorted(root.glob("*/*/*/*")):
        task, version, model, run_id = folder.relative_to(root).parts
        output = SavedOutput(str(folder.relative_to(root)), 1, 1, "d")
        ended = Attempt(
            PlannedRun(task, model),
            1,
            f"content-1:{task}",
            int(version),
            Phase.ENDED,
            0.0,
            int(run_id),
            RunState.COMPLETED,
        )
        attempts.append(ended.with_(output=output))
    tasks = tuple({one.planned_run.task: None for one in attempts})
    models = tuple({one.planned_run.model: None for one in attempts})
    spec = SweepSpec(tasks=tuple(TaskChoice(slug=task, scale=(scales or {}).get(task)) for task in tasks))
    saved = Saved(endpoint="http://localhost", tasks=tasks, models=models, repeats=1, spec=spec)
    with Journal.open(root) as journal:
        journal.save_spec(to_json(saved))
        journal.save_attempts(attempts)
