"""Check the imports of a package: no private name crosses from one subpackage to another, and there are no cycles.

Usage: `python scripts/check_imports.py [PACKAGE_FOLDER]`. Prints one line per problem and exits 1 if there is any.

import-linter checks the layers, but not names, and it ignores what it cannot see at the top of a module. This
script reads every import: those inside functions and under `TYPE_CHECKING` count, because a cycle that is only
hidden is still a cycle for the reader.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# Shared by all subpackages, and private only to users of the package.
SHARED = frozenset({"_util"})


def read_modules(package: Path) -> dict[str, Path]:
    """The modules below `package` by their dotted names."""
    modules = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        modules[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return modules


def imported_names(module: str, path: Path) -> Iterator[tuple[int, str]]:
    """The line and the full dotted name of everything that `module` imports, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, item.name) for item in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                drop = node.level - (path.name == "__init__.py")
                parents = module.split(".")
                source = ".".join([*parents[: len(parents) - drop], *filter(None, [source])])
            yield from ((node.lineno, f"{source}.{item.name}") for item in node.names)


def find_problems(package: Path) -> list[str]:
    """One line per private import across subpackages, then one line for the first cycle found."""
    modules = read_modules(package)
    problems: list[str] = []
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, path in modules.items():
        for line, name in imported_names(module, path):
            target = name if name in modules else name.rpartition(".")[0]
            if target not in modules:
                continue
            if target != module:
                graph[module].add(target)
            steps = name.split(".")[1:]
            private = [step for step in steps if step.startswith("_") and not step.startswith("__")]
            if not set(private) <= SHARED and module.split(".")[1:2] != steps[:1]:
                problems.append(f"{path}:{line}: imports the private name {name}")
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        # The error lists each module before the ones that import it.
        problems.append("import cycle: " + " -> ".join(reversed(error.args[1])))
    return problems


def main() -> int:
    problems = find_problems(Path(sys.argv[1] if len(sys.argv) > 1 else "src/fanbench"))
    for problem in problems:
        print(problem)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
