"""Candidates: what a run of a task is on. It is a model, a model at a reasoning effort, or an agent.

Each has a label, which names it wherever people and files name the model of a run: `gemini-2.5-pro`,
`gemini-2.5-pro@high`, or the slug of the agent. Only this module writes and reads labels.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from msgspec import structs

from fanbench.errors import UsageError
from fanbench.wire.messages import CandidateClass, LeaderboardRow, Run
from fanbench.wire.slugs import DEFAULT, normalize_model, same_model

__all__ = [
    "Candidate",
    "check_effort",
    "check_label",
    "config_name",
    "config_slug",
    "effort_of_config",
    "is_effort",
    "normalize_label",
    "requests_for",
    "same_label",
    "spellings",
    "split_effort",
    "with_efforts",
]

_EFFORT = re.compile(r"[A-Za-z][\w.-]*")
# Words after an @ that name a version of a model. Other versions begin with a digit, which no effort does.
_VERSIONS = frozenset({"default", "latest", "preview", "stable"})

_CONFIG = "-reasoning-effort"


class Candidate(NamedTuple):
    """A `model` in its normalized form, perhaps at an `effort`; or else an `agent`, which has an effort of its own."""

    model: str = ""
    effort: str = ""
    agent: str = ""

    @property
    def label(self) -> str:
        """`MODEL`, `MODEL@EFFORT`, or the slug of the agent."""
        return self.agent or (f"{self.model}@{self.effort}" if self.effort else self.model)

    @classmethod
    def parse(cls, label: str, agents: Collection[str] = ()) -> Candidate:
        """The candidate with this label, which is an agent if it is one of `agents`."""
        if label in agents:
            return cls(agent=label)
        name, effort = split_effort(label)
        return cls(normalize_model(name), effort)

    @classmethod
    def of_run(cls, run: Run) -> Candidate:
        """The candidate of a run.

        A configuration whose effort is not known has its own slug, so that it is not taken for the model as it is.
        """
        if run.agent_slug:
            return cls(agent=normalize_model(run.agent_slug))
        if run.model_version_slug and not run.model_version_config_slug:
            return cls(normalize_model(run.model_version_slug))
        effort = run.effort or effort_of_config(run.model_version_config_slug)
        if run.model_version_slug and effort:
            return cls(normalize_model(run.model_version_slug), effort)
        return cls(normalize_model(run.model_version_config_slug))

    @classmethod
    def of_row(cls, row: LeaderboardRow) -> Candidate:
        """The candidate of a row of a leaderboard."""
        is_agent = row.kind is CandidateClass.AGENT
        is_model = row.kind is CandidateClass.MODEL_VERSION
        return cls.of_run(
            Run(
                model_version_slug=row.model_version_slug,
                model_version_config_slug="" if is_model else row.model_version_config_slug,
                agent_slug=row.agent_slug if is_agent else "",
            )
        )


def split_effort(name: str) -> tuple[str, str]:
    """Split the name of a candidate, as people write it, into that of the model and the effort; empty if it has none.

    What follows an @ may also be a version of the model, as in `google/gemma@default` and `claude-opus-4@20250514`.
    """
    model, _, effort = name.rpartition("@")
    return (model, effort) if model and is_effort(effort) else (name, "")


def check_effort(effort: str) -> None:
    """Refuse what is not a reasoning effort.

    Raises:
        UsageError: It could not be told from a version of a model in the label of a candidate.
    """
    if not is_effort(effort):
        raise UsageError(
            f"{effort!r} is not a reasoning effort.", hint="Efforts are words such as low, medium and high."
        )


def check_label(name: str) -> None:
    """Refuse half a label, which people have written for a candidate.

    Raises:
        UsageError: Nothing is before or after an @.
    """
    model, at, effort = name.strip().rpartition("@")
    hint = "Write MODEL or MODEL@EFFORT, such as gemini-2.5-pro@high."
    if at and not effort:
        raise UsageError(f"'{name}' has no effort after the @.", hint=hint)
    if at and not model.rpartition("/")[2]:
        raise UsageError(f"'{name}' has no model before the @.", hint=hint)


def is_effort(text: str) -> bool:
    """Whether a text can be an effort. In a label, it must not look like a version of a model."""
    return text not in _VERSIONS and _EFFORT.fullmatch(text) is not None


def normalize_label(name: str) -> str:
    """Return the label that is meant: "google/gemma@default" is "gemma-default", "google/gemma@low" is "gemma@low"."""
    return Candidate.parse(name).label


def same_label(name: str) -> str:
    """Return what all spellings of a candidate have in common: "google/gemma-default@high" is "gemma@high"."""
    model, effort = split_effort(name)
    return Candidate(same_model(model), effort).label


def config_slug(model: str, effort: str) -> str:
    """The usual slug of the configuration of a normalized model at an effort."""
    return f"{model}-{effort}{_CONFIG}"


def config_name(name: str, effort: str) -> str:
    """The usual name of the configuration of a model with this name at an effort."""
    return f"{name} {effort.title()} Reasoning Effort"


def effort_of_config(slug: str) -> str:
    """The effort in the usual slug of a configuration, such as `claude-opus-4.8-high-reasoning-effort`; or nothing."""
    name = slug.removesuffix(_CONFIG)
    effort = name.rpartition("-")[2]
    return effort if name != slug and is_effort(effort) else ""


def with_efforts(runs: Iterable[Run], efforts: Mapping[str, str]) -> list[Run]:
    """Return the runs, each with the effort of its configuration as `efforts` has it by the configuration's slug."""
    return [
        structs.replace(run, effort=efforts[slug])
        if (slug := run.model_version_config_slug) and slug in efforts
        else run
        for run in runs
    ]


def requests_for(labels: Iterable[str], agents: Collection[str] = ()) -> list[list[Candidate]]:
    """Group candidates by the requests that schedule them, which have one effort or agents, each in its order."""
    requests: dict[tuple[str, bool], list[Candidate]] = {}
    for label in labels:
        candidate = Candidate.parse(label, agents)
        requests.setdefault((candidate.effort, bool(candidate.agent)), []).append(candidate)
    return list(requests.values())


def spellings(labels: Collection[str]) -> dict[str, str]:
    """Map what a server may call the candidates with these labels, because of its default versions, to the labels."""
    found = {}
    for label in labels:
        candidate = Candidate.parse(label)
        longer = candidate._replace(model=candidate.model + DEFAULT).label
        if longer not in labels:
            found[longer] = label
    return found
