"""The rules of the check, one by one."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from fanbench.tasks.lint import MAX_NAME_LENGTH, lint, name_limit
from fanbench.tasks.task_file import DUPLICATE, NO_RUN, PAGE_BLOCK, Finding, TaskFile

HEAD = "import kaggle_benchmarks as kbench\n"


def findings(source: str) -> tuple[Finding, ...]:
    return lint(ast.parse(source), source)[1]


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
        "def f(question: str, llm): ...",
        "def f(llm: kbench.LLMChat, question: str) -> bool: ...",
        "def f(*args): ...",
        "def f(**options): ...",
        "def f(*, llm): ...",
    ],
)
def test_a_valid_task_has_no_findings(definition: str) -> None:
    """Every signature that the SDK accepts passes without a finding."""
    assert rules(task(definition)) == []


def test_a_task_that_is_never_run_is_an_error() -> None:
    """A task that is never run is an error at its `def`, and the fix is the missing call."""
    source = task("def f(llm): ...", run="")
    (finding,) = findings(source)
    assert (finding.level, finding.rule, finding.line, finding.column) == ("error", "no-run", 3, 1)
    assert "f.run(kbench.llm)" in (finding.fix or "")


def test_a_sub_task_that_is_called_like_a_function_is_a_warning() -> None:
    """A task that is only called by another one works but records no run, so it is a warning, not an error."""
    source = task("def f(llm): return g(llm)") + "@kbench.task(name='B')\ndef g(llm): ...\n"
    assert rules(source) == [("warning", "called")]


def test_a_call_from_a_task_that_never_runs_does_not_excuse() -> None:
    """A task that is only called by a task that never runs is an error, too."""
    source = task("def f(llm): return g(llm)", run="") + "@kbench.task(name='B')\ndef g(llm): ...\n"
    assert rules(source) == [("error", "no-run"), ("error", "no-run")]


def test_a_file_without_tasks_is_an_error_that_names_the_other_package() -> None:
    """If the file only has a `@task` of another package, a warning names that package."""
    found = findings("from prefect import task\n@task\ndef f(): ...\n")
    assert [(item.level, item.rule) for item in found] == [("error", "no-task"), ("warning", "foreign-task")]
    assert "prefect" in found[1].message


def test_a_duplicate_slug_is_a_warning_at_the_second_task() -> None:
    """Two names with the same slug are a warning at the second task, which names the line of the first."""
    source = task("def f(llm): ...") + "@kbench.task(name='a')\ndef g(llm): ...\ng.run(kbench.llm)\n"
    (finding,) = findings(source)
    assert (finding.level, finding.rule, finding.line) == ("warning", "duplicate", 6)
    assert "line 3" in finding.message


@pytest.mark.parametrize(
    "source",
    [
        task("def f(llm): ...", run="") + task("def f(llm): ..."),
        f"{HEAD}if HARD:\n  @kbench.task()\n  def f(llm): ...\n"
        "else:\n  @kbench.task()\n  def f(llm): ...\nf.run(kbench.llm)\n",
    ],
)
def test_a_function_that_is_defined_again_is_one_task(source: str) -> None:
    """A task whose function is defined again, in a later cell or another branch, is one task without a finding."""
    tasks, found = lint(ast.parse(source), source)
    assert (len(tasks), found) == (1, ())
    assert tasks[0].line == source[: source.rindex("def f")].count("\n") + 1


@pytest.mark.parametrize("name", ["🚀", "///"])
def test_a_name_without_a_slug_is_an_error(name: str) -> None:
    """A name from which no slug can be derived is an error."""
    assert rules(task("def f(llm): ...", f"@kbench.task(name='{name}')")) == [("error", "no-slug")]


def test_a_slash_in_a_name_does_not_separate_an_owner() -> None:
    """A slash in a decorator's name becomes a hyphen of the slug."""
    source = task("def f(llm): ...", "@kbench.task(name='Red/Blue team')")
    assert lint(ast.parse(source), source)[0][0].slug == "red-blue-team"


@pytest.mark.parametrize(
    ("indent", "decorator", "level"),
    [
        ("", "@kbench.task()", "error"),
        ("", "@kbench.task()\n@wrapped", "warning"),
        ("", "@helpers.task()", "warning"),
        ("  ", "@kbench.task()", "warning"),
    ],
)
def test_a_return_annotation_is_an_error_where_the_sdk_surely_rejects_it(
    indent: str, decorator: str, level: str
) -> None:
    """It is an error at the annotation's place if loading the file passes it to the SDK, otherwise a warning."""
    lines = [*decorator.split("\n"), "def f(llm) -> str: ..."]
    block = "try:\n" if indent else ""
    block += "\n".join(indent + line for line in lines)
    source = f"{HEAD}{block}\n{'finally: pass' if indent else ''}\nf.run(kbench.llm)\n"
    (finding,) = findings(source)
    assert (finding.level, finding.rule, finding.column) == (level, "return-annotation", 15 + len(indent))


