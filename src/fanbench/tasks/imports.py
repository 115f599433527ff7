"""Find what a task file imports and does not have when it runs: packages, and files beside it.

A finding needs to be right, so whatever may provide a module counts: `%pip install`, inline metadata, an
`except ImportError`. The modules are looked up where `check --run` and the local server would import them.
"""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from fanbench.errors import TaskFileError
from fanbench.tasks.script_metadata import ScriptMetadata, read_script_metadata
from fanbench.tasks.source import char_column, names_in
from fanbench.tasks.task_file import Finding

__all__ = ["check_imports", "find_missing"]

#: The packages of well-known modules that have another name.
PACKAGES = {
    "Bio": "biopython",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "faiss": "faiss-cpu",
    "fitz": "pymupdf",
    "git": "GitPython",
    "PIL": "pillow",
    "pptx": "python-pptx",
    "serial": "pyserial",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "slugify": "python-slugify",
    "yaml": "PyYAML",
    "z3": "z3-solver",
}

_INSTALL = re.compile(r"""\b(?:pip3?|conda|mamba)['"]?,?\s+['"]?install\b(?P<words>.*)""")
_PROSE = re.compile(r"\s*#(?! ?[!%])")
_WORD = re.compile(r"[^\s'\",()]+")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_WRITTEN = re.compile(r"^%%writefile\s+(?:-a\s+)?(?:\./)?(\w+)\.py\s*$", re.MULTILINE)
# With these, a file can import from anywhere.
_ANYWHERE = re.compile(r"\bsys\.(?:path|modules|meta_path)\b|\bsite\.addsitedir\b")
_IMPORT_ERRORS = frozenset({"BaseException", "Exception", "ImportError", "ModuleNotFoundError"})
# An `if` whose condition has one of these decides whether its body applies at all.
_CONDITIONS = frozenset({"TYPE_CHECKING", "find_spec", "platform", "version_info"})


@dataclass(frozen=True, slots=True)
class _Import:
    """One imported module. `names` are its submodules that are imported with it, or what is taken from it."""

    module: str
    names: tuple[str, ...]
    node: ast.stmt
    in_function: bool

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]


def check_imports(tree: ast.Module, source: str, path: Path, *, here: bool | None = None) -> list[Finding]:
    """Return warnings about imports that fail where task files run, in the order of the file.

    `tree` is that of `source`, without its magics. `here` is whether task files run in this environment; by default,
    whether it has the SDK. If not, nothing is known about packages, and only files beside this one are reported.
    """
    if here is None:
        here = find_missing("kaggle_benchmarks") is None
    findings = []
    try:
        metadata = read_script_metadata(source, str(path))
    except TaskFileError as error:
        metadata = None
        findings.append(Finding("warning", error.message, error.line, 1, error.hint, "script-block"))
    installs = list(_installs(source))
    if metadata is not None:
        findings += _check_metadata(metadata, installs)
    if not _ANYWHERE.search(source):
        findings += _check_modules(tree, source, path, metadata, installs, here=here)
    return sorted(findings, key=lambda finding: finding.line or 0)


def find_missing(module: str, names: Iterable[str] = ()) -> str | None:
    """The part of `module` that this environment lacks, or None. Nothing is imported.

    A package without an `__init__.py`, such as `google`, is shared by several distributions: in one, what is taken
    from it (`names`) has to be found, too.
    """
    top, *inner = module.split(".")
    spec = _find(top)
    if spec is None:
        return top
    if spec.origin is not None or spec.submodule_search_locations is None:
        return None
    places = list(spec.submodule_search_locations)
    wanted = [f"{top}.{name}" for name in inner[:1] or names if name != "*"]
    return next((name for name in wanted if PathFinder.find_spec(name, places) is None), None)


