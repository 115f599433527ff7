"""The Gemini API as the SDK's `api="genai"` uses it, told in chat completions and back.

Source of the shapes: the public package `google-genai` (Apache-2.0), and https://ai.google.dev/api.
"""

from __future__ import annotations

import json
from typing import Any

_ROLES = {"model": "assistant", "user": "user"}
_SETTINGS = {
    "temperature": "temperature",
    "topP": "top_p",
    "seed": "seed",
    "maxOutputTokens": "max_tokens",
    "stopSequences": "stop",
    "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
}
_FINISH = {"stop": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY", "tool_calls": "STOP"}


def to_chat(body: dict[str, Any]) -> dict[str, Any]:
    """A generateContent request as a chat completion request."""
    messages: list[dict[str, Any]] = []
    system = _text(body.get("systemInstruction") or {})
    if system:
        messages.append({"role": "system", "content": system})
    for content in body.get("contents", []):
        messages.extend(_messages(content))
    config = body.get("generationConfig") or {}
    request: dict[str, Any] = {"messages": messages}
    for theirs, ours in _SETTINGS.items():
        if config.get(theirs) is not None:
            request[ours] = config[theirs]
    if (schema := _response_schema(config)) is not None:
        request["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "response", "schema": schema, "strict": True},
        }
    if tools := _tools(body.get("tools") or []):
        request["tools"] = tools
    return request


def _messages(content: dict[str, Any]) -> list[dict[str, Any]]:
    """One content may hold text, images, calls of functions and their results: several messages."""
    role = _ROLES.get(content.get("role", "user"), "user")
    parts, calls, results = [], [], []
    for part in content.get("parts", []):
        if call := part.get("functionCall"):
            arguments = json.dumps(call.get("args") or {})
            function = {"name": call["name"], "arguments": arguments}
            calls.append({"id": call.get("id") or call["name"], "type": "function", "function": function})
        elif result := part.get("functionResponse"):
            results.append(
                {
                    "role": "tool",
                    "tool_call_id": result.get("id") or result["name"],
                    "content": json.dumps(result.get("response")),
                }
            )
        elif not part.get("thought"):
            parts.append(_part(part))
    messages = results
    if calls:
        messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    if parts:
        plain = all(part["type"] == "text" for part in parts)
        text = "".join(part["text"] for part in parts) if plain else parts
        messages.append({"role": role, "content": text})
    return messages


def _part(part: dict[str, Any]) -> dict[str, Any]:
    if data := part.get("inlineData"):
        url = f"data:{data['mimeType']};base64,{data['data']}"
        return {"type": "image_url", "image_url": {"url": url}}
    if file := part.get("fileData"):
        return {"type": "image_url", "image_url": {"url": file["fileUri"]}}
    return {"type": "text", "text": part.get("text", "")}


def _text(content: dict[str, Any]) -> str:
    return "".join(part.get("text", "") for part in content.get("parts", []))


def _response_schema(config: dict[str, Any]) -> dict[str, Any] | None:
    if (schema := config.get("responseJsonSchema")) is not None:
        return dict(schema)
    if (schema := config.get("responseSchema")) is not None:
        return json_schema(schema)
    return {} if config.get("responseMimeType") == "application/json" else None


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """Gemini's schema (types in upper case, `nullable`) as JSON Schema."""
    out: dict[str, Any] = {}
    for key, value in schema.items():
        match key:
            case "type":
                out["type"] = str(value).lower()
            case "properties":
                out[key] = {name: json_schema(inner) for name, inner in value.items()}
            case "items":
                out[key] = json_schema(value)
            case "anyOf":
                out[key] = [json_schema(inner) for inner in value]
            case "propertyOrdering" | "nullable" | "format" | "example" | "default" | "title":
                continue
            case "minItems" | "maxItems" | "minLength" | "maxLength":
                out[key] = int(value)
            case _:
                out[key] = value
    if schema.get("nullable"):
        return {"anyOf": [out, {"type": "null"}]}
    return out


def _tools(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    declared = [function for tool in tools for function in tool.get("functionDeclarations", [])]
    return [
        {
            "type": "function",
            "function": {
                "name": function["name"],
                "description": function.get("description", ""),
                "parameters": function.get("parametersJsonSchema")
                or json_schema(function.get("parameters") or {"type": "OBJECT"}),
            },
        }
        for function in declared
    ]


def wants_enum(body: dict[str, Any]) -> bool:
    """`text/x.enum`: one of the values as it is, where JSON would put it in quotes."""
    return (body.get("generationConfig") or {}).get("responseMimeType") == "text/x.enum"


def from_chat(answer: dict[str, Any], *, enum: bool = False) -> dict[str, Any]:
    """A chat completion as a generateContent answer."""
    choice = (answer.get("choices") or [{}])[0]
    message = choice.get("message") or {}
    parts = [_function_call(call) for call in message.get("tool_calls") or []]
    if text := message.get("content"):
        parts.append({"text": unquote(text) if enum else text})
    return _answer(answer, parts, choice.get("finish_reason"))


def from_chunk(chunk: dict[str, Any]) -> dict[str, Any] | None:
    """One chunk of a stream; `None` where it has nothing that this API would send."""
    choice = (chunk.get("choices") or [{}])[0]
    text = (choice.get("delta") or {}).get("content")
    if not text and not chunk.get("usage") and not choice.get("finish_reason"):
        return None
    return _answer(chunk, [{"text": text}] if text else [], choice.get("finish_reason"))


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


def _function_call(call: dict[str, Any]) -> dict[str, Any]:
    function = call.get("function") or {}
    try:
        arguments = json.loads(function.get("arguments") or "{}")
    except ValueError:
        arguments = {}
    return {"functionCall": {"id": call.get("id"), "name": function.get("name"), "args": arguments}}


def unquote(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, str) else text
