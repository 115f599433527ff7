"""Find what is wrong with the tasks of a file before it is pushed.

Errors are what a push refuses. Warnings are what it accepts, although most of it fails on the server.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fanbench.tasks.annotations import model_problem, return_problem
from fanbench.tasks.definitions import TaskFunction, find_foreign_tasks, find_tasks
from fanbench.tasks.ipynb import Cells
from fanbench.tasks.reach import Reach, reach
from fanbench.tasks.source import all_nodes, char_column
from fanbench.tasks.task_file import NO_RUN, Finding, Level, TaskDefinition
from fanbench.wire.slugs import slugify

__all__ = ["MAX_NAME_LENGTH", "lint", "name_limit"]

#: The width of the column in which Kaggle keeps a task's name (Kaggle/kaggle-benchmarks, pull request 132).
MAX_NAME_LENGTH = 255
#: The SDK reads the limit from this variable where it is set, as in Kaggle's own environment. So do we.
NAME_LIMIT_VARIABLE = "KAGGLE_BENCHMARK_MAX_NAME_LENGTH"

_PYTHON_FILE = Cells()


def name_limit(env: Mapping[str, str] = os.environ) -> int:
    """The greatest number of characters in a task's name."""
    value = env.get(NAME_LIMIT_VARIABLE, "")
    return int(value) if value.isdecimal() and int(value) else MAX_NAME_LENGTH


def lint(
    tree: ast.Module, source: str, cells: Cells = _PYTHON_FILE
) -> tuple[tuple[TaskDefinition, ...], tuple[Finding, ...]]:
    """Return the tasks of a parsed file and all findings, both in the order of the file and placed in `cells`."""
    nodes = all_nodes(tree)
    file = _File(nodes, source.split("\n"), find_tasks(nodes), reach(nodes), cells)
    tasks = tuple(file.define(task) for task in file.functions)
    findings = [*_check_file(file, tasks)]
    for function, task in zip(file.functions, tasks, strict=True):
        findings += _check_run(file, function, task)
        findings += _check_name(file, function, task)
        findings += _check_definition(file, function, task)
    findings.sort(key=lambda item: (item.line or 0, item.column or 0))
    return tuple(map(cells.place, tasks)), tuple(map(cells.place, findings))


@dataclass(frozen=True)
class _File:
    nodes: list[ast.AST]
    lines: list[str]
    functions: Sequence[TaskFunction]
    reached: Reach
    cells: Cells

    def define(self, task: TaskFunction) -> TaskDefinition:
        line, column = self._place(task.node)
        # A slash in the name does not separate an owner here.
        slug = slugify(task.name)
        name = task.node.name
        return TaskDefinition(task.name, slug, name, line, column, name in self.reached, task.stored)

    def finding(
        self, level: Level, rule: str, node: ast.stmt | ast.expr | ast.arg, message: str, fix: str
    ) -> Finding:
        return Finding(level, message, *self._place(node), fix, rule)

    def _place(self, node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
        return node.lineno, char_column(self.lines, node.lineno, node.col_offset)


def _check_file(file: _File, tasks: Sequence[TaskDefinition]) -> Iterator[Finding]:
    if not tasks:
        fix = 'Put @kbench.task(name="…") above a function, after `import kaggle_benchmarks as kbench`.'
        for decorator, package in find_foreign_tasks(file.nodes):
            message = f"This @task comes from {package}, not from kaggle_benchmarks."
            yield file.finding("warning", "foreign-task", decorator, message, fix)
        yield Finding("error", "The file has no @task function.", 1, 1, fix, "no-task")
    first: dict[str, TaskDefinition] = {}
    for function, task in zip(file.functions, tasks, strict=True):
        earlier = first.setdefault(task.slug, task)
        if task.slug and earlier is not task:
            place = file.cells.describe(earlier.line)
            message = f"Task {task.name!r} has the same slug, {task.slug!r}, as the task in {place}."
            yield file.finding("error", "duplicate", function.node, message, 'Rename it: name="…".')


def _check_run(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if task.has_run:
        return
    call = f"{task.function}.run(kbench.llm)"
    called_in_a_run = any(
        isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == task.function
        for other in file.functions
        if other.node.name in file.reached
        for part in ast.walk(other.node)
    )
    if called_in_a_run:
        message = f"Task {task.name!r} is only called like a function, so it records no run of its own."
        yield file.finding("warning", "called", function.node, message, f"Write {call} to record one.")
    else:
        message = f"Task {task.name!r} is never run: a push would succeed and record nothing."
        fix = f"Add `{call}` (or .evaluate(…)) after the function."
        yield file.finding("error", NO_RUN, function.node, message, fix)


def _check_name(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if not task.slug:
        message = f"No slug can be derived from the task's name {task.name!r}."
        fix = "Use letters or digits in the name."
        yield file.finding("error", "no-slug", function.node, message, fix)
    if not function.name_known:
        message = f"The task's name is only known when the file runs; {task.name!r} is assumed."
        yield file.finding("warning", "unknown-name", function.node, message, 'Write name="…" as a literal.')
    if len(task.name) > (limit := name_limit()):
        message = f"The task's name has {len(task.name)} characters; Kaggle's limit is {limit}."
        yield file.finding("warning", "long-name", function.node, message, "Shorten name=.")


def _check_definition(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    node = function.node
    if not function.options.called:
        # Kaggle's own check counts this as a task, but the SDK does not make one of it.
        message = "A decorator without parentheses does not create a task, so the function has no .run."
        fix = f'Write @kbench.task(name="{task.name}").'
        yield file.finding("warning", "bare-decorator", node.decorator_list[0], message, fix)
    if isinstance(node, ast.AsyncFunctionDef):
        message = (
            f"Task {task.name!r} is async: kaggle-benchmarks 0.6 does not await it and writes no run file."
        )
        yield file.finding("warning", "async", node, message, "Write `def` instead of `async def`.")
    if node.returns and (problem := return_problem(node, file.nodes)):
        fix = "Use bool, int, float, dict, tuple[float, float], or None if the task only asserts."
        yield file.finding("warning", "return-annotation", node.returns, problem, fix)
    if problem := model_problem(node.args, in_class=function.in_class):
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        fix = f"Write def {task.function}(llm, …): and pass kbench.llm to it."
        yield file.finding("warning", "no-model", parameters[0] if parameters else node, problem, fix)
