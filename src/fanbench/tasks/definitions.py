"""Find the functions decorated with the SDK's `@task`, in every form in which that can be written."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Function", "Options", "TaskFunction", "find_foreign_tasks", "find_tasks", "string_constants"]

SDK = "kaggle_benchmarks"
# The SDK exports the same decorator under two names.
DECORATORS = frozenset({"benchmark", "task"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of a decorator. `called` is false for a bare `@task` without parentheses."""

    called: bool
    positional: tuple[ast.expr, ...] = ()
    keywords: tuple[ast.keyword, ...] = ()

    def get(self, keyword: str) -> ast.expr | None:
        return next((item.value for item in self.keywords if item.arg == keyword), None)


@dataclass(frozen=True, slots=True)
class TaskFunction:
    """A task as it is written in the file.

    `decorator` is the one that makes the task. `name_known` is false if the name is only known when the file runs;
    `name` is then a guess. `traced` is true if the decorator certainly is the SDK's, because the file imports it by
    name. `decorated_on_load` is true if loading the file always applies the decorator to the function itself, so that
    the SDK raises at this place if it rejects the function.
    """

    node: Function
    decorator: ast.expr
    options: Options
    name: str
    name_known: bool
    in_class: bool
    traced: bool
    decorated_on_load: bool

    @property
    def stored(self) -> bool:
        return not self._is_off("store_run")

    @property
    def helper(self) -> bool:
        return self._is_off("store_run") or self._is_off("store_task")

    def _is_off(self, keyword: str) -> bool:
        value = self.options.get(keyword)
        return isinstance(value, ast.Constant) and value.value is False


def find_tasks(nodes: Sequence[ast.AST]) -> list[TaskFunction]:
    """Return the tasks among all `nodes` of a file, in the order of the file."""
    names, constants = _Names(nodes), string_constants(nodes)
    methods = {id(part) for node in nodes if isinstance(node, ast.ClassDef) for part in node.body}
    top_level = {id(part) for node in nodes if isinstance(node, ast.Module) for part in node.body}
    tasks: list[TaskFunction] = []
    for node in nodes:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        found = [
            (item, options) for item in node.decorator_list if (options := names.options_of(item)) is not None
        ]
        if not found:
            continue
        decorator, options = found[0]
        traced = names.options_of(decorator, strict=True) is not None
        on_load = traced and id(node) in top_level and decorator is node.decorator_list[-1]
        # Without a name, the SDK makes a title of the function's name.
        name, known = node.name.title().replace("_", " "), True
        expression = options.get("name") or next(iter(options.positional), None)
        if expression is not None:
            text = _constant_text(expression, constants)
            name, known = text or name, text is not None
        elif not all(item.arg for item in options.keywords):
            known = False  # `**options` may contain a name.
        tasks.append(
            TaskFunction(node, decorator, options, name, known, id(node) in methods, traced, on_load)
        )
    return sorted(tasks, key=lambda task: (task.node.lineno, task.node.col_offset))


def find_foreign_tasks(nodes: Sequence[ast.AST]) -> list[tuple[ast.expr, str]]:
    """Return the `@task` decorators that come from another package, each with that package's name."""
    names = _Names(nodes)
    return [
        (decorator, package)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if (package := names.foreign_package(decorator))
    ]


def string_constants(nodes: Sequence[ast.AST]) -> dict[str, str]:
    """Return the names that are bound exactly once in the file, to a string."""
    texts: dict[str, str] = {}
    stores: dict[str, int] = {}
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                stores[name] = stores.get(name, 0) + 1
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str() as text)):
                texts[name] = text
    return {name: text for name, text in texts.items() if stores.get(name) == 1}


