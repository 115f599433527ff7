"""What runs are on, and the labels that name it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanbench import UsageError
from fanbench.wire.candidates import (
    Candidate,
    check_effort,
    config_slug,
    effort_of_config,
    normalize_label,
    requests_for,
    same_label,
    split_effort,
    with_efforts,
)
from fanbench.wire.messages import Run

names = st.from_regex(r"[a-z][a-z0-9.-]{0,9}", fullmatch=True)
efforts = st.sampled_from(["low", "medium", "high", "xhigh", "max_1"])
models = st.tuples(names, efforts | st.just("")).map(lambda pair: Candidate(*pair))
candidates = models | names.map(lambda slug: Candidate(agent=slug))


@given(candidate=candidates)
def test_labels_are_read_as_they_were_written(candidate: Candidate) -> None:
    """The label of every candidate stands for this candidate, and is normalized already."""
    agents = {candidate.agent} - {""}
    assert Candidate.parse(candidate.label, agents) == candidate
    assert normalize_label(candidate.label) == candidate.label


@given(candidate=candidates, other=candidates)
def test_different_candidates_have_different_labels(candidate: Candidate, other: Candidate) -> None:
    """Two candidates share a label only if one is an agent that is called like a model."""
    if candidate.label == other.label and bool(candidate.agent) == bool(other.agent):
        assert candidate == other


@pytest.mark.parametrize(
    ("name", "model", "effort", "shared"),
    [
        ("google/gemini-2.5-pro@high", "gemini-2.5-pro", "high", "gemini-2.5-pro@high"),
        ("gemma@default", "gemma-default", "", "gemma"),
        ("gemma-default@low", "gemma-default", "low", "gemma@low"),
        ("gemma@default@low", "gemma-default", "low", "gemma@low"),
        ("anthropic/claude-opus-4@20250514", "claude-opus-4-20250514", "", "claude-opus-4-20250514"),
        ("codestral@latest", "codestral-latest", "", "codestral-latest"),
        ("gemini-*@high", "gemini-*", "high", "gemini-*@high"),
        ("@high", "-high", "", "-high"),
    ],
)
def test_names_that_people_write(name: str, model: str, effort: str, shared: str) -> None:
    """What follows an @ is an effort, unless it is a version of the model."""
    assert Candidate.parse(name) == Candidate(model, effort)
    assert same_label(name) == shared


@pytest.mark.parametrize("word", ["", "20250514", "default", "a b", "a/b", "../x", "é"])
def test_words_that_are_no_efforts(word: str) -> None:
    """A word that could not be an effort in a label, or in the name of a folder, is refused."""
    with pytest.raises(UsageError, match="is not a reasoning effort"):
        check_effort(word)
    assert split_effort(f"m@{word}") == (f"m@{word}", "")


def test_the_candidate_of_a_run() -> None:
    """A run is on its agent, or on its model at the effort of its configuration, or on its model as it is."""
    as_it_is = Run(model_version_slug="o/m@default")
    high = Run(model_version_slug="o/m", model_version_config_slug=config_slug("m", "high"))
    odd = Run(model_version_slug="o/m", model_version_config_slug="m-thinks")
    agent = Run(model_version_slug="o/m", model_version_config_slug="m-thinks", agent_slug="coder-1.2")
    runs = [as_it_is, high, odd, agent]
    assert [Candidate.of_run(run).label for run in runs] == ["m-default", "m@high", "m-thinks", "coder-1.2"]
    known = with_efforts(runs, {"m-thinks": "max"})
    assert [Candidate.of_run(run).label for run in known] == ["m-default", "m@high", "m@max", "coder-1.2"]


@pytest.mark.parametrize(
    ("slug", "effort"),
    [("claude-opus-4.8-high-reasoning-effort", "high"), ("high", ""), ("m-high", ""), ("", "")],
)
def test_the_effort_in_the_slug_of_a_configuration(slug: str, effort: str) -> None:
    """Only a slug in the form that Kaggle documents tells the effort."""
    assert effort_of_config(slug) == effort


def test_requests_have_one_effort_or_agents() -> None:
    """Candidates are grouped by effort, and agents are apart, all in the order in which they were given."""
    labels = ["m", "m@high", "coder", "n@high", "n", "m@low", "coder-2"]
    groups = requests_for(labels, {"coder", "coder-2"})
    assert [[each.label for each in group] for group in groups] == [
        ["m", "n"],
        ["m@high", "n@high"],
        ["coder", "coder-2"],
        ["m@low"],
    ]
