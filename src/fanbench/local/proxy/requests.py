"""Requests to the Model Proxy: the parts that the proxy relies on. Real requests may have more."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec

from fanbench.local.models import ModelFault


class ChatMessage(msgspec.Struct):
    role: str
    content: str | list[dict[str, Any]] | None = None
    tool_calls: list[dict[str, Any]] | None = None


class ChatRequest(msgspec.Struct):
    model: str
    messages: list[ChatMessage]
    stream: bool | None = None
    stop: str | list[str] | None = None
    tools: list[dict[str, Any]] | None = None
    max_tokens: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] | None = None


class FunctionCall(msgspec.Struct, rename="camel"):
    name: str
    id: str | None = None
    args: dict[str, Any] | None = None


class FunctionResponse(msgspec.Struct, rename="camel"):
    name: str
    id: str | None = None
    response: Any = None


class InlineData(msgspec.Struct, rename="camel"):
    mime_type: str
    data: str


class FileData(msgspec.Struct, rename="camel"):
    file_uri: str
    mime_type: str | None = None


class Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    inline_data: InlineData | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(msgspec.Struct, rename="camel"):
    parts: list[Part] = []
    role: str | None = None


class ThinkingConfig(msgspec.Struct, rename="camel"):
    thinking_level: str | None = None
    thinking_budget: int | None = None


class GenerationConfig(msgspec.Struct, rename="camel"):
    temperature: float | None = None
    top_p: float | None = None
    seed: int | None = None
    max_output_tokens: int | None = None
    stop_sequences: list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    response_mime_type: str | None = None
    response_schema: dict[str, Any] | None = None
    response_json_schema: dict[str, Any] | None = None
    thinking_config: ThinkingConfig | None = None


class FunctionDeclaration(msgspec.Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class Tool(msgspec.Struct, rename="camel"):
    function_declarations: list[FunctionDeclaration] | None = None


class FunctionCallingConfig(msgspec.Struct, rename="camel"):
    mode: str | None = None
    allowed_function_names: list[str] | None = None


class ToolConfig(msgspec.Struct, rename="camel"):
    function_calling_config: FunctionCallingConfig | None = None


class GenerateRequest(msgspec.Struct, rename="camel"):
    contents: list[Content]
    system_instruction: Content | None = None
    generation_config: GenerationConfig | None = None
    tools: list[Tool] | None = None
    tool_config: ToolConfig | None = None


# These hold the task's own names, or a schema, in which the names of properties are such.
_AS_GIVEN = {"args", "response", "parameters", "parametersJsonSchema", "responseSchema", "responseJsonSchema"}


def camel_case(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(word[:1].upper() + word[1:] for word in others)


def _in_camel_case(value: Any) -> Any:
    """A Gemini request with all keys in camel case: its own client writes both, such as `inlineData.mime_type`."""
    if isinstance(value, list):
        return [_in_camel_case(item) for item in value]
    if not isinstance(value, dict):
        return value
    named = {camel_case(key): item for key, item in value.items()}
    return {key: item if key in _AS_GIVEN else _in_camel_case(item) for key, item in named.items()}


Request = TypeVar("Request", ChatRequest, GenerateRequest)


def read_request(body: bytes, kind: type[Request], name: str) -> Request:
    """Raises ModelFault, with `name` for the kind of request, if it is invalid."""
    try:
        if kind is ChatRequest:
            return msgspec.json.decode(body, type=kind)
        return msgspec.convert(_in_camel_case(msgspec.json.decode(body)), kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelFault(f"invalid {name} request: {error}", status=400) from None
