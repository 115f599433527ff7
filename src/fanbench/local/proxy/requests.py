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


class Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    inline_data: InlineData | None = None
    file_data: FileData | None = None
    function_call: FunctionCall | None = None
    function_response: FunctionResponse | None = None


class Content(msgspec.Struct, rename="camel"):
    parts: list[Part] = []
    role: str | None = None


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


class FunctionDeclaration(msgspec.Struct, rename="camel"):
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    parameters_json_schema: dict[str, Any] | None = None


class Tool(msgspec.Struct, rename="camel"):
    function_declarations: list[FunctionDeclaration] | None = None


class GenerateRequest(msgspec.Struct, rename="camel"):
    contents: list[Content]
    system_instruction: Content | None = None
    generation_config: GenerationConfig | None = None
    tools: list[Tool] | None = None


Request = TypeVar("Request", ChatRequest, GenerateRequest)


def read_request(body: bytes, kind: type[Request], name: str) -> Request:
    """Raises ModelFault, with `name` for the kind of request, if it is invalid."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ModelFault(f"invalid {name} request: {error}", status=400) from None
