"""Images, audio, video and files in requests: as parts of chat messages, and whether a model takes them.

OpenAI's API has parts for images, audio and files. For video, and for media at a URL, the SDK writes `image_url`, and
vLLM has `video_url` and `audio_url`: https://docs.vllm.ai/en/latest/features/multimodal_inputs.html.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from fanbench.local.models import BaseSpec, Modality, ModelFault

_YOUTUBE = re.compile(r"https?://([\w-]+\.)?(youtube\.com|youtu\.be)/")
_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav", "x-flac": "flac"}
_WORDS: dict[Modality, str] = {"image": "an image", "audio": "audio", "video": "video", "file": "a file"}


class Medium(NamedTuple):
    modality: Modality
    mime_type: str
    """Empty if the request does not say."""


def inline_part(mime_type: str, data: str) -> dict[str, Any]:
    """The part of a chat message for base64 `data` of this type."""
    kind, _, subtype = mime_type.partition("/")
    url = f"data:{mime_type};base64,{data}"
    if kind == "audio":
        return {
            "type": "input_audio",
            "input_audio": {"data": data, "format": _AUDIO_FORMATS.get(subtype, subtype)},
        }
    if kind in ("image", "video"):
        return {"type": "image_url", "image_url": {"url": url}}
    name = f"file{mimetypes.guess_extension(mime_type) or ''}"
    return {"type": "file", "file": {"filename": name, "file_data": url}}


def link_part(uri: str, mime_type: str | None) -> dict[str, Any]:
    """The part of a chat message for a medium at a URL."""
    modality = _modality_of(mime_type or _guess_type(uri))
    key = "audio_url" if modality == "audio" else "image_url"
    return {"type": key, key: {"url": uri}}


def check_media(request: dict[str, Any], spec: BaseSpec, models: Iterable[BaseSpec]) -> None:
    """Refuse a chat request with media that the model does not take.

    Raises:
        ModelFault: It has some; the message names the medium, and those of `models` that take it.
    """
    for medium in _media(request):
        if spec.takes(medium.modality):
            continue
        *others, last = spec.modalities or ["text"]
        takes = f"{', '.join(others)} and {last}" if others else last
        what = _WORDS[medium.modality] + (f" ({medium.mime_type})" if medium.mime_type else "")
        able = [model.slug for model in models if medium.modality in model.modalities]
        instead = f"Use a model that does: {', '.join(able)}." if able else "Run it on one that does."
        raise ModelFault(
            f"Model {spec.slug} takes {takes} only; the request has {what}. {instead} "
            f"What a model takes is its `modalities` in models.toml.",
            status=400,
        )


def _media(request: dict[str, Any]) -> Iterator[Medium]:
    for message in request["messages"]:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = part.get("type")
            value = part.get(kind) if isinstance(kind, str) else None
            if not isinstance(value, dict):
                continue
            if kind == "input_audio":
                yield Medium("audio", f"audio/{value.get('format', '*')}")
            elif kind == "file":
                yield Medium("file", _guess_type(str(value.get("file_data") or value.get("filename") or "")))
            elif kind in ("image_url", "audio_url", "video_url"):
                # The type tells more than the key: the SDK sends videos as `image_url`.
                mime_type = _guess_type(str(value.get("url", "")))
                yield Medium(_modality_of(mime_type or kind.replace("_", "/")), mime_type)


def _modality_of(mime_type: str) -> Modality:
    match mime_type.partition("/")[0]:
        case "image" | "audio" | "video" as modality:
            return modality
        case _:
            return "file"


def _guess_type(url: str) -> str:
    """The type of what is at `url`, as far as it says; empty if it does not."""
    if url.startswith("data:"):
        return re.split("[;,]", url.removeprefix("data:"), maxsplit=1)[0]
    if _YOUTUBE.match(url):
        return "video/*"
    return mimetypes.guess_type(url.partition("?")[0])[0] or ""
