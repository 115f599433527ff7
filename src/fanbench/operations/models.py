"""The models that a server offers, and their names."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from fanbench._util.text import as_utc
from fanbench.config import is_kaggle
from fanbench.errors import UsageError
from fanbench.wire.messages import BenchmarkModel, Modality, ModelVersion
from fanbench.wire.slugs import normalize_model

__all__ = [
    "modalities",
    "model_slug",
    "pick_default",
    "proxy_names",
    "resolve_judge",
    "resolve_model",
    "resolve_models",
]


def model_slug(model: BenchmarkModel) -> str:
    """The slug that `-m` takes: that of the model's version, because tasks run on versions."""
    return (model.version and model.version.slug) or model.slug


def modalities(version: ModelVersion | None) -> str:
    """What a model accepts and returns, such as `Image-Text-to-Text`; empty if the server does not say."""
    if version is None:
        return ""
    accepts, returns = (
        sorted({kind.label.title() for kind in kinds if kind != Modality.UNSPECIFIED})
        for kinds in (version.input_modalities, version.output_modalities)
    )
    if not accepts and not returns:
        return ""
    if accepts == returns and len(accepts) >= 3:
        return "Any-to-Any"
    return f"{'-'.join(accepts) or 'Unknown'}-to-{'-'.join(returns) or 'Unknown'}"


# --- The names that users write -----------------------------------------------------------------------------


def resolve_models(asked: Sequence[str], available: Sequence[BenchmarkModel]) -> list[str]:
    """Return the slugs to send for the models that a user `asked` for, in that order and without duplicates.

    Raises:
        UsageError: No model is given, or one is unknown. The message names it, and the models with the closest
            names.
    """
    known = _known_names(available)
    found: dict[str, None] = {}
    unknown = []
    for name in asked:
        slug = normalize_model(name)
        matches = [known[slug]] if slug in known else []
        if not matches and any(letter in slug for letter in "*?["):
            matches = [known[other] for other in known if fnmatch.fnmatchcase(other, slug)]
        if not matches:
            unknown.append(name)
        found.update(dict.fromkeys(matches))
    if unknown:
        lines = ["Unknown model:" if len(unknown) == 1 else "Unknown models:"]
        for name in unknown:
            close = difflib.get_close_matches(normalize_model(name), known, n=3, cutoff=0.5)
            lines.append(f"  {name}" + (f" (did you mean {' or '.join(close)}?)" if close else ""))
        raise UsageError("\n".join(lines), hint="Run `fanbench tasks models` to list the models.")
    if not found:
        raise UsageError(
            "No model is given.", hint="Name one or more with -m; run `fanbench tasks models` to list them."
        )
    return list(found)


def resolve_model(asked: str, available: Sequence[BenchmarkModel]) -> str:
    """Return the slug to send for one model.

    Raises:
        UsageError: The model is unknown, or the pattern matches several.
    """
    slugs = resolve_models([asked], available)
    if len(slugs) > 1:
        raise UsageError(f"{asked} matches {len(slugs)} models.", hint="Name one model in full.")
    return slugs[0]


def resolve_judge(asked: str | None, endpoint: str, available: Sequence[BenchmarkModel]) -> str:
    """Return the slug to send for the judge of runs; empty if none is asked for, for the server's choice.

    Raises:
        UsageError: The server is Kaggle, which has no such choice, or the model is unknown.
    """
    if not asked:
        return ""
    if is_kaggle(endpoint):
        raise UsageError(
            "Kaggle chooses the judge of its runs itself: --judge works with a local server only.",
            hint="Add --local, or leave out --judge. `fanbench check --run --judge MODEL` works with every server.",
        )
    return resolve_model(asked, available)


def _known_names(available: Sequence[BenchmarkModel]) -> dict[str, str]:
    """Map every name of every model to the slug of its version. Version slugs come first: they win."""
    names: dict[str, str] = {}
    for model in available:
        if model.version and model.version.slug:
            names[normalize_model(model.version.slug)] = normalize_model(model.version.slug)
    for model in available:
        slug = normalize_model(model_slug(model))
        proxy = normalize_model(model.version.model_proxy_slug) if model.version else ""
        for name in (normalize_model(model.slug), proxy):
            if name:
                names.setdefault(name, slug)
    return names


# --- The Model Proxy's names --------------------------------------------------------------------------------

_FLASH = re.compile(r"google/gemini-(\d+(?:\.\d+)*)-flash(-preview)?(@[\w.-]+)?")


def proxy_names(available: Sequence[BenchmarkModel]) -> list[str]:
    """The names (`owner/model`) of the models that the Model Proxy serves today, without duplicates."""
    today = datetime.now(UTC)
    served = [
        model.version
        for model in available
        if model.version
        and model.version.allow_model_proxy
        and not (model.version.deprecation_time and as_utc(model.version.deprecation_time) <= today)
    ]
    return list(dict.fromkeys(version.model_proxy_slug or version.slug for version in served))


def pick_default(names: Sequence[str]) -> str | None:
    """The model to try tasks on: the newest Gemini Flash, which is cheap and fast, or else the first."""
    flashes = [(match, name) for name in names if (match := _FLASH.fullmatch(name))]
    if flashes:
        return max(flashes, key=lambda pair: [int(part) for part in pair[0][1].split(".")])[1]
    return names[0] if names else None