def _find(top: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(top)
    except (ImportError, ValueError):  # a broken finder, or a module without a spec
        return None


def _check_metadata(metadata: ScriptMetadata, installs: Sequence[tuple[int, str]]) -> Iterator[Finding]:
    try:
        metadata.require_this_python("")
    except TaskFileError as error:
        yield Finding("warning", error.message, metadata.line, 1, error.hint, "script-block")
    installed = {_normalize(name) for _, name in installs}
    left = [
        each
        for each in metadata.dependencies
        if _normalize(_package_name(each)) not in {*installed, "kaggle-benchmarks"}
    ]
    if left and "" not in installed:
        words = " ".join(f'"{each}"' if re.search(r"[^\w.-]", each) else each for each in left)
        message = "Kaggle installs nothing from this block; the local server and check --run do."
        fix = f"For Kaggle, add a cell: %pip install {words}"
        yield Finding("warning", message, metadata.line, 1, fix, "script-block")


def _check_modules(
    tree: ast.Module,
    source: str,
    path: Path,
    metadata: ScriptMetadata | None,
    installs: Sequence[tuple[int, str]],
    *,
    here: bool,
) -> Iterator[Finding]:
    provided = list(installs)
    if metadata is not None:
        provided += [(0, _package_name(each)) for each in metadata.dependencies]
    lines = source.split("\n")
    seen = {"__main__", *sys.stdlib_module_names, *_WRITTEN.findall(source)}
    for each in _imports(tree):
        earlier = [name for line, name in provided if each.in_function or line < each.node.lineno]
        if each.top in seen or any(_may_provide(name, each.top) for name in earlier):
            continue
        if beside := _file_beside(path, each.top):
            seen.add(each.top)
            rule, message = "local-import", f"The file imports {beside}, which a push does not upload."
            fix = f"Copy what you need from {beside} into this file."
        elif here and (missing := find_missing(each.module, each.names)) and missing not in seen:
            seen.add(missing)
            package = PACKAGES.get(missing, re.sub(r"[._]", "-", missing))
            rule, message = "missing-import", f"The module {missing} is not installed here."
            fix = (
                f"For local runs, name {package} in a `# /// script` block, or for `fanbench serve --requirements "
                f"FILE`. For Kaggle, add a cell `%pip install {package}` unless its image has it."
            )
        else:
            continue
        place = each.node.lineno, char_column(lines, each.node.lineno, each.node.col_offset)
        yield Finding("warning", message, *place, fix, rule)


def _file_beside(path: Path, module: str) -> str | None:
    """The module or package beside `path`, as `python FILE` would import it, if no installed package has its name."""
    folder = path.absolute().parent
    for name in (f"{module}.py", f"{module}/__init__.py"):
        if (folder / name).is_file():
            spec = _find(module)
            # The current folder may be on the path.
            if spec is None or spec.origin in (None, str(folder / name)):
                return name
    return None


# --- What the file imports and installs ---------------------------------------------------------------------


def _imports(tree: ast.Module) -> Iterator[_Import]:
    """The imports that must succeed, in the order of the file."""
    todo: list[tuple[ast.AST, bool]] = [(tree, False)]
    while todo:
        node, in_function = todo.pop()
        parts: list[ast.AST] = []
        match node:
            case ast.Import():
                for alias in node.names:
                    yield _Import(alias.name, (), node, in_function)
            case ast.ImportFrom(module=str() as module, level=0):
                yield _Import(module, tuple(alias.name for alias in node.names), node, in_function)
            case ast.Try(handlers=handlers) if any(_handles_import_error(handler) for handler in handlers):
                parts = [*node.orelse, *node.finalbody]
            case ast.With(items=items) if any("suppress" in names_in(item.context_expr) for item in items):
                pass
            case ast.If(test=test) if _CONDITIONS & names_in(test):
                parts = [*node.orelse]
            case ast.Assign() | ast.AnnAssign() | ast.AugAssign() | ast.Expr():
                pass
            case _:
                in_function = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                parts = [part for part in ast.iter_child_nodes(node) if not isinstance(part, ast.expr)]
        todo.extend((part, in_function) for part in reversed(parts))


def _handles_import_error(handler: ast.ExceptHandler) -> bool:
    return handler.type is None or bool(_IMPORT_ERRORS & names_in(handler.type))


def _installs(source: str) -> Iterator[tuple[int, str]]:
    """The lines and names of packages that the file installs itself; "" where the name is not in the file."""
    lines = source.split("\n")
    for number, line in enumerate(lines, start=1):
        found = None if _PROSE.match(line) else _INSTALL.search(line)
        if found is None:
            continue
        text, following = found["words"], number
        while text.endswith("\\") and following < len(lines):
            text, following = text[:-1] + lines[following], following + 1
        for word in _WORD.findall(text):
            if word.startswith("#") or word in ("&&", ";", "|", ">", "2>&1"):
                break
            if word.startswith("-"):
                if word in ("-r", "--requirement"):
                    yield number, ""
            elif "/" in word or (match := _NAME.match(word)) is None:
                yield number, ""
            else:
                yield number, match[0]


def _may_provide(package: str, module: str) -> bool:
    """Whether the package may contain the module, or depend on one that does (`langchain` on `langchain_core`)."""
    if not package:
        return True
    package, module = _normalize(package), _normalize(PACKAGES.get(module, module))
    return package == module or package.partition("-")[0] == module.partition("-")[0]


def _package_name(requirement: str) -> str:
    match = _NAME.match(requirement)
    return match[0] if match else ""


def _normalize(name: str) -> str:
    """The canonical form of a package's name, as in PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()
