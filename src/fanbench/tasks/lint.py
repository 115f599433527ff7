"""Find what is wrong with the tasks of a file before it is pushed.

Errors are what a push refuses: the notebook would fail, or record nothing. Warnings are what may fail, or what
gives other results than intended.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fanbench.tasks.annotations import ReturnTypes, definitions_of, model_problem, unused_model
from fanbench.tasks.choice import ChooseLine, find_choose
from fanbench.tasks.definitions import TaskFunction, find_foreign_tasks, find_tasks
from fanbench.tasks.portability import check_portability
from fanbench.tasks.reach import Origins, Reach
from fanbench.tasks.results import unstored_result
from fanbench.tasks.source import all_nodes, char_column
from fanbench.tasks.task_file import DUPLICATE, NO_RUN, PYTHON_FILE, Cells, Finding, Level, TaskDefinition
from fanbench.wire.slugs import slugify

__all__ = ["MAX_NAME_LENGTH", "lint", "name_limit"]

#: The width of the column in which Kaggle keeps a task's name (Kaggle/kaggle-benchmarks, pull request 132).
MAX_NAME_LENGTH = 255
#: The SDK reads the limit from this variable where it is set, as in Kaggle's own environment. So do we.
NAME_LIMIT_VARIABLE = "KAGGLE_BENCHMARK_MAX_NAME_LENGTH"
# The arguments of the SDK's `task`, in 0.6.1 and 0.6.2.
_OPTIONS = ("name", "description", "version", "store_task", "store_run")


def name_limit(env: Mapping[str, str] = os.environ) -> int:
    """The greatest number of characters in a task's name."""
    value = env.get(NAME_LIMIT_VARIABLE, "")
    return int(value) if value.isdecimal() and int(value) else MAX_NAME_LENGTH


def lint(
    tree: ast.Module, source: str, cells: Cells = PYTHON_FILE, datasets: Collection[str] = ()
) -> tuple[tuple[TaskDefinition, ...], tuple[Finding, ...]]:
    """Return the tasks of a parsed file and all findings, both in the order of the file and placed in `cells`.

    `datasets`, as OWNER/SLUG, are attached to the notebook.
    """
    nodes = all_nodes(tree)
    functions, origins = find_tasks(nodes), Origins(nodes)
    file = _File(
        nodes=nodes,
        lines=source.split("\n"),
        functions=functions,
        reached=origins.reach(),
        reached_on_load=origins.reach(except_in=[task.node for task in functions]),
        return_types=ReturnTypes(nodes),
        definitions=definitions_of(nodes),
        cells=cells,
    )
    tasks = tuple(file.define(task) for task in file.functions)
    findings = [*_check_file(file, tasks)]
    for remark in check_portability(nodes, source, datasets):
        findings.append(file.finding("warning", remark.rule, remark.node, remark.message, remark.fix))
    choose = find_choose(source, commented=not cells.starts)
    if choose and not file.runs_after(choose.line):
        findings += _check_choice(file, tasks, choose)
        if (chosen := choose.find(tasks)) is not None:  # the others leave no run file
            tasks = tuple(task if task is chosen else replace(task, run_on_load=False) for task in tasks)
    for function, task in zip(file.functions, tasks, strict=True):
        findings += _check_run(file, function, task)
        findings += _check_name(file, function, task)
        findings += _check_decorator(file, function, task)
        findings += _check_definition(file, function, task)
        findings += _check_result(file, function, task)
    findings.sort(key=lambda item: item.place)
    # A function that is defined again, in another cell or branch, is the same task.
    last = {(task.function, task.slug): task for task in tasks}
    return tuple(map(cells.place, last.values())), tuple(map(cells.place, findings))


@dataclass(frozen=True)
class _File:
    nodes: list[ast.AST]
    lines: list[str]
    functions: Sequence[TaskFunction]
    reached: Reach
    reached_on_load: Reach
    return_types: ReturnTypes
    definitions: Mapping[str, set[str]]
    cells: Cells

    def define(self, task: TaskFunction) -> TaskDefinition:
        line, column = self._place(task.node)
        # A slash in the name does not separate an owner here.
        slug = slugify(task.name)
        name = task.node.name
        return TaskDefinition(
            name=task.name,
            slug=slug,
            function=name,
            line=line,
            column=column,
            has_run=name in self.reached,
            run_on_load=name in self.reached_on_load,
            stored=task.stored,
            helper=task.helper,
        )

    def runs_after(self, line: int) -> bool:
        """Whether a call such as `.run(…)` follows the line."""
        return any(
            isinstance(node, ast.Attribute) and node.attr in ("run", "evaluate") and node.lineno > line
            for node in self.nodes
        )

    def finding(
        self,
        level: Level,
        rule: str,
        node: ast.stmt | ast.expr | ast.arg,
        message: str,
        fix: str,
        task: TaskDefinition | None = None,
    ) -> Finding:
        """A finding at `node`. `task` is given if it does not concern the other tasks of the file."""
        return Finding(level, message, *self._place(node), fix, rule, task.slug if task else None)

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
        if task.slug and earlier.function != task.function:
            place = file.cells.describe(earlier.line)
            message = (
                f"Task {task.name!r} has the same slug, {task.slug!r}, as the task in {place}: "
                "neither can be pushed."
            )
            yield file.finding("warning", DUPLICATE, function.node, message, 'Rename it: name="…".', task)


