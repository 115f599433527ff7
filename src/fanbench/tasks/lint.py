"""What is wrong with a task file, before anything is sent: one rule, one function.

Errors are what a push refuses; warnings are what it lets through, most of it to fail on the server.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fanbench.errors import UsageError
from fanbench.tasks.annotations import cannot_be_model, return_problem
from fanbench.tasks.definitions import TaskFunction, foreign_tasks, walk_tasks
from fanbench.tasks.model import NO_RUN, Finding, Level, TaskDefinition
from fanbench.tasks.reach import Reach, reach
from fanbench.tasks.source import all_nodes, char_column
from fanbench.wire.slugs import slugify

__all__ = ["MAX_NAME_LENGTH", "inspect", "name_limit"]

#: The width of the column in which Kaggle keeps a task's name (Kaggle/kaggle-benchmarks, pull request 132).
MAX_NAME_LENGTH = 255
#: Where Kaggle's own environment says otherwise, the SDK goes by this variable; so does the check.
NAME_LIMIT_VARIABLE = "KAGGLE_BENCHMARK_MAX_NAME_LENGTH"


def name_limit(env: Mapping[str, str] = os.environ) -> int:
    """The most characters that a task's name may have."""
    value = env.get(NAME_LIMIT_VARIABLE, "")
    return int(value) if value.isdecimal() and int(value) else MAX_NAME_LENGTH


def inspect(tree: ast.Module, source: str) -> tuple[tuple[TaskDefinition, ...], tuple[Finding, ...]]:
    """The tasks of a parsed file and all findings, in the order of the file."""
    nodes = all_nodes(tree)
    file = _File(nodes, source.split("\n"), walk_tasks(nodes), reach(nodes))
    tasks = tuple(file.define(task) for task in file.functions)
    findings = [finding for rule in _FILE_RULES for finding in rule(file, tasks)]
    for function, task in zip(file.functions, tasks, strict=True):
        findings += [finding for rule in _TASK_RULES for finding in rule(file, function, task)]
    return tasks, tuple(sorted(findings, key=lambda item: (item.line or 0, item.column or 0)))


@dataclass(frozen=True)
class _File:
    nodes: list[ast.AST]
    lines: list[str]
    functions: Sequence[TaskFunction]
    reached: Reach

    def define(self, task: TaskFunction) -> TaskDefinition:
        line, column = self.place(task.node)
        return TaskDefinition(
            name=task.name,
            slug=_slug(task.name),
            function=task.node.name,
            line=line,
            column=column,
            has_run=task.node.name in self.reached,
            stored=task.stored,
        )

    def place(self, node: ast.stmt | ast.expr | ast.arg) -> tuple[int, int]:
        return node.lineno, char_column(self.lines, node.lineno, node.col_offset)

    def finding(
        self, level: Level, rule: str, node: ast.stmt | ast.expr | ast.arg, message: str, fix: str
    ) -> Finding:
        line, column = self.place(node)
        return Finding(level, message, line, column, fix, rule)


def _slug(name: str) -> str:
    """The slug of a decorator's name, where a slash makes no owner; empty if there can be none."""
    try:
        return slugify(name)
    except UsageError:
        return ""


# --- Rules about the file -----------------------------------------------------------------------------------


def _no_task(file: _File, tasks: Sequence[TaskDefinition]) -> Iterator[Finding]:
    if tasks:
        return
    fix = 'Put @kbench.task(name="…") above a function, after `import kaggle_benchmarks as kbench`.'
    for decorator, package in foreign_tasks(file.nodes):
        message = f"this @task comes from {package}, not from kaggle_benchmarks."
        yield file.finding("warning", "foreign-task", decorator, message, fix)
    yield Finding("error", "no @task function in this file.", 1, 1, fix, "no-task")


def _duplicates(file: _File, tasks: Sequence[TaskDefinition]) -> Iterator[Finding]:
    first: dict[str, TaskDefinition] = {}
    for function, task in zip(file.functions, tasks, strict=True):
        earlier = first.setdefault(task.slug, task)
        if task.slug and earlier is not task:
            message = f"task {task.name!r} has the slug {task.slug!r}, as the one in line {earlier.line} has."
            yield file.finding(
                "error", "duplicate", function.node, message, 'Give it another name: name="…".'
            )


# --- Rules about one task -----------------------------------------------------------------------------------


def _no_run(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if task.has_run:
        return
    call = f"{task.function}.run(kbench.llm)"
    if _called_in_a_run(file, task.function):
        message = f"task {task.name!r} is only called like a function, so no run of its own is recorded."
        yield file.finding("warning", "called", function.node, message, f"Write {call} to record one.")
        return
    message = f"task {task.name!r} is never run: a push would succeed and record nothing."
    fix = f"Add `{call}` (or .evaluate(…)) after the function."
    yield file.finding("error", NO_RUN, function.node, message, fix)


def _called_in_a_run(file: _File, function: str) -> bool:
    bodies = [task.node for task in file.functions if task.node.name in file.reached]
    return any(
        isinstance(part, ast.Call) and isinstance(part.func, ast.Name) and part.func.id == function
        for body in bodies
        for part in ast.walk(body)
    )


def _no_slug(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if not task.slug:
        message = f"no slug can be made of the task's name {task.name!r}."
        fix = "Give it a name with Latin letters or digits."
        yield file.finding("error", "no-slug", function.node, message, fix)


def _unknown_name(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if not function.name_known:
        message = f"the task's name is only known when the file runs; {task.name!r} is assumed."
        yield file.finding("warning", "unknown-name", function.node, message, 'Write name="…" as plain text.')


def _long_name(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    limit = name_limit()
    if len(task.name) > limit:
        message = f"the task's name has {len(task.name)} characters, Kaggle takes {limit}."
        yield file.finding("warning", "long-name", function.node, message, "Write a shorter name=.")


def _bare(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    """Kaggle's check counts it as a task, the SDK makes none of it."""
    if not function.options.called:
        message = "a decorator without parentheses makes no task: .run does not exist then."
        fix = f'Write @kbench.task(name="{task.name}").'
        yield file.finding("warning", "bare-decorator", function.node.decorator_list[0], message, fix)


def _coroutine(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if isinstance(function.node, ast.AsyncFunctionDef):
        message = (
            f"task {task.name!r} is async: kaggle-benchmarks 0.6 does not await it and writes no run file."
        )
        yield file.finding("warning", "async", function.node, message, "Write `def` instead of `async def`.")


def _returns(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    problem = return_problem(function.node, file.nodes)
    if problem and function.node.returns:
        fix = "Use bool, int, float, dict, tuple[float, float], or None for assertions alone."
        yield file.finding("warning", "return-annotation", function.node.returns, problem, fix)


def _model(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    problem = cannot_be_model(function.node.args, in_class=function.in_class)
    if problem:
        first = next(iter(_parameters(function.node.args)), None)
        fix = f"Write def {task.function}(llm, …): and pass kbench.llm to it."
        yield file.finding("warning", "no-model", first or function.node, problem, fix)


def _parameters(arguments: ast.arguments) -> Iterable[ast.arg]:
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]


_FILE_RULES: Sequence[Callable[[_File, Sequence[TaskDefinition]], Iterator[Finding]]] = (
    _no_task,
    _duplicates,
)
_TASK_RULES: Sequence[Callable[[_File, TaskFunction, TaskDefinition], Iterator[Finding]]] = (
    _no_run,
    _no_slug,
    _unknown_name,
    _long_name,
    _bare,
    _coroutine,
    _returns,
    _model,
)
