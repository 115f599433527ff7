"""What users ask to run tasks on: models, models at reasoning efforts, and agents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from fanbench._util.text import is_pattern
from fanbench.errors import ApiError, ConnectionFailed, FanbenchError, Forbidden, Unauthorized, UsageError
from fanbench.operations.api import Api
from fanbench.operations.lookup import needs_call
from fanbench.operations.models import (
    close_names,
    did_you_mean,
    list_models_if_possible,
    match_models,
    model_slug,
    names_of_models,
    unknown_models,
)
from fanbench.wire.candidates import Candidate, check_effort, split_effort
from fanbench.wire.messages import BenchmarkModel, CandidateType, Task
from fanbench.wire.slugs import normalize_model, refuse_empty

__all__ = ["ModelChoice", "efforts_of", "find_candidates", "refuse_misfit"]


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """The labels of what a user asked to run on, in that order and without duplicates; `agents` are those of agents.

    `unlisted` are the models that the server does not list, each with the listed names that are close to it. They are
    sent as they were written, because only the scheduler knows all models. `problem` is why the server's list
    could not be read, if so. `unchecked` says that the server does not show the efforts of its models, some of which
    were asked for.
    """

    labels: tuple[str, ...]
    unlisted: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problem: FanbenchError | None = None
    agents: frozenset[str] = frozenset()
    unchecked: bool = False

    @property
    def listable(self) -> tuple[str, ...]:
        """The models whose runs are to be listed; none, which is all, if the server may have other names for some."""
        return () if self.unlisted or self.agents or self.unchecked else self.labels

    @property
    def warnings(self) -> list[str]:
        if self.problem is not None:
            names = ", ".join(self.unlisted)
            return [
                f"The server's models cannot be listed, so names are sent as written ({names}): {self.problem}"
            ]
        lines = [
            f"The server does not list the model {name}{self.suggestion(name)}; it decides whether to run it."
            for name in self.unlisted
        ]
        if self.unchecked:
            lines.append(
                "The server does not show the efforts of its models; it decides whether to take them."
            )
        return lines

    def suggestion(self, label: str) -> str:
        """` (did you mean …?)`, or nothing, for a model that is not listed."""
        return did_you_mean(self.unlisted.get(Candidate.parse(label).model, ()))

    def hint(self, names: Collection[str]) -> str:
        """What to check once the server has refused to schedule these `names`, all of models or all of agents."""
        if self.agents.issuperset(names):
            return f"Check the agents: {', '.join(names)}; the server has no list of the valid ones."
        written = ", ".join(f"{name}{self.suggestion(name)}" for name in names)
        return f"Check the models: {written}; run `fanbench tasks models` to list the valid ones."


async def find_candidates(
    client: Api,
    asked: Sequence[str],
    available: Sequence[BenchmarkModel] | None = None,
    *,
    efforts: Sequence[str] = (),
    agents: Sequence[str] = (),
) -> ModelChoice:
    """Find what a user `asked` to run on; `available` spares the call that lists the server's models.

    Names and patterns are of models, or `MODEL@EFFORT`. Each model without an effort of its own is taken at each of
    `efforts`, if there are any. Agents come last; no call lists them.

    Raises:
        UsageError: No model is given, a name is malformed, a model does not take an effort, or an agent is named like a
            model.
        UnsupportedByServer: There are efforts, and the server does not know any.
        UnknownModel: A pattern matches no model, or the server has none.
        FanbenchError: A pattern needs the server's list, which cannot be read.
    """
    refuse_empty(efforts, "a reasoning effort", "--effort")
    refuse_empty(agents, "an agent", "--agent")
    for effort in efforts:
        check_effort(effort)
    named = dict.fromkeys(map(normalize_model, agents))
    if not asked and not named:
        raise UsageError(
            "No model is given.", hint="Name one or more with -m; run `fanbench tasks models` to list them."
        )
    if efforts and not asked:
        raise UsageError("An agent has a reasoning effort of its own.", hint="Leave out --effort.")
    problem: FanbenchError | None = None
    if available is None and asked:
        available, problem = await list_models_if_possible(client)
    if problem is not None and any(map(is_pattern, asked)):
        raise problem
    names = names_of_models(available or ())
    labels, missing = _expand(asked, names, efforts)
    if patterns := [name for name in missing if is_pattern(name)]:
        for name in patterns:
            _refuse_pattern_of_efforts(name)
        raise unknown_models(patterns, names)
    if both := [label for label in labels if label in named]:
        raise UsageError(f"{both[0]} is given as a model and as an agent.", hint="Leave one of them out.")
    unlisted = {normalize_model(name): close_names(name, names) for name in missing}
    unchecked = not await _check_efforts(client, labels, available or ())
    return ModelChoice((*labels, *named), unlisted, problem, frozenset(named), unchecked)


def _expand(
    asked: Iterable[str], names: Mapping[str, str], efforts: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the labels of the candidates, and the names of models that match none of `names`."""
    labels: dict[str, None] = {}
    missing: dict[str, None] = {}
    without_effort = False
    for name in asked:
        model, own = _split(name, names)
        slugs, unmatched = match_models([model], names)
        missing |= dict.fromkeys(unmatched)
        without_effort |= not own
        for slug in slugs:
            labels |= {Candidate(slug, effort).label: None for effort in ([own] if own else efforts or [""])}
    if efforts and not without_effort:
        raise UsageError("Every model has an effort of its own already.", hint="Leave out --effort.")
    return list(labels), list(missing)


