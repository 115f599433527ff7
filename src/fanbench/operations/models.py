"""`models`: which models a server offers, and how they are called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from fanbench._util.text import as_utc
from fanbench.operations.api import Api
from fanbench.wire.messages import BenchmarkModel, Modality, ModelVersion

__all__ = ["list_models", "modalities", "model_slug", "pick_default", "proxy_names"]


async def list_models(client: Api) -> list[BenchmarkModel]:
    """All models of the server, in its order."""
    return await client.list_models()


def model_slug(model: BenchmarkModel) -> str:
    """The slug that `-m` takes: that of the model's version, as tasks run on versions."""
    return (model.version and model.version.slug) or model.slug


def modalities(version: ModelVersion | None) -> str:
    """`Image-Text-to-Text`: what a model takes and gives; empty where the server does not say."""
    if version is None:
        return ""
    takes, gives = _names(version.input_modalities), _names(version.output_modalities)
    if not takes and not gives:
        return ""
    if takes == gives and len(takes) >= 3:
        return "Any-to-Any"
    return f"{'-'.join(takes) or 'Unknown'}-to-{'-'.join(gives) or 'Unknown'}"


def _names(kinds: Sequence[Modality]) -> list[str]:
    return sorted({kind.label.title() for kind in kinds if kind != Modality.UNSPECIFIED})


# --- The Model Proxy's names --------------------------------------------------------------------------------


def proxy_names(available: Sequence[BenchmarkModel], now: datetime | None = None) -> list[str]:
    """The names (`owner/model`) of the models that the Model Proxy serves today, each once."""
    today = now or datetime.now(UTC)
    versions = [model.version for model in available if model.version]
    served = [version for version in versions if version.allow_model_proxy and not _retired(version, today)]
    return list(dict.fromkeys(version.model_proxy_slug or version.slug for version in served))


def _retired(version: ModelVersion, now: datetime) -> bool:
    time = version.deprecation_time
    if time is None:
        return False
    return as_utc(time) <= now


_FLASH = re.compile(r"google/gemini-(\d+(?:\.\d+)*)-flash(-preview)?(@[\w.-]+)?")


def pick_default(names: Sequence[str]) -> str | None:
    """The model to try tasks on: the newest Gemini Flash where there is one (cheap, fast), else the first."""
    flashes = [(match, name) for name in names if (match := _FLASH.fullmatch(name))]
    if flashes:
        return max(flashes, key=lambda pair: [int(part) for part in pair[0][1].split(".")])[1]
    return names[0] if names else None