def _constant_text(node: ast.expr, constants: dict[str, str]) -> str | None:
    """The string that `node` evaluates to, or `None` if that is only known when the file runs."""
    match node:
        case ast.Constant(value=None):
            return ""
        case ast.Constant(value=value):
            return str(value)
        case ast.Name(id=name):
            return constants.get(name)
        case ast.FormattedValue(value=ast.Name() as value, conversion=-1, format_spec=None):
            return _constant_text(value, constants)
        case ast.JoinedStr(values=parts):
            texts = [_constant_text(part, constants) for part in parts]
            return None if None in texts else "".join(filter(None, texts))
        case ast.BinOp(left=ast.expr() as left, op=ast.Add(), right=ast.expr() as right):
            start, end = _constant_text(left, constants), _constant_text(right, constants)
            return None if start is None or end is None else start + end
    return None


class _Names:
    """What the names in a file refer to: the SDK, its decorator, an alias of it, or another package."""

    def __init__(self, nodes: Sequence[ast.AST]) -> None:
        self._modules: set[str] = set()
        self._decorators: dict[str, Options] = {}
        self._foreign: dict[str, str] = {}
        for node in nodes:
            if isinstance(node, ast.Import):
                for item in node.names:
                    self._add_import(item.asname or item.name.partition(".")[0], item.name)
            elif isinstance(node, ast.ImportFrom):
                module = "." * node.level + (node.module or "")
                for item in node.names:
                    self._add_import(item.asname or item.name, module, item.name)
        for node in nodes:
            # `task = kbench.task`, `quiet = kbench.task(store_run=False)`, `partial(kbench.task, …)`.
            if isinstance(node, ast.Assign) and (options := self._alias(node.value)) is not None:
                names = [target.id for target in node.targets if isinstance(target, ast.Name)]
                self._decorators.update(dict.fromkeys(names, options))

    def _add_import(self, bound: str, module: str, name: str = "") -> None:
        package = module.partition(".")[0]
        if package != SDK:
            self._foreign.setdefault(bound, package)
        elif name in DECORATORS:
            self._decorators[bound] = Options(called=False)
        else:
            self._modules.add(bound)

    def foreign_package(self, decorator: ast.expr) -> str:
        """The package of a decorator that is called `task` but is not the SDK's; otherwise empty."""
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        if self.options_of(decorator) is not None or _last_name(function) != "task":
            return ""
        return self._foreign.get(_root(function), "")

    def options_of(self, decorator: ast.expr, *, strict: bool = False) -> Options | None:
        """The options of the SDK's decorator, or `None` for any other.

        `strict` rejects what only has the right name, without being traced to an import of the SDK.
        """
        if not isinstance(decorator, ast.Call):
            return self._decorator(decorator, strict=strict)
        preset = self._decorator(decorator.func, strict=strict)
        positional, keywords = tuple(decorator.args), tuple(decorator.keywords)
        return preset and Options(True, preset.positional + positional, keywords + preset.keywords)

    def _decorator(self, expression: ast.expr, *, strict: bool = False) -> Options | None:
        root, last = _root(expression), _last_name(expression)
        if isinstance(expression, ast.Name) and root in self._decorators:
            return self._decorators[root]
        if isinstance(expression, ast.Attribute) and root in self._modules and last in DECORATORS:
            return Options(called=False)
        # It may come from a star import or a helper module. Kaggle, too, goes by the name alone.
        lookalike = last == "task" and root and root not in self._foreign and not strict
        return Options(called=False) if lookalike else None

    def _alias(self, value: ast.expr) -> Options | None:
        match value:
            case ast.Call(func=function, args=[first, *rest], keywords=keywords) if (
                _last_name(function) == "partial" and self._decorator(first) is not None
            ):
                return Options(False, tuple(rest), tuple(keywords))
            case ast.Call() | ast.Attribute() | ast.Name():
                return self.options_of(value, strict=True)
        return None


def _root(expression: ast.expr) -> str:
    while isinstance(expression, ast.Attribute):
        expression = expression.value
    return expression.id if isinstance(expression, ast.Name) else ""


def _last_name(expression: ast.expr) -> str:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