def _refuse_pattern_of_efforts(name: str) -> None:
    model, at, effort = name.rpartition("@")
    if at and is_pattern(effort):
        raise UsageError(
            f"'{name}' has a pattern after the @: patterns are for models.",
            hint=f"Name each effort with --effort, such as -m '{model}' --effort high.",
        )


def _split(name: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Split `MODEL@EFFORT`, unless only a model with the whole name is listed.

    Raises:
        UsageError: There are two efforts.
    """
    model, effort = split_effort(name)
    if not effort or not match_models([model], names)[1]:
        return model, effort
    if not match_models([name], names)[1]:
        return name, ""
    if split_effort(model)[1]:
        raise UsageError(f"'{name}' has two efforts.", hint="Write MODEL@EFFORT once for each of them.")
    return model, effort


async def efforts_of(client: Api, models: Sequence[BenchmarkModel]) -> dict[str, tuple[str, ...]] | None:
    """Return the efforts of each of `models` by its normalized slug, in the server's order.

    None if the server does not show them to the caller.

    Raises:
        UnsupportedByServer: The server does not know efforts.
    """
    ids = {model.version.id: normalize_model(model_slug(model)) for model in models if model.version}
    try:
        with needs_call(
            "The server does not know the reasoning efforts of models",
            hint="Leave out efforts: such a server would run the models as they are.",
            names_nothing=True,
        ):
            configs = await client.list_configs()
    except Forbidden:
        return None
    found: dict[str, list[str]] = {normalize_model(model_slug(model)): [] for model in models}
    for config in configs:
        if config.reasoning_effort and config.benchmark_model_version_id in ids:
            found[ids[config.benchmark_model_version_id]].append(config.reasoning_effort)
    return {slug: tuple(dict.fromkeys(efforts)) for slug, efforts in found.items()}


async def _check_efforts(client: Api, labels: Sequence[str], available: Sequence[BenchmarkModel]) -> bool:
    """Refuse efforts that their models lack. Return False if the server does not show what they have.

    Raises:
        UsageError: A model lacks an effort.
        UnsupportedByServer: The server does not know efforts.
    """
    wanted: dict[str, list[str]] = defaultdict(list)
    for candidate in map(Candidate.parse, labels):
        if candidate.effort:
            wanted[candidate.model].append(candidate.effort)
    if not wanted:
        return True
    try:
        known = await efforts_of(client, available)
    except Unauthorized:
        raise
    except (ApiError, ConnectionFailed):
        known = None
    lines = []
    for model, efforts in wanted.items():
        has = known.get(model, efforts) if known else efforts
        if lacking := [effort for effort in efforts if effort not in has]:
            takes = f"takes {', '.join(has)}" if has else "takes no effort"
            wrong = [
                f"{effort}{did_you_mean(get_close_matches(effort.lower(), has, n=1))}" for effort in lacking
            ]
            lines.append(f"  {model} does not take {', '.join(wrong)}: it {takes}")
    if lines:
        raise UsageError(
            "\n".join(["Not all models take the reasoning efforts that are asked for:", *lines]),
            hint="Run `fanbench tasks models --efforts` to list the efforts of the models. To run some at an effort "
            "and others as they are, leave out --effort: -m MODEL@EFFORT -m MODEL.",
        )
    return known is not None


def refuse_misfit(slug: str, task: Task, choice: ModelChoice) -> None:
    """Refuse candidates that the task is not run on, if the server says what it is run on.

    Raises:
        UsageError: The task is run on agents, and there are models; or the reverse.
    """
    kind = task.candidate_type
    if kind == CandidateType.AGENTS and len(choice.agents) < len(choice.labels):
        hint = "Name agents with --agent, and no models."
        raise UsageError(f"Task '{slug}' is run on agents, not on models.", hint=hint)
    on_models = kind in (CandidateType.MODEL_VERSIONS, CandidateType.MODEL_VERSION_CONFIGS)
    if on_models and choice.agents:
        hint = "Name models with -m, and no agents."
        raise UsageError(f"Task '{slug}' is run on models, not on agents.", hint=hint)
