"""The functions under the SDK's `@task`, in every form in which it can be written."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

__all__ = ["Function", "Options", "TaskFunction", "title_of", "walk_tasks"]

SDK = "kaggle_benchmarks"
# The SDK has the same decorator under two names.
_DECORATORS = frozenset({"benchmark", "task"})

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, slots=True)
class Options:
    """What a decorator was called with. `called` is false for a bare `@task`."""

    called: bool
    positional: tuple[ast.expr, ...] = ()
    keywords: tuple[ast.keyword, ...] = ()

    def get(self, keyword: str) -> ast.expr | None:
        return next((item.value for item in self.keywords if item.arg == keyword), None)

    def over(self, preset: Options) -> Options:
        """These options on top of those that an alias brings."""
        return Options(
            self.called or preset.called,
            self.positional or preset.positional,
            self.keywords + preset.keywords,
        )


@dataclass(frozen=True, slots=True)
class TaskFunction:
    """A task as it stands in the file. `name_known` is false where only running would tell the name."""

    node: Function
    options: Options
    name: str
    name_known: bool
    in_class: bool

    @property
    def stored(self) -> bool:
        value = self.options.get("store_run")
        return not (isinstance(value, ast.Constant) and value.value is False)


def title_of(function: str) -> str:
    """The name that the SDK gives to a task that has none."""
    return function.title().replace("_", " ")


def walk_tasks(nodes: Sequence[ast.AST]) -> list[TaskFunction]:
    """The tasks among all `nodes` of a file, in the order of the file."""
    names = _Names(nodes)
    texts = _constants(nodes)
    methods = {id(part) for node in nodes if isinstance(node, ast.ClassDef) for part in node.body}
    found = [
        _task_function(node, options, texts, in_class=id(node) in methods)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (options := names.options_of(node.decorator_list)) is not None
    ]
    return sorted(found, key=lambda task: (task.node.lineno, task.node.col_offset))


def foreign_tasks(nodes: Sequence[ast.AST]) -> list[tuple[ast.expr, str]]:
    """The `@task` decorators that come from another package, with its name."""
    names = _Names(nodes)
    return [
        (decorator, package)
        for node in nodes
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for decorator in node.decorator_list
        if (package := names.foreign_package(decorator))
    ]


def _task_function(
    node: Function, options: Options, texts: dict[str, str], *, in_class: bool
) -> TaskFunction:
    name, known = _name(options, texts)
    return TaskFunction(node, options, name or title_of(node.name), known, in_class)


def _name(options: Options, texts: dict[str, str]) -> tuple[str, bool]:
    expression = options.get("name") or next(iter(options.positional), None)
    if expression is None:
        # `**options` may or may not bring a name.
        return "", all(item.arg for item in options.keywords)
    text = _text(expression, texts)
    return text or "", text is not None


def _text(node: ast.expr, texts: dict[str, str]) -> str | None:
    """The text that `node` stands for, `None` if that cannot be told without running the file."""
    match node:
        case ast.Constant(value=None):
            return ""
        case ast.Constant(value=value):
            return str(value)
        case ast.Name(id=name):
            return texts.get(name)
        case ast.JoinedStr(values=[*parts]) if all(isinstance(part, ast.Constant) for part in parts):
            return "".join(str(part.value) for part in parts if isinstance(part, ast.Constant))
        case ast.BinOp(left=ast.expr() as left, op=ast.Add(), right=ast.expr() as right):
            start, end = _text(left, texts), _text(right, texts)
            return None if start is None or end is None else start + end
    return None


def _constants(nodes: Sequence[ast.AST]) -> dict[str, str]:
    """The names that are bound once, to a text."""
    texts: dict[str, str] = {}
    stores: dict[str, int] = {}
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                stores[name] = stores.get(name, 0) + 1
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=str() as text)):
                texts[name] = text
    return {name: text for name, text in texts.items() if stores.get(name) == 1}


class _Names:
    """What the names of a file mean: the SDK, its decorator, or another package."""

    def __init__(self, nodes: Sequence[ast.AST]) -> None:
        self._modules: set[str] = set()
        self._decorators: dict[str, Options] = {}
        self._foreign: dict[str, str] = {}
        for node in nodes:
            self._read_import(node)
        for node in nodes:
            self._read_alias(node)

    def options_of(self, decorators: list[ast.expr]) -> Options | None:
        """The options of the first decorator that is the SDK's, `None` if there is none."""
        return next((options for item in decorators if (options := self._options(item)) is not None), None)

    def foreign_package(self, decorator: ast.expr) -> str:
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        if self._options(decorator) is not None or _last_name(function) != "task":
            return ""
        return self._foreign.get(_root(function), "")

    def _read_import(self, node: ast.AST) -> None:
        for bound, module, name in _imports(node):
            if module.partition(".")[0] != SDK:
                self._foreign.setdefault(bound, module.partition(".")[0])
            elif name in _DECORATORS:
                self._decorators[bound] = Options(called=False)
            else:
                self._modules.add(bound)

    def _read_alias(self, node: ast.AST) -> None:
        """`task = kbench.task`, `quiet = kbench.task(store_run=False)`, `partial(kbench.task, …)`."""
        if isinstance(node, ast.Assign) and (options := self._alias(node.value)) is not None:
            names = [target.id for target in node.targets if isinstance(target, ast.Name)]
            self._decorators.update(dict.fromkeys(names, options))

    def _alias(self, value: ast.expr) -> Options | None:
        match value:
            case ast.Call(func=function, args=[first, *rest], keywords=keywords) if (
                _last_name(function) == "partial" and self._decorator(first) is not None
            ):
                return Options(False, tuple(rest), tuple(keywords))
            case ast.Call() | ast.Attribute() | ast.Name():
                return self._options(value, strict=True)
        return None

    def _options(self, decorator: ast.expr, *, strict: bool = False) -> Options | None:
        if not isinstance(decorator, ast.Call):
            return self._decorator(decorator, strict=strict)
        preset = self._decorator(decorator.func, strict=strict)
        return preset and Options(True, tuple(decorator.args), tuple(decorator.keywords)).over(preset)

    def _decorator(self, expression: ast.expr, *, strict: bool = False) -> Options | None:
        """`strict` leaves out what only looks like the SDK's by its name."""
        root, last = _root(expression), _last_name(expression)
        if isinstance(expression, ast.Name) and root in self._decorators:
            return self._decorators[root]
        if isinstance(expression, ast.Attribute) and root in self._modules and last in _DECORATORS:
            return Options(called=False)
        # A star import or a helper may bring it: Kaggle goes by the name alone, too.
        lookalike = last == "task" and root and root not in self._foreign and not strict
        return Options(called=False) if lookalike else None


def _imports(node: ast.AST) -> Iterator[tuple[str, str, str]]:
    """(bound name, module, imported name) of an import."""
    if isinstance(node, ast.Import):
        for item in node.names:
            yield item.asname or item.name.partition(".")[0], item.name, ""
    elif isinstance(node, ast.ImportFrom):
        for item in node.names:
            yield item.asname or item.name, "." * node.level + (node.module or ""), item.name


def _root(expression: ast.expr) -> str:
    while isinstance(expression, ast.Attribute):
        expression = expression.value
    return expression.id if isinstance(expression, ast.Name) else ""


def _last_name(expression: ast.expr) -> str:
    match expression:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