def _check_choice(file: _File, tasks: Sequence[TaskDefinition], choose: ChooseLine) -> Iterator[Finding]:
    """Check that `%choose` names a task, and warn about the pushes that it makes fail."""
    place = (choose.line, choose.column)
    chosen = choose.find(tasks)
    if chosen is not None:
        others = [task.slug for task in tasks if not task.helper and task.slug != chosen.slug]
        if others:
            message = f"%choose keeps only the run of {chosen.slug}, so a push of {', '.join(others)} fails."
            fix = f"Push {chosen.slug}, or remove the line to push other tasks."
            yield Finding("warning", message, *place, fix, "choose", fails=tuple(others))
    elif tasks and all(function.name_known for function in file.functions):
        variables = {node.id for node in file.nodes if isinstance(node, ast.Name)}
        for node in file.nodes:
            if isinstance(node, ast.Import | ast.ImportFrom):
                variables |= {alias.asname or alias.name for alias in node.names}
        if choose.word not in variables and not {"$", "{"} & {*choose.word}:
            message = f"%choose {choose.word} names no task of this file, so it removes all runs."
            fix = f"Name one task: {', '.join(task.function for task in tasks)}."
            removed = tuple(task.slug for task in tasks)
            yield Finding("warning", message, *place, fix, "choose", fails=removed)


def _check_run(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if task.has_run or not task.stored:
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
        yield file.finding("warning", "called", function.node, message, f"Write {call} to record one.", task)
    else:
        message = f"Task {task.name!r} is never run: a push would succeed and record nothing."
        fix = f"Add `{call}` (or .evaluate(…)) after the function."
        yield file.finding("error", NO_RUN, function.node, message, fix, task)


def _check_name(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    if not task.slug:
        message = f"No slug can be derived from the task's name {task.name!r}."
        fix = "Use letters or digits in the name."
        yield file.finding("error", "no-slug", function.node, message, fix, task)
    if not function.name_known:
        message = f"The task's name is only known when the file runs; {task.name!r} is assumed."
        fix = 'Write name="…" as a literal.'
        yield file.finding("warning", "unknown-name", function.node, message, fix, task)
    if len(task.name) > (limit := name_limit()):
        message = f"The task's name has {len(task.name)} characters; Kaggle's limit is {limit}."
        yield file.finding("warning", "long-name", function.node, message, "Shorten name=.", task)


def _check_decorator(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    """Check that the SDK's `task` accepts its arguments, and makes a task of the function."""
    options, decorator = function.options, function.decorator
    if not options.called:
        # Kaggle's own check counts this as a task, but the SDK takes the function for the name.
        message = "A decorator without parentheses does not create a task, so the function has no .run."
        fix = f'Write @kbench.task(name="{task.name}").'
        level: Level = "error" if function.traced else "warning"
        yield file.finding(level, "bare-decorator", decorator, message, fix, None if task.has_run else task)
        return
    unknown = [item.arg for item in options.keywords if item.arg and item.arg not in _OPTIONS]
    fix = f"Its arguments are {', '.join(_OPTIONS)}; all but name need their keyword."
    if unknown:
        message = f"The SDK's task() has no argument {unknown[0]!r}."
    elif len(options.positional) > 1 and not any(isinstance(it, ast.Starred) for it in options.positional):
        message = f"The SDK's task() takes one positional argument, not {len(options.positional)}."
    else:
        return
    level = "error" if function.decorated_on_load else "warning"
    yield file.finding(level, "decorator-argument", decorator, message, fix)


def _check_definition(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    node = function.node
    if isinstance(node, ast.AsyncFunctionDef):
        message = (
            f"Task {task.name!r} is async: kaggle-benchmarks 0.6 does not await it and writes no run file."
        )
        certain = function.decorated_on_load and not task.helper
        fix = "Write `def` instead of `async def`."
        yield file.finding("error" if certain else "warning", "async", node, message, fix, task)
    if node.returns and (returns := file.return_types.problem(node)) and function.options.called:
        level: Level = "error" if returns.certain and function.decorated_on_load else "warning"
        yield file.finding(level, "return-annotation", node.returns, returns.message, returns.fix)
    if problem := model_problem(node.args, in_class=function.in_class):
        parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        fix = f"Write def {task.function}(llm, …): and pass kbench.llm to it."
        yield file.finding("warning", "no-model", parameters[0] if parameters else node, problem, fix, task)
    elif model := unused_model(node, file.definitions):
        message = f"Task {task.name!r} never uses its model {model.arg!r}, so all models get the same result."
        fix = f"Ask it: {model.arg}.prompt(…)."
        yield file.finding("warning", "unused-model", model, message, fix, task)


def _check_result(file: _File, function: TaskFunction, task: TaskDefinition) -> Iterator[Finding]:
    """Warn about a result that loses the run file, or is stored as something else.

    A helper with `store_run=False` has a run file only within other runs.
    """
    lost = task.stored or not task.run_on_load
    accepted = file.return_types.problem(function.node) is None
    if function.node.returns and file.return_types.are_counts(function.node):
        message = (
            f"Task {task.name!r} returns two ints: the SDK stores the second as the half-width of an interval, "
            "so that 1 of 3 becomes 1 ± 3."
        )
        fix = "Return the share as a float, or a number and its half-width as tuple[float, float]."
        yield file.finding("warning", "counts", function.node.returns, message, fix, task)
    if task.has_run and lost and accepted and (found := unstored_result(function.node)):
        expression, kind = found
        message = (
            f"Task {task.name!r} returns {kind}, which the SDK does not store: the run leaves no run file."
        )
        fix = "Return a bool, a finite number, a dict, or a tuple of two numbers, or only assert."
        yield file.finding("warning", "result", expression, message, fix, task)
