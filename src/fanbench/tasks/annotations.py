"""What a task's annotations mean to the SDK: the results it can record, and where the model can be passed."""

from __future__ import annotations

import ast
import builtins
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from fanbench.tasks.definitions import Function
from fanbench.tasks.source import names_in

__all__ = ["ReturnProblem", "ReturnTypes", "definitions_of", "model_problem", "unused_model"]

# The types that the SDK registers in its results.py, in 0.6.1 and 0.6.2, and None, which it treats in tasks.py. It
# looks annotations up by equality, so it knows neither `dict[str, float]` nor `typing.Tuple`.
_REGISTERED = frozenset(
    {"bool", "dict", "float", "int", "object", "tuple[float, float]", "tuple[int, int]", "None"}
)
_DATA = frozenset(
    {"bool", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "set", "str", "tuple"}
    | {"Dict", "List", "Set", "Tuple", "DataFrame", "Series", "ndarray", "Path"}
)
# A type that is only known when the file runs.
_UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class ReturnProblem:
    """Why the SDK rejects a return annotation. If `certain` is false, it may still accept it."""

    message: str
    fix: str = "Use bool, int, float, dict, tuple[float, float], or None if the task only asserts."
    certain: bool = True


class ReturnTypes:
    """What the annotations in a file stand for, and which result types the file registers.

    A type is represented by its source, with aliases resolved. Scopes are ignored.
    """

    def __init__(self, nodes: Sequence[ast.AST]) -> None:
        self._bindings: dict[str, list[ast.expr | str]] = defaultdict(list)
        self._postponed = False
        imported = set()
        nodes = [node for node in nodes if isinstance(node, ast.stmt)]
        for node in nodes:
            for name, value in _bindings(node):
                self._bindings[name].append(value)
            if isinstance(node, ast.ImportFrom):
                self._postponed |= node.module == "__future__" and any(
                    item.name == "annotations" for item in node.names
                )
                imported |= {item.asname for item in node.names if item.name == "Result" and item.asname}
        registered = (argument for node in nodes for argument in _registrations(node, imported))
        self._own = {*map(self._resolve, registered)}
        self._registered = _REGISTERED | self._own

    def problem(self, function: Function) -> ReturnProblem | None:
        """Why the SDK rejects the function's return annotation, or `None` if it accepts it."""
        annotation = function.returns
        if annotation is None:
            return None
        text = ast.unparse(annotation)
        if self._postponed:
            message = f"The SDK cannot read the annotation {text} with `from __future__ import annotations`."
            return ReturnProblem(message, "Remove that import, or the annotation.")
        if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
            message = f"The SDK cannot read the quoted annotation {text}."
            return ReturnProblem(message, "Write the type without quotes.")
        found = self._resolve(annotation)
        if found in self._registered or _UNKNOWN in self._registered:
            return None
        if found == _UNKNOWN:
            message = f"Whether the SDK supports results of type {text} is only known when the file runs."
            return ReturnProblem(message, certain=False)
        message = f"The SDK does not support results of type {text}: it raises TypeError at this function."
        if found.startswith(("dict[", "typing.Dict")):
            return ReturnProblem(message, "Write `-> dict`: the SDK knows no types of keys and values.")
        return ReturnProblem(message)

    def are_counts(self, function: Function) -> bool:
        """Whether it returns two ints, of which the SDK stores the second as the half-width of an interval."""
        if function.returns is None or self.problem(function) is not None or _UNKNOWN in self._own:
            return False
        found = self._resolve(function.returns)
        return found == "tuple[int, int]" and found not in self._own

    def _resolve(self, annotation: ast.expr, seen: frozenset[str] = frozenset()) -> str:
        match annotation:
            case ast.Constant(value=value):
                return repr(value)
            case ast.Tuple() | ast.List() | ast.Dict() | ast.Set():
                return ast.unparse(annotation)  # a value rather than a type
            case ast.Name(id=name) if name in seen:
                return _UNKNOWN
            case ast.Name(id=name) if values := self._bindings.get(name):
                seen |= {name}
                found = {value if isinstance(value, str) else self._resolve(value, seen) for value in values}
                return found.pop() if len(found) == 1 else _UNKNOWN
            case ast.Name(id=name):
                return name if hasattr(builtins, name) else _UNKNOWN
            case ast.Attribute(value=value, attr=attribute):
                module = self._resolve(value, seen)
                known = module.partition(".")[0] in sys.stdlib_module_names
                return f"{module}.{attribute}".removeprefix("builtins.") if known else _UNKNOWN
            case ast.BinOp(left=left, op=ast.BitOr(), right=right):
                return _union([self._resolve(left, seen), self._resolve(right, seen)])
            case ast.Subscript(value=value, slice=index):
                items = index.elts if isinstance(index, ast.Tuple) else [index]
                return _subscript(self._resolve(value, seen), [self._resolve(item, seen) for item in items])
        return _UNKNOWN


