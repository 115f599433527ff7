"""The page's code as one script: its modules in `page/`, each in a function of its own.

A file on a disk cannot import modules (a browser refuses to), and the page has no build step. So the modules keep to
a few rules, which `bundle` relies on and a test checks: imports are at the top, one a line; what is exported is
declared so (`export function`, `export class`, `export const`, `export async function`); and no text spans lines.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

__all__ = ["bundle", "page_file"]

_IMPORT = re.compile(r'^import \{ (?P<names>[^}]+) \} from "\./(?P<module>\w+)\.js";$', re.MULTILINE)
_EXPORT = re.compile(r"^export ((?:async )?function|class|const) (\w+)", re.MULTILINE)
# Comments that fill lines, and indentation: the page is a third smaller without them.
_COMMENT = re.compile(r"^\s*(?://.*|/\*\*?(?:[^*]|\*(?!/))*\*/)\s*$\n?", re.MULTILINE)
_INDENT = re.compile(r"^[ \t]+|\n(?=\n)", re.MULTILINE)


@cache
def page_file(name: str) -> str:
    """Return a file of the page."""
    return files("fanbench.view").joinpath("page", name).read_text(encoding="utf-8")


@cache
def bundle(main: str = "main") -> str:
    """Return the module `main`, after all that it imports."""
    order: list[str] = []

    def visit(name: str) -> None:
        if name not in order:
            for found in _IMPORT.finditer(page_file(f"{name}.js")):
                visit(found["module"])
            order.append(name)

    visit(main)
    return '"use strict";\n' + "".join(map(_module, order))


def _module(name: str) -> str:
    """Return a module as a constant, whose fields are what it exports."""
    text = page_file(f"{name}.js")
    names = [found[2] for found in _EXPORT.finditer(text)]
    text = _IMPORT.sub(
        lambda found: f"const {{ {found['names'].replace(' as ', ': ')} }} = ${found['module']};", text
    )
    text = _EXPORT.sub(r"\1 \2", text)
    text = _INDENT.sub("", _COMMENT.sub("", text))
    return f"const ${name} = (() => {{\n{text}\nreturn {{ {', '.join(names)} }};\n}})();\n"
