"""`fanbench tasks edit` on sockets: what is sent, shown and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanbench.testing import Fault, SimulatedKaggle
from fanbench.wire.messages import Citation
from tests.cli.conftest import Cli


@pytest.fixture(autouse=True)
def two(kaggle: SimulatedKaggle) -> None:
    """Tasks a and b, whose pages say nothing."""
    for slug in "ab":
        kaggle.add_task(slug)


def test_what_is_given_is_changed_on_all_tasks(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Only the given values are sent, once per task, and the output says what was there before."""
    words = ["--tag", "Reasoning", "--tag", "mathematics", "--citation", "A paper <https://a.org>"]
    assert cli("tasks", "edit", "a", *words).exit_code == 0
    result = cli("tasks", "edit", "b", "a", "--tag", "reasoning", "--provenance", "by hand")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "b:",
        "  tags       (none) → reasoning",
        "  provenance (none) → by hand",
        "a:",
        "  tags       reasoning, mathematics → reasoning",
        "  provenance (none) → by hand",
    ]
    sent = [sorted(about[2]) for about in kaggle.arguments("update_task")]
    assert sent == [["citations", "tags"], ["provenance", "tags"], ["provenance", "tags"]]
    (listed,) = json.loads(cli("tasks", "list", "--name-regex", "a", "--format", "json").stdout)
    assert [listed[name] for name in ("tags", "provenance", "citations")] == [
        ["reasoning"],
        "by hand",
        [{"title": "A paper", "url": "https://a.org"}],
    ]


