"""The reasoning efforts that models take."""

from __future__ import annotations

from collections.abc import Sequence

from fanbench.errors import ApiError
from fanbench.operations.api import Api
from fanbench.operations.lookup import NO_SUCH_CALL
from fanbench.operations.models import model_slug
from fanbench.wire.messages import BenchmarkModel
from fanbench.wire.slugs import normalize_model

__all__ = ["efforts_of"]


async def efforts_of(client: Api, models: Sequence[BenchmarkModel]) -> dict[str, tuple[str, ...]] | None:
    """Return the efforts of each of `models` by its normalized slug, in the server's order.

    None if the server does not have the call that lists them.
    """
    ids = {model.version.id: normalize_model(model_slug(model)) for model in models if model.version}
    try:
        configs = await client.list_configs()
    except ApiError as error:
        if error.status not in NO_SUCH_CALL:
            raise
        return None
    found: dict[str, list[str]] = {normalize_model(model_slug(model)): [] for model in models}
    for config in configs:
        if config.reasoning_effort and config.benchmark_model_version_id in ids:
            found[ids[config.benchmark_model_version_id]].append(config.reasoning_effort)
    return {slug: tuple(dict.fromkeys(efforts)) for slug, efforts in found.items()}
