"""Folders of results for tests, in the layout of downloads, with hand-made run files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
