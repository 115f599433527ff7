"""The models that a server offers, and the names by which users ask for them."""

from __future__ import annotations

import difflib
import fnmatch
import re
import shlex
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import anyio

from fanbench._util.text import as_utc, first_few, is_pattern
from fanbench.config import is_kaggle
from fanbench.errors import ApiError, ConnectionFailed, FanbenchError, Unauthorized, UnknownModel, UsageError
from fanbench.operations.api import Api
from fanbench.operations.lookup import model_of
from fanbench.wire.candidates import Candidate, check_label, normalize_label, same_label, split_effort
from fanbench.wire.messages import BenchmarkModel, Modality, ModelVersion, Run
from fanbench.wire.slugs import DEFAULT, normalize_model, refuse_empty, same_model

__all__ = [
    "LIST_PATIENCE",
    "close_names",
    "curate",
    "did_you_mean",
    "find_judge",
    "list_models_if_possible",
    "match_models",
    "modalities",
    "model_slug",
    "names_of_models",
    "pick_default",
    "proxy_names",
    "resolve_model",
    "runs_on",
    "unknown_models",
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

# How many names an error lists.
_SHOWN = 10
#: Seconds for which a list of models is waited for where it is only needed to check names.
LIST_PATIENCE = 20.0


async def list_models_if_possible(client: Api) -> tuple[list[BenchmarkModel], FanbenchError | None]:
    """Return the server's models; without them, none and why the server did not answer within `LIST_PATIENCE`.

    Raises:
        Unauthorized: The server accepts no call.
    """
    with anyio.move_on_after(LIST_PATIENCE):
        try:
            return await client.list_models(), None
        except Unauthorized:
            raise
        except (ApiError, ConnectionFailed) as error:
            return [], error
    return [], FanbenchError(f"The server did not list its models within {LIST_PATIENCE:g} s.")


def resolve_model(asked: str, available: Sequence[BenchmarkModel]) -> str:
    """Return the slug to send for one model.

    Raises:
        UnknownModel: The model is unknown.
        UsageError: The pattern matches several.
    """
    names = names_of_models(available)
    slugs, missing = match_models([asked], names)
    if missing:
        raise unknown_models(missing, names)
    if len(slugs) > 1:
        raise UsageError(f"{asked} matches {len(slugs)} models.", hint="Name one model in full.")
    return slugs[0]


async def find_judge(
    client: Api, asked: str | None, available: Sequence[BenchmarkModel] | None = None
) -> str:
    """Return the slug to send for the judge of runs; empty if none is asked for, for the server's choice.

    `available` spares the call that lists the server's models.

    Raises:
        UsageError: The server is Kaggle, which has no such choice. It has not been asked.
        UnknownModel: The model is unknown.
    """
    if not asked:
        return ""
    if is_kaggle(client.config.endpoint):
        raise UsageError(
            "Kaggle chooses the judge of its runs itself: --judge works with a local server only.",
            hint="Add --local, or leave out --judge. `fanbench check --run --judge MODEL` works with every server.",
        )
    return resolve_model(asked, await client.list_models() if available is None else available)


def runs_on(slug: str, runs: Sequence[Run], asked: Sequence[str], version: int = 0) -> list[Run]:
    """Return those of the `runs` of a task's `version` that are on the models `asked` for; all if none is asked for.

    Raises:
        UnknownModel: A name or pattern matches none of the runs.
    """
    if not asked:
        return list(runs)
    there = list(dict.fromkeys(model_of(run) for run in runs))
    slugs, missing = match_models(asked, _with_bases({slug: slug for slug in there}))
    if not missing:
        return [run for run in runs if model_of(run) in slugs]
    task = f"Version {version} of task '{slug}'" if version > 1 else f"Task '{slug}'"
    names = " or ".join(missing)
    before = f" For the runs of the version before, add --version {version - 1}." if version > 1 else ""
    if not runs:
        raise UnknownModel(
            f"{task} has no runs, on {names} or on anything else.",
            hint=f"Run `fanbench tasks run {slug} -m {shlex.quote(missing[0])}` to start one.{before}",
        )
    raise UnknownModel(
        f"{task} has no run on {names}. Its runs are on {first_few(there, _SHOWN)}.",
        hint=f"Run `fanbench tasks status {slug}` to list its runs.{before}",
    )


def match_models(asked: Sequence[str], names: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Match names and patterns with the known `names`, which are mapped to slugs, or to labels such as `MODEL@EFFORT`.

    Returns the slugs without duplicates, in the order in which they were asked for, and what matches nothing. A
    name that matches nothing and is no pattern is among the slugs, too, at its place.

    Raises:
        UsageError: A name is empty, or nothing is before or after its @.
    """
    refuse_empty(asked, "a model", "-m")
    for name in asked:
        check_label(name)
    found: dict[str, None] = {}
    missing = []
    for name in asked:
        slug = normalize_label(name)
        spellings = (slug, same_label(name), normalize_model(name), same_model(name))
        matches = [names[each] for each in spellings if each in names][:1]
        if not matches and is_pattern(name):
            matches = _match_pattern(name, names)
        if not matches:
            missing.append(name)
        found.update(dict.fromkeys(matches or ([] if is_pattern(name) else [slug])))
    return list(found), missing


def _match_pattern(pattern: str, names: Mapping[str, str]) -> list[str]:
    """Match `owner/…` with full names only, unless the names that are known have no owners.

    An @ is before an effort, or before a version, for which names have a hyphen.
    """
    owner, _, bare = pattern.rpartition("/")
    have_owners = any("/" in name for name in names)
    if not owner:
        names, wanted = {name: slug for name, slug in names.items() if "/" not in name}, bare
    else:
        # Without owners, `google/*` cannot be told from all models.
        wanted = pattern if have_owners else bare.strip("*") and bare
    found = [slug for name, slug in names.items() if fnmatch.fnmatchcase(name, wanted)]
    versions = wanted.replace("@", "-")
    return found or [slug for name, slug in names.items() if fnmatch.fnmatchcase(name, versions)]


def names_of_models(available: Sequence[BenchmarkModel]) -> dict[str, str]:
    """Map every name of every model to the slug of its version. Version slugs come first: they win.

    Full names with an owner, such as those of the Model Proxy, are there for patterns.
    """
    names: dict[str, str] = {}
    for model in available:
        if model.version and model.version.slug:
            names[normalize_model(model.version.slug)] = normalize_model(model.version.slug)
    for model in available:
        slug = normalize_model(model_slug(model))
        for name in (model.slug, model.version.model_proxy_slug if model.version else "", model_slug(model)):
            if name:
                names.setdefault(normalize_model(name), slug)
                names.setdefault(name.replace("@", "-"), slug)
    return _with_bases(names)


def _with_bases(names: Mapping[str, str]) -> dict[str, str]:
    """Add each name without its `-default`, unless that is the name of another model."""

    def base(name: str) -> str:
        model, effort = split_effort(name)
        return Candidate(model.removesuffix(DEFAULT), effort).label

    return {base(name): slug for name, slug in names.items()} | dict(names)


def unknown_models(missing: Sequence[str], names: Mapping[str, str]) -> UnknownModel:
    """The error for `missing` names, which are none of the `names` that are known."""
    lines = ["Unknown model:" if len(missing) == 1 else "Unknown models:"]
    lines += [f"  {name}{did_you_mean(close_names(name, names))}" for name in missing]
    models = first_few(list(dict.fromkeys(names.values())), _SHOWN)
    lines.append(f"The server's models are: {models}" if names else "The server has no models.")
    return UnknownModel("\n".join(lines), hint="Run `fanbench tasks models` to list the models.")


def close_names(name: str, names: Mapping[str, str]) -> tuple[str, ...]:
    """Return up to three of the known `names` that are close to one, of different models."""
    bare = [each for each in names if "/" not in each]
    close = difflib.get_close_matches(normalize_model(name), bare, n=6, cutoff=0.5)
    closest: dict[str, str] = {}
    for each in close:
        closest.setdefault(names[each], each)  # one name of each model
    return tuple(closest.values())[:3]


def did_you_mean(close: Sequence[str]) -> str:
    """` (did you mean …?)`, or nothing."""
    return f" (did you mean {' or '.join(close)}?)" if close else ""


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


# Words in the names of models that are fast and cheap; gemini and minimax are no such words.
_LIGHT = re.compile(r"\b(flash|haiku|lite|mini|nano|small)\b")
# A list of up to this many models is not shortened.
_FEW = 8


def curate(names: Sequence[str]) -> list[str]:
    """Return a short list of models to try tasks on: of each owner one that is fast and cheap, or else the first.

    The Kaggle CLI (2.2.5) writes a fixed list of eight such models, of seven owners. Ours follows from what the server
    offers, because models come and go, and a local server has others.
    """
    if len(names) <= _FEW:
        return list(names)
    by_owner: dict[str, str] = {}
    for name in names:
        owner = name.partition("/")[0]
        if owner not in by_owner or (_LIGHT.search(name) and not _LIGHT.search(by_owner[owner])):
            by_owner[owner] = name
    default = pick_default(names)
    chosen = {default, *by_owner.values()}
    return [name for name in names if name in chosen]


def pick_default(names: Sequence[str]) -> str | None:
    """The model to try tasks on: the newest Gemini Flash, which is cheap and fast, or else the first."""
    flashes = [(match, name) for name in names if (match := _FLASH.fullmatch(name))]
    if flashes:
        return max(flashes, key=lambda pair: [int(part) for part in pair[0][1].split(".")])[1]
    return names[0] if names else None
