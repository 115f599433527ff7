"""Which names of a file some `.run(…)` or `.evaluate(…)` could reach.

A push of a task that nobody runs succeeds and records nothing, so the check has to find those; and it must
not refuse a file that works. So this leans to the side of "could": names are those of the whole file, with
no regard to scopes, and a value reaches a name through every binding, container and call that mentions it.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

__all__ = ["Reach", "mentions", "reach"]

RUNNERS = frozenset({"evaluate", "run"})
# Through these any name can be had without being written.
_ANYTHING = frozenset({"__dict__", "globals", "import_module", "locals", "modules", "registry", "vars"})
# Methods that put their arguments into what they are called on.
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
Edges = dict[str, set[str]]


class Reach:
    """The names that are reached; a name of `…` stands for all of them."""

    def __init__(self, names: frozenset[str]) -> None:
        self._names = names

    def __contains__(self, name: object) -> bool:
        return "…" in self._names or name in self._names


def reach(nodes: Sequence[ast.AST]) -> Reach:
    """Follows every receiver of a `.run` or `.evaluate` in a file back to the names it may come from."""
    edges = _edges(nodes)
    todo = [name for node in nodes for name in _receiver(node)]
    seen: set[str] = set()
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo.extend(edges.get(name, ()))
            todo.extend(_results_of_aliases(name, edges))
    return Reach(frozenset(seen))


def _results_of_aliases(name: str, edges: Edges) -> list[str]:
    """What an alias of a function gives is what the function gives."""
    kind, _, function = name.rpartition(":")
    return [f"result:{other}" for other in edges.get(function, ()) if kind == "result" and ":" not in other]


def mentions(*nodes: ast.AST | None) -> frozenset[str]:
    """Every name and attribute in `nodes`, `result:f` for what `f` gives; `…` where it could be any."""
    return frozenset(name for node in nodes if node for part in ast.walk(node) for name in _mention(part))


def _mention(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield "…" if name in _ANYTHING else name
        case ast.Call(func=ast.Name(id="getattr"), args=[_, attribute, *_]):
            known = isinstance(attribute, ast.Constant) and isinstance(attribute.value, str)
            yield str(attribute.value) if known and isinstance(attribute, ast.Constant) else "…"
        case ast.Call(func=function, args=arguments):
            # An argument may be called in turn, as in `map(get, names)`.
            yield from (f"result:{name}" for part in (function, *arguments) for name in _callees(part))


def _callees(node: ast.expr) -> Iterator[str]:
    """The functions that `node` may be, where it is no call itself."""
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            yield name
        case ast.IfExp() | ast.BoolOp() | ast.Subscript() | ast.NamedExpr():
            yield from (part.id for part in ast.walk(node) if isinstance(part, ast.Name))


def _receiver(node: ast.AST) -> frozenset[str]:
    match node:
        case ast.Attribute(value=value, attr=attribute) if attribute in RUNNERS:
            return mentions(value)
        case ast.Call(func=ast.Name(id="getattr"), args=[value, ast.Constant(value="run" | "evaluate"), *_]):
            return mentions(value)
        case ast.Call(func=ast.Attribute(attr="run_task"), args=arguments, keywords=keywords):
            return mentions(*arguments, *keywords)
    return frozenset()


def _edges(nodes: Sequence[ast.AST]) -> Edges:
    """For each name, those that its value may come from; `call:f` is what `f` is called with."""
    edges: Edges = defaultdict(set)
    for node in nodes:
        for targets, sources in _bindings(node):
            for target in targets:
                edges[target] |= sources
    return edges


def _bindings(node: ast.AST) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    match node:
        case ast.Call():
            yield from _call(node)
        case ast.FunctionDef() | ast.AsyncFunctionDef():
            yield from _function(node)
        case ast.ClassDef():
            yield from _class(node)
        case ast.Match(subject=subject, cases=cases):
            yield _captures(cases), mentions(subject)
        case _:
            yield from _assignment(node)


def _assignment(node: ast.AST) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    match node:
        case ast.Assign(targets=targets, value=value):
            yield mentions(*targets), mentions(value)
            yield from _lambda(mentions(*targets), value)
        case ast.AnnAssign(target=target, value=value) if value:
            yield mentions(target), mentions(value)
        case ast.AugAssign(target=target, value=value) | ast.NamedExpr(target=target, value=value):
            yield mentions(target), mentions(value)
        case ast.For(target=target, iter=source) | ast.AsyncFor(target=target, iter=source):
            yield mentions(target), mentions(source)
        case ast.comprehension(target=target, iter=source):
            yield mentions(target), mentions(source)
        case ast.withitem(context_expr=source, optional_vars=target) if target:
            yield mentions(target), mentions(source)


def _call(node: ast.Call) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    given = mentions(*node.args, *node.keywords)
    # The callee may itself be handed over, as in `map(go, tasks)`.
    yield [f"call:{name}" for name in mentions(node.func) | given], given
    for argument in node.args:
        if isinstance(argument, ast.Lambda):
            yield _parameters(argument.args), given
    if isinstance(node.func, ast.Attribute) and node.func.attr in _MUTATORS:
        yield mentions(node.func.value), given


def _function(node: Function) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    results = [
        part.value for part in ast.walk(node) if isinstance(part, ast.Return | ast.Yield | ast.YieldFrom)
    ]
    # A property gives its result without a call.
    bare = [node.name] if "property" in " ".join(mentions(*node.decorator_list)) else []
    yield [f"result:{node.name}", *bare], mentions(*results)
    yield from _takes(node.args, node.name)
    for decorator in node.decorator_list:
        yield [f"call:{name}" for name in mentions(decorator)], frozenset({node.name})


def _class(node: ast.ClassDef) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    """What a class is called with may end in any of its fields."""
    for part in node.body:
        match part:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                yield from _takes(part.args, node.name)
            case ast.AnnAssign(target=target):
                yield mentions(target), frozenset({f"call:{node.name}"})


def _lambda(names: Iterable[str], value: ast.AST) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    if isinstance(value, ast.Lambda):
        for name in names:
            yield from _takes(value.args, name)
            yield [f"result:{name}"], mentions(value.body)


def _takes(arguments: ast.arguments, function: str) -> Iterator[tuple[Iterable[str], frozenset[str]]]:
    yield _parameters(arguments), frozenset({f"call:{function}"})
    yield _parameters(arguments), mentions(*arguments.defaults, *arguments.kw_defaults)


def _parameters(arguments: ast.arguments) -> list[str]:
    return [part.arg for part in ast.walk(arguments) if isinstance(part, ast.arg)]


def _captures(cases: list[ast.match_case]) -> list[str]:
    parts = [part for case in cases for part in ast.walk(case.pattern)]
    names = [part.name for part in parts if isinstance(part, ast.MatchAs | ast.MatchStar)]
    names += [part.rest for part in parts if isinstance(part, ast.MatchMapping)]
    return [name for name in names if name]