@pytest.mark.parametrize(
    ("before", "returns", "warns"),
    [
        ("", "tuple[int,int]", True),
        ("Counts = tuple[int, int]\n", "Counts", True),
        ("", "tuple[float, float]", False),
        ("class Counts(kbench.results.Result[tuple[int, int]]): ...\n", "tuple[int, int]", False),
    ],
)
def test_two_ints_are_not_what_they_seem(before: str, returns: str, warns: bool) -> None:
    """A pair of counts is stored as a value and a half-width, unless the file says how pairs of ints are stored."""
    source = before + task(f"def f(llm) -> {returns}: ...")
    assert rules(source) == ([("warning", "counts")] if warns else [])
    assert all("1 of 3 becomes 1 ± 3" in finding.message for finding in findings(source))


def test_an_alias_of_itself_does_not_hang() -> None:
    """Aliases that refer to each other end the search and count as unsupported."""
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
    """A function without a parameter that can take the model is a warning."""
    assert rules(task(definition)) == [("warning", "no-model")]


def test_self_takes_the_place_of_the_model() -> None:
    """A task in a class with `self` as its first parameter is a warning, as tasks are not bound to objects."""
    source = HEAD + "class C:\n    @kbench.task()\n    def f(self, llm): ...\nC.f.run(kbench.llm)\n"
    assert rules(source) == [("warning", "no-model")]


def test_a_name_over_the_limit_is_a_warning() -> None:
    """A name of 255 characters passes, and one more is a warning."""
    assert rules(task("def f(llm): ...", f"@kbench.task(name='{'x' * MAX_NAME_LENGTH}')")) == []
    longer = f"@kbench.task(name='{'x' * (MAX_NAME_LENGTH + 1)}')"
    assert rules(task("def f(llm): ...", longer)) == [("warning", "long-name")]


@pytest.mark.parametrize(("value", "limit"), [("64", 64), ("0", 255), ("", 255), ("many", 255), ("-1", 255)])
def test_the_limit_follows_the_sdks_variable(value: str, limit: int) -> None:
    """The SDK's environment variable sets the limit, unless its value is not a positive number."""
    assert name_limit({"KAGGLE_BENCHMARK_MAX_NAME_LENGTH": value}) == limit


@pytest.mark.parametrize(
    ("source", "rule"),
    [
        (task("def f(llm): ...", "@task"), "bare-decorator"),
        (task("async def f(llm): ...", "@kbench.task(store_task=False)"), "async"),
        (task("async def f(llm): ...", "@kbench.task()\n@wrapped"), "async"),
        (task("def f(llm): ...", "@kbench.task(name=make())"), "unknown-name"),
    ],
)
def test_what_only_fails_on_the_server_is_a_warning(source: str, rule: str) -> None:
    """A decorator that may be another, an async helper and a computed name are each a warning with a fix."""
    (finding,) = findings(source)
    assert (finding.level, finding.rule, bool(finding.fix)) == ("warning", rule, True)


@pytest.mark.parametrize("decorator", ["@kbench.task", "@kbench.task(title='A')"])
def test_an_error_is_at_the_decorator_that_makes_the_task(decorator: str) -> None:
    """A wrong decorator is found at its own place, also below decorators of others."""
    (finding,) = findings(task("def f(llm): ...", f"@others.trace\n{decorator}"))
    assert (finding.level, finding.line, finding.column) == ("error", 3, 2)


def test_a_helper_needs_no_run() -> None:
    """A task whose runs are not stored cannot be pushed, so it may be there for nobody."""
    helper = "@kbench.task(name='B', store_task=False, store_run=False)\ndef g(llm): ..."
    assert rules(f"{task('def f(llm): ...')}{helper}\n") == []
    assert rules(f"{task('def f(llm): ...')}{helper.replace('False', 'True')}\n") == [("error", "no-run")]


def test_an_async_task_is_an_error() -> None:
    """An async task is an error of its own, because the SDK records nothing for a coroutine."""
    (finding,) = findings(task("async def f(llm): ..."))
    assert (finding.level, finding.rule, finding.task) == ("error", "async", "a")


