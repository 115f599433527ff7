"""What a task's annotations mean to the SDK: the results it can record, and where the model can be passed."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from fanbench.tasks.definitions import Function

__all__ = ["model_problem", "return_problem"]

# The SDK compares annotations with exactly these. It knows neither `dict[str, float]` nor `typing.Tuple`.
_RESULTS = frozenset(
    {"bool", "dict", "float", "int", "object", "tuple[float, float]", "tuple[int, int]", "None"}
)
_DATA = frozenset(
    {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"}
    | {"Dict", "List", "Set", "Tuple", "DataFrame", "Series", "ndarray", "Path"}
)


def return_problem(function: Function, nodes: Sequence[ast.AST]) -> str | None:
    """Why the SDK would reject the function's return annotation, or `None` if it accepts it."""
    annotation = function.returns
    if annotation is None:
        return None
    aliases = {  # `Score = float` and the like.
        node.targets[0].id: node.value
        for node in nodes
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }
    resolved, seen = annotation, set[str]()
    while isinstance(resolved, ast.Name) and resolved.id in aliases and resolved.id not in seen:
        seen.add(resolved.id)
        resolved = aliases[resolved.id]
    text = ast.unparse(resolved)
    postponed = any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(item.name == "annotations" for item in node.names)
        for node in nodes
    )
    if postponed:
        return f"The SDK cannot read the annotation {text} with `from __future__ import annotations`."
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return f"The SDK cannot read the quoted annotation {text}."
    # A subclass of `Result[…]` registers a result type, which is only known when the file runs.
    registers_results = any(
        isinstance(base, ast.Subscript) and ast.unparse(base.value).endswith("Result")
        for node in nodes
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    )
    if text in _RESULTS or registers_results:
        return None
    return f"The SDK does not support results of type {text}."


def model_problem(arguments: ast.arguments, *, in_class: bool) -> str | None:
    """Why no model can be passed to a function with these arguments, or `None` if one can.

    The SDK recognizes the model by its type, so other parameters may come before it.
    """
    if arguments.vararg or arguments.kwarg:
        return None
    positional = [*arguments.posonlyargs, *arguments.args]
    if in_class and positional and positional[0].arg in {"cls", "self"}:
        return f"{positional[0].arg!r} takes the model's place: a task in a class is not bound to an object."
    parameters = [*positional, *arguments.kwonlyargs]
    if not parameters:
        return "The function takes no model, so its runs belong to no model."
    if all(_is_data(parameter.annotation) for parameter in parameters):
        return f"Neither the first parameter {parameters[0].arg!r} nor any other can be the model."
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
