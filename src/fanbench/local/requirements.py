"""What a run needs: the lines of `serve --requirements FILE`, and the inline metadata of its notebook."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from fanbench._util import files
from fanbench.errors import LocalServerError, TaskFileError
from fanbench.tasks.script_metadata import read_script_metadata

__all__ = ["read_notebook_requirements", "read_requirements"]

# Lines that name another file, whose changes would go unnoticed.
_REFERENCE = re.compile(r"(?:-[rce]|--(?:requirement|constraint|editable))\b")
_ARCHIVES = (".whl", ".tar.gz", ".zip")
_WITH_PATH = re.compile(r"(?P<option>(?:-f|--find-links)(?:\s+|=))?(?P<path>\S+)")


def read_requirements(path: Path) -> tuple[str, ...]:
    """Return the lines of a requirements file without comments, and with absolute paths.

    Raises:
        LocalServerError: The file cannot be read, refers to further files, or is not a requirements file.
    """
    hint = "Name a requirements file with --requirements FILE."
    with files.output_errors(f"read {path}", hint=hint, kind=LocalServerError):
        text = path.read_bytes().decode("utf-8", "replace")
    lines = []
    for line in text.replace("\\\n", " ").splitlines():
        requirement = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if _REFERENCE.match(requirement):
            hint = "Copy the lines of that file into this one."
            raise LocalServerError(f"{path} refers to another file: {requirement}.", hint=hint)
        if not _is_valid(requirement):
            hint = "Write one requirement in each line, such as `rapidfuzz>=3`."
            raise LocalServerError(f"{path} has a line that is no requirement: {requirement}", hint=hint)
        if requirement:
            lines.append(_make_absolute(requirement, path.absolute().parent))
    return tuple(lines)


def _is_valid(line: str) -> bool:
    """Whether it may be a line of a requirements file. Options, paths and addresses are left to the installer."""
    text = re.sub(r"\s--\S.*", "", line)  # options of this requirement, such as --hash
    if not text or text.startswith(("-", ".")) or "/" in text or text.endswith(_ARCHIVES):
        return True
    try:
        Requirement(text)
    except InvalidRequirement:
        return False
    return True


def _make_absolute(line: str, folder: Path) -> str:
    match = _WITH_PATH.fullmatch(line)
    # os.path.exists answers False where a line is too long for a path.
    if match is None or not os.path.exists(folder / match["path"]):
        return line
    if match["option"] or match["path"].startswith(".") or match["path"].endswith(_ARCHIVES):
        return f"{match['option'] or ''}{(folder / match['path']).resolve()}"
    return line


def read_notebook_requirements(notebook: Path) -> tuple[str, ...]:
    """Return the dependencies in the inline metadata of a notebook's code cells.

    Raises:
        LocalServerError: The metadata is invalid, or requires another Python than this one.
        FileNotFoundError: The notebook does not exist.
    """
    text = notebook.read_bytes()
    if b"/// script" not in text:
        return ()
    cells = json.loads(text).get("cells", [])
    sources = [cell.get("source", "") for cell in cells if cell.get("cell_type") == "code"]
    code = "\n".join(source if isinstance(source, str) else "".join(source) for source in sources)
    try:
        found = read_script_metadata(code, "the notebook")
        if found is not None:
            found.require_this_python("the notebook")
    except TaskFileError as error:
        raise LocalServerError(error.message, hint=error.hint) from None
    return found.dependencies if found is not None else ()
