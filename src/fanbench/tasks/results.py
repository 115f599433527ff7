"""Find what a task returns and the SDK does not write to a run file, by the form of the returned expression.

The SDK stores None, a bool, a finite number, a dict, and a tuple of two numbers. For anything else, also for a NaN or
an infinite number in a dict, it logs a warning and writes no run file, not even that of the task of which the run is a
part.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping, Sequence

from fanbench.tasks.definitions import Function

__all__ = ["unstored_result"]

_TEXT = "a str"
_MAKERS = {"list": "a list", "repr": _TEXT, "set": "a set", "sorted": "a list", "str": _TEXT}
_NUMBER_MODULES = frozenset({"math", "np", "numpy"})
_TEXT_METHODS = frozenset({"lower", "strip", "title", "upper"})

# The values of a function's variables. A parameter, and what has several values, is None.
_Values = Mapping[str, ast.expr | None]


def unstored_result(function: Function) -> tuple[ast.expr, str] | None:
    """The first result in the function that certainly is not stored, with its type; `None` if there is none."""
    nodes = list(_own_nodes(function))
    values = _values(function, nodes)
    for node in nodes:
        match node:
            case ast.Yield() | ast.YieldFrom():
                return node, "a generator"
            case ast.Return(value=ast.expr() as value) if kind := _unstored_type(value, values):
                return value, kind
    return None


def _own_nodes(function: Function) -> Iterator[ast.AST]:
    """The nodes of the function's body in the order of the file, without those of functions and classes in it."""
    todo: list[ast.AST] = [*reversed(function.body)]
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            todo.extend(reversed(list(ast.iter_child_nodes(node))))


def _values(function: Function, nodes: Sequence[ast.AST]) -> _Values:
    values: dict[str, ast.expr | None] = {
        part.arg: None for part in ast.walk(function.args) if isinstance(part, ast.arg)
    }
    stored = [node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)]
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if stored.count(name) == 1:
                values.setdefault(name, value)
    return dict.fromkeys(stored) | values


def _unstored_type(value: ast.expr, values: _Values) -> str | None:
    """The type of `value`, if it is certain and not stored."""
    if kind := _not_finite(value, values):
        return kind
    match value:
        case ast.Constant(value=str()) | ast.JoinedStr():
            return _TEXT
        case ast.List() | ast.ListComp():
            return "a list"
        case ast.Set() | ast.SetComp():
            return "a set"
        case ast.GeneratorExp():
            return "a generator"
        case ast.Tuple(elts=parts) if len(parts) != 2 and not any(
            isinstance(it, ast.Starred) for it in parts
        ):
            return f"a tuple of {len(parts)}"
        case ast.Tuple(elts=parts):
            inner = next((kind for part in parts if (kind := _unstored_type(part, values))), None)
            return f"a tuple with {inner}" if inner else None
        case ast.Dict(values=parts):
            inner = next((kind for part in parts if (kind := _not_finite(part, values))), None)
            return f"a dict with {inner}" if inner else None
        case ast.IfExp(body=body, orelse=other):
            return _unstored_type(body, values) or _unstored_type(other, values)
        case ast.Name(id=name) if assigned := values.get(name):
            return _unstored_type(assigned, {**values, name: None})
        case ast.Call(func=ast.Name(id=name)) if name not in values:
            return _MAKERS.get(name)
        case ast.Call(func=ast.Attribute(value=text, attr=method)) if method in _TEXT_METHODS:
            return _TEXT if _unstored_type(text, values) == _TEXT else None
        case ast.Call(func=ast.Attribute(value=model, attr="prompt"), args=[_], keywords=options):
            # With a schema, which may also be in `**options`, the model's reply becomes something else.
            plain = {item.arg for item in options}.isdisjoint({"schema", None})
            return _TEXT if plain and _is_model(model, values) else None
    return None


def _not_finite(value: ast.expr, values: _Values) -> str | None:
    """`NaN` or `an infinite number`, if `value` certainly is one: `float("nan")`, `math.nan`, `-np.inf`."""
    number: float | None = None
    match value:
        case ast.UnaryOp(op=ast.UAdd() | ast.USub(), operand=operand):
            return _not_finite(operand, values)
        case ast.Name(id=name) if assigned := values.get(name):
            return _not_finite(assigned, {**values, name: None})
        case ast.Call(func=ast.Name(id="float"), args=[ast.Constant(value=str() as text)]) if (
            "float" not in values and text.strip().lstrip("+-").lower() in {"nan", "inf", "infinity"}
        ):
            number = float(text)
        case ast.Attribute(value=ast.Name(id=module), attr="nan" | "inf" as name) if (
            module in _NUMBER_MODULES and module not in values
        ):
            number = float(name)
    if number is None:
        return None
    return "NaN" if math.isnan(number) else "an infinite number"


def _is_model(expression: ast.expr, values: _Values) -> bool:
    match expression:
        case ast.Name(id=name):
            return name in values and values[name] is None
        case ast.Attribute(attr=name):
            return name in {"judge_llm", "llm"}
    return False
