"""Translates the Gemini API, as the SDK's `api="genai"` uses it, to chat completions and back.

Source of the shapes: the public package `google-genai` (Apache-2.0), and https://ai.google.dev/api.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

from fanbench.local.models import ModelFault
from fanbench.local.proxy.media import inline_part, link_part
from fanbench.local.proxy.requests import (
    Content,
    GenerateRequest,
    GenerationConfig,
    ThinkingConfig,
    ToolConfig,
    camel_case,
)

_SETTINGS = {
    "temperature": "temperature",
    "top_p": "top_p",
    "seed": "seed",
    "max_output_tokens": "max_tokens",
    "stop_sequences": "stop",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool_calls": "STOP"}


def to_chat(asked: GenerateRequest) -> dict[str, Any]:
    """A generateContent request as a chat completion request."""
    messages: list[dict[str, Any]] = []
    if asked.system_instruction is not None:
        system = "".join(part.text or "" for part in asked.system_instruction.parts)
        messages.append({"role": "system", "content": system})
    for content in asked.contents:
        messages.extend(_messages(content))
    config = asked.generation_config or GenerationConfig()
    request: dict[str, Any] = {"messages": messages}
    for theirs, ours in _SETTINGS.items():
        if (value := getattr(config, theirs)) is not None:
            request[ours] = value
    schema = config.response_json_schema
    if schema is None and config.response_schema is not None:
        schema = json_schema(config.response_schema)
    if schema is None and config.response_mime_type == "application/json":
        schema = {}
    if schema is not None:
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": schema, "strict": True},
        }
    if effort := _reasoning_effort(config.thinking_config):
        request["reasoning_effort"] = effort
    declared = [function for tool in asked.tools or [] for function in tool.function_declarations or []]
    if declared:
        request["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": function.name,
                    "description": function.description or "",
                    "parameters": function.parameters_json_schema
                    or json_schema(function.parameters or {"type": "OBJECT"}),
                },
            }
            for function in declared
        ]
        if (choice := _tool_choice(asked.tool_config)) is not None:
            request["tool_choice"] = choice
    return request


def _reasoning_effort(thinking: ThinkingConfig | None) -> str | None:
    """What the SDK sends through its other API for the same `reasoning=`."""
    if thinking is None:
        return None
    if thinking.thinking_budget == 0:
        return "none"
    return (thinking.thinking_level or "").lower() or None


def _tool_choice(config: ToolConfig | None) -> str | dict[str, Any] | None:
    calling = config and config.function_calling_config
    if not calling:
        return None
    match calling.mode, calling.allowed_function_names:
        case "ANY", [name]:
            return {"type": "function", "function": {"name": name}}
        case mode, _:
            return {"AUTO": "auto", "ANY": "required", "NONE": "none"}.get(mode or "")


def _messages(content: Content) -> list[dict[str, Any]]:
    """One content may hold text, images, calls of functions and their results, which are separate messages."""
    parts: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    for part in content.parts:
        if (call := part.function_call) is not None:
            function = {"name": call.name, "arguments": json.dumps(call.args or {})}
            written: dict[str, Any] = {"id": call.id or call.name, "type": "function", "function": function}
            if part.thought_signature is not None:
                written["extra_content"] = {"google": {"thought_signature": part.thought_signature}}
            calls.append(written)
        elif (result := part.function_response) is not None:
            text = json.dumps(result.response)
            messages.append({"role": "tool", "tool_call_id": result.id or result.name, "content": text})
        elif part.thought:
            continue
        elif (data := part.inline_data) is not None:
            parts.append(inline_part(data.mime_type, data.data))
        elif (link := part.file_data) is not None:
            parts.append(link_part(link.file_uri, link.mime_type))
        else:
            parts.append({"type": "text", "text": part.text or ""})
    if calls:
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    if parts:
        plain = all(part["type"] == "text" for part in parts)
        joined = "".join(part["text"] for part in parts) if plain else parts
        messages.append({"role": "assistant" if content.role == "model" else "user", "content": joined})
    return messages


def json_schema(schema: Any) -> dict[str, Any]:
    """Gemini's schema (types in upper case, `nullable`) as JSON Schema.

    Raises:
        ModelFault: The schema is invalid.
    """
    try:
        return _json_schema(schema)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelFault(f"invalid schema: {error}", status=400) from None


def _json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for written, value in schema.items():
        match key := written if written.startswith("$") else camel_case(written):
            case "type":
                out["type"] = str(value).lower()
            case "properties":
                out[key] = {name: _json_schema(inner) for name, inner in value.items()}
            case "items":
                out[key] = _json_schema(value)
            case "additionalProperties" if isinstance(value, dict):
                out[key] = _json_schema(value)
            case "anyOf":
                out[key] = [_json_schema(inner) for inner in value]
            case "propertyOrdering" | "nullable" | "format" | "example" | "default" | "title":
                continue
            case "minItems" | "maxItems" | "minLength" | "maxLength":
                out[key] = int(value)
            case _:
                out[key] = value
    if schema.get("nullable"):
        return {"anyOf": [out, {"type": "null"}]}
    return out


def from_chat(answer: dict[str, Any], *, enum: bool = False) -> dict[str, Any]:
    """A chat completion as a generateContent answer; with `enum`, a bare value without the quotes of JSON."""
    choice = (answer.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    text = message.get("content") or ""
    if enum:
        with suppress(ValueError):
            value = json.loads(text)
            text = value if isinstance(value, str) else text
    return _answer(answer, _parts(text, message.get("tool_calls") or []), choice.get("finish_reason"))


class ChunkTranslator:
    """Translates the chunks of one stream. Calls of functions come in pieces, and this API has them whole."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, Any]] = {}

    def __call__(self, chunk: dict[str, Any]) -> dict[str, Any] | None:
        """One chunk of a stream; None if this API would send nothing for it."""
        choice = (chunk.get("choices") or [{}])[0]
        delta, finish = choice.get("delta") or {}, choice.get("finish_reason")
        for piece in delta.get("tool_calls") or []:
            self._add(piece)
        text, usage = delta.get("content") or "", chunk.get("usage")
        if not text and not usage and not finish:
            return None
        calls = [*self._calls.values()] if finish else []
        return _answer(chunk, _parts(text, calls), finish)

    def _add(self, piece: dict[str, Any]) -> None:
        call = self._calls.setdefault(piece.get("index", 0), {"function": {"name": "", "arguments": ""}})
        call |= {key: piece[key] for key in ("id", "extra_content") if piece.get(key)}
        for key, value in (piece.get("function") or {}).items():
            if key in call["function"]:
                call["function"][key] += value or ""


def _parts(text: str, calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A text and calls of functions as the parts of a content."""
    parts: list[dict[str, Any]] = [{"text": text}] if text else []
    for call in calls:
        function = call.get("function") or {}
        try:
            arguments = json.loads(function.get("arguments") or "{}")
        except ValueError:
            arguments = {}
        named = {"id": call.get("id"), "name": function.get("name"), "args": arguments}
        part: dict[str, Any] = {"functionCall": named}
        google = (call.get("extra_content") or {}).get("google") or {}
        if signature := google.get("thought_signature"):
            part["thoughtSignature"] = signature
        parts.append(part)
    return parts


def _answer(chat: dict[str, Any], parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": parts}}
    if finish:
        candidate["finishReason"] = _FINISH.get(finish, "OTHER")
    answer: dict[str, Any] = {"candidates": [candidate], "modelVersion": chat.get("model", "")}
    if usage := chat.get("usage"):
        answer["usageMetadata"] = {
            "promptTokenCount": usage.get("prompt_tokens", 0),
            "candidatesTokenCount": usage.get("completion_tokens", 0),
            "totalTokenCount": usage.get("total_tokens", 0),
        }
    return answer