def test_a_finding_is_formatted_for_editors() -> None:
    """A finding is printed as `file:line:column: level: message`, without the parts that are unknown."""
    assert Finding("error", "bad.", 3, 7).text("a.py") == "a.py:3:7: error: bad."
    assert Finding("warning", "odd.").text("a.py") == "a.py: warning: odd."


def test_no_run_alone_can_be_allowed() -> None:
    """`allow_no_run` removes the error about tasks that are never run, and no other."""
    source = task("def f(llm): ...", "@kbench.task(name='🚀')", run="")
    file = TaskFile(Path("a.py"), source, *lint(ast.parse(source), source))
    assert [finding.rule for finding in file.errors()] == ["no-run", "no-slug"]
    assert [finding.rule for finding in file.errors(allow_no_run=True)] == ["no-slug"]


def test_every_rule_is_documented() -> None:
    """The list of rules in docs/output.md has every rule that the source code gives to a finding."""
    root = Path(__file__).parents[2]
    documented = re.findall(
        r"^- `([a-z-]+)` \((?:error|warning)\): ", (root / "docs/output.md").read_text(), re.M
    )
    rules = {NO_RUN, DUPLICATE, PAGE_BLOCK, "unreadable"}
    for name in ("imports.py", "lint.py", "portability.py"):
        for node in ast.walk(ast.parse((root / "src/fanbench/tasks" / name).read_text())):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr="finding") | ast.Name(id="Remark"),
                    args=[_, ast.Constant(value=str() as rule), *_],
                ):
                    rules.add(rule)
                case ast.Call(func=ast.Name(id="Finding"), args=[*_, ast.Constant(value=str() as rule)]):
                    rules.add(rule)
                case ast.Assign(
                    targets=[ast.Tuple(elts=[ast.Name(id="rule"), _])],
                    value=ast.Tuple(elts=[ast.Constant(value=str() as rule), _]),
                ):
                    rules.add(rule)
    assert sorted(documented) == sorted(rules)


SEVERAL = """import kaggle_benchmarks as kbench
@kbench.task(name="Red Fox")
def red(llm): ...
@kbench.task(name="Blue Whale")
def blue(llm): ...
@kbench.task(name="part", store_task=False)
def part(llm): ...
for item in (red, blue, part): item.run(kbench.llm)
"""


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%choose red", "keeps only the run of red-fox, so a push of blue-whale fails"),
        ('# %choose "Red Fox"', "keeps only the run of red-fox, so a push of blue-whale fails"),
        ("%choose part", "keeps only the run of part, so a push of red-fox, blue-whale fails"),
        ("%choose green", "%choose green names no task of this file"),
        ("%choose [red, blue]", "%choose [red, blue] names no task of this file"),
    ],
)
def test_choose_is_a_warning_where_it_decides(line: str, message: str) -> None:
    """A %choose that removes the runs of other tasks, or of all, is a warning at its line."""
    _, found = lint(ast.parse(SEVERAL), f"{SEVERAL}{line}\n")
    (finding,) = [each for each in found if each.rule == "choose"]
    assert (finding.level, finding.line, finding.column) == ("warning", 9, line.index("%") + 1)
    assert message in finding.message


@pytest.mark.parametrize(
    "source",
    [
        f"{SEVERAL}%choose item\n",
        f"{SEVERAL}%choose {{red.name}}\n",
        f"{SEVERAL}'''\n%choose red\n'''\n",
        f"{SEVERAL}# To keep one, write %choose red.\n",
        f"{HEAD}@kbench.task()\ndef only(llm): ...\nonly.run(kbench.llm)\n%choose only\n",
    ],
)
def test_choose_is_no_warning_where_it_may_be_right(source: str) -> None:
    """A %choose of a variable, of the only task, or one that is only text is no warning."""
    tree = ast.parse(source.replace("\n%choose", "\n#"))
    assert "choose" not in [finding.rule for finding in lint(tree, source)[1]]


def test_only_the_chosen_task_leaves_a_run_file() -> None:
    """After a %choose, the other tasks of the file are not expected to record, unless they run after it."""
    source = f"{SEVERAL}%choose red\n"
    tree = ast.parse(SEVERAL)
    assert [task.slug for task in lint(tree, source)[0] if task.run_on_load] == ["red-fox"]
    later = f"{SEVERAL}%choose red\nblue.run(kbench.llm)\n"
    tasks, found = lint(ast.parse(later.replace("%choose", "#")), later)
    assert "blue-whale" in [task.slug for task in tasks if task.run_on_load]
    assert "choose" not in [finding.rule for finding in found]
