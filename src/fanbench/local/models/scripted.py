"""A model that answers from a table, to test what surrounds models."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import anyio
import msgspec

from fanbench.local.models import BaseSpec, ModelEngine, ModelFault


class Failure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: int = 500
    message: str = "scripted failure"
    times: int = 0
    """How often to fail before replying; 0 for always."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The first rule whose `match`, a regular expression, is found in the last user message gives the reply."""

    match: str = ""
    reply: str = ""
    failure: Failure | None = None


class Scripted(BaseSpec, frozen=True, kw_only=True, tag="scripted"):
    """Gives replies from a table, for tests."""

    rules: list[Rule] = msgspec.field(default_factory=list)
    reply: str = "ok"
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
        if self._spec.latency:
            await anyio.sleep(self._spec.latency)
        texts = []
        for message in request["messages"]:
            content = message.get("content")
            if isinstance(content, list):
                content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            texts.append((message.get("role"), content if isinstance(content, str) else ""))
        asked = next((text for role, text in reversed(texts) if role == "user"), "")
        reply = self._spec.reply
        for number, rule in enumerate(self._spec.rules):
            if not re.search(rule.match, asked, re.DOTALL):
                continue
            failure = rule.failure
            if failure is not None and (not failure.times or self._failed[number] < failure.times):
                self._failed[number] += 1
                raise ModelFault(f"model {self._spec.slug}: {failure.message}", status=failure.status)
            reply = rule.reply
            break
        # Words count as tokens.
        tokens_in, tokens_out = sum(len(text.split()) for _, text in texts), len(reply.split())
        return {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._spec.slug,
            "choices": [
                {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": reply}}
            ],
            "usage": {
                "prompt_tokens": tokens_in,
                "completion_tokens": tokens_out,
                "total_tokens": tokens_in + tokens_out,
            },
        }

    async def stream(self, request: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        whole = await self.complete(request)
        frame = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
        for word in re.findall(r"\S+\s*|\s+", whole["choices"][0]["message"]["content"]):
            yield {**frame, "choices": [{"index": 0, "delta": {"content": word}, "finish_reason": None}]}
        yield {**frame, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        yield {**frame, "choices": [], "usage": whole["usage"]}
