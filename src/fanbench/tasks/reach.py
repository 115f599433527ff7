"""Find the names in a file that some `.run(…)` or `.evaluate(…)` could reach.

Pushing a task that is never run succeeds and records nothing, so the check has to find such tasks, and it must
not refuse a file that works. The analysis therefore errs on the side of "reached": it ignores scopes, and a value
reaches a name through every binding, container and call that mentions it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from fanbench.tasks.source import walk

__all__ = ["Origins", "Reach"]

RUNNERS = frozenset({"evaluate", "run"})
# Through these, any name can be reached without being written.
_ANYTHING = frozenset({"__dict__", "globals", "import_module", "locals", "modules", "registry", "vars"})
# Methods that store their arguments in the object they are called on.
_MUTATORS = frozenset(
    {
        "add",
        "append",
        "appendleft",
        "extend",
        "insert",
        "put",
        "put_nowait",
        "register",
        "setdefault",
        "update",
    }
)

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Reach:
    """The names that are reached. The name `…` stands for every name."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return "…" in self._names or name in self._names


class Origins:
    """For each name in a file, the names that its value may come from.

    `result:f` is what the function f returns, and `call:f` what it is called with.
    """

    def __init__(self, nodes: Sequence[ast.AST]) -> None:
        self._nodes = nodes
        self._origins: dict[str, set[str]] = defaultdict(set)
        for node in nodes:
            if isinstance(node, ast.Name):
                continue
            for targets, origins in _bindings(node):
                for target in targets if origins else ():
                    self._origins[target] |= origins

    def reach(self, *, except_in: Iterable[ast.AST] = ()) -> Reach:
        """Trace every receiver of a `.run` or `.evaluate` back to the names that its value may come from.

        Those within the nodes `except_in` do not count.
        """
        excepted = {id(part) for node in except_in for part in ast.walk(node)}
        todo = [name for node in self._nodes if id(node) not in excepted for name in _receivers(node)]
        seen: set[str] = set()
        while todo:
            name = todo.pop()
            if name in seen:
                continue
            seen.add(name)
            todo.extend(self._origins.get(name, ()))
            kind, _, function = name.rpartition(":")
            if kind == "result":
                # An alias of a function returns what the function returns.
                todo.extend(
                    f"result:{other}" for other in self._origins.get(function, ()) if ":" not in other
                )
        return Reach(frozenset(seen))


def _receivers(node: ast.AST) -> frozenset[str]:
    """The names that `node` runs, if it is a `.run` or `.evaluate` in any form."""
    match node:
        case ast.Attribute(value=value, attr=attribute) if attribute in RUNNERS:
            return _mentions(value)
        case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value="run" | "evaluate"), *_]):
            return _mentions(value)
        case ast.Call(func=ast.Attribute(attr="run_task"), args=arguments, keywords=keywords):
            return _mentions(*arguments, *keywords)
    return frozenset()


def _mentions(*nodes: ast.AST | None) -> frozenset[str]:
    """Every name and attribute in `nodes`, `result:f` for each call of f, and `…` where it may be any name."""
    found: set[str] = set()
    for part in (part for node in nodes if node for part in walk(node)):
        match part:
            case ast.Name(id=name) | ast.Attribute(attr=name):
                found.add("…" if name in _ANYTHING else name)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as name), *_]):
                found.add(name)
            case ast.Call(func=ast.Name(id="getattr"), args=[_, _, *_]):
                found.add("…")
            case ast.Call(func=function, args=arguments):
                # An argument may be called in turn, as in `map(get, names)`.
                for callee in (function, *arguments):
                    match callee:
                        case ast.Name(id=name) | ast.Attribute(attr=name):
                            found.add(f"result:{name}")
                        case ast.IfExp() | ast.BoolOp() | ast.Subscript() | ast.NamedExpr():
                            names = [inner.id for inner in ast.walk(callee) if isinstance(inner, ast.Name)]
                            found.update(f"result:{name}" for name in names)
    return frozenset(found)


def _bindings(node: ast.AST) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    """The names that `node` binds, each time with the names that the values may come from."""
    match node:
        case ast.Call(func=function, args=arguments):
            given = _mentions(*arguments, *node.keywords)
            # The callee may itself be an argument, as in `map(go, tasks)`.
            yield [f"call:{name}" for name in _mentions(function) | given], given
            for argument in arguments:
                if isinstance(argument, ast.Lambda):
                    yield _parameter_names(argument.args), given
            if isinstance(function, ast.Attribute) and function.attr in _MUTATORS:
                yield _mentions(function.value), given
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from _function_bindings(node)
        case ast.ClassDef(body=body):
            # What a class is called with may end up in any of its fields.
            for part in body:
                match part:
                    case ast.FunctionDef() | ast.AsyncFunctionDef():
                        yield from _parameter_bindings(part.args, node.name)
                    case ast.AnnAssign(target=field):
                        yield _mentions(field), frozenset({f"call:{node.name}"})
        case ast.Assign(targets=targets, value=value):
            names = _mentions(*targets)
            yield names, _mentions(value)
            if isinstance(value, ast.Lambda):
                for name in names:
                    yield from _parameter_bindings(value.args, name)
                    yield [f"result:{name}"], _mentions(value.body)
        case ast.AnnAssign(target=target, value=source) if source:
            yield _mentions(target), _mentions(source)
        case ast.AugAssign(target=target, value=source) | ast.NamedExpr(target=target, value=source):
            yield _mentions(target), _mentions(source)
        case ast.For() | ast.AsyncFor() | ast.comprehension():
            yield _mentions(node.target), _mentions(node.iter)
        case ast.withitem(context_expr=source, optional_vars=target) if target:
            yield _mentions(target), _mentions(source)
        case ast.Match(subject=subject, cases=cases):
            patterns = [part for case in cases for part in ast.walk(case.pattern)]
            captured = [part.name for part in patterns if isinstance(part, ast.MatchAs | ast.MatchStar)]
            captured += [part.rest for part in patterns if isinstance(part, ast.MatchMapping)]
            yield [name for name in captured if name], _mentions(subject)


def _function_bindings(node: Function) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    returns = [part for part in ast.walk(node) if isinstance(part, ast.Return | ast.Yield | ast.YieldFrom)]
    # A property returns its result without a call.
    bare = [node.name] if "property" in " ".join(_mentions(*node.decorator_list)) else []
    yield [f"result:{node.name}", *bare], _mentions(*(part.value for part in returns))
    yield from _parameter_bindings(node.args, node.name)
    for decorator in node.decorator_list:
        yield [f"call:{name}" for name in _mentions(decorator)], frozenset({node.name})


def _parameter_bindings(
    arguments: ast.arguments, function: str
) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    yield _parameter_names(arguments), frozenset({f"call:{function}"})
    yield _parameter_names(arguments), _mentions(*arguments.defaults, *arguments.kw_defaults)


def _parameter_names(arguments: ast.arguments) -> list[str]:
    return [part.arg for part in ast.walk(arguments) if isinstance(part, ast.arg)]
