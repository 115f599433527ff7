"""The findings, rule by rule."""

from __future__ import annotations

import ast

import pytest

from fanbench.tasks.lint import MAX_NAME_LENGTH, inspect, name_limit
from fanbench.tasks.model import Finding, TaskFile

HEAD = "import kaggle_benchmarks as kbench\n"


def findings(source: str) -> tuple[Finding, ...]:
    return inspect(ast.parse(source), source)[1]


def rules(source: str) -> list[tuple[str, str]]:
    return [(finding.level, finding.rule) for finding in findings(source)]


def task(definition: str, decorator: str = "@kbench.task(name='A')", run: str = "f.run(kbench.llm)") -> str:
    return f"{HEAD}{decorator}\n{definition}\n{run}\n"


@pytest.mark.parametrize(
    "definition",
    [
        "def f(llm): ...",
        "def f(llm) -> None: ...",
        "def f(llm) -> bool: ...",
        "def f(llm) -> float: ...",
        "def f(llm) -> int: ...",
        "def f(llm) -> dict: ...",
        "def f(llm) -> tuple[float, float]: ...",
        "def f(llm) -> tuple[int,int]: ...",
        "def f(question: str, llm): ...",
        "def f(llm: kbench.LLMChat, question: str) -> bool: ...",
        "def f(*args): ...",
        "def f(**options): ...",
        "def f(*, llm): ...",
    ],
)
def test_a_sound_task_has_no_findings(definition: str) -> None:
    """What the SDK takes is passed in silence."""
    assert rules(task(definition)) == []


def test_a_task_that_is_never_run_is_an_error() -> None:
    """The silent no-op is found at its `def`, with the call that is missing."""
    source = task("def f(llm): ...", run="")
    (finding,) = findings(source)
    assert (finding.level, finding.rule, finding.line, finding.column) == ("error", "no-run", 3, 1)
    assert "f.run(kbench.llm)" in (finding.fix or "")


def test_a_sub_task_that_is_called_like_a_function_is_a_warning() -> None:
    """It works, though it leaves no run of its own; so a push is not refused."""
    source = task("def f(llm): return g(llm)") + "@kbench.task(name='B')\ndef g(llm): ...\n"
    assert rules(source) == [("warning", "called")]


def test_a_call_from_a_task_that_never_runs_does_not_excuse() -> None:
    """A sub-task of a task that nobody runs is not run either."""
    source = task("def f(llm): return g(llm)", run="") + "@kbench.task(name='B')\ndef g(llm): ...\n"
    assert rules(source) == [("error", "no-run"), ("error", "no-run")]


def test_a_file_without_tasks_is_an_error_that_names_the_other_package() -> None:
    """A @task of another package is said to be one."""
    found = findings("from prefect import task\n@task\ndef f(): ...\n")
    assert [(item.level, item.rule) for item in found] == [("error", "no-task"), ("warning", "foreign-task")]
    assert "prefect" in found[1].message


def test_two_tasks_of_one_slug_are_an_error_at_the_second() -> None:
    """Names that only differ before they are slugified are found, and the first one's line is said."""
    source = task("def f(llm): ...") + "@kbench.task(name='a')\ndef g(llm): ...\ng.run(kbench.llm)\n"
    (finding,) = findings(source)
    assert (finding.level, finding.rule, finding.line) == ("error", "duplicate", 6)
    assert "line 3" in finding.message


@pytest.mark.parametrize("name", ["🚀", "///", "北京"])
def test_a_name_without_a_slug_is_an_error(name: str) -> None:
    """A name with nothing for a slug, or in letters that have none, cannot be pushed."""
    assert rules(task("def f(llm): ...", f"@kbench.task(name='{name}')")) == [("error", "no-slug")]


def test_a_slash_in_a_name_makes_no_owner() -> None:
    """ "a/b" in a decorator is one name."""
    source = task("def f(llm): ...", "@kbench.task(name='Red/Blue team')")
    assert inspect(ast.parse(source), source)[0][0].slug == "red-blue-team"


@pytest.mark.parametrize(
    "annotation",
    [
        "str",
        "list",
        "tuple",
        "dict[str, float]",
        "tuple[float, int]",
        "'bool'",
        "bool | None",
        "typing.Tuple",
        "Foo",
    ],
)
def test_an_unknown_return_annotation_is_a_warning_at_its_place(annotation: str) -> None:
    """The SDK goes by the exact annotation, and refuses these when the file runs."""
    (finding,) = findings(task(f"def f(llm) -> {annotation}: ..."))
    assert (finding.level, finding.rule, finding.line, finding.column) == (
        "warning",
        "return-annotation",
        3,
        15,
    )