def _registrations(node: ast.AST, imported: Collection[str]) -> Iterator[ast.expr]:
    """The types that `node` registers: `class X(Result[TYPE])`, or `results.types[TYPE] = X`.

    `imported` are other names of `Result`.
    """
    match node:
        case ast.ClassDef(bases=[ast.Subscript(value=base, slice=argument), *_]):
            name = ast.unparse(base)
            if name.endswith("Result") or name in imported:
                yield argument
        case ast.Assign(targets=[ast.Subscript(value=ast.Attribute(attr="types"), slice=argument)]):
            yield argument


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr | str]]:
    """The names that `node` binds, each with an expression or a type; imports from other packages are unknown."""
    match node:
        case ast.Assign(targets=targets, value=value):
            yield from ((target.id, value) for target in targets if isinstance(target, ast.Name))
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            yield name, value
        case ast.ClassDef(name=name):
            yield name, f"class {name}"
        case ast.Import(names=items):
            for item in items:
                module = item.name if item.asname else item.name.partition(".")[0]
                known = module.partition(".")[0] in sys.stdlib_module_names
                yield item.asname or module, module if known else _UNKNOWN
        case ast.ImportFrom(module=str() as module, names=items, level=level):
            known = not level and module.partition(".")[0] in sys.stdlib_module_names
            for item in items:
                text = f"{module}.{item.name}".removeprefix("builtins.") if known else _UNKNOWN
                yield item.asname or item.name, text


def _union(parts: list[str]) -> str:
    """The union of types; a union of a type with itself is that type."""
    different = dict.fromkeys(parts)
    if [*different] == ["None"]:
        return "types.NoneType"  # the type of None, which the SDK does not know
    return _UNKNOWN if len(different) < 3 and _UNKNOWN in different else " | ".join(different)


def _subscript(base: str, items: list[str]) -> str:
    if base == "typing.Union":
        return _union(items)
    if base == "typing.Optional":
        return _union([*items, "None"])
    if base == _UNKNOWN or (base == "tuple" and _UNKNOWN in items):
        return _UNKNOWN
    return f"{base}[{', '.join(items)}]"


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


def definitions_of(nodes: Iterable[ast.AST]) -> dict[str, set[str]]:
    """The names in the definitions of each function, class and variable of a file. Scopes are ignored."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in (node for node in nodes if isinstance(node, ast.stmt)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] |= names_in(node)
            case ast.Assign(targets=targets, value=value):
                names = names_in(value)
                for target in targets:
                    if names and isinstance(target, ast.Name):
                        found[target.id] |= names
    return found


def unused_model(function: Function, definitions: Mapping[str, set[str]]) -> ast.arg | None:
    """The parameter for the model, if the function never uses it, nor `kbench.llm` in its place.

    `definitions` are those of `definitions_of`: a function that is called may use `kbench.llm`. A parameter with an
    underscore in front is unused on purpose.
    """
    arguments = function.args
    if arguments.vararg or arguments.kwarg or _is_stub(function.body):
        return None
    positional = [*arguments.posonlyargs, *arguments.args]
    with_default = positional[len(positional) - len(arguments.defaults) :]
    with_default += [
        item for item, value in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if value
    ]
    models = [
        parameter
        for parameter in [*positional, *arguments.kwonlyargs]
        if parameter not in with_default and not _is_data(parameter.annotation)
    ]
    mentioned = names_in(*function.body)
    if not models or any(model.arg.startswith("_") or model.arg in mentioned for model in models):
        return None
    todo = [*mentioned]
    while todo:
        new = definitions.get(todo.pop(), set()) - mentioned
        mentioned |= new
        todo.extend(new)
    return None if mentioned & {"eval", "exec", "llm", "llms", "locals", "vars"} else models[0]


def _is_stub(body: Sequence[ast.stmt]) -> bool:
    """Whether the body only has a docstring, `...` or `pass`: it is still to be written."""
    return all(
        isinstance(item, ast.Pass) or (isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant))
        for item in body
    )


def _is_data(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _DATA
        case ast.Subscript(value=value):
            return _is_data(value)
        case ast.Constant(value=str() as text):
            return text.partition("[")[0].rpartition(".")[2] in _DATA
    return False
