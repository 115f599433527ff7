"""Tasks and runs as records: their fields are stable, and documented in docs/output.md."""

from __future__ import annotations

from typing import Any

from fanbench.cli.output import iso_time
from fanbench.operations.lookup import model_of
from fanbench.wire.messages import Run, Task
from fanbench.wire.metadata import Metadata
from fanbench.wire.slugs import full_task_url

__all__ = ["RUN_FIELDS", "TASK_FIELDS", "page_record", "run_record", "task_record"]

TASK_FIELDS = (
    "task",
    "owner",
    "version",
    "state",
    "created",
    "public",
    "url",
    "datasets",
    "error",
    "description",
    "tags",
    "provenance",
    "citations",
)
RUN_FIELDS = ("task", "run_id", "model", "state", "result", "started", "ended", "error")


def task_record(task: Task) -> dict[str, Any]:
    return {
        "task": task.slug.task_slug,
        "owner": task.slug.owner_slug or None,
        "version": task.slug.version_number or None,
        "state": task.creation_state.label,
        "created": iso_time(task.create_time),
        "public": task.is_public,
        "url": full_task_url(task.url) or None,
        "datasets": list(task.options.dataset_data_sources) if task.options else [],
        "error": task.failure or None,
        **page_record(Metadata.of(task)),
    }


def page_record(page: Metadata) -> dict[str, Any]:
    """What the page of a task says."""
    return {
        "description": page.description or None,
        "tags": list(page.tags or ()),
        "provenance": page.provenance or None,
        "citations": [{"title": each.title, "url": each.url} for each in page.citations or ()],
    }


def run_record(slug: str, run: Run) -> dict[str, Any]:
    return {
        "task": slug,
        "run_id": run.id,
        "model": model_of(run),
        "state": run.state.label,
        "result": run.value,
        "started": iso_time(run.start_time),
        "ended": iso_time(run.end_time),
        "error": run.error_message or None,
    }