def test_nothing_is_sent_where_nothing_differs(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A second time there is nothing to change, however tags are written, and no call is made."""
    for _ in range(2):
        result = cli("tasks", "edit", "a", "--tag", " REASONING ", "--description", "# A")
    assert (result.exit_code, result.stdout) == (0, "a: nothing to change\n")
    assert kaggle.calls["update_task"] == 1


def test_a_dry_run_changes_nothing(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """With --dry-run the difference is shown, also as a record, and no call is made."""
    words = ["tasks", "edit", "a", "--description", "# A", "--dry-run"]
    assert cli(*words).stdout.splitlines() == ["a: (nothing is changed yet)", "  description (none) → # A"]
    (record,) = json.loads(cli(*words, "--format", "json").stdout)
    assert (record["task"], record["owner"], record["version"]) == ("a", "me", 1)
    assert (record["changed"], record["before"], record["after"]) == (
        ["description"],
        {"description": None},
        {"description": "# A"},
    )
    assert kaggle.calls["update_task"] == 0


def test_values_are_removed(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Empty texts and the flags --no-tags and --no-citations remove what is there."""
    cli("tasks", "edit", "a", "--tag", "reasoning", "--citation", "<a.org>", "--description", "x")
    result = cli("tasks", "edit", "a", "--no-tags", "--no-citations", "--description", "")
    assert result.exit_code == 0, result.stderr
    task = kaggle.tasks["a"].message(0.0)
    assert (task.tags, task.citations, task.description) == ([], [], "")


@pytest.mark.parametrize("source", ["text.md", "-"])
def test_a_description_from_a_file(cli: Cli, kaggle: SimulatedKaggle, source: str) -> None:
    """The description is the text of a file or of stdin, without the blank lines around it."""
    Path("text.md").write_text("\n# Ä\n\ntext\n\n", encoding="utf-8")
    result = cli("tasks", "edit", "a", "--description-file", source, input="\n# Ä\n\ntext\n\n")
    assert result.exit_code == 0, result.stderr
    assert kaggle.tasks["a"].message(0.0).description == "# Ä\n\ntext"


def test_one_version(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """--version changes the page of that version only, and refuses tags, which a version has not."""
    kaggle.add_task("a")
    assert cli("tasks", "edit", "a", "--version", "1", "--description", "old").exit_code == 0
    descriptions = [version.metadata.description for version in kaggle.tasks["a"].versions]
    assert descriptions == ["old", ""]
    refused = cli("tasks", "edit", "a", "--version", "1", "--tag", "reasoning")
    assert refused.exit_code == 2
    assert "Tags belong to a task" in refused.stderr
    assert cli("tasks", "edit", "a", "--version", "3", "--description", "x").exit_code == 4


def test_unknown_tags_are_an_error_after_the_change(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """Tags that the server does not know are named, with exit code 1, and everything else is changed."""
    result = cli("tasks", "edit", "a", "b", "--tag", "reasoning", "--tag", "no\x1b[2Jsuch")
    assert result.exit_code == 1
    assert r"The server does not know these tags: no\u001b[2Jsuch." in result.stderr
    assert [kaggle.tasks[slug].tags for slug in "ab"] == [("reasoning",), ("reasoning",)]


def test_unknown_tags_are_no_change(cli: Cli) -> None:
    """A page that is as before, because the server left out what it does not know, is not said to be changed."""
    words = ["tasks", "edit", "a", "--tag", "none-such"]
    assert cli(*words).stdout == "a: nothing to change\n"
    (record,) = json.loads(cli(*words, "--format", "json").stdout)
    assert (record["changed"], record["before"], record["unknown_tags"]) == ([], {}, ["none-such"])


def test_tags_that_made_room_for_unknown_ones_can_be_put_back(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A mistyped tag has replaced those that were there, and the hint is the command that undoes it."""
    kaggle.tasks["a"].tags = ("reasoning", "two words")
    refused = cli("tasks", "edit", "a", "--tag", "resoning")
    command = "tasks edit a --tag reasoning --tag 'two words'"
    assert f"had: `fanbench {command}" in refused.stderr
    assert list(kaggle.tasks["a"].tags) == []
    assert "To put back" not in cli("tasks", "edit", "a", "--tag", "resoning").stderr


def test_what_is_stored_otherwise_is_said(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A description that the server has sanitized is shown as it was stored, with a line that says so."""
    kaggle.change(sanitize=lambda text: text.replace("<script>", ""))
    result = cli("tasks", "edit", "a", "--description", "A<script>")
    assert result.exit_code == 0
    assert "description (none) → A\n" in result.stdout
    assert "The server has not stored this as it was sent: description" in result.stderr
    words = ["--description", "B<script>", "--citation", "a.org <a.org>", "--format", "json"]
    (record,) = json.loads(cli("tasks", "edit", "a", *words).stdout)
    assert record["stored_otherwise"] == ["description"]
    assert record["after"]["citations"] == [{"title": "a.org", "url": "http://a.org"}]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "Nothing was given to change."),
        (["--tag", "x", "--no-tags"], "contradict each other"),
        (["--description", "x", "--description-file", "-"], "contradict each other"),
        (["--citation", "x <a.org>", "--no-citations"], "contradict each other"),
        (["--tag", " "], "A tag is empty."),
        (["--citation", "a.org"], "is not a citation"),
        (["--citation", "x <ftp://a.org>"], "The citation 'ftp://a.org' is not an http or https URL."),
        (["--citation", "x <javascript:1>"], "The citation 'javascript:1' is not an http or https URL."),
        (["--provenance", "p" * 4001], "more than 4,000 characters"),
        (["--description-file", "none.md"], "none.md: The file does not exist."),
    ],
)
def test_what_is_refused(cli: Cli, kaggle: SimulatedKaggle, words: list[str], message: str) -> None:
    """Options that contradict each other, and values that servers refuse or drop, are errors before any call."""
    result = cli("tasks", "edit", "a", *words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert kaggle.calls["update_task"] == 0


def test_a_server_without_the_call(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A server that lacks the call is named as the reason."""
    kaggle.change(can_update=False)
    result = cli("tasks", "edit", "a", "--description", "x")
    assert result.exit_code == 1
    assert "This server cannot change what the page of a task says" in result.stderr


def test_a_refusal_is_not_taken_for_a_missing_call(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """If the server says that something does not exist, or that it is not allowed, these are its words."""
    for status, code in ((404, 4), (403, 1)):
        kaggle.change(faults=(Fault("update_task", status=status, message="Not yours."),))
        result = cli("tasks", "edit", "a", "--description", "x")
        assert (result.exit_code, "Not yours." in result.stderr) == (code, True)
        assert "cannot change" not in result.stderr


def test_one_task_that_fails_does_not_keep_the_others(cli: Cli, kaggle: SimulatedKaggle) -> None:
    """A task that does not exist is an error, and the others are changed."""
    result = cli("tasks", "edit", "none", "a", "--citation", "<a.org>")
    assert result.exit_code == 1
    assert "'none' not found" in result.stderr
    assert kaggle.tasks["a"].message(0.0).citations == [Citation(url="http://a.org")]
    assert cli("tasks", "edit", "none", "--provenance", "p").stderr.count("'none' not found") == 1
