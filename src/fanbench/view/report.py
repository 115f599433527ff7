"""The page as one HTML file, which needs nothing else and requests nothing."""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from fanbench._util.lock import is_locked
from fanbench.results import ResultSet
from fanbench.sweeps.folder import LOCK
from fanbench.sweeps.results import read_journals
from fanbench.view.bundle import bundle, page_file
from fanbench.view.details import Details, Limits, items_by_run, read_details, read_sources
from fanbench.view.document import MARGIN, Shown, build

__all__ = ["CHUNK", "name_of", "page", "report"]

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

    Without `details`, it has neither what was said in the runs nor their logs. `margin` is the loss of the mean score
    that is accepted.
    """
    known, _ = read_journals(folders)
    shown = build(
        found,
        known,
        title=" + ".join(map(name_of, folders)),
        running=any(is_locked(folder / LOCK) for folder in folders),
        against=None if against is None else (name_of(against[0]), against[1]),
        margin=margin,
    )
    if not details:
        return page(shown)
    items = items_by_run(found)
    behind = [read_details(run, items.get(run.place, ()), Limits()) for run in shown.runs]
    return page(shown, behind, read_sources(found.items, shown.tasks))


def name_of(folder: Path) -> str:
    """Return what to call the results in a folder."""
    return folder.resolve().name or str(folder)


def page(shown: Shown, details: Sequence[Details] = (), sources: Sequence[str] = ()) -> bytes:
    """Return the page with all that it shows."""
    code, style = bundle(), page_file("style.css")
    # Only this very code and these styles are allowed, and no request at all.
    policy = (
        f"default-src 'none'; script-src '{_digest(code)}'; style-src '{_digest(style)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    data = "\n".join(_elements(shown, details, sources))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{html.escape(shown.document.title)}</title>
<style>{style}</style>
</head>
<body>
<noscript>This page needs JavaScript, which it has in itself.</noscript>
{data}
<script type="module">{code}</script>
</body>
</html>
""".encode("utf-8", "replace")


def _elements(shown: Shown, details: Sequence[Details], sources: Sequence[str]) -> Iterator[str]:
    yield _element("data", _json(shown.document))
    yield _element("runs", shown.columns)
    for start in range(0, len(details), CHUNK):
        yield _element(f"details-{start // CHUNK}", _json(details[start : start + CHUNK]))
    if sources:
        yield _element("sources", _json(list(sources)))


def _json(value: Any) -> bytes:
    return msgspec.json.encode(value)


def _element(name: str, content: bytes) -> str:
    """Return an element that does nothing: base64 has no sign that could end it."""
    packed = base64.b64encode(gzip.compress(content, mtime=0)).decode()
    return f'<script type="application/gzip" id="{name}">{packed}</script>'


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
