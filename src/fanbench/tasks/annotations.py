"""What a task's annotations mean to the SDK: the results it can record, and where the model can go."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from fanbench.tasks.definitions import Function

__all__ = ["cannot_be_model", "return_problem"]

# The SDK knows a result by exactly these annotations: `dict[str, float]` and `typing.Tuple` are none of them.
_RESULTS = frozenset(
    {"bool", "dict", "float", "int", "object", "tuple[float, float]", "tuple[int, int]", "None"}
)
_DATA = frozenset(
    {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"}
    | {"Dict", "List", "Set", "Tuple", "DataFrame", "Series", "ndarray", "Path"}
)


def return_problem(function: Function, nodes: Sequence[ast.AST]) -> str | None:
    """Why the SDK would not accept the function's return annotation, `None` if it would."""
    annotation = function.returns
    if annotation is None or (isinstance(annotation, ast.Constant) and annotation.value is None):
        return _postponed_none(annotation, nodes)
    text = _text(annotation, _aliases(nodes))
    if _postponed(nodes):
        return f"with `from __future__ import annotations` the SDK cannot read the annotation {text}."
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return f"the SDK cannot read the quoted annotation {text}."
    if text in _RESULTS or _has_own_results(nodes):
        return None
    return f"the SDK knows no result of type {text}."


def _postponed_none(annotation: ast.expr | None, nodes: Sequence[ast.AST]) -> str | None:
    if annotation is not None and _postponed(nodes):
        return "with `from __future__ import annotations` the SDK cannot read the annotation None."
    return None


def _postponed(nodes: Sequence[ast.AST]) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(item.name == "annotations" for item in node.names)
        for node in nodes
    )


def _text(annotation: ast.expr, aliases: dict[str, ast.expr]) -> str:
    seen: set[str] = set()
    while isinstance(annotation, ast.Name) and annotation.id in aliases and annotation.id not in seen:
        seen.add(annotation.id)
        annotation = aliases[annotation.id]
    return ast.unparse(annotation)


def _aliases(nodes: Sequence[ast.AST]) -> dict[str, ast.expr]:
    """`Score = float` and the like."""
    return {
        node.targets[0].id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _has_own_results(nodes: Sequence[ast.AST]) -> bool:
    """A class on `Result[…]` registers a result type, and which one only running would tell."""
    return any(
        isinstance(base, ast.Subscript) and ast.unparse(base.value).endswith("Result")
        for node in nodes
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    )


def cannot_be_model(arguments: ast.arguments, *, in_class: bool) -> str | None:
    """Why no model can be passed to a function with these arguments, `None` if one can.

    The SDK takes for the model whichever argument is one, so a question may well come before it.
    """
    if arguments.vararg or arguments.kwarg:
        return None
    positional = [*arguments.posonlyargs, *arguments.args]
    if in_class and positional and positional[0].arg in {"cls", "self"}:
        return (
            f"{positional[0].arg!r} stands where the model goes: a task in a class is not bound to an object."
        )
    parameters = [*positional, *arguments.kwonlyargs]
    if not parameters:
        return "the function takes no model, so a run belongs to none."
    if all(_is_data(parameter.annotation) for parameter in parameters):
        return f"the first parameter {parameters[0].arg!r} cannot be the model, and no other can."
    return None


def _is_data(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _DATA
        case ast.Subscript(value=value):
            return _is_data(value)
        case ast.Constant(value=str() as text):
            return text.partition("[")[0].rpartition(".")[2] in _DATA
    return False
