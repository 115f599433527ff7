"""What is written about the page of a task: in sweep.toml, or in its file, in a block in the format of PEP 723:

    # /// fanbench
    # description = "Sums of two numbers."
    # tags = ["mathematics"]
    # provenance = "Written by hand."
    # citations = [{ title = "A paper", url = "https://example.org/paper" }]
    # ///

A push sends it once the version has been created. A file without the block says nothing.
"""

from __future__ import annotations

import ast
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from fanbench._util.text import in_terms_of_toml
from fanbench.tasks.script_metadata import read_block, refuse_unread_block
from fanbench.wire.messages import Citation
from fanbench.wire.metadata import Metadata

__all__ = ["Reference", "page_of", "read_page_block"]

_HINT = 'Write TOML such as `# tags = ["mathematics"]` between `# /// fanbench` and `# ///`.'


class Reference(msgspec.Struct, forbid_unknown_fields=True):
    """A citation, as it is written in TOML."""

    url: str
    title: str = ""


class _Block(msgspec.Struct, forbid_unknown_fields=True):
    description: str | UnsetType = UNSET
    tags: list[str] | UnsetType = UNSET
    provenance: str | UnsetType = UNSET
    citations: list[Reference] | UnsetType = UNSET


def read_page_block(source: str, tree: ast.Module, file: str) -> Metadata | None:
    """Return what the block in `source` says, or None if there is no block. `file` is named in errors.

    The docstring of the module is the description of a block that has none.

    Raises:
        TaskFileError: There are two blocks, or the block has no end or is not TOML, or a field is unknown or invalid.
    """
    refuse_unread_block(source, "fanbench", file, hint=_HINT)
    found = read_block(source, "fanbench", file, partial(_read, ast.get_docstring(tree)), hint=_HINT)
    return None if found is None else found[0]


def _read(docstring: str | None, table: dict[str, Any]) -> Metadata:
    try:
        block = msgspec.convert(table, _Block)
    except msgspec.ValidationError as error:
        said = str(error).replace("Object contains unknown field", "there is no key")
        raise ValueError(in_terms_of_toml(said)) from None
    documented = UNSET if docstring is None else docstring
    return page_of(
        description=documented if block.description is UNSET else block.description,
        tags=block.tags,
        provenance=block.provenance,
        citations=block.citations,
    )


def page_of(
    *,
    description: str | UnsetType = UNSET,
    tags: list[str] | UnsetType = UNSET,
    provenance: str | UnsetType = UNSET,
    citations: list[Reference] | UnsetType = UNSET,
) -> Metadata:
    """Return what a page is to say, from values as they are written in TOML.

    Raises:
        ValueError: Servers would refuse or drop a value.
    """
    page = Metadata(
        description=None if description is UNSET else description.strip(),
        tags=None if tags is UNSET else tuple(tags),
        provenance=None if provenance is UNSET else provenance.strip(),
        citations=None
        if citations is UNSET
        else tuple(Citation(title=each.title, url=each.url) for each in citations),
    )
    if page.problem:
        raise ValueError(f"{page.problem[0].lower()}{page.problem[1:]}")
    return page
