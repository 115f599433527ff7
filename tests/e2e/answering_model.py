"""An OpenAI-compatible endpoint whose answers depend on the form of the request alone.

Where a JSON schema is asked for, the answer is an instance of it; where tools are offered, the first one is called
once; otherwise it is a fixed sentence. So two runs of the same task get the same answers, whatever they ask.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["answering_model"]

SENTENCE = "The answer is 42."


@contextmanager
def answering_model() -> Iterator[str]:
    """The base URL of an endpoint that answers as long as this block lasts."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1"
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = _answer(request)
        if request.get("stream"):
            chunks = [f"data: {json.dumps(chunk)}\n\n" for chunk in _chunks(answer)]
            self._send("text/event-stream", "".join([*chunks, "data: [DONE]\n\n"]))
        else:
            self._send("application/json", json.dumps(answer))

    def _send(self, kind: str, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args: Any) -> None:
        """Nothing: the endpoint is not what is tested."""


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    tools = request.get("tools") or []
    schema = (request.get("response_format") or {}).get("json_schema", {}).get("schema")
    message: dict[str, Any] = {"role": "assistant", "content": SENTENCE}
    reason = "stop"
    if tools and request.get("tool_choice") != "none" and request["messages"][-1]["role"] == "user":
        function = tools[0]["function"]
        arguments = json.dumps(instance(function.get("parameters") or {}))
        call = {"name": function["name"], "arguments": arguments}
        message |= {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
        reason = "tool_calls"
    elif schema is not None:
        message["content"] = json.dumps(instance(schema))
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": request["model"],
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


def _chunks(answer: dict[str, Any]) -> Iterator[dict[str, Any]]:
    (choice,) = answer["choices"]
    calls = [{**call, "index": 0} for call in choice["message"].get("tool_calls", [])]
    delta = choice["message"] | ({"tool_calls": calls} if calls else {})
    frame = answer | {"object": "chat.completion.chunk", "usage": None}
    yield frame | {"choices": [{"index": 0, "finish_reason": None, "delta": delta}]}
    yield frame | {"choices": [{"index": 0, "finish_reason": choice["finish_reason"], "delta": {}}]}
    yield frame | {"choices": [], "usage": answer["usage"]}


def instance(schema: dict[str, Any], root: dict[str, Any] | None = None) -> Any:
    """A value that a JSON schema of the SDK allows, always the same one."""
    root = schema if root is None else root
    if reference := schema.get("$ref"):
        *_, name = reference.split("/")
        return instance((root.get("$defs") or root["definitions"])[name], root)
    for key in ("const", "default"):
        if key in schema:
            return schema[key]
    if "enum" in schema:
        return schema["enum"][0]
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return instance(schema[key][0], root)
    match schema.get("type"):
        case "object":
            return {name: instance(part, root) for name, part in schema.get("properties", {}).items()}
        case "array":
            return [instance(schema.get("items", {}), root)] * max(1, schema.get("minItems", 1))
        case "integer" | "number":
            return schema.get("minimum", 1)
        case "boolean":
            return True
        case _:
            return "ok"