@pytest.mark.parametrize("annotation", ["bool", "None", "float"])
def test_postponed_annotations_are_a_warning(annotation: str) -> None:
    """With the `__future__` import every annotation is a text, which the SDK cannot read."""
    source = "from __future__ import annotations\n" + task(f"def f(llm) -> {annotation}: ...")
    assert rules(source) == [("warning", "return-annotation")]


def test_an_alias_and_an_own_result_type_are_known() -> None:
    """`Score = float` is a float; a file that registers results of its own may return them."""
    assert rules("Score = float\n" + task("def f(llm) -> Score: ...")) == []
    own = "class Words(kbench.results.Result[list]): ...\n"
    assert rules(task("def f(llm) -> list: ...").replace(HEAD, HEAD + own)) == []


def test_an_alias_of_itself_does_not_hang() -> None:
    """`A = B; B = A` ends, and is unknown."""
    assert rules("A = B\nB = A\n" + task("def f(llm) -> A: ...")) == [("warning", "return-annotation")]


@pytest.mark.parametrize(
    "definition",
    [
        "def f(): ...",
        "def f(question: str): ...",
        "def f(n: int, words: list[str]): ...",
        "def f(df: pd.DataFrame): ...",
        "def f(question: 'str'): ...",
    ],
)
def test_a_function_that_no_model_can_be_passed_to_is_a_warning(definition: str) -> None:
    """No parameter, or only data: the run would belong to no model."""
    assert rules(task(definition)) == [("warning", "no-model")]


def test_a_task_in_a_class_has_no_self() -> None:
    """`self` stands where the model goes, since a task is not bound to an object."""
    source = HEAD + "class C:\n    @kbench.task()\n    def f(self, llm): ...\nC.f.run(kbench.llm)\n"
    assert rules(source) == [("warning", "no-model")]


def test_a_name_over_the_limit_is_a_warning() -> None:
    """255 characters pass, one more does not."""
    assert rules(task("def f(llm): ...", f"@kbench.task(name='{'x' * MAX_NAME_LENGTH}')")) == []
    longer = f"@kbench.task(name='{'x' * (MAX_NAME_LENGTH + 1)}')"
    assert rules(task("def f(llm): ...", longer)) == [("warning", "long-name")]


@pytest.mark.parametrize(("value", "limit"), [("64", 64), ("0", 255), ("", 255), ("many", 255), ("-1", 255)])
def test_the_limit_follows_the_sdks_variable(value: str, limit: int) -> None:
    """Where Kaggle's environment says what it takes, that counts; nonsense does not."""
    assert name_limit({"KAGGLE_BENCHMARK_MAX_NAME_LENGTH": value}) == limit


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (task("def f(llm): ...", "@kbench.task"), "bare-decorator"),
        (task("async def f(llm): ..."), "async"),
        (task("def f(llm): ...", "@kbench.task(name=make())"), "unknown-name"),
    ],
)
def test_what_kaggles_check_lets_through_to_fail_is_a_warning(source: str, rule: str) -> None:
    """The bare decorator, the async function and the computed name each have a finding with a fix."""
    (finding,) = findings(source)
    assert (finding.level, finding.rule, bool(finding.fix)) == ("warning", rule, True)


def test_a_finding_reads_like_a_compilers() -> None:
    """file:line:column: level: message, without the parts that are not known."""
    assert Finding("error", "bad.", 3, 7).text("a.py") == "a.py:3:7: error: bad."
    assert Finding("warning", "odd.").text("a.py") == "a.py: warning: odd."


def test_no_run_alone_can_be_allowed(tmp_path: object) -> None:
    """`allow_no_run` lets the no-op pass and no other error."""
    source = task("def f(llm): ...", "@kbench.task(name='🚀')", run="")
    from pathlib import Path

    file = TaskFile(Path("a.py"), source, *inspect(ast.parse(source), source))
    assert [finding.rule for finding in file.errors()] == ["no-run", "no-slug"]
    assert [finding.rule for finding in file.errors(allow_no_run=True)] == ["no-slug"]
