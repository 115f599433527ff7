"""Finding functions decorated with `@task`, in every form."""

from __future__ import annotations

import ast

import pytest

from fanbench.tasks.definitions import TaskFunction, find_foreign_tasks, find_tasks
from fanbench.tasks.source import all_nodes


def tasks(source: str) -> list[TaskFunction]:
    return find_tasks(all_nodes(ast.parse(source)))


def names(source: str) -> list[str]:
    return [task.name for task in tasks(source)]


@pytest.mark.parametrize(
    "source",
    [
        "import kaggle_benchmarks as kbench\n@kbench.task(name='A')\ndef f(llm): ...",
        "import kaggle_benchmarks\n@kaggle_benchmarks.task(name='A')\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\n@kb.tasks.task('A')\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\n@kb.benchmark(name='A')\ndef f(llm): ...",
        "from kaggle_benchmarks import task\n@task('A')\ndef f(llm): ...",
        "from kaggle_benchmarks import task as t\n@t('A')\ndef f(llm): ...",
        "from kaggle_benchmarks.tasks import task as t\n@t(name='A')\ndef f(llm): ...",
        "from kaggle_benchmarks import tasks\n@tasks.task(name='A')\ndef f(llm): ...",
        "from kaggle_benchmarks import *\n@task(name='A')\ndef f(llm): ...",
        "from kaggle_benchmarks import task\n@task()\ndef a(llm): ...",
        "from kaggle_benchmarks import task\n@task\ndef a(llm): ...",
        "from kaggle_benchmarks import task\n@task(name=None)\ndef a(llm): ...",
        "from kaggle_benchmarks import task\n@task(name='A')\nasync def f(llm): ...",
        "import kaggle_benchmarks as kb\nt = kb.task\n@t(name='A')\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\nquiet = kb.task(store_run=False)\n@quiet\ndef a(llm): ...",
        "import kaggle_benchmarks as kb\nnamed = kb.task(name='A')\n@named\ndef f(llm): ...",
        "import kaggle_benchmarks as kb, functools\nt = functools.partial(kb.task, version=2)\n@t('A')\ndef f(l): ...",
        "import kaggle_benchmarks as kb\nNAME = 'A'\n@kb.task(name=NAME)\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\n@kb.task(name='' 'A')\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\n@kb.task(name=f'A')\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\nLEVEL = 'A'\n@kb.task(name=f'{LEVEL}')\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\n@other\n@kb.task(name='A')\n@more(1)\ndef f(llm): ...",
        "try:\n    import kaggle_benchmarks as kb\nexcept ImportError:\n    kb = None\n@kb.task('A')\ndef f(llm): ...",
        "import kaggle_benchmarks as kb\nclass C:\n    @kb.task(name='A')\n    def f(llm): ...",
        "import kaggle_benchmarks as kb\ndef make():\n    @kb.task(name='A')\n    def f(llm): ...\n    return f",
    ],
)
def test_a_task_is_found(source: str) -> None:
    """The task A is found whatever the alias, the form of the call and the place of the function."""
    assert names(source) == ["A"]


@pytest.mark.parametrize(
    "source",
    [
        "from prefect import task\n@task\ndef f(): ...",
        "import celery\n@celery.task(name='A')\ndef f(): ...",
        "import kaggle_benchmarks as kb\n@kb.other\ndef f(): ...",
        "import pytest\n@pytest.mark.benchmark\ndef f(): ...",
        "def benchmark(f): ...\n@benchmark\ndef f(): ...",
        "import kaggle_benchmarks as kb\ndef task(llm): ...",
        "'''\n@kb.task()\ndef f(llm): ...\n'''",
        "# @kb.task()\ndef f(llm): ...",
    ],
)
def test_other_code_is_not_taken_for_a_task(source: str) -> None:
    """Decorators of other packages, strings and comments are not tasks."""
    assert names(source) == []


def test_a_foreign_decorator_is_reported_with_its_package() -> None:
    """A `@task` that is not the SDK's is reported with the package it comes from."""
    nodes = all_nodes(ast.parse("from prefect.flows import task\n@task\ndef f(): ..."))
    assert [package for _, package in find_foreign_tasks(nodes)] == ["prefect"]


def test_a_missing_name_is_derived_like_in_the_sdk() -> None:
    """The function `my_task_2b` gives the task name "My Task 2B"."""
    assert names("@task()\ndef my_task_2b(llm): ...") == ["My Task 2B"]


@pytest.mark.parametrize(
    "arguments",
    [
        "name=f'{x}'",
        "name=f'{ONCE!r}'",
        "name=f'{ONCE:>5}'",
        "name=f'{None}'",
        "name=make()",
        "**options",
        "name=NAME",
        "name=TWICE",
        "'a' + other",
    ],
)
def test_a_computed_name_is_marked_as_unknown(arguments: str) -> None:
    """A name that is only known at run time is replaced by the function's title and marked as a guess."""
    (task,) = tasks(f"ONCE = 'a'\nTWICE = 'a'\nTWICE = 'b'\n@kb.task({arguments})\ndef my_f(llm): ...")
    assert (task.name, task.name_known) == ("My F", False)


def test_tasks_come_in_the_order_of_the_file() -> None:
    """Tasks are listed in the order of the file, nested functions included."""
    source = "def outer():\n    @task('B')\n    def b(llm): ...\n\n@task('C')\ndef c(llm): ...\n"
    assert names("@task('A')\ndef a(llm): ...\n" + source) == ["A", "B", "C"]


@pytest.mark.parametrize(
    ("option", "stored"), [("", True), ("store_run=False", False), ("store_run=True", True)]
)
def test_a_task_knows_whether_its_runs_are_stored(option: str, stored: bool) -> None:
    """Only `store_run=False` makes a task one whose runs are not stored."""
    (task,) = tasks(f"@kb.task({option})\ndef f(llm): ...")
    assert task.stored is stored
