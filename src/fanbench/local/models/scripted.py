"""A model that answers from a table, to test what surrounds models. docs/models.md describes the format."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, ClassVar

import anyio
import msgspec

from fanbench.local.models import BaseSpec, ModelEngine, ModelFault

Reply = str | dict[str, Any] | list[Any]
"""A text, or a value that is written as JSON."""


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: int = 500
    message: str = "scripted failure"
    times: int = 0
    """How often to fail before replying; 0 for always."""


class ToolCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    name: str
    arguments: dict[str, Any] = {}


class Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    input_tokens: int
    output_tokens: int


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first rule whose `match` is found in the last message of the user, or in the result of a tool after it.

    A rule with an `effort` is skipped if the request has another one, and a rule with `tool_calls` if the request does
    not offer these tools.
    """

    match: str = ""
    """A regular expression, which may find something on any of the lines."""
    effort: str = ""
    """The reasoning effort of the requests that the rule is for; empty for all requests."""
    reply: Reply = ""
    tool_calls: list[ToolCall] = []
    usage: Usage | None = None
    """If not given, words count as tokens."""
    latency: float | None = None
    """Seconds before the answer. If not given, those of the model."""
    failure: Failure | None = None


class Scripted(BaseSpec, frozen=True, kw_only=True, tag="scripted"):
    """Gives replies from a table, for tests."""

    takes_efforts: ClassVar[bool] = True

    rules: list[Rule] = msgspec.field(default_factory=list)
    reply: Reply = "ok"
    """The reply if no rule matches."""
    latency: float = 0.0
    """Seconds before each answer."""

    @property
    def source(self) -> str:
        return "replies from models.toml"

    def check(self) -> None:
        for rule in self.rules:
            try:
                re.compile(rule.match)
            except re.error as error:
                raise ValueError(f"{rule.match!r} is not a regular expression: {error}") from None

    def make_engine(self, log: Path) -> ModelEngine:
        return ScriptedEngine(self)


class ScriptedEngine(ModelEngine):
    def __init__(self, spec: Scripted) -> None:
        self._spec = spec
        self._failed: Counter[int] = Counter()

    async def complete(self, request: dict[str, Any]) -> dict[str, Any]:
        number, rule = self._find_rule(request)
        await anyio.sleep(self._spec.latency if rule.latency is None else rule.latency)
        failure = rule.failure
        if failure is not None and (not failure.times or self._failed[number] < failure.times):
            self._failed[number] += 1
            raise ModelFault(f"model {self._spec.slug}: {failure.message}", status=failure.status)
        reply = rule.reply if isinstance(rule.reply, str) else json.dumps(rule.reply, default=str)
        message: dict[str, Any] = {"role": "assistant", "content": reply}
        if rule.tool_calls:
            calls = [
                {
                    "id": f"call_{uuid.uuid4().hex[:12]}",
                    "type": "function",
                    "function": {"name": call.name, "arguments": json.dumps(call.arguments, default=str)},
                }
                for call in rule.tool_calls
            ]
            message |= {"content": reply or None, "tool_calls": calls}
        words = sum(len(_text_of(each).split()) for each in request["messages"])
        usage = rule.usage or Usage(words, len(reply.split()))
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._spec.slug,
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "tool_calls" if rule.tool_calls else "stop",
                    "message": message,
                }
            ],
            "usage": {
                "prompt_tokens": usage.input_tokens,
                "completion_tokens": usage.output_tokens,
                "total_tokens": usage.input_tokens + usage.output_tokens,
            },
        }

    def _find_rule(self, request: dict[str, Any]) -> tuple[int, Rule]:
        """The number of the rule for the request, and the rule."""
        asked = [each for each in request["messages"] if each.get("role") in ("user", "tool")]
        text = _text_of(asked[-1]) if asked else ""
        offered = {tool.get("function", {}).get("name") for tool in request.get("tools") or ()}
        for number, rule in enumerate(self._spec.rules):
            fits = rule.effort in ("", request.get("reasoning_effort"))
            fits = fits and {call.name for call in rule.tool_calls} <= offered
            if fits and re.search(rule.match, text, re.DOTALL):
                return number, rule
        return -1, Rule(reply=self._spec.reply)

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        whole = await self.complete(request)
        frame = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
        choice = whole["choices"][0]
        for word in re.findall(r"\S+\s*|\s+", choice["message"]["content"] or ""):
            yield {**frame, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        for number, call in enumerate(choice["message"].get("tool_calls", ())):
            delta = {"tool_calls": [{"index": number, **call}]}
            yield {**frame, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]}
        yield {**frame, "choices": [], "usage": whole["usage"]}


def _text_of(message: dict[str, Any]) -> str:
    """The text of a message, without the images and such in it."""
    content = message.get("content")
    if isinstance(content, list):
        content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
