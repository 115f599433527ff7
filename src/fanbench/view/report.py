"""The page as one HTML file, which needs nothing else and requests nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TypeVar

from fanbench._util.lock import is_locked
from fanbench.results import KnownRun, ResultSet, RunResult
from fanbench.sweeps.folder import LOCK
from fanbench.sweeps.history import History
from fanbench.sweeps.results import read_journals
from fanbench.view.bundle import bundle, page_file
from fanbench.view.details import Limits, items_by_run, read_details, read_sources
from fanbench.view.document import MARGIN, Shown, build
from fanbench.view.encode import encode

__all__ = ["CHUNK", "name_of", "overview", "page", "policy", "report"]

R = TypeVar("R", RunResult, KnownRun)

#: How many runs have their details in one element: enough to share texts, few enough to unpack at once.
CHUNK = 30


def report(
    folders: Sequence[Path],
    found: ResultSet,
    *,
    against: tuple[Path, ResultSet] | None = None,
    details: bool = True,
    margin: float = MARGIN,
) -> bytes:
    """Return the page about the results `found` in `folders`, and about what changed since those `against`.

    Without `details`, it has neither what was said in the runs nor their logs, and of errors only the type. `margin` is
    the loss of the mean score that is accepted.
    """
    histories: dict[Path, History] = {}
    known, _ = read_journals(folders, histories)
    if not details:
        found = replace(found, runs=tuple(map(_without_message, found.runs)))
        known = list(map(_without_message, known))
    shown = build(
        found,
        known,
        title=" + ".join(map(name_of, folders)),
        running=any(is_locked(folder / LOCK) for folder in folders),
        against=None if against is None else (name_of(against[0]), against[1]),
        margin=margin,
        histories=histories,
    )
    if not details and shown.document.timeline is not None:
        for mark in shown.document.timeline.marks:
            mark.text = ""
    elements = overview(shown)
    if details:
        items = items_by_run(found)
        behind = [read_details(run, items.get(run.place, ()), Limits()) for run in shown.runs]
        for start in range(0, len(behind), CHUNK):
            elements[f"details-{start // CHUNK}"] = encode(behind[start : start + CHUNK])
        elements["sources"] = encode(read_sources(found.items, list(shown.order.tasks)))
    return page(shown.document.title, elements)


def _without_message(run: R) -> R:
    """Return a run with no more of its error than what is before a colon, such as the type of an exception."""
    kind = re.match(r"[\w.]+(?=:)", run.error or "")
    return replace(run, error=kind[0] if kind else "error") if run.error else run


def overview(shown: Shown) -> dict[str, bytes]:
    """Return what the page has without the details of runs. The comparisons with each model are by themselves."""
    elements = {"data": encode(shown.document), "runs": shown.packed()}
    for first, found in groupby(shown.comparisons(), lambda each: each.first):
        elements[f"comparisons-{first}"] = encode(list(found))
    return elements


def name_of(folder: Path) -> str:
    """Return what to call the results in a folder."""
    return folder.resolve().name or str(folder)


def page(title: str, elements: Mapping[str, bytes], *rules: str) -> bytes:
    """Return the page with its data: each of `elements` is gzip and base64 in an element of that name.

    `rules` are more of its `policy`.
    """
    parts = {"style": page_file("style.css").encode(), "code": bundle().encode(), **elements}
    data = "\n".join(_element(name, content) for name, content in parts.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(*rules)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{html.escape(title)}</title>
</head>
<body>
<noscript>This page needs JavaScript, which it has in itself.</noscript>
{data}
<script type="module">{page_file("load.js")}</script>
</body>
</html>
""".encode("utf-8", "replace")


def policy(*rules: str) -> str:
    """Return the page's policy: only this very code and these styles are allowed, and what more `rules` allow."""
    load, code, style = map(_digest, (page_file("load.js"), bundle(), page_file("style.css")))
    own = [
        "default-src 'none'",
        f"script-src '{load}' '{code}'",
        f"style-src '{style}'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
    return "; ".join([*own, *rules])


def _element(name: str, content: bytes) -> str:
    """Return an element that is not run: base64 has no sign that could end it."""
    packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return f'<script type="application/gzip" id="{name}">{packed}</script>'


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
