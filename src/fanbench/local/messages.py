"""Rows of the database, and models of the catalogue, as messages of the protocol."""

from __future__ import annotations

from fanbench.local.models.catalog import ModelSpec
from fanbench.local.store import RunRow, TaskVersion
from fanbench.local.wire import OWNER
from fanbench.wire.messages import (
    BenchmarkModel,
    Modality,
    ModelVersion,
    Run,
    Task,
    TaskOptions,
    TaskSlug,
    TaskSource,
)
from fanbench.wire.slugs import normalize_model

__all__ = ["model_message", "run_message", "task_message"]


def task_message(row: TaskVersion, base_url: str) -> Task:
    return Task(
        slug=TaskSlug(owner_slug=OWNER, task_slug=row.slug, version_number=row.version),
        # Absolute: clients resolve a path against www.kaggle.com.
        url=f"{base_url}/benchmarks/tasks/{OWNER}/{row.slug}/{row.version}",
        creation_state=row.state,
        create_time=row.created,
        creation_error_message=row.error,
        is_public=row.public,
        source_kernel_id=row.id,
        is_backing_notebook_published=row.notebook_public,
        options=TaskOptions(dataset_data_sources=row.datasets) if row.datasets else None,
        source=TaskSource.CLI,
    )


def run_message(row: RunRow) -> Run:
    version = row.version
    return Run(
        task_slug=TaskSlug(owner_slug=OWNER, task_slug=version.slug, version_number=version.version),
        model_version_slug=row.model,
        id=row.id,
        state=row.state,
        start_time=row.started,
        end_time=row.ended,
        error_message=row.error,
    )


def model_message(spec: ModelSpec, number: int) -> BenchmarkModel:
    slug = normalize_model(spec.slug)
    name = spec.name or slug
    version = ModelVersion(
        id=number,
        slug=slug,
        display_name=name,
        model_proxy_slug=spec.slug,
        allow_model_proxy=True,
        input_modalities=[Modality(f"MODALITY_{word.upper()}") for word in spec.input],
        output_modalities=[Modality(f"MODALITY_{word.upper()}") for word in spec.output],
    )
    return BenchmarkModel(id=number, display_name=name, slug=slug, version=version)
