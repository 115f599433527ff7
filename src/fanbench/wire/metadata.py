"""What the page of a task says besides its code: description, tags, provenance, citations."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self
from urllib.parse import urlsplit

from fanbench.wire.messages import Citation, Task, UpdateTaskRequest, UpdateTaskVersionRequest

__all__ = ["PROVENANCE_LIMIT", "Metadata", "requested_change", "stored_citations", "stored_tag"]

PROVENANCE_LIMIT = 4000
"""The most characters of a provenance that servers accept."""

#: The fields of `Metadata`, by their paths in an update mask.
_PATHS = {
    "description": "description",
    "tags": "tags",
    "provenanceSources": "provenance",
    "citations": "citations",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What the page of a task says, or is to say: None is not to be changed, and an empty value removes what is there.

    Attributes:
        description: Markdown.
        tags: Names of tags, which belong to the task as a whole. The rest belongs to a version.
        provenance: Where data and code come from.
        citations: References, each with a title and an http(s) URL.
    """

    description: str | None = None
    tags: tuple[str, ...] | None = None
    provenance: str | None = None
    citations: tuple[Citation, ...] | None = None

    @classmethod
    def of(cls, task: Task) -> Self:
        """What the server has."""
        return cls(
            description=task.description,
            tags=tuple(task.tags),
            provenance=task.provenance_sources,
            citations=tuple(task.citations),
        )

    @property
    def given(self) -> dict[str, Any]:
        """The values that are to be changed, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    @property
    def mask(self) -> str:
        """The update mask: the paths of the values that are to be changed."""
        return ",".join(path for path, name in _PATHS.items() if getattr(self, name) is not None)

    @property
    def problem(self) -> str | None:
        """What servers would refuse or drop, as a sentence without its period; None if nothing."""
        if any(not tag.strip() for tag in self.tags or ()):
            return "A tag is empty"
        if len(self.provenance or "") > PROVENANCE_LIMIT:
            return f"The provenance has more than {PROVENANCE_LIMIT:,} characters"
        wrong = next((each.url for each in self.citations or () if not stored_citations([each])), None)
        return None if wrong is None else f"The citation {wrong!r} is not an http or https URL"

    def stored(self, known_tags: Collection[str] | None = None) -> Metadata:
        """What a server makes of it: tags in lower case, and citations whose URLs have a scheme, without the others.

        Of tags, only those that are in `known_tags` if these are given.
        """
        tags = None if self.tags is None else tuple(dict.fromkeys(map(stored_tag, self.tags)))
        if tags is not None and known_tags is not None:
            tags = tuple(tag for tag in tags if tag in known_tags)
        citations = None if self.citations is None else tuple(stored_citations(self.citations))
        return replace(self, tags=tags, citations=citations)

    def changing(self, before: Metadata) -> Metadata:
        """Only what differs from what the server has."""
        there, wanted = before.given, self.stored().given
        changed = {name for name, value in wanted.items() if value != there.get(name)}
        return Metadata(**{name: value for name, value in self.given.items() if name in changed})

    @property
    def only_tags(self) -> Metadata:
        """What belongs to a task as a whole."""
        return Metadata(tags=self.tags)

    @property
    def without_tags(self) -> Metadata:
        """What belongs to a version of a task."""
        return replace(self, tags=None)

    def applied_to(self, before: Metadata) -> Metadata:
        """What is there after the change."""
        return replace(before, **self.given)


def stored_tag(tag: str) -> str:
    """The form in which tags are compared and stored."""
    return tag.strip().lower()


def stored_citations(citations: Iterable[Citation]) -> list[Citation]:
    """The citations as servers store them: without a scheme, a URL gets `http://`; others than http(s) are dropped."""
    urls = [(citation.title, _stored_url(citation.url.strip())) for citation in citations]
    return [Citation(title=title, url=url) for title, url in urls if url]


def _stored_url(text: str) -> str:
    """The text as an http(s) URL; empty if it is not one, such as `javascript:1`, which has no scheme and no domain."""
    has_scheme = "://" in text
    url = text if has_scheme else f"http://{text}"
    try:
        parts = urlsplit(url)
        _ = parts.port  # `javascript:x` has none
    except ValueError:
        return ""
    host = parts.hostname or ""
    is_host = bool(host) if has_scheme else "." in host.strip(".")
    plain = url.isprintable() and not any(map(str.isspace, url)) and "@" not in parts.netloc
    return url if parts.scheme in ("http", "https") and is_host and plain else ""


def requested_change(request: UpdateTaskRequest | UpdateTaskVersionRequest) -> Metadata:
    """What a request asks to change.

    Raises:
        ValueError: The update mask names nothing, or something that cannot be changed.
    """
    tags: Sequence[str] | None = request.tags if isinstance(request, UpdateTaskRequest) else None
    values: dict[str, Any] = {
        "description": request.description,
        "tags": None if tags is None else tuple(tags),
        "provenanceSources": request.provenance_sources,
        "citations": tuple(request.citations),
    }
    paths = [path.strip() for path in request.update_mask.split(",") if path.strip()]
    wrong = next((path for path in paths if values.get(path) is None), None)
    if wrong is not None or not paths:
        raise ValueError(
            f"updateMask cannot name {wrong!r}" if wrong else "updateMask names nothing to change"
        )
    return Metadata(**{_PATHS[path]: values[path] for path in paths})
