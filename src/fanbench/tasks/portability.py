"""Find code that works on one's own machine and not on Kaggle, or asks another model than the one of the run."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from fanbench.tasks.definitions import SDK, string_constants

__all__ = ["Remark", "check_portability"]

# `/kaggle/input`, or `../input` as older notebooks write it, with the path below it.
_INPUT = re.compile(r"(?:/kaggle|(?:^|/)\.\.)/input(?:/(?P<below>[\w./-]*)|(?![\w-]))")
# What is mounted beside datasets, and cannot be attached with -d.
_OTHER_SOURCES = frozenset({"competitions", "models", "notebooks"})
_JUDGE = re.compile("judge|grader|evaluator", re.IGNORECASE)


class Remark(NamedTuple):
    """A warning about a place in the file."""

    node: ast.expr
    rule: str
    message: str
    fix: str


def check_portability(nodes: Sequence[ast.AST], source: str, datasets: Collection[str]) -> Iterator[Remark]:
    """Yield what is likely to fail, or to mislead, in a notebook with only the `datasets` (OWNER/SLUG) attached."""
    if "__file__" in source:
        yield from _check_file_name(nodes)
    if "/input" in source:
        yield from _check_inputs(nodes, datasets)
    yield from _check_models(nodes)


def _check_file_name(nodes: Sequence[ast.AST]) -> Iterator[Remark]:
    uses = [node for node in nodes if isinstance(node, ast.Name) and node.id == "__file__"]
    if not uses or any(isinstance(node.ctx, ast.Store) for node in uses):
        return
    guarded = {id(part) for node in nodes if _guards_file_name(node) for part in ast.walk(node)}
    for node in uses:
        if id(node) not in guarded:
            message = "A notebook has no __file__: this raises NameError on Kaggle."
            fix = "Use Path.cwd(), or attach data with -d OWNER/DATASET and read it below /kaggle/input."
            yield Remark(node, "dunder-file", message, fix)
            return


def _guards_file_name(node: ast.AST) -> bool:
    """Whether `node` runs its parts only where there is a `__file__`, or copes with its absence."""
    match node:
        case ast.Try(handlers=handlers):
            caught = " ".join(ast.unparse(each.type) if each.type else "Exception" for each in handlers)
            return "NameError" in caught or "Exception" in caught
        case ast.If(test=test) | ast.IfExp(test=test):
            return "__file__" in ast.unparse(test)
    return False


# --- Datasets -----------------------------------------------------------------------------------------------


def _check_inputs(nodes: Sequence[ast.AST], datasets: Collection[str]) -> Iterator[Remark]:
    found: dict[str, ast.expr] = {}
    for node, text in _strings(nodes):
        for path in _INPUT.finditer(text):
            below = path["below"] or ""
            if text[path.end() :].startswith(("{", "%")):
                below = below.rpartition("/")[0]  # the last name is only known when the file runs
            dataset = _dataset_of(below)
            if dataset is not None:
                found.setdefault(dataset, node)
    attached = {*datasets, *(name.rpartition("/")[2] for name in datasets)}
    if len(found) > 1 or attached:
        found.pop("", None)
    # The owner is known if another path has it: /kaggle/input has each dataset in two places.
    owned = {name.rpartition("/")[2]: name for name in found if "/" in name}
    places: dict[str, ast.expr] = {}
    for name, node in found.items():
        places.setdefault(owned.get(name, name), node)
    for dataset, node in places.items():
        if dataset and dataset not in attached:
            message = f"The file reads the dataset {dataset}, which is only there if it is attached."
            fix = f"Push it with -d {dataset if '/' in dataset else f'OWNER/{dataset}'}."
            yield Remark(node, "dataset", message, fix)
        elif not dataset:
            message = "The file reads /kaggle/input, where only the attached datasets are."
            yield Remark(node, "dataset", message, "Push it with -d OWNER/DATASET.")


def _strings(nodes: Sequence[ast.AST]) -> Iterator[tuple[ast.expr, str]]:
    """The strings in the code, except docstrings, each with its place. In an f-string, `{` stands for a value."""
    for node in nodes:
        if isinstance(node, ast.Expr):
            continue
        for part in ast.iter_child_nodes(node):
            if isinstance(part, ast.Constant) and isinstance(part.value, str):
                yield part, part.value + "{" * isinstance(node, ast.JoinedStr)


def _dataset_of(below: str) -> str | None:
    """The dataset of a path below the folder of inputs, empty if that is not known; `None` for other sources."""
    first, *rest = [*filter(None, below.split("/")), ""]
    if first in _OTHER_SOURCES:
        return None
    if first == "datasets":
        return f"{rest[0]}/{rest[1]}" if len(rest) > 2 else ""
    return first


# --- Models -------------------------------------------------------------------------------------------------


def _check_models(nodes: Sequence[ast.AST]) -> Iterator[Remark]:
    imported = _names_from_sdk(nodes)
    constants = string_constants(nodes)
    # Half of the nodes of a file of data are names, which no rule is about.
    nodes = [node for node in nodes if not isinstance(node, ast.Name)]
    # A judge or an opponent is meant to be the same in all runs.
    constant = [*_judges(nodes), *_opponents(nodes)]
    meant = {id(part) for value in constant for part in ast.walk(value)}
    found: dict[str | None, ast.expr] = {}
    expressions = [node for node in nodes if isinstance(node, ast.Call | ast.Subscript)]
    for node in sorted(expressions, key=lambda node: (node.lineno, node.col_offset)):
        name = _named_model(node, imported, constants)
        if name and id(node) not in meant:
            found.setdefault(name, node)
        elif isinstance(node, ast.Call) and _takes_all_models(node, imported):
            found.setdefault(None, node)
    for name, place in found.items():
        if name is None:
            message = "This asks all available models in every run of the task, whichever model it is for."
            yield Remark(place, "all-models", message, "Use kbench.llm, and run the task on several models.")
        else:
            message = f"The model {name!r} is fixed in the file: it is asked whichever model a run is for."
            fix = (
                "Use kbench.llm for the model under test. "
                f"Where there is no such model, `fanbench serve --model-alias '{name}=MODEL'` replaces it."
            )
            yield Remark(place, "fixed-model", message, fix)


def _names_from_sdk(nodes: Sequence[ast.AST]) -> frozenset[str]:
    """The names that the file imports from the SDK, and the SDK itself."""
    names: set[str] = set()
    for node in nodes:
        match node:
            case ast.Import(names=items):
                modules = [(item.asname or item.name.partition(".")[0], item.name) for item in items]
                names |= {bound for bound, module in modules if module.partition(".")[0] == SDK}
            case ast.ImportFrom(module=str() as module, names=items) if module.partition(".")[0] == SDK:
                names |= {item.asname or item.name for item in items}
    return frozenset(names)


def _judges(nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    """The values that are given to parameters or variables that are called a judge."""
    for node in nodes:
        match node:
            case ast.keyword(arg=str() as name, value=value) if _JUDGE.search(name):
                yield value
            case ast.Assign(targets=targets, value=value) if _JUDGE.search(" ".join(map(_source, targets))):
                yield value


def _source(target: ast.expr) -> str:
    return target.id if isinstance(target, ast.Name) else ast.unparse(target)


def _opponents(nodes: Sequence[ast.AST]) -> Iterator[ast.expr]:
    """The values that a run gets beside the model under test, themselves or as the values of variables."""
    names: set[str] = set()
    for node in nodes:
        match node:
            case ast.Call(func=ast.Attribute(attr="run" | "evaluate"), args=arguments, keywords=options):
                values = [*arguments, *(item.value for item in options)]
                others = [value for value in values if not _is_model_under_test(value)]
                if len(others) < len(values):
                    yield from others
                    names |= {value.id for value in others if isinstance(value, ast.Name)}
    for node in nodes:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in names:
                yield value


def _is_model_under_test(value: ast.expr) -> bool:
    match value:
        case ast.List(elts=[model]) | ast.Tuple(elts=[model]):
            return _is_model_under_test(model)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name == "llm"
    return False


def _named_model(node: ast.AST, imported: frozenset[str], constants: Mapping[str, str]) -> str | None:
    """The model that `node` names: `llms["…"]`, `load_model("…")` or `ModelProxy("…")` of the SDK.

    The name may be one of the file's `constants`, unless that is called a judge.
    """
    argument: ast.expr | None = None
    match node:
        case ast.Subscript(value=models, slice=key) if _is_from(models, {"llms"}, imported):
            argument = key
        case ast.Call(func=function) if _is_from(function, {"load_model", "ModelProxy"}, imported):
            named = [item.value for item in node.keywords if item.arg in {"model", "model_name", "name"}]
            argument = next(iter([*node.args, *named]), None)
    match argument:
        case ast.Constant(value=str() as name):
            return name
        case ast.Name(id=constant) if not _JUDGE.search(constant):
            return constants.get(constant)
    return None


def _takes_all_models(node: ast.Call, imported: frozenset[str]) -> bool:
    match node.func:
        case ast.Attribute(value=models, attr="values" | "items"):
            return _is_from(models, {"llms"}, imported)
    return False


def _is_from(expression: ast.expr, names: Collection[str], imported: frozenset[str]) -> bool:
    """Whether `expression` is one of the SDK's `names`, with or without modules before it."""
    last = expression.attr if isinstance(expression, ast.Attribute) else None
    root = expression
    while isinstance(root, ast.Attribute):
        root = root.value
    return isinstance(root, ast.Name) and root.id in imported and (last or root.id) in names
